"""A target lost in mid-run: the session goes on with the next choice that holds, and says so from then on."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import helper
from toys import WEIGHTS, X

from nearsight_npu import Delegate, Golden, NearsightDelegateWarning, Policy
from nearsight_npu.errors import InputMismatchError, TargetLostError
from nearsight_npu.targets.probe import target_named
from nearsight_npu.targets.target import Setup
from nearsight_npu.testing import FakeTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SLOW_S = 0.004


def test_a_lost_target_is_replaced_by_the_next_and_named_from_then_on(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    chip, other = FakeTarget("chip"), FakeTarget("other", delay_s=SLOW_S)
    session = delegate([chip, other]).load(linear(), "fp32", golden, name="toy")
    assert session.target == "chip"
    chip.lost = True

    with pytest.warns(NearsightDelegateWarning, match="toy goes on as fp32 on other; fp32 on chip was lost:") as warned:
        outputs, decision = session.run({"x": X})
    again = session.run({"x": X})[1]

    assert warned[0].filename == __file__
    np.testing.assert_allclose(outputs["y"], X @ WEIGHTS, rtol=1e-5)
    assert session.target == decision.target == "other"
    assert session.proof is not None
    assert session.proof.target == "other"
    for told in (decision, again):
        assert [(rung.target, rung.failed) for rung in told.rungs] == [("chip", True), ("other", False)]
        assert told.rungs[0].reason.startswith("lost while it ran: chip failed while running")
        assert [item.target for item in told.rejected] == ["chip"]
        assert "the card was pulled" in told.rejected[0].reason
        assert told.placement.startswith("other: ")


def test_a_target_that_is_lost_while_its_batch_is_measured_is_replaced(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    chip, other = FakeTarget("chip"), FakeTarget("other", delay_s=SLOW_S)
    session = delegate([chip, other]).load(linear(), "fp32", golden)
    chip.lost = True

    with pytest.warns(NearsightDelegateWarning, match="chip was lost"):
        batch = session.batch(4)

    # Each run takes as long as any other there.
    assert batch == 4
    assert session.target == "other"


def test_no_file_is_called_slower_on_a_target_that_was_lost(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    chip, other = FakeTarget("chip"), FakeTarget("other", delay_s=SLOW_S)
    files = {"int8": linear("a.onnx"), "fp32": linear("b.onnx", 1.001 * WEIGHTS)}
    session = delegate([chip, other]).load(files, golden=golden)
    chip.lost = True

    with pytest.warns(NearsightDelegateWarning, match="was lost"):
        _, decision = session.run({"x": X})

    reasons = [item.reason for item in decision.rejected if item.target == "chip"]
    assert sorted(reason.partition(":")[0] for reason in reasons) == [
        "chip failed while running",
        "its target was lost",
    ]


def test_a_target_asked_for_by_name_is_replaced_by_the_processor(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    chip = FakeTarget("chip")
    files = {"int8": linear("a.onnx"), "fp32": linear("b.onnx")}
    session = delegate(chip).load(files)
    chip.lost = True

    with pytest.warns(NearsightDelegateWarning, match="goes on as int8 on cpu"):
        _, decision = session.run({"x": X})

    assert (decision.requested, decision.target, decision.precision) == ("chip", "cpu", "int8")
    assert len(chip.compiled) == 1


def test_a_strict_policy_raises_the_loss(delegate: Callable[..., Delegate], linear: Callable[..., Path]) -> None:
    chip = FakeTarget("chip")
    session = delegate(chip, policy=Policy(strict=True)).load(linear())
    chip.lost = True

    with pytest.raises(TargetLostError, match="the card was pulled"):
        session.run({"x": X})

    assert session.target == "chip"


def test_where_nothing_is_left_the_loss_is_raised_and_a_target_that_comes_back_serves_again(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    chip, other = FakeTarget("chip"), FakeTarget("other", delay_s=SLOW_S)
    session = delegate([chip, other]).load(linear())
    chip.lost = other.lost = True

    with pytest.warns(NearsightDelegateWarning), pytest.raises(TargetLostError, match="other failed"):
        session.run({"x": X})
    with pytest.raises(TargetLostError, match="other failed"):
        session.run({"x": X})
    other.lost = False

    assert session.run({"x": X})[1].target == "other"


def test_what_stands_in_is_proven_first(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    chip, liar, honest = (
        FakeTarget("chip"),
        FakeTarget("liar", delay_s=SLOW_S),
        FakeTarget("honest", delay_s=4 * SLOW_S),
    )
    liar.spoil = lambda found: {name: np.ones_like(array) for name, array in found.items()}
    session = delegate([chip, liar, honest]).load(linear(), "fp32", golden)
    chip.lost = True

    with pytest.warns(NearsightDelegateWarning, match="goes on as fp32 on honest"):
        _, decision = session.run({"x": X})

    assert [item.target for item in decision.rejected] == ["chip", "liar"]
    assert "golden answers" in decision.rejected[1].reason


def test_what_takes_other_arrays_cannot_stand_in(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], saved: Callable[..., Path]
) -> None:
    other = saved(
        [helper.make_node("MatMul", ["pixels", "w"], ["y"])],
        [("pixels", "float32", ["n", 6])],
        [("y", "float32", ["n", 4])],
        {"w": WEIGHTS},
        "other.onnx",
    )
    chip = FakeTarget("chip")
    # The processor gets only a file of another make, and one with a batch of one.
    files = {"a": linear("a.onnx"), "b": other, "c": linear("c.onnx", batch=1), "d": linear("d.onnx")}
    session = delegate(chip).load(files)
    files["a"].unlink()
    chip.lost = True

    with pytest.warns(NearsightDelegateWarning, match="goes on as d on cpu"):
        _, decision = session.run({"x": X})

    refused = {item.precision: item.reason for item in decision.rejected if item.target == "cpu"}
    assert "cannot be read" in refused["a"]
    assert "takes and gives other arrays" in refused["b"]
    assert "takes and gives other arrays" in refused["c"]


def test_a_loss_while_many_threads_run_costs_no_answer(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, trials: int
) -> None:
    path = linear()
    for seed in range(max(trials // 10, 2)):
        chips = [FakeTarget(f"chip{number}", delay_s=number * SLOW_S / 4) for number in range(3)]
        session = delegate(chips).load(path, "fp32", golden)
        draw = np.random.default_rng(seed)
        arrays = [draw.standard_normal((1 + count % 3, 6)).astype(np.float32) for count in range(64)]
        losing = {int(number): chip for number, chip in zip(draw.integers(5, 60, 2), chips[:2], strict=True)}

        def run(count: int) -> tuple[int, str]:
            if count in losing:  # noqa: B023  each pool ends before the next seed
                losing[count].lost = True  # noqa: B023
            outputs, decision = session.run({"x": arrays[count]})  # noqa: B023
            np.testing.assert_allclose(outputs["y"], arrays[count] @ WEIGHTS, rtol=1e-4, atol=1e-5)  # noqa: B023
            assert decision.rungs[-1].target == decision.target
            assert [rung.failed for rung in decision.rungs[:-1]] == [True] * (len(decision.rungs) - 1)
            return count, decision.target

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with ThreadPoolExecutor(8) as pool:
                answered = list(pool.map(run, range(64)))
            last = session.run({"x": X})[1]

        assert len(answered) == 64
        losses = [str(warning.message) for warning in caught if issubclass(warning.category, NearsightDelegateWarning)]
        assert len(losses) == len(last.rungs) - 1
        # One that was pulled before it could stand in is refused by its proof and was never a rung.
        assert {rung.target for rung in last.rungs[:-1]} <= {item.target for item in last.rejected}
        assert last.target not in {chip.name for chip in chips if chip.lost}


class Hung(FakeTarget):
    """A chip that gives no sign once it is told to."""

    def __init__(self) -> None:
        super().__init__("hung", deadline_s=0.2)
        self.hang = threading.Event()
        self.ended = threading.Event()
        self.spoil = self._answer

    def _answer(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.hang.is_set():
            self.ended.wait(10)
        return dict(found)


def test_a_target_that_hangs_is_abandoned_at_its_deadline_and_replaced(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    hung = Hung()
    session = delegate(hung).load(linear())
    assert session.run({"x": X})[1].target == "hung"
    hung.hang.set()

    with pytest.warns(NearsightDelegateWarning, match=r"no answer within the deadline of 0\.2 s"):
        outputs, decision = session.run({"x": X})
    hung.ended.set()

    np.testing.assert_allclose(outputs["y"], X @ WEIGHTS, rtol=1e-5)
    assert decision.target == "cpu"


def test_a_target_that_hangs_while_it_is_measured_is_left_out(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    hung = Hung()
    hung.hang.set()

    session = delegate(["cpu", hung]).load(linear())
    hung.ended.set()

    assert session.target == "cpu"
    assert "deadline" in session.run({"x": X})[1].rejected[0].reason


def test_a_session_that_is_closed_while_it_falls_stays_closed(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    opening, closed = threading.Event(), threading.Event()

    class Late(FakeTarget):
        def compile_as(self, path, setup):
            if self.compiled:
                opening.set()
                closed.wait(10)
            return super().compile_as(path, setup)

    chip, late = FakeTarget("chip"), Late("late", delay_s=SLOW_S)
    session = delegate([chip, late]).load(linear())
    chip.lost = True
    with ThreadPoolExecutor(1) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", NearsightDelegateWarning)
        running = pool.submit(session.run, {"x": X})
        opening.wait(10)
        session.close()
        closed.set()
        outputs, _ = running.result(10)

    np.testing.assert_allclose(outputs["y"], X @ WEIGHTS, rtol=1e-5)  # a run that has begun still ends
    with pytest.raises(TargetLostError, match="closed"):
        session.run({"x": X})


def test_closing_ends_the_thread_of_a_guarded_target(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    def guards() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("nearsight: ")]

    session = delegate(FakeTarget("chip", deadline_s=5)).load(linear())
    assert len(guards()) == 1

    session.close()

    begin = time.monotonic()
    while guards() and time.monotonic() - begin < 5:
        time.sleep(0.01)
    assert guards() == []


class Watched(FakeTarget):
    """A chip that knows whether its programs are still in memory."""

    def __init__(self, name, **options):
        super().__init__(name, **options)
        self.made = []

    def compile_as(self, path, setup):
        program = super().compile_as(path, setup)
        self.made.append(weakref.ref(program))
        return program

    @property
    def held(self) -> int:
        return sum(made() is not None for made in self.made)


def test_what_is_not_taken_lost_or_closed_is_not_kept_in_memory(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    setups = (Setup(threads=1), Setup(threads=2))
    chips = [
        Watched(name, delay_s=delay, setups=setups) for name, delay in (("a", 0), ("b", SLOW_S), ("c", 4 * SLOW_S))
    ]
    files = {"int8": linear("wrong.onnx", WEIGHTS[::-1].copy()), "fp32": linear()}
    held = []

    with pytest.warns(NearsightDelegateWarning, match="golden answers"):
        session = delegate(chips).load(files, golden=golden)
    held.append([chip.held for chip in chips])
    chips[0].lost = True
    with pytest.warns(NearsightDelegateWarning, match="goes on as fp32 on b"):
        session.run({"x": X})
    held.append([chip.held for chip in chips])
    session.close()
    held.append([chip.held for chip in chips])

    assert held == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert session.target == "b"
    assert sum(len(chip.made) for chip in chips) > 6


@pytest.mark.parametrize("target", ["cpu", "openvino"])
@pytest.mark.parametrize(
    ("kind", "outputs", "number"), [("TopK", ("y", "at"), [9]), ("Split", ("y", "z"), [2, 5]), ("Expand", ("y",), [3])]
)
def test_numbers_that_a_graph_cannot_use_are_not_taken_for_the_loss_of_a_target(
    target: str,
    kind: str,
    outputs: tuple[str, ...],
    number: list[int],
    delegate: Callable[..., Delegate],
    saved: Callable[..., Path],
) -> None:
    path = saved(
        [helper.make_node(kind, ["x", "number"], outputs)],
        [("x", "float32", ["n"]), ("number", "int64", [len(number)])],
        [("y", "float32", ["m"])],
        {},
    )
    if not (found := target_named(target).probe()).available:
        pytest.skip(f"{found.reason}; {found.remedy}")
    session = delegate(target).load(path)

    with pytest.raises(InputMismatchError):
        session.run({"x": np.zeros(4, np.float32), "number": np.array(number)})

    assert session.target == target
