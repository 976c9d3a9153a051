"""The curve from inner products to relevance."""

from __future__ import annotations

import numpy as np
import pytest

from nearsight import ModelError
from nearsight.calibration import Calibration

PAGE = {"widths": [2, 1], "slopes": [3.0, 1.0], "size_slope": 2.0, "intercept": -1.0, "min_relevance": 0.4}


def test_each_part_has_its_own_slope():
    curve = Calibration.read(PAGE, 3)
    query = np.array([1, 0, 1], np.float32)

    found = curve.relevance(query, np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]], np.float32), 1000)

    assert found == pytest.approx(1 / (1 + np.exp([-2.0, 0.0, 1.0])), abs=1e-6)


def test_the_same_score_means_less_among_more_pictures():
    curve = Calibration.read(PAGE, 3)
    one = np.array([[1, 0, 0]], np.float32)

    few, many = (float(curve.relevance(one[0], one, count)[0]) for count in (100, 10_000))

    assert (few, many) == pytest.approx((1 / (1 + np.exp(-4.0)), 1 / (1 + np.exp(-0.0))))


def test_far_scores_do_not_overflow():
    curve = Calibration.read(PAGE | {"slopes": [1e9, 1e9]}, 3)

    found = curve.relevance(np.ones(3, np.float32), np.array([[1, 1, 1], [-1, -1, -1]], np.float32), 1000)

    assert found == pytest.approx([1, 0], abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [1, 1]},
        {"slopes": [1.0]},
        {"slopes": [-1.0, 1.0]},
        {"slopes": [0.0, 0.0]},
        {"min_relevance": 0},
        {"intercept": float("nan")},
        {"slopes": "no"},
    ],
)
def test_a_page_that_makes_no_rising_curve_is_refused(change):
    with pytest.raises(ModelError, match="relevance"):
        Calibration.read(PAGE | change, 3)


def test_a_page_without_numbers_is_refused():
    with pytest.raises(ModelError, match="lacks a number"):
        Calibration.read({}, 3)
