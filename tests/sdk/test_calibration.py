"""The curve from scores to relevance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight import ModelError
from nearsight.calibration import Calibration, names_thing

PAGE = {
    "slope": 3.0,
    "size_slope": -2.0,
    "thing_shift": -0.5,
    "intercept": -1.0,
    "support": 2,
    "support_share": 0.5,
    "support_slope": 0.25,
    "min_relevance": 0.4,
}


def logistic(logit):
    return 1 / (1 + np.exp(-np.asarray(logit, float)))


def test_among_many_pictures_the_mean_of_the_best_few_counts_as_well():
    curve = Calibration.read(PAGE)

    found = curve.relevance(np.array([0.8, 0.4, 0.0], np.float32), 1000, thing=False)

    evidence = np.array([0.8, 0.4, 0.0]) / 2 + 0.6 / 2
    assert found == pytest.approx(logistic(3 * evidence - 1), abs=1e-6)


def test_among_few_pictures_an_answer_may_stand_alone():
    curve = Calibration.read(PAGE)

    alone, together = (
        curve.relevance(np.array(rest, np.float32), 10, thing=False)[0] for rest in ([0.8, 0.0], [0.8, 0.8])
    )

    assert alone == together == pytest.approx(logistic(3 * 0.8 - 1 + 2 * 2), abs=1e-6)


def test_the_same_score_means_less_among_more_pictures():
    curve = Calibration.read(PAGE)

    few, many = (float(curve.relevance(np.ones(2, np.float32), count, thing=False)[0]) for count in (1000, 10_000))

    assert (few, many) == pytest.approx((logistic(2.0), logistic(0.0)))


def test_a_name_is_judged_on_its_own_level():
    curve = Calibration.read(PAGE)

    name, sentence = (float(curve.relevance(np.ones(1, np.float32), 1000, thing=thing)[0]) for thing in (True, False))

    assert (name, sentence) == pytest.approx((logistic(1.5), logistic(2.0)))


@pytest.mark.parametrize("text", ["a dog", "The traffic light", "dog", "手风琴", "一只狗", "红绿灯。", "fire hydrant"])
def test_a_name_is_told_from_a_sentence(text):
    assert names_thing(text)
    assert not names_thing(f"{text} 和 两个 孩子" if not text.isascii() else f"{text} and two children")


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60), st.integers(1, 10**7))
def test_relevance_never_rises_where_scores_fall(scores, considered):
    found = Calibration.read(PAGE).relevance(np.sort(np.array(scores, np.float32))[::-1], considered, thing=False)

    assert (np.diff(found) <= 0).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_far_scores_do_not_overflow():
    found = Calibration.read(PAGE | {"slope": 1e9, "support_share": 0.0}).relevance(
        np.array([1, -1], np.float32), 1000, thing=False
    )

    assert found == pytest.approx([1, 0], abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"slope": 0.0},
        {"slope": float("inf")},
        {"size_slope": 1.0},
        {"support": 0},
        {"support_share": 1.5},
        {"support_slope": -1.0},
        {"min_relevance": 0},
        {"intercept": float("nan")},
        {"slope": "no"},
    ],
)
def test_a_page_that_makes_no_rising_curve_is_refused(change):
    with pytest.raises(ModelError, match="relevance"):
        Calibration.read(PAGE | change)


def test_a_page_without_numbers_is_refused():
    with pytest.raises(ModelError, match="lacks a number"):
        Calibration.read({})
