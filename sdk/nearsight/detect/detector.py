"""Finds things in a picture by their names: labels in English or Chinese in, boxes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.detect.boxes import CLASS, SIMILAR, Detections, suppressed
from nearsight.detect.lexicon import meaning
from nearsight.detect.nearness import Nearness
from nearsight.engine import AUTO, Engine
from nearsight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from nearsight_npu import Decision, Policy

ROLE = "detect"
# What a box of a similar class may score at most: the class was seen, whether it is the thing asked for was not judged.
SIMILAR_SHARE = 0.5
MOST = 100  # boxes of one label in one picture, as COCO counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One label, and the columns of the class scores that answer it.

    Attributes:
        label: the text as it was given.
        columns: numbers of the model's classes; empty where none is near enough.
        route: `class` or `similar`.
    """

    label: str
    columns: tuple[int, ...]
    route: str

    @property
    def share(self) -> float:
        """What a class score is multiplied by."""
        return 1.0 if self.route == CLASS else SIMILAR_SHARE


class Detector:
    """A detector of a fixed set of classes, asked by words.

    A label that the lexicon knows as a name of a class is answered by that class (route "class"). A label that says
    more than a class (a taxi, a red car) or lies near one in meaning is answered by that class as well, on the route
    "similar" and with at most half the score: the class was seen, the rest was not judged. A label that no class is
    near to is not answered; it is listed in `Detections.unjudged`.

    Args:
        model: Name of a model that serves detection; `nearsight models list` shows them.
        target: Where to run; `auto` lets the delegate choose.
        precision: `auto`, or one of the precisions that the model's files come in.
        policy: How the delegate may behave.
        threads: Threads of one run.

    Attributes:
        classes: English names of the model's classes; each may be asked for.
        near: Judges words that the lexicon does not have.

    Raises:
        UnknownModelError: If no model bears this name, or it does not serve detection.
        MissingFilesError: If one of its files is not there.
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
        self._engine = Engine.shared(
            model, capability="detect", target=target, precision=precision, policy=policy, threads=threads
        )
        manifest = self._engine.manifest
        self.classes: tuple[str, ...] = tuple(manifest.settings["classes"])
        self.near = Nearness(manifest, target=target, threads=threads)
        self._asked: dict[str, Asked] = {}

    @property
    def default_min_score(self) -> float:
        """The class score below which a box is left out unless asked for: the best F1 on held-out photographs."""
        return float(self._engine.manifest.settings["min_score"])

    def detect(self, image: Any, labels: Sequence[str], min_score: float | None = None) -> Detections:
        """Find things in one picture.

        Args:
            image: Anything that `read_image` takes: path, bytes, PIL picture, array.
            labels: What to look for, one thing a text.
            min_score: Boxes that score less are left out; None takes the calibrated default, which a class score has
                to reach on either route.

        Returns:
            The boxes, best first; at most 100 a label.

        Raises:
            InputError: If there is no label, or one that is no text or blank, or `min_score` is not within 0 and 1.
            PictureUnreadableError: If the picture cannot be read.
            DelegateError: If the model cannot be placed, proven or run.
        """
        asked = self._resolve(labels)
        return self._found(image, asked, _checked(min_score))

    def meaning(self, label: str) -> tuple[tuple[str, ...], str]:
        """Tell what a label is answered by, before any picture is looked at.

        Returns:
            The classes whose boxes answer it, none where it cannot be judged; and the route, `class` or `similar`.

        Raises:
            InputError: If it is no text or blank.
            DelegateError: If a word that the lexicon does not have cannot be compared.
        """
        (asked,) = self._resolve([label])
        return tuple(self.classes[column] for column in asked.columns), asked.route

    def detect_many(
        self, images: Iterable[Any], labels: Sequence[str], min_score: float | None = None
    ) -> Iterator[Detections]:
        """Find the same things in picture after picture, each read when its turn comes.

        Raises:
            InputError: As `detect`, before the first picture is read.
        """
        asked, least = self._resolve(labels), _checked(min_score)
        return (self._found(image, asked, least) for image in images)

    def _found(self, image: Any, asked: list[Asked], min_score: float | None) -> Detections:
        from nearsight.pictures import read_with_facts

        # A large JPEG is decoded no larger than the model needs; boxes are in pixels of the whole.
        picture, facts = read_with_facts(image, size_hint=self._engine.manifest.preprocessing.size_wh)
        size_wh = facts.size_wh or picture.size
        boxes, scores, decision = self._run(picture)
        boxes *= np.array(size_wh * 2, np.float32)
        rows = [self._answer(boxes, scores, one, min_score) for one in asked if one.columns]
        places, values, columns = (
            np.concatenate([empty, *(row[part] for row in rows)])
            for part, empty in enumerate((np.zeros(0, np.intp), np.zeros(0, np.float32), np.zeros(0, np.intp)))
        )
        owners = [one for one, row in zip((a for a in asked if a.columns), rows, strict=True) for _ in row[0]]
        order = np.argsort(-values, kind="stable")
        return Detections(
            boxes_xyxy=boxes[places[order]],
            scores=values[order],
            labels=tuple(owners[at].label for at in order),
            routes=tuple(owners[at].route for at in order),
            classes=tuple(self.classes[columns[at]] for at in order),
            size_wh=size_wh,
            unjudged=tuple(one.label for one in asked if not one.columns),
            decision=decision,
        )

    def _run(self, picture: Image.Image) -> tuple[NDArray[np.float32], NDArray[np.float32], Decision]:
        """Give boxes (a, 4) in the unit square and class scores (a, classes) of every anchor."""
        outputs, decision = self._engine.run(ROLE, {"pixels": self._pixels(picture)}, ("boxes", "scores"))
        return outputs["boxes"][0].copy(), outputs["scores"][0], decision

    def _pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Fit one picture to the model's input: uint8 (1, h, w, 3)."""
        from nearsight.preprocess import fit_picture

        shape = self._engine.manifest.preprocessing
        return fit_picture(picture, shape.size_wh, mode=shape.mode)[None]

    def _answer(
        self, boxes: NDArray[np.float32], scores: NDArray[np.float32], asked: Asked, min_score: float | None
    ) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
        """Choose the boxes of one label; gives anchors, scores and classes."""
        columns = np.array(asked.columns, np.intp)
        best = scores[:, columns].argmax(axis=1)
        values = scores[np.arange(len(scores)), columns[best]] * np.float32(asked.share)
        least = self.default_min_score * asked.share if min_score is None else min_score
        places = np.flatnonzero(values >= least)
        most_shared = float(self._engine.manifest.settings["max_overlap"])
        kept = places[suppressed(boxes[places], values[places], most_shared, MOST)]
        return kept, values[kept], columns[best[kept]]

    def _resolve(self, labels: Sequence[str]) -> list[Asked]:
        """Say for every label, each once, which classes answer it."""
        if isinstance(labels, (str, bytes)) or not hasattr(labels, "__len__"):
            raise InputError("labels is a list of texts; write ['car', 'person']")
        wrong = [label for label in labels if not isinstance(label, str) or not label.strip()]
        if wrong or not len(labels):
            what = f"{type(wrong[0]).__name__} {wrong[0]!r}" if wrong else "nothing"
            raise InputError(
                f"labels are texts such as 'car' or '汽车'; got {what}; give at least one and no blank one"
            )
        unknown = []
        for label in dict.fromkeys(labels):
            if label in self._asked:
                continue
            found = meaning(label)
            columns = tuple(self.classes.index(name) for name in found.classes if name in self.classes) if found else ()
            if found and columns:
                self._asked[label] = Asked(label=label, columns=columns, route=CLASS if found.exact else SIMILAR)
            else:
                unknown.append(label)
        for label, column in zip(unknown, self.near.nearest(unknown), strict=True):
            self._asked[label] = Asked(label=label, columns=() if column is None else (column,), route=SIMILAR)
        return [self._asked[label] for label in dict.fromkeys(labels)]


def _checked(min_score: object) -> float | None:
    if min_score is None:
        return None
    if isinstance(min_score, bool) or not isinstance(min_score, (int, float, np.number)) or not 0 <= min_score <= 1:
        raise InputError(f"min_score is a score from 0 to 1; got {min_score!r}")
    return float(min_score)
