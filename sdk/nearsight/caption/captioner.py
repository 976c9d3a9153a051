"""Says in one sentence what a picture shows: the search tower's grid in, words out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nearsight.caption.decode import Rules, greedy
from nearsight.engine import AUTO, Engine
from nearsight.errors import InputError, ModelError, translated

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.caption.decode import Pieces
    from nearsight.pictures import PictureSource
    from nearsight_npu import Decision, Policy

SEE, STEP = "see", "step"
CHINESE = "zh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What was said about a picture.

    Attributes:
        text: one sentence, in lower case and without a full stop.
        language: "en" or "zh".
        confidence: 0 to 1, the estimated chance that the caption is better than half of what this model says about
            photographs of the kind it was trained on; None where another machine spoke, which nobody here judged.
        grounding: (noun, whether it was seen), empty in this version: no noun is checked.
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


class Captioner:
    """A decoder over the picture tower of search; both are loaded at their first use.

    Args:
        model: Name of a model that captions; `nearsight models list` shows them.
        target: Where to run; `auto` lets the delegate choose.
        precision: `auto`, or one of the precisions that the decoder's files come in.
        policy: How far an answer may go; with `cloud=True` a caption that this machine is not sure of may be asked
            for elsewhere.
        threads: Threads of one run.

    Raises:
        UnknownModelError: If no model bears this name, or it does not caption.
        MissingFilesError: If one of its files is not there.
        ModelError: If the picture tower is of another space than the decoder was trained on.
        InputError: If the model has no such precision.
    """

    def __init__(
        self,
        model: str = "nano",
        *,
        target: str = AUTO,
        precision: str = AUTO,
        policy: Policy | None = None,
        threads: int | None = None,
    ) -> None:
        common: dict[str, Any] = {"target": target, "policy": policy, "threads": threads}
        self._policy = policy
        self._engine = Engine.shared(model, capability="caption", precision=precision, **common)
        self._manifest = self._engine.manifest
        self._settings = self._manifest.settings
        self._trunk = Engine.shared(self._settings["trunk"], capability="search", **common)
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

    def caption(self, image: PictureSource, language: str = "en", max_words: int = 20) -> Caption:
        """Say what a picture shows.

        Args:
            image: Anything that `read_image` takes: path, bytes, PIL picture, array.
            language: "en" or "zh".
            max_words: The most words; in Chinese the most characters. A longer caption ends earlier, after the word
                after which an end is likeliest. The model itself never says more than its manifest's `longest` pieces.

        Returns:
            One sentence, how sure it is, and how it came about.

        Raises:
            InputError: If the language is not spoken, or `max_words` is no whole number from 1.
            PictureUnreadableError: If the picture cannot be read.
            DelegateError: If a graph cannot be placed, proven or run.
        """
        from nearsight.cooperate import captioned, current

        if language not in self.languages:
            raise InputError(
                f"a caption in {language!r} was asked for; {self._manifest.name} speaks {', '.join(self.languages)}"
            )
        if isinstance(max_words, bool) or not isinstance(max_words, int) or max_words < 1:
            raise InputError(f"max_words={max_words!r} was asked for; it is a whole number from 1; give one such as 20")
        return captioned(
            current(self._policy),
            image,
            local=lambda: self._local(image, language, max_words),
            language=language,
            max_words=max_words,
        )

    def _local(self, image: PictureSource, language: str, max_words: int) -> Caption:
        """Caption on this machine."""
        from nearsight.pictures import read_image

        picture = read_image(image, size_hint=self._trunk.manifest.preprocessing.size_wh)
        decisions: list[Decision] = []
        seen = self._seen(picture, decisions)
        spoken = greedy(_Memory(self._engine, seen, decisions), self._pieces, self._rules(language), max_words)
        text = self._pieces.decode(list(spoken.ids)).strip()
        return Caption(
            text=text,
            language=language,
            confidence=self._confidence(spoken.sureness, language),
            decision=_whole(decisions),
        )

    def _seen(self, picture: Image.Image, decisions: list[Decision]) -> NDArray[np.float32]:
        """Run the tower and the first half of the decoder: what every step looks at."""
        from nearsight.preprocess import fit_picture

        shape = self._trunk.manifest.preprocessing
        pixels = fit_picture(picture, shape.size_wh, mode=shape.mode)[None]
        tower, first = self._trunk.run("image", {"pixels": pixels}, ("grid", "embedding"))
        found, second = self._engine.run(SEE, tower, ("seen",))
        decisions += [first, second]
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

    def _confidence(self, sureness: float, language: str) -> float:
        """A logistic function of the mean log probability, fitted on photographs kept from the decoder's training."""
        slope, intercept = self._settings["confidence"][language]
        return round(1 / (1 + math.exp(-(slope * math.log(sureness) + intercept))), 4)

    @cached_property
    def _pieces(self) -> Pieces:
        import sentencepiece

        vocabulary = self._manifest.files["vocabulary"]["spm"]
        with translated():
            vocabulary.check()
        return cast("Pieces", sentencepiece.SentencePieceProcessor(model_file=str(vocabulary.path)))


class _Memory:
    """One caption's way through the step graph: what was said so far stays as keys and values."""

    def __init__(self, engine: Engine, seen: NDArray[np.float32], decisions: list[Decision]) -> None:
        self._engine, self._seen, self._decisions = engine, seen, decisions
        count, rows, heads, _, deep = seen.shape
        self._past = np.zeros((count, rows, heads, 0, deep), np.float32)

    def __call__(self, latest: int) -> NDArray[np.float32]:
        arrays: dict[str, NDArray[Any]] = {
            "ids": np.array([[latest]], np.int64),
            "seen": self._seen,
            "past": self._past,
        }
        found, decision = self._engine.run(STEP, arrays, ("logits", "present"))
        self._past = found["present"]
        self._decisions.append(decision)
        logits: NDArray[np.float32] = found["logits"][0]
        return logits


def _whole(decisions: list[Decision]) -> Decision:
    """Give the decision of a caption: the decoder's, with what all runs together took and refused."""
    from nearsight_npu import Measured

    runs = [decision.measured for decision in decisions if decision.measured is not None]
    measured = Measured(
        latency_ms=sum(run.latency_ms for run in runs),
        bytes_in=sum(run.bytes_in for run in runs),
        bytes_out=sum(run.bytes_out for run in runs),
    )
    rejected = dict.fromkeys(refused for decision in decisions for refused in decision.rejected)
    return replace(decisions[-1], measured=measured, rejected=tuple(rejected))
