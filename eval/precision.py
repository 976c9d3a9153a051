"""Average precision as COCO defines it: found boxes held against true ones, at overlaps of .5 to .95; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Source: Lin et al. 2014, Microsoft COCO; the parameters of pycocotools' `Params` for boxes.
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # boxes of one class in one picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Boxes of one picture: (n, 4) in pixels, classes (n,); scores (n,) of found ones, crowds (n,) of true ones."""

    xyxy: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray

    def of(self, number: int) -> Boxes:
        """Those of one class."""
        here = self.classes == number
        return Boxes(xyxy=self.xyxy[here], classes=self.classes[here], scores=self.scores[here], crowd=self.crowd[here])


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Found boxes of one picture, best first: scores (n,); for each overlap, right and counted (overlaps, n)."""

    scores: np.ndarray
    right: np.ndarray
    counted: np.ndarray


def found_boxes(xyxy: np.ndarray, classes: np.ndarray, scores: np.ndarray) -> Boxes:
    """What was found in one picture."""
    return Boxes(xyxy=xyxy, classes=classes, scores=scores, crowd=np.zeros(len(scores), bool))


def shared(boxes: np.ndarray, others: np.ndarray, *, of_first: bool = False) -> np.ndarray:
    """Say how much each box shares with each of others: (n, m), over the union, or over the first one's own area."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(2)
    area, area_others = (np.clip(side[:, 2:] - side[:, :2], 0, None).prod(1) for side in (boxes, others))
    whole = np.broadcast_to(area[:, None], both.shape) if of_first else area[:, None] + area_others - both
    return np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)


def judged(true: Boxes, found: Boxes) -> Judged:
    """Hold what was found of one thing in one picture against what is there.

    Best first, each found box takes the free true box that it shares most with, if that is enough. One that finds no
    free box and lies enough within a crowd counts neither way.
    """
    order = np.argsort(-found.scores, kind="stable")[:MOST]
    shape = (len(OVERLAPS), len(order))
    right, counted = np.zeros(shape, bool), np.ones(shape, bool)
    if len(order) and len(true.xyxy):
        boxes = found.xyxy[order].astype(float)
        shares = shared(boxes, true.xyxy[~true.crowd].astype(float))
        inside = shared(boxes, true.xyxy[true.crowd].astype(float), of_first=True).max(1, initial=0.0)
        free = np.ones((len(OVERLAPS), shares.shape[1]), bool)
        for place in range(len(order) if shares.shape[1] else 0):
            left = np.where(free, shares[place], -1.0)
            best = left.argmax(1)
            taken = np.flatnonzero(left[np.arange(len(OVERLAPS)), best] >= OVERLAPS)
            right[taken, place], free[taken, best[taken]] = True, False
        counted = right | (inside < OVERLAPS[:, None])
    return Judged(scores=found.scores[order], right=right, counted=counted)


def interpolated(right: np.ndarray, wanted: int) -> float:
    """The mean over 101 recalls of the best precision at that recall or beyond.

    Args:
        right: bool (n,), whether each box is right, best first.
        wanted: How many true boxes there are.
    """
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / wanted, RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())


def average(rows: Iterable[Judged], wanted: int) -> np.ndarray:
    """Average precision of one thing over pictures, at each overlap: (overlaps,).

    Args:
        rows: What was found of it, picture by picture; of equal scores the earlier picture's box comes first.
        wanted: How many true boxes there are in all pictures; at least one.
    """
    rows = list(rows)
    order = np.argsort(-np.concatenate([row.scores for row in rows]), kind="stable")
    right, counted = (
        np.concatenate([getattr(row, part) for row in rows], axis=1)[:, order] for part in ("right", "counted")
    )
    return np.array([interpolated(r[c], wanted) for r, c in zip(right, counted, strict=True)])


def precisions(true: list[Boxes], found: list[Boxes], *, labelled_only: bool = False) -> dict[int, np.ndarray]:
    """Average precision of every class that has a true box, at each overlap: (overlaps,).

    Args:
        true: The true boxes of each picture.
        found: The found ones, picture by picture.
        labelled_only: Leave out what was found of classes that a picture has no box of.
    """
    return {
        number: precision_of(
            [one.of(number) for one in true], [one.of(number) for one in found], labelled_only=labelled_only
        )
        for number in numbers(true)
    }


def precision_of(true: list[Boxes], found: list[Boxes], *, labelled_only: bool = False) -> np.ndarray:
    """The same of one thing, whose boxes alone are given."""
    pairs = [(t, f) for t, f in zip(true, found, strict=True) if len(t.xyxy) or not labelled_only]
    return average((judged(t, f) for t, f in pairs), sum(int((~t.crowd).sum()) for t in true))


def numbers(true: list[Boxes]) -> list[int]:
    """The classes that have a true box which is no crowd."""
    return sorted({int(number) for boxes in true for number in boxes.classes[~boxes.crowd]})


def truths(page: dict[str, list[dict[str, object]]]) -> list[Boxes]:
    """The true boxes of every picture of a set."""
    rows = [np.array([[*box, 0][:6] for box in image["boxes"]], float).reshape(-1, 6) for image in page["images"]]
    return [
        Boxes(xyxy=r[:, :4].astype(np.float32), classes=r[:, 4].astype(int), scores=np.ones(len(r)), crowd=r[:, 5] == 1)
        for r in rows
    ]
