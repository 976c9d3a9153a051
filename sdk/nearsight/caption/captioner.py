"""Says in one sentence what a picture shows: the search tower's grid in, words out, each noun checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nearsight.caption.decode import Rules, spoken, written
from nearsight.caption.findings import listed
from nearsight.caption.grounding import Grounding
from nearsight.caption.memory import Memory
from nearsight.caption.nouns import CHINESE
from nearsight.encoders import Encoder
from nearsight.engine import AUTO, Engine
from nearsight.errors import InputError, ModelError, translated
from nearsight.sight import sight_of, together

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from nearsight.camera import Frame
    from nearsight.caption.decode import Pieces
    from nearsight.pictures import PictureSource
    from nearsight.sight import Sight
    from nearsight_npu import Decision, Policy

    Shown = PictureSource | Frame | Sight

TOP, SEE, STEP = "top", "see", "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What was said about a picture.

    Attributes:
        text: one sentence, in lower case and without a full stop.
        language: "en" or "zh".
        confidence: 0 to 1, the estimated chance that the caption is better than half of what this model says about
            photographs of the kind it was trained on; None where another machine spoke, which nobody here judged.
        grounding: (noun, whether it was seen) for each concrete noun that `nouns.toml` knows; a noun that was not
            seen is unsupported: it is likelier not in the picture than there.
        decision: the delegate's account, over all runs that the caption took.
    """

    text: str
    language: str
    confidence: float | None
    grounding: tuple[tuple[str, bool], ...] = ()
    decision: Decision

    def to_dict(self) -> dict[str, Any]:
        """Give the caption in the form of `nearsight caption --json`."""
        return {
            "text": self.text,
            "language": self.language,
            "confidence": self.confidence,
            "grounding": [list(row) for row in self.grounding],
            "decision": self.decision.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was said, and what its confidence is judged by.

    Attributes:
        text: the sentence.
        sureness: geometric mean of the probabilities of its pieces.
        agreement: cosine of the sentence's vector and the picture's.
    """

    text: str
    sureness: float
    agreement: float


class Captioner:
    """A decoder over the picture tower of search, checked by detector and encoder; each is loaded at its first use.

    Args:
        model: Name of a model that captions; `nearsight models list` shows them.
        target: Where to run; `auto` lets the delegate choose.
        precision: `auto`, or one of the precisions that the decoder's files come in.
        policy: How far an answer may go; with `cloud=True` a caption that this machine is not sure of may be asked
            for elsewhere.
        threads: Threads of one run.
        beams: How many captions are followed side by side. The one of them that agrees best with the picture is said in
            place of the one that a single beam finds, if it agrees better by what the model's page calls `gain`; None
            takes as many as the page says.
        reuse: The cosine of two pictures' vectors from which what was said of one is said of the other, or a `Memory`
            to share; None describes every picture anew.

    Raises:
        UnknownModelError: If no model bears this name, or it does not caption.
        MissingFilesError: If one of its files is not there.
        ModelError: If the picture tower is of another space than the decoder was trained on.
        InputError: If the model has no such precision, or `beams` or `reuse` is out of its range.
    """

    def __init__(
        self,
        model: str = "nano",
        *,
        target: str = AUTO,
        precision: str = AUTO,
        policy: Policy | None = None,
        threads: int | None = None,
        beams: int | None = None,
        reuse: float | Memory | None = None,
    ) -> None:
        common: dict[str, Any] = {"target": target, "policy": policy, "threads": threads}
        self._policy = policy
        self._engine = Engine.shared(model, capability="caption", precision=precision, **common)
        self._manifest = self._engine.manifest
        self._settings = self._manifest.settings
        self._beams = self._settings.get("beams", 1) if beams is None else _count("beams", beams, 4)
        self._memory = reuse if reuse is None or isinstance(reuse, Memory) else Memory(reuse)
        self._encoder = Encoder(self._settings["trunk"], **common)
        self._trunk = Engine.shared(self._settings["trunk"], capability="search", **common)
        self._detector = Engine.shared(self._settings["detector"], capability="detect", **common)
        self._grounding = Grounding(self._manifest, self._trunk, self._detector)
        trained_on, there = self._settings["space"], self._trunk.manifest.space
        if there != trained_on:
            raise ModelError(
                f"model {self._manifest.name!r} captions from the picture tower of space {trained_on!r}, and the tower "
                f"of {self._settings['trunk']!r} is of {there!r}; install files of one version: "
                "pip install --force-reinstall nearsight"
            )

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that it speaks."""
        return tuple(self._settings["starts"])

    def caption(self, image: Shown, language: str = "en", max_words: int = 20) -> Caption:
        """Say what a picture shows.

        Args:
            image: Anything that `read_image` takes: path, bytes, PIL picture, array; or a camera's frame.
            language: "en" or "zh".
            max_words: The most words; in Chinese the most characters. A longer caption ends earlier, after the word
                after which an end is likeliest. The model itself never says more than its manifest's `longest` pieces.

        Returns:
            One sentence, how sure it is, which of its nouns were seen, and how it came about.

        Raises:
            InputError: If the language is not spoken, or `max_words` is no whole number from 1.
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

    def grounded(self, image: Shown, text: str, language: str = "en") -> tuple[tuple[str, bool], ...]:
        """Check the nouns of any sentence against a picture: (noun, whether it was seen), as `Caption.grounding`.

        Raises:
            PictureUnreadableError: If the picture cannot be read.
            DelegateError: If a graph cannot be placed, proven or run.
        """
        return self._grounding.verdicts(sight_of(image), text, self._checked(language), [])

    def evidence(self, image: Shown, language: str = "en", max_words: int = 20) -> Evidence:
        """Say what a picture shows, with what confidence is judged by: what calibration is fitted to."""
        return self._evidence(sight_of(image), language, max_words, [])

    def _checked(self, language: str) -> str:
        if language not in self.languages:
            raise InputError(
                f"a caption in {language!r} was asked for; {self._manifest.name} speaks {', '.join(self.languages)}"
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

    def _local(self, sight: Sight, language: str, max_words: int) -> Caption:
        """Caption on this machine, from memory if there is one and it has such a picture."""
        tower, decision = sight.seen(self._trunk, "image")
        prompt, vector = (self._files, self._beams, language, max_words), tower["embedding"][0]
        known = None if self._memory is None else self._memory.recall(prompt, vector, decision)
        if known is not None:
            return known
        decisions = [decision]
        evidence = self._evidence(sight, language, max_words, decisions)
        checks: list[Decision] = []
        grounding = self._grounding.verdicts(sight, evidence.text, language, checks)
        said = Caption(
            text=evidence.text,
            language=language,
            confidence=self._confidence(evidence, language),
            grounding=grounding,
            decision=together(decisions[-1], [*checks, *decisions]),
        )
        if self._memory is not None:
            self._memory.keep(prompt, vector, said)
        return said

    def _evidence(self, sight: Sight, language: str, max_words: int, decisions: list[Decision]) -> Evidence:
        tower, _ = sight.seen(self._trunk, "image")
        seen, rules = self._seen(sight, decisions), self._rules(language)
        said = [
            one
            for beams in sorted({1, self._beams})
            for one in spoken(_Steps(self._engine, seen, decisions), self._pieces, rules, max_words, beams)
        ]
        texts = [written(self._pieces.decode(list(one.ids)).strip()) for one in said]
        meant = self._encoder.texts(texts)
        # The decoder's step stays the last: what all runs took is told as its decision.
        decisions[:0] = [meant.decision] if meant.decision else []
        agreements = meant.vectors @ tower["embedding"][0]
        best = int(agreements.argmax())
        if agreements[best] - agreements[0] <= self._settings.get("gain", 0.0):
            best = 0  # what a single beam finds is the likelier by itself
        return Evidence(text=texts[best], sureness=said[best].sureness, agreement=float(agreements[best]))

    def _seen(self, sight: Sight, decisions: list[Decision]) -> NDArray[np.float32]:
        """Give what every step looks at: two trunks' cells and the detector's surest boxes."""
        tower, _ = sight.seen(self._trunk, "image")
        detected, first = sight.seen(self._detector, "detect")
        most_shared = self._detector.manifest.settings["max_overlap"]
        findings = listed(detected["boxes"][0], detected["scores"][0], most_shared)
        top, second = self._engine.run(TOP, {"lower": tower["lower"]}, ("cells",))
        given = {"cells": top["cells"], "scene": detected["scene"], "findings": findings[None]}
        found, third = self._engine.run(SEE, given, ("seen",))
        decisions += [first, second, third]
        seen: NDArray[np.float32] = found["seen"]
        return seen

    def _rules(self, language: str) -> Rules:
        settings = self._settings
        return Rules(
            start=settings["starts"][language],
            end=settings["end"],
            silent=tuple(settings["silent"]),
            longest=settings["longest"],
            by_characters=language == CHINESE,
        )

    def _confidence(self, evidence: Evidence, language: str) -> float:
        """A logistic function of mean log probability and agreement, fitted on photographs kept from the encoder."""
        sureness, agreement, intercept = self._settings["confidence"][language]
        logit = sureness * math.log(evidence.sureness) + agreement * evidence.agreement + intercept
        return round(1 / (1 + math.exp(-logit)), 4)

    @cached_property
    def _files(self) -> tuple[str, ...]:
        """What a caption depends on besides its picture and prompt: the hashes of all files."""
        pages = [self._manifest, self._trunk.manifest, self._detector.manifest]
        return tuple(file.sha256 for page in pages for variants in page.files.values() for file in variants.values())

    @cached_property
    def _pieces(self) -> Pieces:
        import sentencepiece

        vocabulary = self._manifest.files["vocabulary"]["spm"]
        with translated():
            vocabulary.check()
        return cast("Pieces", sentencepiece.SentencePieceProcessor(model_file=str(vocabulary.path)))


class _Steps:
    """One caption's way through the step graph: what was said so far stays as keys and values."""

    def __init__(self, engine: Engine, seen: NDArray[np.float32], decisions: list[Decision]) -> None:
        self._engine, self._seen, self._decisions = engine, seen, decisions
        count, rows, heads, _, deep = seen.shape
        self._past = np.zeros((count, rows, heads, 0, deep), np.float32)

    def __call__(self, latest: NDArray[np.int64], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        arrays: dict[str, NDArray[Any]] = {
            "ids": latest[:, None],
            "seen": np.repeat(self._seen, len(latest), axis=0),
            "past": self._past[rows],
        }
        found, decision = self._engine.run(STEP, arrays, ("logits", "present"))
        self._past = found["present"]
        self._decisions.append(decision)
        logits: NDArray[np.float32] = found["logits"]
        return logits


def _count(name: str, value: object, such: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r} was asked for; it is a whole number from 1; give one such as {such}")
    return value
