"""Scores after a conversion: a threshold lets pass what it let pass, no order changes, and the graph computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.recalibration import Step, check_scores, fit, insert, recalibrate
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.targets.reference import ReferenceTarget
from nearsight_npu.targets.target import Port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def logits(seed: int, count: int = 20_000) -> np.ndarray:
    """Most of a detector's scores are next to nothing, few are high."""
    return np.random.default_rng(seed).normal(-3, 2.5, count)


def chances(values: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-values))).astype(np.float32)


def runs(values: np.ndarray, name: str = "scores", parts: int = 10) -> list[dict[str, np.ndarray]]:
    return [{name: part[None]} for part in np.split(values, parts)]


@given(seed=st.integers(0, 2**16), shrunk=st.floats(0.5, 1.5), shift=st.floats(-1.5, 1.5))
@settings(max_examples=25)
def test_what_shrank_and_shifted_is_taken_back(seed: int, shrunk: float, shift: float) -> None:
    own = logits(seed)

    step = fit(chances(own), chances(own * shrunk + shift))

    assert step.space == "logit"
    assert step.slope == pytest.approx(1 / shrunk, rel=0.03)
    assert step.shift == pytest.approx(-shift / shrunk, abs=0.05)


@given(seed=st.integers(0, 2**16), shrunk=st.floats(0.6, 1.4), shift=st.floats(-1, 1), noise=st.floats(0, 0.5))
@settings(max_examples=25)
def test_thresholds_let_the_same_share_pass_on_samples_that_were_not_fitted_on(
    seed: int, shrunk: float, shift: float, noise: float
) -> None:
    numbers = np.random.default_rng(seed)
    own = logits(seed, 40_000)
    moved = (own + noise * numbers.standard_normal(own.size)) * shrunk + shift
    before, after = runs(chances(own)), runs(chances(moved))

    found = recalibrate("scores", (before[:5], after[:5]), (before[5:], after[5:]))

    # Half of the samples, so each count is uncertain by its square root, twice.
    for entry in found.passing:
        assert abs(entry.recalibrated - entry.before) <= 0.05 * entry.before + 5 * np.sqrt(entry.before)
    assert found.fitted_on == 5


@given(slope=st.floats(0.2, 5), shift=st.floats(-3, 3), values=st.lists(st.floats(0, 1), min_size=2, max_size=30))
@settings(max_examples=40)
def test_no_order_changes_and_probabilities_stay_probabilities(slope: float, shift: float, values: list[float]) -> None:
    scores = np.sort(np.array(values))

    moved = Step(space="logit", slope=slope, shift=shift)(scores)

    assert (np.diff(moved) >= 0).all()
    assert ((moved >= 0) & (moved <= 1)).all()


def test_scores_that_are_no_probabilities_get_a_straight_step() -> None:
    own = np.random.default_rng(0).normal(0, 3, 20_000)

    step = fit(own, own * 0.8 - 0.3)

    assert (step.space, step.slope, step.shift) == (
        "linear",
        pytest.approx(1.25, rel=0.01),
        pytest.approx(0.375, abs=0.02),
    )


@pytest.mark.parametrize(
    "own",
    [np.full(5000, 0.5), np.zeros(5000), np.full(5000, 1e-5), np.array([0.2, 0.4, 0.9])],
    ids=["alike", "nothing", "none near a threshold", "few"],
)
def test_where_nothing_can_be_fitted_scores_stay_as_they_are(own: np.ndarray) -> None:
    found = recalibrate("scores", ([{"scores": own}], [{"scores": own}]), ([{"scores": own}], [{"scores": own}]))

    assert (found.step, found.kept, found.passing) == (None, False, ())
    assert "stay as they are" in found.reason


def test_a_step_that_does_not_help_on_other_samples_is_left_out() -> None:
    own = chances(logits(0))
    shrunk = chances(logits(0) * 0.7)

    # Fitted where scores shrank, checked where they did not.
    found = recalibrate("scores", (runs(own), runs(shrunk)), (runs(own), runs(own)))
    right = recalibrate("scores", (runs(own), runs(shrunk)), (runs(own), runs(shrunk)))

    assert (found.kept, right.kept) == (False, True)
    assert "left out" in found.reason
    assert all(entry.converted == entry.before for entry in found.passing)
    assert right.passing[0].threshold == 0.1
    assert right.passing[0].before == int((own >= 0.1).sum())


def test_a_few_thresholds_are_not_mended_at_the_cost_of_many() -> None:
    own = chances(logits(0, 40_000))
    # What a range does that has cut the highest scores: up to .6 nothing moved, beyond that nothing is left.
    cut = np.minimum(own, 0.62)

    found = recalibrate("scores", (runs(own), runs(cut)), (runs(own), runs(cut)))

    assert found.kept is False
    low = [entry for entry in found.passing if entry.threshold <= 0.6]
    assert all(entry.converted == entry.before for entry in low)


MAKERS = {
    "a sigmoid at the end": [helper.make_node("Sigmoid", ["x"], ["scores"], name="s")],
    "a sigmoid that moves on": [
        helper.make_node("Sigmoid", ["x"], ["p"], name="s"),
        helper.make_node("Identity", ["p"], ["scores"], name="i"),
    ],
}


@pytest.mark.parametrize("maker", MAKERS)
def test_the_graph_computes_the_step(maker: str, saved: Callable[..., Path]) -> None:
    x = np.linspace(-9, 9, 60, dtype=np.float32)[None]
    # What stands behind the scores within the graph gets the new ones.
    nodes = [*MAKERS[maker], helper.make_node("Greater", ["scores", "half"], ["passes"], name="g")]
    ports = [("x", "float32", ("n", 60))]
    path = saved(
        nodes, ports, [("scores", "float32", ("n", 60)), ("passes", "bool", ("n", 60))], {"half": np.float32(0.5)}
    )
    before = CpuTarget().compile(path).run({"x": x}, ("scores",))["scores"]
    step = Step(space="logit", slope=1.3, shift=-0.7)

    insert(path, [("scores", step)])

    onnx.checker.check_model(onnx.load(path), full_check=True)
    for target in (CpuTarget(), ReferenceTarget()):
        program = target.compile(path)
        after = program.run({"x": x}, ("scores", "passes"))
        np.testing.assert_allclose(after["scores"], step(before.astype(np.float64)), atol=2e-6)
        np.testing.assert_array_equal(after["passes"], after["scores"] > 0.5)
        assert [str(port) for port in program.outputs] == ["scores float32 (n, 60)", "passes bool (n, 60)"]


def test_a_straight_step_and_two_outputs_at_once(saved: Callable[..., Path]) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], name="n"),
        helper.make_node("Sigmoid", ["a"], ["b"], name="s"),
    ]
    path = saved(nodes, [("x", "float32", ("n", 4))], [("a", "float32", ("n", 4)), ("b", "float32", ("n", 4))], {})
    x = np.array([[-2, -1, 0, 3]], np.float32)

    insert(path, [("a", Step(space="linear", slope=2.0, shift=1.0)), ("b", Step(space="logit", slope=0.5, shift=0.25))])

    found = CpuTarget().compile(path).run({"x": x}, ("a", "b"))
    np.testing.assert_allclose(found["a"], -x * 2 + 1)
    # The second score is made of the first one as it now is.
    np.testing.assert_allclose(found["b"], chances((-x * 2 + 1) * 0.5 + 0.25), atol=1e-6)


def test_outputs_that_are_no_scores_are_refused() -> None:
    ports = [Port(name="y", dtype="float32", shape=("n",)), Port(name="ids", dtype="int64", shape=("n",))]

    check_scores(("y",), ports)
    for name in ("ids", "z"):
        with pytest.raises(QuantizationError, match=f"scores='{name}' was asked for; the model's outputs .* are y;"):
            check_scores((name,), ports)
