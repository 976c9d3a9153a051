"""Parts of a large picture that a detector looks at one by one, so that small things are seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nearsight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# What neighbours share of a tile's side: a thing up to that size lies whole in one of them.
SHARED = 0.25
# A box that ends this near to an inner edge of its tile, in parts of the tile's side, is taken for a cut one.
EDGE = 0.02
MOST = 16  # tiles a side


def checked_tiles(tiles: object) -> tuple[int, int] | None:
    """Read how a picture is to be cut: a number of tiles a side, or columns and rows.

    Returns:
        Columns and rows; None where it stays whole.

    Raises:
        InputError: If they are no whole numbers from 1 to 16.
    """
    if tiles is None:
        return None
    pair = tuple(tiles) if isinstance(tiles, (tuple, list)) else (tiles, tiles)
    wrong = [one for one in pair if isinstance(one, bool) or not isinstance(one, int) or not 1 <= one <= MOST]
    if wrong or len(pair) != 2:
        raise InputError(f"tiles is a number from 1 to {MOST}, or columns and rows such as (3, 2); got {tiles!r}")
    return None if pair == (1, 1) else (pair[0], pair[1])


def windows(size_wh: tuple[int, int], columns_rows: tuple[int, int]) -> NDArray[np.int64]:
    """Cut a picture into tiles that overlap by a quarter of their side.

    Args:
        size_wh: Width and height of the picture, in pixels.
        columns_rows: How many tiles lie side by side, and how many one below the other.

    Returns:
        int64 (n, 4), left, top, right, bottom in pixels, row by row; at least one pixel each.
    """
    (lefts, rights), (tops, bottoms) = map(_spans, size_wh, columns_rows)
    found = [
        (left, top, right, bottom)
        for top, bottom in zip(tops, bottoms, strict=True)
        for left, right in zip(lefts, rights, strict=True)
    ]
    return np.array(found, np.int64)


def _spans(length: int, count: int) -> tuple[Iterable[int], Iterable[int]]:
    side = length / (count - (count - 1) * SHARED)
    starts = [number * side * (1 - SHARED) for number in range(count)]
    firsts = [min(int(start), length - 1) for start in starts]
    # The last one ends at the edge, but for what floats lose.
    ends = [min(length, math.ceil(start + side - 1e-6)) for start in starts]
    return firsts, [max(first + 1, end) for first, end in zip(firsts, ends, strict=True)]


def cut(boxes: NDArray[np.float32], window: NDArray[np.int64], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which boxes of one tile end at an inner edge of it: the things are seen whole elsewhere.

    Args:
        boxes: (n, 4), left, top, right, bottom in pixels of the picture.
        window: (4,), the tile.
        size_wh: Width and height of the picture.

    Returns:
        bool (n,).
    """
    side = np.tile(window[2:] - window[:2], 2)
    picture = np.array([0, 0, *size_wh])
    ends: NDArray[np.bool_] = ((np.abs(boxes - window) <= EDGE * side) & (window != picture)).any(axis=1)
    return ends
