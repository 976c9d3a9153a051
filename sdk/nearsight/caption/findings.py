"""What the detector found, in the form that a captioner looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nearsight.detect.boxes import suppressed

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 12
LEAST_SCORE = 0.15
MOST_OF_A_CLASS = 4
FIELDS = 6


def listed(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], max_overlap: float, most: int = MOST
) -> NDArray[np.float32]:
    """List the surest boxes of one picture, at most four of a class.

    Args:
        boxes: (a, 4), left, top, right, bottom of every anchor, in the unit square.
        scores: (a, classes).
        max_overlap: A box that shares more than this with a better one of its class is left out.
        most: How many rows to give.

    Returns:
        float32 (most, 6), best first: class, left, top, right, bottom, score. Rows that are left over have the number
        of classes for a class, and zeros.
    """
    rows = []
    for column in np.flatnonzero(scores.max(axis=0) >= LEAST_SCORE):
        places = np.flatnonzero(scores[:, column] >= LEAST_SCORE)
        kept = places[suppressed(boxes[places], scores[places, column], max_overlap, MOST_OF_A_CLASS)]
        rows += [(float(column), *boxes[at].tolist(), float(scores[at, column])) for at in kept]
    rows.sort(key=lambda row: -row[-1])
    found = np.zeros((most, FIELDS), np.float32)
    found[:, 0] = scores.shape[1]
    for place, row in enumerate(rows[:most]):
        found[place] = row
    return found
