"""Boxes: the answer of a detector as one checked value, and the geometry that leads to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nearsight_npu import Decision

CLASS, SIMILAR, CROP, EXAMPLE, TEXT = "class", "similar", "crop", "example", "text"
# Of two boxes that were seen in different parts of a picture, the worse one is left out if this share of the smaller
# lies within the other: one of them shows a piece of the thing.
WITHIN = 0.75
MATCH = 0.5  # the overlap from which a found box is a true one: AP50's


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """What was found in one picture, best first; n boxes as parallel arrays.

    Attributes:
        boxes_xyxy: float32 (n, 4), left, top, right, bottom in pixels of the upright picture.
        scores: float32 (n,), 0 to 1: of nano, the estimated chance that the box is right, whatever the route; of other
            models, what the model says of itself.
        labels: what was asked for, one a box; a picture that was an example bears its file's name or a number.
        routes: "class" where the label is a name of the class that was seen; "similar" where the label says more than
            that class, or something near it, and only the class was seen; "crop" where no class covers the label and
            the encoder compared it with parts of the picture; "example" where parts were compared with a picture;
            "text" where the detector itself takes any words.
        classes: the class of the model that was seen, in English, one a box; empty where no class was asked.
        size_wh: width and height of the upright picture, in pixels.
        unjudged: labels about which nothing can be said, such as negations; a label that is judged and not there is
            not among them.
        decision: the delegate's account of the run; None where nothing was run.

    Raises:
        InputError: if the arrays do not agree with each other.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: tuple[str, ...]
    routes: tuple[str, ...]
    classes: tuple[str, ...]
    size_wh: tuple[int, int]
    unjudged: tuple[str, ...] = ()
    decision: Decision | None = None

    def __post_init__(self) -> None:
        n = len(self.labels)
        for name, shape in (("boxes_xyxy", (n, 4)), ("scores", (n,))):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != np.float32:
                raise InputError(
                    f"{name} of {n} detections must be float32 {shape}; got {getattr(array, 'dtype', type(array))} "
                    f"{getattr(array, 'shape', '')}; convert with numpy.asarray(x, numpy.float32)"
                )
        if len(self.routes) != n or len(self.classes) != n:
            raise InputError(
                f"{n} labels, {len(self.routes)} routes and {len(self.classes)} classes were given; "
                "give one of each a box"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Detections]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, which: int | slice | Sequence[int] | Sequence[bool] | NDArray[Any]) -> Detections:
        """Choose boxes by number, slice, numbers or bool mask; gives detections again.

        Raises:
            InputError: for a mask of another length, or numbers that are not there.
        """
        try:
            index = which if isinstance(which, slice) else np.asarray(which)
            if isinstance(index, np.ndarray) and not index.size:
                index = index.astype(np.intp)
            rows = np.atleast_1d(np.arange(len(self))[index])
        except (IndexError, TypeError, ValueError) as error:
            raise InputError(f"{len(self)} detections were indexed with {which!r}; {error}") from error
        if rows.ndim != 1:
            raise InputError(f"{len(self)} detections were indexed with {which!r}; give numbers along one axis")
        return Detections(
            boxes_xyxy=self.boxes_xyxy[rows],
            scores=self.scores[rows],
            labels=tuple(self.labels[row] for row in rows),
            routes=tuple(self.routes[row] for row in rows),
            classes=tuple(self.classes[row] for row in rows),
            size_wh=self.size_wh,
            unjudged=self.unjudged,
            decision=self.decision,
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """Give each box as JSON-able values, as `nearsight detect --json` lists them."""
        return [
            {
                "label": label,
                "score": round(float(score), 4),
                "box_xyxy": [round(float(edge), 1) for edge in box],
                "route": route,
                "class": seen or None,
            }
            for label, score, box, route, seen in zip(
                self.labels, self.scores, self.boxes_xyxy, self.routes, self.classes, strict=True
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """Give the answer in the form of `nearsight detect --json`."""
        return {
            "detections": self.to_dicts(),
            "unjudged": list(self.unjudged),
            "size_wh": list(self.size_wh),
            "decision": None if self.decision is None else self.decision.to_dict(),
        }


def within(boxes: NDArray[np.float32], size_wh: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Cut boxes off at the edge of their picture, and leave those out of which nothing is left.

    Args:
        boxes: (n, 4), left, top, right, bottom in pixels.
        size_wh: Width and height of the picture.

    Returns:
        The boxes that are left, (k, 4), and their numbers, (k,).
    """
    cut = np.clip(boxes, 0, np.array(size_wh * 2, np.float32))
    left = np.flatnonzero(_area(cut) > 0)
    return cut[left], left


def overlaps(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Say how much a box and each of others share: intersection over union.

    Args:
        box: (4,), left, top, right, bottom.
        boxes: (n, 4).

    Returns:
        float32 (n,), 0 to 1; 0 where both are empty.
    """
    shared = _shared(box, boxes)
    union = _area(box[None])[0] + _area(boxes) - shared
    share = np.zeros(len(boxes), np.float32)
    np.divide(shared, union, out=share, where=union > 0)
    return share


def _inside(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of the smaller of two boxes that lies in the other: (n,)."""
    smaller = np.minimum(_area(box[None])[0], _area(boxes))
    share = np.zeros(len(boxes), np.float32)
    np.divide(_shared(box, boxes), smaller, out=share, where=smaller > 0)
    return share


def _shared(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    area: NDArray[np.float32] = np.prod(np.clip(high - low, 0, None), axis=1)
    return area


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return area


def suppressed(
    boxes: NDArray[np.float32],
    scores: NDArray[Any],
    max_overlap: float,
    most: int | None = None,
    parts: NDArray[np.intp] | None = None,
) -> NDArray[np.intp]:
    """Keep the best of every heap of boxes (greedy non-maximum suppression).

    Args:
        boxes: (n, 4), left, top, right, bottom.
        scores: (n,).
        max_overlap: a box that shares more than this with a better one is left out.
        most: stop at so many; None for all.
        parts: (n,), the part of the picture that each box was seen in; of boxes from different ones, the worse is left
            out as well if the smaller lies within the other. None where all were seen at once.

    Returns:
        The numbers of the kept boxes, best first; of equal scores the earlier box is the better one.
    """
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while left.size and (most is None or len(kept) < most):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        if not left.size:
            break
        near = overlaps(boxes[best], boxes[left]) > max_overlap
        if parts is not None:
            near |= (parts[left] != parts[best]) & (_inside(boxes[best], boxes[left]) > WITHIN)
        left = left[~near]
    return np.array(kept, np.intp)


def matched(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], true: NDArray[np.float32], crowd: NDArray[np.float32]
) -> list[tuple[float, bool]]:
    """Hold the boxes that were found of one class in one picture against the true ones, as COCO does.

    Args:
        boxes: (n, 4), what was found.
        scores: (n,).
        true: (m, 4); each is matched once, best score first, by an overlap of at least one half.
        crowd: (k, 4) true regions of many things; what lies half within one counts neither way.

    Returns:
        Score and rightness of each box that counts, best first.
    """
    judged = []
    for at in np.argsort(-scores, kind="stable"):
        shares = overlaps(boxes[at], true)
        if shares.size and shares.max() >= MATCH:
            true = np.delete(true, shares.argmax(), axis=0)
            judged.append((float(scores[at]), True))
        elif not _on_crowd(boxes[at], crowd):
            judged.append((float(scores[at]), False))
    return judged


def _on_crowd(box: NDArray[np.float32], crowd: NDArray[np.float32]) -> bool:
    area = _area(box[None])[0]
    return bool(area > 0 and crowd.size and _shared(box, crowd).max() / area >= MATCH)
