"""Ranges: what is seen of a graph's arrays is what flows through it, and each method keeps of it what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization import ranges as module
from nearsight_npu.quantization.ranges import BINS, Ranges, Spread, by_entropy, by_error, by_share, require, take_ranges
from nearsight_npu.quantization.source import inspect, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nearsight_npu.quantization.source import Prepared

METHODS = ("minmax", "percentile", "entropy", "mse")


@pytest.fixture
def prepared(saved: Callable[..., Path], tmp_path: Path) -> Prepared:
    """A graph that doubles, cuts at zero, and masks with infinity."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["double"], name="double"),
        helper.make_node("Relu", ["double"], ["cut"], name="cut"),
        helper.make_node("Log", ["cut"], ["endless"], name="log"),
        helper.make_node("Exp", ["endless"], ["y"], name="exp"),
    ]
    path = saved(nodes, [("x", "float32", ("n", "m"))], [("y", "float32", ("n", "m"))], {"two": np.float32(2)})
    (tmp_path / "ready").mkdir()
    return prepare(path, inspect(path, "static"), tmp_path / "ready")


def samples(*shapes: tuple[int, ...], seed: int = 0) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(seed)
    return [{"x": numbers.standard_normal(shape).astype(np.float32)} for shape in shapes]


def spread(numbers: np.ndarray) -> Spread:
    counts, _ = np.histogram(numbers, BINS)
    return Spread(low=float(numbers.min()), high=float(numbers.max()), counts=counts)


def error(numbers: np.ndarray, ends: tuple[float, float], levels: int = 256) -> float:
    """Round numbers with codes spread over a range, and give the mean square error."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    step = (high - low) / (levels - 1)
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(numbers / step) + zero, 0, levels - 1)
    return float(np.mean(((codes - zero) * step - numbers) ** 2))


def test_ends_and_counts_are_those_of_what_flows_whatever_the_samples_shapes(prepared: Prepared) -> None:
    given_samples = samples((1, 7), (3, 50), (2, 1))
    flat = np.concatenate([sample["x"].ravel() for sample in given_samples])

    found = take_ranges(prepared, given_samples)

    assert found.samples == 3
    for name, numbers in {"x": flat, "double": 2 * flat, "cut": np.maximum(2 * flat, 0)}.items():
        seen = found.spreads[name]
        assert (seen.low, seen.high) == (numbers.min(), numbers.max())
        assert seen.counts is not None
        assert seen.counts.sum() == flat.size
        # A number on an edge may fall to either side.
        wanted, _ = np.histogram(numbers, BINS, (seen.low, seen.high))
        assert np.abs(seen.counts - wanted).sum() <= 4


def test_an_array_with_numbers_that_are_not_finite_has_no_range(prepared: Prepared) -> None:
    found = take_ranges(prepared, samples((4, 20)))

    assert "endless" not in found.spreads
    with pytest.raises(QuantizationError, match="no finite range of 'endless' is known"):
        require(found, ["x", "endless"])


def test_arrays_are_looked_at_in_parts_where_memory_asks_for_it(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = take_ranges(prepared, samples((4, 20)))
    monkeypatch.setattr(module, "_MOST_BYTES", 1)

    parted = take_ranges(prepared, samples((4, 20)))

    assert set(parted.spreads) == set(whole.spreads)
    for name, seen in whole.spreads.items():
        other = parted.spreads[name]
        assert (other.low, other.high) == (seen.low, seen.high)
        np.testing.assert_array_equal(other.counts, seen.counts)


def test_only_the_arrays_that_are_named_are_looked_at(prepared: Prepared) -> None:
    assert set(take_ranges(prepared, samples((1, 9)), names={"x", "cut"}).spreads) == {"x", "cut"}


def test_minmax_needs_no_histograms_and_the_others_say_that_they_do(prepared: Prepared) -> None:
    found = take_ranges(prepared, samples((4, 20)), histograms=False)

    assert found.of("x", "minmax", 99.99, 256) == (found.spreads["x"].low, found.spreads["x"].high)
    for method in METHODS[1:]:
        with pytest.raises(QuantizationError, match=f"method='{method}' was asked for; only the ends of 'x' are known"):
            found.of("x", method, 99.99, 256)


def test_ranges_of_nothing_are_refused(prepared: Prepared) -> None:
    with pytest.raises(QuantizationError, match="there is no sample; give about 100"):
        take_ranges(prepared, [])


def test_a_sample_that_the_model_cannot_run_on_is_refused_in_one_line(prepared: Prepared) -> None:
    with pytest.raises(QuantizationError, match="cannot run on a sample") as caught:
        take_ranges(prepared, [{"x": np.zeros((1, 2, 3), np.float32)}])

    assert "\n" not in str(caught.value)


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-10, 10), levels=st.sampled_from((256, 65536)))
@settings(max_examples=40, deadline=None)
def test_zero_lies_in_every_range_and_no_range_reaches_beyond_what_was_seen(
    seed: int, shift: float, levels: int
) -> None:
    numbers = np.random.default_rng(seed).standard_t(2, 2000) + shift
    found = Ranges(spreads={"a": spread(numbers)}, samples=1)

    for method in METHODS:
        low, high = found.of("a", method, 99.0, levels)
        assert low <= 0 <= high
        assert min(numbers.min(), 0) <= low
        assert high <= max(numbers.max(), 0) * (1 + 1e-12)


@pytest.mark.parametrize("share", [90.0, 99.0, 99.9])
def test_a_percentile_keeps_that_share(share: float) -> None:
    numbers = np.random.default_rng(0).standard_normal(200_000)

    low, high = by_share(spread(numbers), share)

    kept = np.mean((numbers >= low) & (numbers <= high))
    assert kept == pytest.approx(share / 100, abs=2e-3)
    assert low == pytest.approx(-high, abs=0.05)


@given(seed=st.integers(0, 2**32 - 1), outlier=st.floats(1, 200), cut=st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_least_error_is_no_larger_than_minmax_s(seed: int, outlier: float, cut: bool) -> None:
    numbers = np.random.default_rng(seed).standard_normal(5000)
    numbers = np.maximum(numbers, 0) if cut else numbers
    numbers[0] = outlier

    ends = by_error(spread(numbers), 256)

    # Within the histogram's own grain, and the model's: rounding errors are even.
    assert error(numbers, ends) <= error(numbers, (numbers.min(), numbers.max())) * 1.1


def test_a_lonely_outlier_is_cut_by_shares_and_by_entropy() -> None:
    numbers = np.random.default_rng(1).standard_normal(100_000)
    numbers[0] = 40.0
    seen = spread(numbers)

    for low, high in (by_share(seen, 99.99), by_entropy(seen, 256)):
        assert 3 < high < 12
        assert -12 < low < -3


def test_what_a_limit_cut_is_no_reason_to_cut_more() -> None:
    # A third of the numbers stands at zero and a fortieth at six; both have codes of their own.
    numbers = np.clip(np.random.default_rng(1).normal(1, 2.5, 100_000), 0, 6)

    for low, high in (by_entropy(spread(numbers), 256), by_error(spread(numbers), 256)):
        assert low == 0
        assert high >= 5.9


def test_long_tails_are_cut_where_that_lessens_the_error() -> None:
    numbers = np.random.default_rng(1).laplace(size=200_000)
    seen = spread(numbers)

    low, high = by_error(seen, 256)

    assert 3 < high < 0.9 * seen.high
    assert 0.9 * seen.low < low < -3
    others = ((seen.low, seen.high), by_share(seen, 99.9), by_share(seen, 99.99), by_entropy(seen, 256))
    assert error(numbers, (low, high)) < 0.8 * error(numbers, others[0])
    assert error(numbers, (low, high)) <= min(error(numbers, ends) for ends in others)


def test_with_16_bits_there_is_no_need_to_cut() -> None:
    numbers = np.random.default_rng(1).standard_normal(10_000)
    seen = spread(numbers)

    assert by_error(seen, 65536) == (seen.low, seen.high)
    assert by_entropy(seen, 65536) == (seen.low, seen.high)
