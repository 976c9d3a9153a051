"""Which detection is which expected box: how alike two boxes are, and the best pairing of many; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def likeness(expected: Sequence[Sequence[float]], found: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Compare every expected box with every found one: overlap less the distance of the centres.

    Source: DIoU (Zheng et al. 2020): IoU - d^2 / c^2, d the distance of the centres, c the diagonal around both.

    Args:
        expected: n boxes (x1, y1, x2, y2).
        found: m boxes.

    Returns:
        float64 (n, m), -1 to 1; 1 for equal boxes, below 0 only for boxes that hardly overlap.
    """
    one = np.asarray(expected, np.float64).reshape(-1, 1, 4)
    two = np.asarray(found, np.float64).reshape(1, -1, 4)
    inner = np.maximum(np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2]), 0).prod(-1)
    areas = (one[..., 2:] - one[..., :2]).prod(-1) + (two[..., 2:] - two[..., :2]).prod(-1)
    apart = (((one[..., :2] + one[..., 2:]) - (two[..., :2] + two[..., 2:])) ** 2).sum(-1) / 4
    around = ((np.maximum(one[..., 2:], two[..., 2:]) - np.minimum(one[..., :2], two[..., :2])) ** 2).sum(-1)
    overlap: NDArray[np.float64] = inner / np.maximum(areas - inner, 1e-9) - apart / np.maximum(around, 1e-9)
    return overlap


def matched(alike: NDArray[np.float64], limit: float) -> list[tuple[int, int]]:
    """Pair rows with columns so that the pairs exceed the limit by as much as possible in sum.

    One pair that is very alike counts for more than two that hardly are: else a detection that nothing expected could
    push everything one place on.

    Args:
        alike: (n, m), -1 to 1.
        limit: pairs below it are not made.

    Returns:
        Pairs (row, column), by row.
    """
    allowed = alike >= limit
    cost = np.where(allowed, limit - alike, 0.0)
    turned = cost.shape[0] > cost.shape[1]
    pairs = list(enumerate(_assigned(cost.T if turned else cost)))
    upright = [(column, row) for row, column in pairs] if turned else pairs
    return sorted((row, column) for row, column in upright if allowed[row, column])


def _assigned(cost: NDArray[np.float64]) -> list[int]:
    """Give each of n rows its column of m >= n, at the least total cost.

    Source: the Hungarian method (Kuhn 1955) by shortest augmenting paths (Jonker and Volgenant 1987), O(n^2 m).
    """
    rows, columns = cost.shape
    row_price, price = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)
    for start in range(rows):
        reach, before = np.full(columns, np.inf), np.full(columns, -1)
        done = np.zeros(columns, bool)
        row, last = start, -1
        while row >= 0:
            if last >= 0:
                done[last] = True
            way = cost[row] - row_price[row] - price
            if last >= 0:
                way = way + reach[last]
            nearer = ~done & (way < reach)
            reach[nearer], before[nearer] = way[nearer], last
            last = int(np.argmin(np.where(done, np.inf, reach)))
            row = int(owner[last])
        shortest = reach[last]
        row_price[start] += shortest
        for column in np.flatnonzero(done):
            row_price[owner[column]] += shortest - reach[column]
            price[column] -= shortest - reach[column]
        while last >= 0:
            owner[last] = start if before[last] < 0 else owner[before[last]]
            last = int(before[last])
    given = [0] * rows
    for column in np.flatnonzero(owner >= 0):
        given[owner[column]] = int(column)
    return given
