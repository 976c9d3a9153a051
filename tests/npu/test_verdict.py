"""The verdict: paired on the same samples, an interval that holds what it says, and a refusal that names the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.verdict import Verdict, error_of, judge, stacked

if TYPE_CHECKING:
    from collections.abc import Callable


def answers(values: np.ndarray, name: str = "y") -> list[dict[str, np.ndarray]]:
    return [{name: np.atleast_1d(np.asarray(value, np.float32))[None]} for value in values]


def value(outputs: dict[str, Any]) -> np.ndarray:
    """Measure each sample: its own number."""
    return outputs["y"][:, 0]


def drawn(seed: int, count: int, loss: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Values that differ much from sample to sample, and the same less a loss that hardly does."""
    numbers = np.random.default_rng(seed)
    before = numbers.standard_normal(count)
    return before, before - loss - noise * numbers.standard_normal(count)


def test_the_drop_is_the_mean_of_the_pairs_and_pairs_make_it_narrow() -> None:
    before, after = drawn(0, 100, 0.05, 0.02)

    found = judge(answers(before), answers(after), range(100), metric=value)

    assert found.drop == pytest.approx(float(np.mean(before - after)), abs=1e-6)
    assert (found.metric, found.task, found.samples, found.resamples) == ("value", True, 100, 2000)
    assert found.before == pytest.approx(before.mean(), abs=1e-6)
    assert found.after == pytest.approx(after.mean(), abs=1e-6)
    assert found.low < found.drop < found.high
    # Not paired, samples that spread by 1 would give an interval of .4 and more.
    assert found.high - found.low < 0.02


def test_the_interval_holds_the_true_loss_nearly_as_often_as_it_says(
    trials: int, soak: Callable[[str, dict[str, object]], None]
) -> None:
    held = []
    for seed in range(5 * trials):
        before, after = drawn(seed, 40, 0.1, 0.3)
        found = judge(answers(before), answers(after), range(40), metric=value)
        held.append(found.low <= 0.1 <= found.high)
    soak("verdict_interval", {"trials": len(held), "held": int(sum(held)), "stated": 0.95})

    # Intervals of this kind are known to be a little narrow on few samples.
    assert np.mean(held) >= 0.88


def test_it_is_accepted_only_if_the_upper_end_is_inside() -> None:
    before, after = drawn(1, 50, 0.05, 0.1)
    found = judge(answers(before), answers(after), range(50), metric=value)

    def accepted(most: float) -> Verdict:
        return judge(answers(before), answers(after), range(50), metric=value, max_drop=most)

    assert accepted(found.high).accepted is True
    assert accepted(found.high - 1e-6).accepted is False
    assert accepted(found.drop).accepted is False
    assert "the upper end of the interval is more than" in accepted(found.drop).reason
    assert "more samples would narrow it" in accepted(found.drop).reason
    assert "the drop itself is more than" in accepted(found.drop / 2).reason
    assert "more samples" not in accepted(found.drop / 2).reason
    assert "accepted: the upper end is no more than" in accepted(1.0).reason
    assert found.accepted is None


@given(seed=st.integers(0, 2**32 - 1), most=st.floats(-0.5, 0.5))
@settings(max_examples=40)
def test_acceptance_is_what_the_figures_say_and_the_seed_is_fixed(seed: int, most: float) -> None:
    before, after = drawn(seed, 12, 0.0, 0.2)

    one, again = (judge(answers(before), answers(after), range(12), metric=value, max_drop=most) for _ in range(2))

    assert one == again
    assert one.low <= one.drop <= one.high
    assert one.accepted is (one.high <= most)
    assert "\n" not in one.reason


def test_a_metric_of_the_whole_set_is_computed_anew_on_the_same_drawn_samples() -> None:
    seen: list[np.ndarray] = []
    truth = np.arange(30) % 3

    def accuracy(outputs: dict[str, np.ndarray], places: np.ndarray) -> float:
        seen.append(places)
        return float((outputs["y"].argmax(axis=1) == truth[places - 100]).mean())

    right = np.eye(3)[truth]
    wrong = right.copy()
    wrong[:6] = np.roll(right[:6], 1, axis=1)

    found = judge(answers(right), answers(wrong), range(100, 130), metric=accuracy, max_drop=0.25)

    assert found.drop == pytest.approx(0.2)
    assert (found.before, found.after) == (1.0, pytest.approx(0.8))
    assert found.low < 0.2 < found.high
    assert found.resamples == 200
    assert found.accepted is False
    assert len(seen) == 2 + 2 * 200
    for one, other in zip(seen[2::2], seen[3::2], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_metric_of_the_whole_set_that_takes_no_places_has_no_interval() -> None:
    def mean(outputs: dict[str, np.ndarray]) -> float:
        return float(outputs["y"].mean())

    found = judge(answers(np.ones(5)), answers(np.zeros(5)), range(5), metric=mean)

    assert (found.drop, found.low, found.high, found.accepted, found.resamples) == (1.0, None, None, None, 0)
    assert "no interval" in found.reason
    with pytest.raises(
        QuantizationError, match="'mean' gives one value for all samples and does not take their places"
    ):
        judge(answers(np.ones(9)), answers(np.ones(9)), range(9), metric=mean, max_drop=0.1)


def test_no_change_on_few_samples_is_not_called_no_risk() -> None:
    found = judge(answers(np.ones(20)), answers(np.ones(20)), range(20), metric=value, max_drop=0.0)

    assert (found.drop, found.low, found.high, found.accepted) == (0, 0, 0, True)
    assert "a loss on up to 14% of others could have been missed" in found.reason


def test_without_a_metric_the_output_error_decides_and_is_called_no_task() -> None:
    numbers = np.random.default_rng(0)
    still, moving = numbers.standard_normal((2, 50, 1, 8))
    wanted = [{"still": s, "moving": m} for s, m in zip(still, moving, strict=True)]
    moved = [
        {"still": s, "moving": m + 0.1 * numbers.standard_normal((1, 8))} for s, m in zip(still, moving, strict=True)
    ]

    found = judge(wanted, moved, range(50), max_drop=0.2)

    errors = np.concatenate([a["moving"] - b["moving"] for a, b in zip(moved, wanted, strict=True)])
    spread = moving[:, 0] - moving[:, 0].mean(axis=0)
    assert found.drop == pytest.approx(np.linalg.norm(errors) / np.linalg.norm(spread) / np.sqrt(2), rel=1e-6)
    assert (found.metric, found.task, found.before) == ("output error", False, None)
    assert found.accepted is True


def test_an_error_is_a_share_of_what_answers_tell_apart_or_of_their_length() -> None:
    wanted = [np.array([10.0, 1.0]), np.array([10.0, -1.0])]
    moved = [array + np.array([0.0, 0.5]) for array in wanted]

    np.testing.assert_allclose(error_of(wanted, moved), 0.25)  # of a spread of 1, whatever the common 10
    np.testing.assert_allclose(error_of([np.full(2, 3.0)] * 2, [np.full(2, 3.3)] * 2), 0.01)
    np.testing.assert_allclose(error_of([np.ones(2), np.ones(3)], [np.ones(2), np.full(3, 1.1)]), [0, 0.03 / 2.5])
    np.testing.assert_array_equal(error_of([np.zeros(2)] * 2, [np.zeros(2)] * 2), 0)
    np.testing.assert_array_equal(error_of([np.zeros(2)] * 2, [np.ones(2)] * 2), 1)


def test_outputs_are_stacked_along_their_first_axis_and_unlike_ones_are_a_list() -> None:
    runs = [{"a": np.full((1, 2), n), "b": np.zeros((1, n)), "c": np.float32(n)} for n in (1, 2, 3)]

    found = stacked(runs)

    np.testing.assert_array_equal(found["a"], [[1, 1], [2, 2], [3, 3]])
    assert [part.shape for part in found["b"]] == [(1, 1), (1, 2), (1, 3)]
    assert found["c"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (lambda outputs: outputs["z"], "failed ('z'); it is given outputs by name, 'y', stacked"),
        (lambda outputs: 1 / 0, "failed (division by zero)"),
        (lambda outputs: outputs["y"][:3, 0], r"gave float64 (3,) for 5 samples"),
        (lambda outputs: np.full(5, np.nan), r"gave float64 (5,) for 5 samples; one finite number"),
        (lambda outputs: np.zeros((5, 2)), "for 5 samples"),
        (lambda outputs: "good", "failed (could not convert"),
        (lambda outputs: None, "for 5 samples; one finite number"),
    ],
)
def test_a_metric_that_gives_something_else_is_refused_in_one_line(metric: Callable[..., Any], said: str) -> None:
    with pytest.raises(QuantizationError) as error:
        judge(answers(np.ones(5)), answers(np.ones(5)), range(5), metric=metric)

    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_fault_of_the_metric_that_is_none_of_ours_goes_through() -> None:
    def interrupted(outputs: dict[str, np.ndarray]) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(answers(np.ones(5)), answers(np.ones(5)), range(5), metric=interrupted)


def test_a_loss_of_nothing_has_no_sign() -> None:
    wanted = [{"y": np.array([[value]], np.float32)} for value in range(20)]
    given = [{"y": answer["y"] + 1e-7} for answer in wanted]

    verdict = judge(wanted, given, range(20), metric=lambda outputs: np.asarray(outputs["y"])[:, 0] * 1e-7)

    assert "lost 0.0000 on 20 samples (95 % interval 0.0000 to 0.0000)" in verdict.reason


def test_a_small_gain_is_not_written_as_less_than_nothing() -> None:
    wanted = [{"y": np.array([[0.0]])} for _ in range(20)]
    given = [{"y": np.array([[1e-6 * (1 + place)]])} for place in range(20)]

    verdict = judge(wanted, given, range(20), metric=lambda outputs: np.asarray(outputs["y"])[:, 0])

    assert verdict.high < 0
    assert "-0.0000" not in verdict.reason
