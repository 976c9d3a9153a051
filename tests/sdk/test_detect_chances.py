"""Chances: rising curves that keep the order within a class, and thresholds that agree with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nearsight as ns
import nearsight_models
from nearsight.detect.chances import Chances, chance, logit

PAGE = {
    "min_score": 0.3, "slope": 2.0, "offsets": [1.0, -1.0], "narrower": 0.5, "near_share": 0.8,
    "crop": [2.0, 1.0], "example": [1.5, -3.0],
}  # fmt: skip
CURVES = Chances.read(PAGE, 2)


def test_a_chance_is_as_computed_by_hand() -> None:
    (row,) = CURVES.of_class(np.array([[0.5, 0.5]], np.float32), [0, 1])

    assert row == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])
    assert chance(logit(np.array([0.2, 0.7]))) == pytest.approx([0.2, 0.7])


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20))
def test_the_order_within_a_class_stays(scores) -> None:
    row = np.sort(np.array(scores, np.float32))[:, None]

    assert (np.diff(CURVES.of_class(row, [1])[:, 0]) >= 0).all()


@given(st.floats(0.01, 0.99), st.integers(0, 1))
def test_the_threshold_of_a_class_has_the_chance_it_stands_for(least, column) -> None:
    score = CURVES.score(column, least)

    assert CURVES.of_class(np.array([[score]]), [column])[0, 0] == pytest.approx(least, abs=1e-4)


def test_nothing_reaches_a_chance_of_one_and_everything_one_of_nought() -> None:
    assert CURVES.score(0, 1.0) == math.inf
    assert CURVES.score(0, 0.0) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"slope": 0}, {"slope": -1}, {"offsets": [1.0]}, {"offsets": None}, {"crop": [2.0]}, {"crop": [-1.0, 0.0]},
        {"example": [math.nan, 0.0]}, {"narrower": 0}, {"min_score": "high"},
    ],
)  # fmt: skip
def test_a_page_that_makes_no_rising_curve_is_refused(wrong) -> None:
    with pytest.raises(ns.ModelError, match=r"\[settings.routes\]"):
        Chances.read({**PAGE, **wrong}, 2)


def test_the_page_that_ships_has_a_curve_for_each_class() -> None:
    settings = nearsight_models.load("nano", "detect").settings

    assert 0.1 < Chances.read(settings["routes"], len(settings["classes"])).least < 0.6
