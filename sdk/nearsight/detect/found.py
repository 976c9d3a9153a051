"""What was found of each label in one picture, and how that becomes one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearsight.detect.boxes import EXAMPLE, Detections
from nearsight.detect.chances import chance
from nearsight.detect.crops import apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.detect.closedset import ClosedSet
    from nearsight.detect.crops import Crops
    from nearsight.detect.labels import Asked
    from nearsight_npu import Decision


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What the graph saw of one picture: boxes (a, 4) in pixels, scores (a, classes), and the part of each box (a,)."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    parts: NDArray[np.intp] | None
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The boxes of one label, best first: boxes (k, 4) in pixels, chances (k,), names of classes (k)."""

    asked: Asked
    boxes: NDArray[np.float32]
    chances: NDArray[np.float64]
    classes: tuple[str, ...]


def by_crops(closed: ClosedSet, crops: Crops, rows: Sequence[tuple[Asked, float]]) -> list[Found]:
    """Choose the crops that look like the labels which no class answers."""
    labels = np.stack([asked.vector for asked, _ in rows if asked.vector is not None])
    evidence = closed.cropper.evidence(crops.vectors, labels)
    found = []
    for column, (asked, least) in enumerate(rows):
        slope, intercept = closed.chances.example if asked.route == EXAMPLE else closed.chances.crop
        chances = chance(slope * evidence[:, column] + intercept)
        # Of two crops the better one stays, so those below the limit take none away.
        enough = np.flatnonzero(chances >= least)
        if enough.size:
            boxes = crops.boxes_xyxy
            kept = enough[apart(boxes[enough], evidence[enough, column])]
            found.append(Found(asked=asked, boxes=boxes[kept], chances=chances[kept], classes=("",) * len(kept)))
    return found


def joined(
    found: list[Found], unjudged: tuple[str, ...], size_wh: tuple[int, int], decision: Decision | None
) -> Detections:
    """Put the boxes of all labels together, best first."""
    chances = np.concatenate([np.zeros(0), *(one.chances for one in found)])
    order = np.argsort(-chances, kind="stable")
    owners = [one.asked for one in found for _ in one.chances]
    classes = [name for one in found for name in one.classes]
    return Detections(
        boxes_xyxy=np.concatenate([np.zeros((0, 4), np.float32), *(one.boxes for one in found)])[order],
        scores=chances[order].astype(np.float32),
        labels=tuple(owners[at].label for at in order),
        routes=tuple(owners[at].route for at in order),
        classes=tuple(classes[at] for at in order),
        size_wh=size_wh,
        unjudged=unjudged,
        decision=decision,
    )
