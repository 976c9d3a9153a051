"""Crops: where they lie, which boxes they are, and what speaks for a label."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nearsight.detect.crops import LEAST_SCORE, MOST, around, surest

edges = st.floats(0, 1, width=32)


@given(st.tuples(edges, edges, edges, edges), st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_a_crop_has_at_least_a_pixel_and_stays_within_the_picture(corners, size) -> None:
    pairs = np.sort(np.array(corners).reshape(2, 2), axis=0)
    box = pairs.ravel() * np.array(size * 2)

    left, top, right, bottom = around(box, size)

    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert left <= box[0] or left == size[0] - 1
    assert right >= box[2]


def test_a_crop_shows_a_tenth_more_on_each_side() -> None:
    assert around(np.array([100.0, 50.0, 200.0, 150.0]), (400, 300)) == (90, 40, 210, 160)


def test_the_surest_boxes_are_those_of_any_class_each_once() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
    scores = np.array([[0.3, 0.1], [0.1, 0.6], [0.2, 0.0], [LEAST_SCORE / 2, 0.0]], np.float32)

    assert surest(boxes, scores).tolist() == [1, 2]


def test_no_more_than_sixteen_boxes_are_cut_out() -> None:
    boxes = (np.arange(40)[:, None] * 20 + np.array([[0, 0, 10, 10]])).astype(np.float32)

    assert len(surest(boxes, np.full((40, 2), 0.5, np.float32))) == MOST
