"""Tiles: they cover the picture, overlap, and tell which boxes they cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight.detect.tiles import SHARED, checked_tiles, cut, windows

sides = st.integers(1, 400)
counts = st.integers(1, 16)


@given(st.tuples(sides, sides), st.tuples(counts, counts))
def test_tiles_cover_every_pixel_and_stay_within(size, tiles) -> None:
    seen = np.zeros(size[::-1], bool)

    found = windows(size, tiles)

    assert len(found) == tiles[0] * tiles[1]
    for left, top, right, bottom in found:
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        seen[top:bottom, left:right] = True
    assert seen.all()


@given(st.integers(2, 8), st.integers(500, 4000))
def test_neighbours_share_a_quarter(count, width) -> None:
    found = windows((width, 100), (count, 1))

    shared = found[:-1, 2] - found[1:, 0]
    assert shared == pytest.approx(SHARED * (found[:-1, 2] - found[:-1, 0]), abs=2)


def test_a_box_at_an_inner_edge_is_cut_and_one_at_the_pictures_edge_is_not() -> None:
    window = np.array([0, 0, 200, 100])
    boxes = np.array([[0, 0, 50, 100], [150, 20, 199, 60], [20, 50, 60, 99], [20, 20, 60, 60]], np.float32)

    assert cut(boxes, window, (400, 200)).tolist() == [True, True, True, False]
    assert cut(boxes, window, (400, 100)).tolist() == [False, True, False, False]
    assert cut(boxes, window, (200, 100)).tolist() == [False] * 4


@pytest.mark.parametrize(("given", "read"), [(None, None), (1, None), (3, (3, 3)), ((3, 2), (3, 2)), ([1, 1], None)])
def test_a_number_or_a_pair_says_how_to_cut(given, read) -> None:
    assert checked_tiles(given) == read
