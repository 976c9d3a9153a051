"""Judges words that no class covers, and pictures: parts of a picture are cut out and compared by the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nearsight.detect.boxes import suppressed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearsight.detect.nearness import Nearness
    from nearsight.detect.words import Words
    from nearsight.sight import Sight
    from nearsight.values import Embeddings
    from nearsight_npu import Decision

IMAGE = "image"
MOST = 16  # boxes that are cut out of one picture, the surest of any class
LEAST_SCORE = 0.02  # of the class that is likeliest, below which a box is not cut out
MAX_OVERLAP = 0.6  # boxes that share more than this, of whatever class, are cut out once
MAX_SHARED = 0.3  # the same for crops that are found: they fit their things loosely
MOST_FOUND = 100
# Cut out as well, in the unit square, since what the detector has no class for often gets no box: middle and halves.
WINDOWS = (
    (0.1, 0.1, 0.9, 0.9), (0.25, 0, 0.75, 1), (0, 0.25, 1, 0.75), (0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 0.5),
    (0, 0.5, 1, 1),
)  # fmt: skip
CONTEXT = 1.2  # a crop's sides are so many times the box's, as the encoder was trained
DETAIL = 3  # a picture is read at so many times the encoder's input, so that crops are sharp
SCALE = 10.0  # of the cosines in the softmax; between 5 and 20 it makes no difference
# What the encoder may find likelier than a label, beside the detector's classes.
BACKGROUND = (
    "a photo", "background", "wall", "floor", "ceiling", "sky", "grass", "trees", "road", "water", "a crowd",
    "something blurred", "a part of something", "texture", "clothes", "a building", "a room", "a street",
    "the ground", "a field", "snow", "a window", "a person", "a hand",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crops:
    """Parts of one picture: boxes_xyxy (m, 4) in pixels of the whole, and unit vectors (m, d)."""

    boxes_xyxy: NDArray[np.float32]
    vectors: NDArray[np.float32]
    decisions: tuple[Decision, ...]


class Cropper:
    """Cuts out what may be a thing, and says how much speaks for a label.

    Args:
        words: The family's encoder.
        near: The classes' vectors.
    """

    def __init__(self, words: Words, near: Nearness) -> None:
        self._words, self._near = words, near

    @property
    def detail_wh(self) -> tuple[int, int]:
        """The size at which a picture is wanted for crops, in pixels."""
        width, height = self._words.encoder.input_size
        return DETAIL * width, DETAIL * height

    def look(self, sight: Sight, boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Crops:
        """Cut out the whole picture, its surest boxes of any class, its middle and halves, and encode them.

        Args:
            sight: The picture.
            boxes: (a, 4), in pixels of the upright picture.
            scores: (a, classes).
        """
        whole, first = sight.seen(self._words.tower, IMAGE)
        sides = np.array(sight.size_wh * 2, np.float32)
        parts = np.concatenate([boxes[surest(boxes, scores)], np.array(WINDOWS, np.float32) * sides])
        found = self.encoded(sight, parts)
        _, behind = self._words.encoded(BACKGROUND)
        made = () if found.decision is None else (found.decision,)
        return Crops(
            boxes_xyxy=np.concatenate([np.array([[0, 0, *sight.size_wh]], np.float32), parts]),
            vectors=np.concatenate([whole["embedding"], found.vectors]),
            decisions=(first, *made, *behind),
        )

    def encoded(self, sight: Sight, boxes: NDArray[np.float32]) -> Embeddings:
        """Encode parts of a picture in one batch; boxes (m, 4) are in pixels of the upright picture."""
        encoder, picture = self._words.encoder, sight.picture(self.detail_wh)
        scale = np.tile(np.array(picture.size) / sight.size_wh, 2)
        crops = [picture.crop(around(box, picture.size)) for box in boxes * scale]
        return encoder.encode_pixels(np.stack([encoder.pixels(crop) for crop in crops]))

    def evidence(
        self, crops: NDArray[np.float32], labels: NDArray[np.float32], without: int | None = None
    ) -> NDArray[np.float64]:
        """Say how much speaks for labels against the classes and the background: the logit of a softmax.

        Args:
            crops: (m, d), vectors of parts of a picture.
            labels: (n, d), vectors of texts or pictures.
            without: A class that is left out, as if the detector did not have it; None for none.

        Returns:
            (m, n).
        """
        others = self._others if without is None else np.delete(self._others, without, axis=0)
        against = np.log(np.exp(SCALE * (crops @ others.T).astype(np.float64)).sum(axis=1))
        found: NDArray[np.float64] = SCALE * (crops @ labels.T) - against[:, None]
        return found

    @cached_property
    def _others(self) -> NDArray[np.float32]:
        return np.concatenate([self._near.classes, self._words.vectors(BACKGROUND)])


def surest(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Choose the boxes that are likeliest to hold a thing, of whatever class: their numbers, best first."""
    best = scores.max(axis=1)
    places = np.flatnonzero(best >= LEAST_SCORE)
    return places[suppressed(boxes[places], best[places], MAX_OVERLAP, MOST)]


def apart(boxes: NDArray[np.float32], evidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Keep of the crops that show one thing, a piece of it, or more around it, the one for which most speaks.

    Returns:
        The numbers of the kept crops, best first.
    """
    return suppressed(boxes, evidence, MAX_SHARED, MOST_FOUND, np.arange(len(boxes)))


def around(box: NDArray[np.float64], picture_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Give the whole pixels of a box and its context within a picture, at least one."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * CONTEXT
    (left, top), (right, bottom) = np.clip(centre - half, 0, None), np.minimum(centre + half, picture_wh)
    left, top = min(int(left), picture_wh[0] - 1), min(int(top), picture_wh[1] - 1)
    return left, top, max(left + 1, int(np.ceil(right))), max(top + 1, int(np.ceil(bottom)))
