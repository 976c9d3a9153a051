"""Says what a picture shows, checks each noun, and answers questions where the model can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from nearsight.caption.memory import Memory
from nearsight.caption.said import Caption, Evidence
from nearsight.engine import AUTO, Engine
from nearsight.errors import InputError
from nearsight.sight import sight_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from nearsight.camera import Frame
    from nearsight.caption.grounding import Grounding
    from nearsight.pictures import PictureSource
    from nearsight.sight import Sight
    from nearsight_npu import Decision, Policy

    Shown = PictureSource | Frame | Sight

__all__ = ["Caption", "Captioner", "Evidence"]

NANO = "nano"


class Speaker(Protocol):
    """What `Captioner` hands over to: nano's own way, or a full-size family's."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that it speaks."""

    @property
    def answers(self) -> bool:
        """Whether it answers questions."""

    @property
    def tower(self) -> Engine:
        """The picture tower whose vectors tell whether two pictures look the same."""

    @property
    def grounding(self) -> Grounding:
        """What checks nouns."""

    @property
    def identity(self) -> tuple[object, ...]:
        """What an answer depends on besides picture and prompt."""

    def said(self, sight: Sight, language: str, max_words: int, question: str, /) -> Caption:
        """Caption a picture, or answer the question about it, on this machine."""

    def streamed(self, sight: Sight, language: str, max_words: int, question: str, /) -> Generator[str, None, Caption]:
        """Do the same, giving the text as it grows."""

    def evidence(self, sight: Sight, language: str, max_words: int, decisions: list[Decision], /) -> Evidence:
        """Say what a picture shows, with what confidence is judged by."""


class Captioner:
    """Captions and answers about pictures; each graph is loaded at its first use.

    `nano` is a decoder over the picture tower of search. Other models are read by `nearsight.families`: BLIP,
    Florence-2, SmolVLM.

    Args:
        model: Name of a model that captions; `nearsight models list` shows them.
        target: Where to run; `auto` lets the delegate choose.
        precision: `auto`, or one of the precisions that the decoder's files come in.
        policy: How far an answer may go; with `cloud=True` a caption that this machine is not sure of may be asked
            for elsewhere.
        threads: Threads of one run.
        beams: How many captions are followed side by side; None takes as many as the model's page or configuration
            says. Of nano's the one that agrees best with the picture is said in place of the one that a single beam
            finds, if it agrees better by what its page calls `gain`; of other models' the likeliest.
        reuse: The cosine of two pictures' vectors from which what was said of one is said of the other, or a `Memory`
            to share; None describes every picture anew.

    Raises:
        UnknownModelError: If no model bears this name, or it does not caption.
        MissingFilesError: If one of its files is not there.
        ModelError: If its files do not belong together, or no family reads them.
        InputError: If the model has no such precision, or `beams` or `reuse` is out of its range.
    """

    def __init__(
        self,
        model: str = NANO,
        *,
        target: str = AUTO,
        precision: str = AUTO,
        policy: Policy | None = None,
        threads: int | None = None,
        beams: int | None = None,
        reuse: float | Memory | None = None,
    ) -> None:
        wishes: dict[str, Any] = {"target": target, "policy": policy, "threads": threads}
        self._policy = policy
        engine = Engine.shared(model, capability="caption", precision=precision, **wishes)
        self._name = engine.manifest.name
        followed = None if beams is None else _count("beams", beams, 4)
        self._memory = reuse if reuse is None or isinstance(reuse, Memory) else Memory(reuse)
        self._speaker = _speaker(engine, wishes, followed)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that it speaks."""
        return self._speaker.languages

    @property
    def answers(self) -> bool:
        """Whether `answer` works: whether the model takes questions, or tasks as Florence-2 does."""
        return self._speaker.answers

    def caption(self, image: Shown, language: str = "en", max_words: int = 20) -> Caption:
        """Say what a picture shows.

        Args:
            image: Anything that `read_image` takes: path, bytes, PIL picture, array; or a camera's frame.
            language: "en" or "zh"; `languages` says which of them this model speaks.
            max_words: The most words; in Chinese the most characters. A longer caption of nano's ends earlier, after
                the word after which an end is likeliest, and nano never says more than its manifest's `longest`
                pieces; other models are cut off there.

        Returns:
            One sentence, how sure it is, which of its nouns were seen, and how it came about.

        Raises:
            InputError: If the language is not spoken, `max_words` is no whole number from 1, or the model only answers
                questions.
            PictureUnreadableError: If the picture cannot be read.
            DelegateError: If a graph cannot be placed, proven or run.
        """
        (said,) = self.caption_many([image], language, max_words)
        return said

    def caption_many(self, images: Iterable[Shown], language: str = "en", max_words: int = 20) -> Iterator[Caption]:
        """Say what picture after picture shows, each read when its turn comes.

        Raises:
            InputError: As `caption`, before the first picture is read.
        """
        checked, most = self._checked(language), _count("max_words", max_words, 20)
        return (self._captioned(image, checked, most) for image in images)

    def answer(self, image: Shown, question: str, max_words: int = 100) -> Caption:
        """Answer a question about a picture, where the model can: BLIP for questions, Florence-2's tasks, SmolVLM.

        Args:
            image: As `caption` takes it.
            question: In words; for Florence-2 a task such as `<OCR>`.
            max_words: The most words; a longer answer is cut off there.

        Returns:
            The answer as `text`; nobody judged it, so it has no confidence and no grounding.

        Raises:
            InputError: If the question is blank, or the model answers none, or not such ones.
            PictureUnreadableError: If the picture cannot be read.
            DelegateError: If a graph cannot be placed, proven or run.
        """
        asked, most = _question(question), _count("max_words", max_words, 100)
        return self._local(sight_of(image), self.languages[0], most, asked)

    def stream(
        self, image: Shown, question: str | None = None, *, language: str = "en", max_words: int | None = None
    ) -> Generator[str, None, Caption]:
        """Caption a picture, or answer a question about it, piece by piece as the words are found.

        What is compared at its end comes in one piece: nano's captions, those of a model that follows several beams
        (Florence-2 does unless `beams=1`), and answers that tell places.

        Args:
            image: As `caption` takes it.
            question: As `answer` takes it; None captions.
            language: The language of a caption.
            max_words: As `caption` and `answer` take it; None is their default.

        Yields:
            Text; together the pieces are the `text` of the caption that the generator returns.

        Raises:
            InputError: As `caption` and `answer`; at once.
            PictureUnreadableError: If the picture cannot be read.
            DelegateError: If a graph cannot be placed, proven or run.

        Example:
            >>> for piece in Captioner("smolvlm-256m").stream("street.jpg"):  # doctest: +SKIP
            ...     print(piece, end="", flush=True)
        """
        usual = 20 if question is None else 100
        most = usual if max_words is None else _count("max_words", max_words, usual)
        asked, spoken = ("", self._checked(language)) if question is None else (_question(question), self.languages[0])
        return self._speaker.streamed(sight_of(image), spoken, most, asked)

    def grounded(self, image: Shown, text: str, language: str = "en") -> tuple[tuple[str, bool], ...]:
        """Check the nouns of any sentence against a picture: (noun, whether it was seen), as `Caption.grounding`.

        Raises:
            PictureUnreadableError: If the picture cannot be read.
            DelegateError: If a graph cannot be placed, proven or run.
        """
        return self._speaker.grounding.verdicts(sight_of(image), text, self._checked(language), [])

    def evidence(self, image: Shown, language: str = "en", max_words: int = 20) -> Evidence:
        """Say what a picture shows, with what confidence is judged by: what calibration is fitted to; nano's only.

        Raises:
            InputError: If the model has no calibrated confidence.
        """
        return self._speaker.evidence(sight_of(image), language, max_words, [])

    def _checked(self, language: str) -> str:
        if language not in self.languages:
            raise InputError(
                f"a caption in {language!r} was asked for; {self._name} speaks {', '.join(self.languages)}"
            )
        return language

    def _captioned(self, image: Shown, language: str, max_words: int) -> Caption:
        """Caption on this machine, or elsewhere if the policy lets it."""
        from nearsight.cooperate import captioned, current

        sight = sight_of(image)
        return captioned(
            current(self._policy),
            sight.source,
            local=lambda: self._local(sight, language, max_words),
            language=language,
            max_words=max_words,
        )

    def _local(self, sight: Sight, language: str, max_words: int, question: str = "") -> Caption:
        """Speak on this machine, from memory if there is one and it has such a picture."""
        if self._memory is None:
            return self._speaker.said(sight, language, max_words, question)
        tower, decision = sight.seen(self._speaker.tower, "image")
        prompt, vector = (self._speaker.identity, language, max_words, question), tower["embedding"][0]
        known = self._memory.recall(prompt, vector, decision)
        if known is not None:
            return known
        said = self._speaker.said(sight, language, max_words, question)
        self._memory.keep(prompt, vector, said)
        return said


def _speaker(engine: Engine, wishes: dict[str, Any], beams: int | None) -> Speaker:
    if engine.manifest.architecture == NANO:
        from nearsight.caption.nano import Nano

        return Nano(engine, wishes, beams)
    from nearsight.caption.large import Large

    return Large(engine, wishes, beams)


def _question(question: object) -> str:
    if not isinstance(question, str) or not question.strip():
        raise InputError(
            f"a question about the picture is needed, got {question!r}; ask one such as 'how many people?'"
        )
    return " ".join(question.split())


def _count(name: str, value: object, such: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r} was asked for; it is a whole number from 1; give one such as {such}")
    return value
