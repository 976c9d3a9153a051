"""One picture, many questions: it is read once, and what was seen for one answer serves the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, overload

from nearsight.engine import AUTO
from nearsight.errors import InputError
from nearsight.sight import sight_of
from nearsight.values import Embeddings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearsight.camera import Frame
    from nearsight.caption import Caption, Captioner
    from nearsight.detect import Detections, Detector
    from nearsight.detect.detector import Threshold, Tiles
    from nearsight.encoders import Encoder
    from nearsight.pictures import PictureSource
    from nearsight.sight import Sight
    from nearsight_npu import Decision, Policy

FAMILIES = 2  # of models, that stay in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One text, and whether the picture shows what it says.

    Attributes:
        text: the text.
        score: inner product of text and picture, -1 to 1; not comparable between texts.
        relevance: 0 to 1, calibrated as for a search: the chance that the picture is right, were it the best of ten;
            0 for a text in a script that the model does not read.
        matches: whether the relevance reaches the calibrated threshold of a search.
    """

    text: str
    score: float
    relevance: float
    matches: bool

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON-able values."""
        return {"text": self.text, "score": self.score, "relevance": self.relevance, "matches": self.matches}


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches(Sequence[Match]):
    """A row for each text, in the order of the texts.

    Attributes:
        items: the rows.
        min_relevance: the relevance from which on a text matches.
        decision: the delegate's account of the one run of the picture tower.
    """

    items: tuple[Match, ...]
    min_relevance: float
    decision: Decision | None

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Match: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Match, ...]: ...

    def __getitem__(self, index: int | slice) -> Match | tuple[Match, ...]:
        return self.items[index]

    def to_dict(self) -> dict[str, Any]:
        """Give the rows as JSON-able values."""
        return {
            "matches": [item.to_dict() for item in self.items],
            "min_relevance": self.min_relevance,
            "decision": None if self.decision is None else self.decision.to_dict(),
        }


def look(
    image: PictureSource | Frame | Sight,
    model: str = "nano",
    *,
    target: str = AUTO,
    policy: Policy | None = None,
    threads: int | None = None,
) -> Look:
    """Look at a picture in order to ask several things about it.

    The picture is read here. Each graph that looks at the whole of it runs at the first question that needs it, and
    never again for this look. The models stay loaded for the next one.

    Args:
        image: Anything that `read_image` takes: path, bytes, PIL picture, array; or a camera's frame.
        model: Name of a family of models; `nearsight models list` shows them.
        target: Where to run; `auto` lets the delegate choose.
        policy: How far an answer may go.
        threads: Threads of one run.

    Raises:
        PictureUnreadableError: If the picture cannot be read.
        InputError: If the source cannot hold a picture.
        UnknownModelError: If no model bears this name, or it does not serve search.
        MissingFilesError: If one of its files is not there.
    """
    models = _models(model, target, policy, threads)
    sight = sight_of(image)
    sight.keep()
    # So that a picture that cannot be read is said here.
    if models.tower.manifest.preprocessing is None:
        sight.picture(models.encoder.size_hint)
    else:
        sight.pixels(models.tower)
    return Look(sight, models)


class Look:
    """A picture that is being looked at; made by `look`. Not for several threads at once."""

    def __init__(self, sight: Sight, models: _Models) -> None:
        self._sight, self._models = sight, models

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the upright picture in full, in pixels, which boxes refer to."""
        return self._sight.size_wh

    @property
    def embedding(self) -> Embeddings:
        """The picture's vector, float32 (1, d), for an index of your own.

        Raises:
            DelegateError: If the picture tower cannot be placed, proven or run.
        """
        if self._models.tower.manifest.preprocessing is None:
            return self._encoded
        outputs, decision = self._sight.seen(self._models.tower, "image")
        return Embeddings(vectors=outputs["embedding"], space=self._models.encoder.space, decision=decision)

    @cached_property
    def _encoded(self) -> Embeddings:
        """The vector by a tower that no other question looks through, and that prepares pictures in its own way."""
        encoder = self._models.encoder
        return encoder.images([self._sight.picture(encoder.size_hint)])

    def matches(self, texts: Sequence[str]) -> Matches:
        """Tell for each text whether the picture shows what it says.

        Args:
            texts: Sentences or words in any of the model's languages; the vectors of the latest 4,096 are kept.

        Raises:
            InputError: If there is no text, or one that is blank.
            DelegateError: If a tower cannot be placed, proven or run.
        """
        asked, encoder, picture = _checked(texts), self._models.encoder, self.embedding
        return Matches(
            items=tuple(
                _match(encoder, text, vector, picture.vectors)
                for text, vector in zip(asked, self._models.words.vectors(asked), strict=True)
            ),
            min_relevance=encoder.default_min_relevance,
            decision=picture.decision,
        )

    def detect(self, labels: Sequence[Any], min_score: Threshold = None, *, tiles: Tiles = None) -> Detections:
        """Find things by their names or by examples, as `Detector.detect` does.

        Args:
            labels: What to look for: a text for each thing, or a picture of it.
            min_score: Boxes that score less are left out; None takes the calibrated default.
            tiles: Look at parts of a large picture, too.

        Raises:
            InputError: If there is no label, or one that is no text or picture, or a number is out of its range.
            UnknownModelError: If the family does not serve detection.
            DelegateError: If the model cannot be placed, proven or run.
        """
        return self._models.detector.detect(self._sight, labels, min_score, tiles=tiles)

    def caption(self, language: str = "en", max_words: int = 20) -> Caption:
        """Say in one sentence what the picture shows, as `Captioner.caption` does.

        Args:
            language: "en" or "zh".
            max_words: The most words; in Chinese the most characters.

        Raises:
            InputError: If the model does not speak the language, or `max_words` is no whole number from 1.
            UnknownModelError: If the family does not caption.
            DelegateError: If the model cannot be placed, proven or run.
        """
        return self._models.captioner.caption(self._sight, language, max_words)


class _Models:
    """The models of one family, each made at its first use; they hold the same engines."""

    def __init__(self, model: str, target: str, policy: Policy | None, threads: int | None) -> None:
        from nearsight.detect.words import Words

        self._model = model
        self._wishes: dict[str, Any] = {"target": target, "policy": policy, "threads": threads}
        self.words = Words(model, **self._wishes)
        self.encoder, self.tower = self.words.encoder, self.words.tower

    @cached_property
    def detector(self) -> Detector:
        from nearsight.detect import Detector

        return Detector(self._model, **self._wishes)

    @cached_property
    def captioner(self) -> Captioner:
        from nearsight.caption import Captioner

        return Captioner(self._model, **self._wishes)


_models = lru_cache(maxsize=FAMILIES)(_Models)


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, (str, bytes)) or not hasattr(texts, "__len__") or not len(texts):
        raise InputError("matches() takes a list of texts and got none; write matches(['a red bus'])")
    asked = list(texts)
    wrong = [text for text in asked if not isinstance(text, str) or not text.strip()]
    if wrong:
        what = "a blank one" if isinstance(wrong[0], str) else f"one that is {type(wrong[0]).__name__}"
        raise InputError(f"matches() takes texts such as 'a red bus'; got {what}; leave it out")
    return asked


def _match(encoder: Encoder, text: str, vector: NDArray[np.float32], picture: NDArray[np.float32]) -> Match:
    # One picture is the smallest of galleries: the calibration counts fewer than ten as ten.
    relevance = encoder.relevance(vector, picture, text, considered=len(picture))
    if relevance is None:
        from nearsight.gallery.relevance import UNRELATED_COSINE

        # Not calibrated, as a SigLIP without scale and bias: as a search stretches it, and never ruled out.
        relevance = (picture @ vector - UNRELATED_COSINE) / (1 - UNRELATED_COSINE)
        relevance = relevance.clip(encoder.default_min_relevance, 1.0)
    chance = float(relevance[0])
    return Match(
        text=text,
        score=float(picture[0] @ vector),
        relevance=chance,
        matches=chance >= encoder.default_min_relevance,
    )
