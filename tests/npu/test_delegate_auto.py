"""Choosing by measurement: the quickest that is right is taken, told, and remembered."""

from __future__ import annotations

import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper
from toys import WEIGHTS, X

from nearsight_npu import Delegate, Golden, NearsightDelegateWarning, Policy, remembered_choices
from nearsight_npu.contest import Contest
from nearsight_npu.errors import InputMismatchError, ProofFailedError, UnplaceableError, UnreadableGraphError
from nearsight_npu.memory import Memory
from nearsight_npu.opening import Opener, Request
from nearsight_npu.placement import ranked
from nearsight_npu.proof import disagreement
from nearsight_npu.targets.target import Setup
from nearsight_npu.testing import FakeTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.targets.target import Program

SLOW_S = 0.004
STRICT = Policy(strict=True)


def slow(path: Path, _setup: Setup | None) -> float:
    return SLOW_S if "slow" in path.name else 0.0


def ones(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.ones_like(array) for name, array in found.items()}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("proven", [True, False])
def test_the_quickest_target_is_taken_and_the_slower_one_is_named_with_its_time(
    order: int, proven: bool, delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    targets = [FakeTarget("slow", delay_s=SLOW_S), FakeTarget("quick")][::order]

    session = delegate(targets).load(linear(), "fp32", golden if proven else None)
    outputs, decision = session.run({"x": X})

    np.testing.assert_allclose(outputs["y"], X @ WEIGHTS, rtol=1e-5)
    assert decision.requested == ", ".join(target.name for target in targets)
    assert decision.target == session.target == "quick"
    assert decision.rungs[0].reason == "the quickest of 2 measured"
    (rejected,) = decision.rejected
    assert (rejected.target, rejected.precision) == ("slow", "fp32")
    assert rejected.reason.startswith("slower: ")
    assert rejected.latency_ms is not None
    assert rejected.latency_ms >= SLOW_S * 1e3
    assert decision.placement == session.placement == "quick: 1 operator on quick; its own number of threads"
    assert json.loads(json.dumps(decision.to_dict())) == decision.to_dict()


@pytest.mark.parametrize("policy", [None, STRICT])
def test_one_of_several_targets_that_cannot_be_used_here_is_named(
    policy: Policy | None, delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    targets = [FakeTarget("absent", available=False), FakeTarget("here"), FakeTarget("there")]

    for _ in ("measured", "remembered"):
        decision = delegate(targets, policy=policy).load(linear(), "fp32").run({"x": X})[1]

        assert decision.target in {"here", "there"}
        assert "a double for tests" in next(item.reason for item in decision.rejected if item.target == "absent")


def test_the_quickest_file_is_taken_of_those_that_a_golden_set_admits(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    files = {"fp16": linear("slow.onnx"), "fp32": linear("quick.onnx")}

    session = delegate(FakeTarget(delay_s=slow)).load(files, golden=golden)

    assert session.precision == "fp32"
    assert [(item.target, item.precision) for item in session.run({"x": X})[1].rejected] == [("fake", "fp16")]


def test_without_a_golden_set_files_keep_their_order(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    files = {"fp16": linear("slow.onnx"), "fp32": linear("quick.onnx")}

    assert delegate(FakeTarget(delay_s=slow)).load(files).precision == "fp16"
    assert delegate([FakeTarget("a", delay_s=slow), FakeTarget("b", delay_s=slow)]).load(files).precision == "fp16"


def test_a_precision_that_is_asked_for_is_kept_though_another_is_quicker(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    files = {"fp16": linear("slow.onnx"), "fp32": linear("quick.onnx")}

    assert delegate(FakeTarget(delay_s=slow)).load(files, "fp16", golden).precision == "fp16"


def test_a_quick_file_that_is_wrong_is_refused_loudly(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    files = {"int8": linear("quick.onnx", WEIGHTS[::-1].copy()), "fp32": linear("slow.onnx")}
    targets = [FakeTarget("a", delay_s=slow), FakeTarget("b", delay_s=slow)]

    with pytest.warns(NearsightDelegateWarning, match="runs as fp32 on .* refused: int8 on .*golden answers"):
        session = delegate(targets).load(files, golden=golden)
    with pytest.raises(ProofFailedError):
        delegate(targets, policy=STRICT).load(files, golden=golden)

    assert session.precision == "fp32"
    assert {(item.target, item.precision) for item in session.run({"x": X})[1].rejected} > {
        ("a", "int8"),
        ("b", "int8"),
    }


@pytest.mark.parametrize("policy", [None, STRICT])
def test_a_target_that_is_wrong_is_refused_though_it_is_the_quickest(
    policy: Policy | None, delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    liar, honest = FakeTarget("liar"), FakeTarget("honest", delay_s=SLOW_S)
    liar.spoil = ones

    with pytest.warns(NearsightDelegateWarning, match="fp32 on liar: .*does not give its golden answers"):
        session = delegate([liar, honest], policy=policy).load(linear(), "fp32", golden)

    assert session.target == "honest"
    assert [item.target for item in session.run({"x": X})[1].rejected] == ["liar"]


@pytest.mark.parametrize("order", [1, -1])
def test_without_a_golden_set_a_target_has_to_agree_with_the_processor(
    order: int, delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    liar = FakeTarget("liar")
    liar.spoil = ones

    with pytest.warns(NearsightDelegateWarning, match="does not agree with cpu there: y has cosine"):
        session = delegate(["cpu", liar][::order]).load(linear())

    assert session.target == "cpu"


def test_a_remembered_choice_compiles_nothing_else_and_runs_nothing(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    targets = [FakeTarget("slow", delay_s=SLOW_S), FakeTarget("quick")]
    files = {"fp16": linear("a.onnx"), "fp32": linear("b.onnx", WEIGHTS * np.float32(1.00001))}
    first = delegate(targets).load(files, golden=golden, name="toy")
    for target in targets:
        target.compiled.clear()
        target.runs = 0

    second = delegate(targets).load(files, golden=golden, name="toy")

    assert [len(target.compiled) for target in targets] == [0, 1]
    assert [target.runs for target in targets] == [0, 0]
    assert (second.target, second.precision) == (first.target, first.precision)
    assert second.run({"x": X})[1].rejected == first.run({"x": X})[1].rejected
    (choice,) = remembered_choices(tmp_path / "cache")
    assert choice.name == "toy"
    assert choice.trials[0].pair == ("quick", first.precision)
    assert choice.files["fp16"][1] == files["fp16"].stat().st_size / 1e6
    assert len(choice.trials) == 4


def test_a_process_that_cannot_write_measures_once(linear: Callable[..., Path], golden: Golden, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    targets, path = [FakeTarget("read-only"), FakeTarget("as well")], linear()

    for runs in (2, 1):
        for target in targets:
            target.compiled.clear()
        Delegate(targets, cache_dir=tmp_path / "file" / "cache").load(path, "fp32", golden)

        assert sum(len(target.compiled) for target in targets) == runs


def test_a_choice_is_made_again_for_another_version_of_a_target(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    delays = {"a": SLOW_S, "b": 0.0}
    targets = [FakeTarget(name, delay_s=lambda _path, _setup, name=name: delays[name]) for name in delays]
    path = linear()
    assert delegate(targets).load(path, "fp32", golden).target == "b"
    delays.update(a=0.0, b=SLOW_S)

    remembered = delegate(targets).load(path, "fp32", golden).target
    targets[0].version = "2"

    assert remembered == "b"
    assert delegate(targets).load(path, "fp32", golden).target == "a"


def test_a_remembered_choice_that_does_not_hold_any_more_gives_way_to_the_next(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    slower, quick = FakeTarget("slow", delay_s=SLOW_S), FakeTarget("quick")
    path = linear()
    delegate([slower, quick]).load(path, "fp32", golden)
    for proof in (tmp_path / "cache" / "proofs").iterdir():
        proof.unlink()
    quick.spoil = ones

    with pytest.warns(NearsightDelegateWarning, match="fp32 on quick"):
        session = delegate([slower, quick]).load(path, "fp32", golden)

    assert session.target == "slow"
    assert session.proof is not None
    assert session.proof.passed
    assert [item.target for item in session.run({"x": X})[1].rejected] == ["quick"]


@pytest.mark.parametrize("damage", ["", "[]", '{"key": "KEY", "choice": {"trials": []}}'])
def test_a_damaged_memory_means_measuring_again(
    damage: str, delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    targets = [FakeTarget("slow", delay_s=SLOW_S), FakeTarget("quick")]
    delegate(targets).load(linear(), "fp32", golden)
    for file in (tmp_path / "cache" / "timings").iterdir():
        file.write_text(damage.replace("KEY", json.loads(file.read_text())["key"]))

    assert delegate(targets).load(linear(), "fp32", golden).target == "quick"


def test_setups_are_measured_and_threads_that_are_given_are_kept(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    offered = (Setup(threads=4), Setup(threads=1), Setup(threads=4, spinning=True))
    best = Setup(threads=1)
    target = FakeTarget("chip", setups=offered, delay_s=lambda _path, setup: 0.0 if setup == best else SLOW_S)

    placement = delegate([target]).load(linear(), "fp32", golden).run({"x": X})[1].placement
    target.compiled.clear()
    kept = delegate([target], threads=4).load(linear(), "fp32", golden).run({"x": X})[1].placement

    assert placement == "chip: 1 operator on chip; 1 thread"
    assert "4 threads" in kept
    assert {setup.threads for _, setup in target.compiled if setup is not None} == {4}


def test_a_target_asked_for_by_name_keeps_its_own_setup(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    target = FakeTarget("chip", setups=(Setup(threads=4), Setup(threads=1)))

    session = delegate(target).load(linear())

    assert target.compiled == [(linear(), Setup())]
    assert target.runs == 0
    assert session.run({"x": X})[1].rungs[0].reason == "the first choice"


def test_auto_leaves_out_what_is_not_here_and_what_only_simulates(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEARSIGHT_TARGETS", raising=False)

    decision = delegate("auto").load(linear()).run({"x": X})[1]

    tried = {decision.target, *(item.target for item in decision.rejected)}
    assert "cpu" in tried
    assert tried <= {"cpu", "openvino", "qnn", "axera"}
    assert decision.requested == "auto"


def test_the_environment_says_among_which_targets_auto_chooses(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARSIGHT_TARGETS", " reference, cpu ")
    decision = delegate("auto").load(linear()).run({"x": X})[1]
    monkeypatch.setenv("NEARSIGHT_TARGETS", "toaster")

    assert {decision.target, *(item.target for item in decision.rejected)} == {"reference", "cpu"}
    with pytest.raises(UnplaceableError, match="'toaster'"):
        delegate("auto").load(linear())


def test_strict_refuses_a_target_that_leaves_operators_to_others(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    leaky = FakeTarget("leaky", outside=(("MatMul", "the processor"),))

    assert delegate(leaky).load(linear()).target == "leaky"
    with pytest.raises(UnplaceableError, match=r"leaky and nowhere else; MatMul on the processor would not"):
        delegate(leaky, policy=STRICT).load(linear())
    session = delegate([leaky, FakeTarget("tight", delay_s=SLOW_S)], policy=STRICT).load(linear())
    assert session.target == "tight"
    assert "MatMul" in session.run({"x": X})[1].rejected[0].reason


def test_where_nothing_can_be_used_the_error_says_so(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UnplaceableError, match=r"anything on a: .* use target='cpu' \| anything on b: "):
        delegate([FakeTarget("a", available=False), FakeTarget("b", available=False)]).load(linear())
    with pytest.raises(UnreadableGraphError, match=r"gone\.onnx was to be loaded; it cannot be read"):
        delegate([FakeTarget("a"), FakeTarget("b")]).load({"fp32": tmp_path / "gone.onnx"})


def test_inputs_that_do_not_fit_when_drawn_leave_the_first_target_in_place(
    delegate: Callable[..., Delegate], saved: Callable[..., Path], tmp_path: Path
) -> None:
    # Indices of 0 and 1 are drawn, and the table has one row.
    path = saved(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        [("ids", "int64", ["n", "length"])],
        [("y", "float32", ["n", "length", 2])],
        {"table": np.ones((1, 2), np.float32)},
    )

    session = delegate(["cpu", FakeTarget("other")]).load(path)

    assert session.target == "cpu"
    assert session.run({"ids": np.zeros((1, 2), np.int64)})[1].rejected == ()
    assert remembered_choices(tmp_path / "cache") == ()


def test_a_golden_set_for_another_graph_is_refused_by_the_proof(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    zeros = np.zeros((3, 6), np.float32)

    with pytest.raises(ProofFailedError, match="cannot answer the golden set"):
        delegate([FakeTarget("a"), FakeTarget("b")]).load(
            linear(), "fp32", Golden(inputs={"pixels": zeros}, outputs={"y": zeros})
        )


def test_the_best_batch_is_measured_once(delegate: Callable[..., Delegate], linear: Callable[..., Path]) -> None:
    # Each run takes as long as any other, so the longest batch is the best.
    target = FakeTarget(delay_s=SLOW_S)

    session = delegate(target).load(linear())
    best = session.batch(8)
    runs = target.runs

    assert best == 8
    assert session.batch(8) == delegate(target).load(linear()).batch(8) == 8
    assert target.runs == runs
    assert session.batch(1) == 1


def test_a_batch_is_not_measured_for_those_who_run_little(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    class Plodding(FakeTarget):
        """Takes as long for a sample in a batch as for one alone."""

        def compile_as(self, path: Path, setup: Setup) -> Program:
            program = super().compile_as(path, setup)
            run = program.run

            def one_by_one(arrays: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
                parts = [run({"x": row[None]}, outputs)["y"] for row in arrays["x"]]
                return {"y": np.concatenate(parts)}

            program.run = one_by_one
            return program

    target, path = Plodding(delay_s=SLOW_S), linear()
    session = delegate(target).load(path)
    runs = target.runs

    assert session.batch(4, after_s=3600) == session.batch(4, after_s=3600) == 4
    assert target.runs == runs
    session.run({"x": X})
    assert session.batch(4, after_s=SLOW_S) == 1
    assert target.runs > runs + 1
    assert delegate(target).load(path).batch(4, after_s=3600) == 1


def test_a_batch_is_measured_with_arrays_like_those_that_were_run(
    delegate: Callable[..., Delegate], saved: Callable[..., Path]
) -> None:
    # As exporters leave pictures: no length is stated, and what is drawn has 16 channels.
    path = saved(
        [helper.make_node("Conv", ["pixels", "w"], ["y"])],
        [("pixels", "float32", ["n", "channels", "height", "width"])],
        [("y", "float32", ["n", 2, "h", "w"])],
        {"w": np.ones((2, 3, 4, 4), np.float32)},
    )
    session = delegate("cpu", policy=Policy(strict=True)).load(path)

    assert session.batch(4) == 4
    assert not [*(path.parent / "cache").glob("batches/*")]
    session.run({"pixels": np.ones((2, 3, 4, 4), np.float32)})
    assert 1 <= session.batch(4) <= 4
    assert len([*(path.parent / "cache").glob("batches/*")]) == 1


def test_a_single_number_that_a_graph_gives_as_well_is_no_hindrance_to_a_batch(
    delegate: Callable[..., Delegate], saved: Callable[..., Path]
) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Identity", ["s"], ["scale"])]
    outputs = [("y", "float32", ["n", 512]), ("scale", "float32", [])]
    weights = {"w": np.ones((64, 512), np.float32), "s": np.array(2, np.float32)}
    path = saved(nodes, [("x", "float32", ["n", 64])], outputs, weights)

    # So small a graph costs nearly the same for one sample and for many.
    assert delegate("cpu").load(path).batch(64) > 1


def test_a_golden_set_that_has_gone_meanwhile_fails_nobody(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], tmp_path: Path
) -> None:
    inputs = X.repeat(2, axis=0)
    Golden(inputs={"x": inputs}, outputs={"y": inputs @ WEIGHTS}).save(tmp_path / "golden.npz")
    session = delegate("cpu").load(linear(), "fp32", tmp_path / "golden.npz")
    (tmp_path / "golden.npz").unlink()

    assert session.batch(4) == 4


def test_a_golden_set_that_another_thread_lets_go_is_given_all_the_same(tmp_path: Path) -> None:
    class Crowded(Opener):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, None if name == "_golden" else value)  # as if another had just forgotten it

    inputs = X.repeat(2, axis=0)
    golden = Golden(inputs={"x": inputs}, outputs={"y": inputs @ WEIGHTS})
    request = Request(title="linear", paths={}, hashes={}, golden=golden)

    assert Crowded(request, Memory(tmp_path)).golden() is golden


def test_a_graph_of_a_fixed_length_has_a_batch_of_one(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    assert delegate().load(linear(batch=1)).batch() == 1


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "two"])
def test_the_limit_of_a_batch_is_a_whole_number(
    limit: Any, delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    with pytest.raises(InputMismatchError, match="limit="):
        delegate().load(linear()).batch(limit)


def test_a_wrong_target_is_named_again_when_the_choice_is_remembered(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    liar, honest = FakeTarget("liar"), FakeTarget("honest", delay_s=SLOW_S)
    liar.spoil = ones
    with pytest.warns(NearsightDelegateWarning, match="fp32 on liar"):
        delegate([liar, honest]).load(linear(), "fp32", golden)
    runs = liar.runs

    with pytest.warns(NearsightDelegateWarning, match="fp32 on liar: .*golden answers"):
        decision = delegate([liar, honest]).load(linear(), "fp32", golden).run({"x": X})[1]

    assert liar.runs == runs
    assert [item.target for item in decision.rejected] == ["liar"]


def test_a_file_that_is_wrong_wherever_it_runs_is_remembered_and_named_again(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    target = FakeTarget()
    files = {"int8": linear("a.onnx", -WEIGHTS), "fp32": linear("b.onnx")}
    with pytest.warns(NearsightDelegateWarning, match="int8 on fake"):
        delegate([target]).load(files, golden=golden)
    runs = target.runs

    with pytest.warns(NearsightDelegateWarning, match="int8 on fake: .*golden answers"):
        session = delegate([target]).load(files, golden=golden)

    assert target.runs == runs
    assert (session.precision, [item.precision for item in session.run({"x": X})[1].rejected]) == ("fp32", ["int8"])


def test_a_failed_file_is_looked_at_again_every_time(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    target = FakeTarget()
    target.spoil = ones
    files = {"int8": linear("a.onnx"), "fp32": linear("b.onnx")}
    with pytest.raises(ProofFailedError, match=r"int8 on fake.*fp32 on fake"):
        delegate([target]).load(files, golden=golden)

    target.spoil = None

    assert delegate([target]).load(files, golden=golden).target == "fake"


def test_threads_that_load_at_once_measure_once(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    targets = [FakeTarget("slow", delay_s=SLOW_S), FakeTarget("quick")]
    path = linear()

    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(lambda _: delegate(targets).load(path, "fp32", golden), range(8)))

    assert [session.target for session in sessions] == ["quick"] * 8
    assert [len(target.compiled) for target in targets] == [1, 8]


@pytest.mark.parametrize(("room", "most"), [(1.0, 1), (1e9, 8)])
def test_models_that_do_not_fit_together_are_measured_one_by_one(
    room: float, most: int, linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    open_at_once: list[int] = []
    held: list[weakref.ref[Any]] = []

    class Counted(FakeTarget):
        def compile_as(self, path, setup):
            program = super().compile_as(path, setup)
            held.append(weakref.ref(program))
            open_at_once.append(sum(one() is not None for one in held))
            return program

    files = {"fp16": linear("slow.onnx"), "fp32": linear("quick.onnx")}
    setups = (Setup(threads=1), Setup(threads=2))
    targets = [Counted(name, delay_s=slow, setups=setups) for name in ("a", "b")]
    refused: list[Any] = []
    request = Request(title="toy", paths=files, hashes={}, golden=golden)
    contest = Contest(
        Opener(request, Memory(tmp_path)), targets, lambda *why: refused.append(why), tuned=True, room_bytes=room
    )

    trials = contest.held(tuple(files))
    contest.close()

    assert ranked(trials)[0].precision == "fp32"
    assert {trial.pair for trial in trials} == {(name, precision) for name in "ab" for precision in files}
    assert len(trials) > 4
    assert max(open_at_once) <= most
    assert (max(open_at_once) > 1) == (most > 1)
    assert refused == []


def test_programs_that_make_room_for_each_other_are_timed_one_by_one(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    loaded: list[Resident] = []

    class Resident:
        """A program of a budget that has room for one."""

        def __init__(self, program: Any) -> None:
            self.inputs, self.outputs, self.placement = program.inputs, program.outputs, program.placement
            self.program, self.loads = program, 0

        def run(self, arrays: Any, outputs: Any) -> Any:
            if loaded[-1:] != [self]:
                loaded.append(self)
                self.loads += 1
            return self.program.run(arrays, outputs)

    class Crowded(FakeTarget):
        def compile_as(self, path, setup):
            return Resident(super().compile_as(path, setup))

    targets = [Crowded(name, delay_s=SLOW_S) for name in "abc"]

    delegate(targets).load(linear(), "fp32", golden)

    # Once each and once more until it is noticed, once each by itself, and once to be proven.
    assert len(loaded) == 3 + 1 + 3 + 1


def test_a_target_that_was_lost_while_it_was_measured_is_tried_again_after_a_day(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    chip, other = FakeTarget("chip"), FakeTarget("other", delay_s=SLOW_S)
    path = linear()
    chip.lost = True
    delegate([chip, other]).load(path, "fp32", golden)
    chip.lost = False

    soon = delegate([chip, other]).load(path, "fp32", golden)
    for file in (tmp_path / "cache" / "timings").glob("*.json"):
        entry = json.loads(file.read_text("utf-8"))
        entry["choice"]["measured_at"] = (datetime.now(UTC) - timedelta(days=1.1)).isoformat()
        file.write_text(json.dumps(entry), "utf-8")
    later = delegate([chip, other]).load(path, "fp32", golden)

    assert (soon.target, later.target) == ("other", "chip")


def test_a_batch_found_without_a_budget_does_not_hold_within_one(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    target, path = FakeTarget(), linear()
    delegate([target]).load(path).batch(4)
    session = delegate([target], policy=Policy(max_memory_mb=500)).load(path)
    runs = target.runs

    session.batch(4)

    assert target.runs > runs


def test_a_choice_is_made_again_for_other_weights_beside_any_of_its_files(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    files = {}
    for precision in ("fp16", "fp32"):
        model = onnx.load(linear())
        folder = tmp_path / precision
        folder.mkdir()
        files[precision] = folder / "model.onnx"
        onnx.save(model, files[precision], save_as_external_data=True, location="weights.bin", size_threshold=0)
    target = FakeTarget()
    delegate([target]).load(files, golden=golden)
    (tmp_path / "fp16" / "weights.bin").write_bytes((WEIGHTS * np.float32(1.0001)).tobytes())
    target.compiled.clear()

    delegate([target]).load(files, golden=golden)

    assert len(target.compiled) >= len(files)


def test_a_target_of_which_one_setup_fails_runs_in_another(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    class Picky(FakeTarget):
        def compile_as(self, path, setup):
            if setup.threads == 2:
                raise UnplaceableError("two threads are too many; use one")
            return super().compile_as(path, setup)

    picky = Picky("picky", setups=(Setup(threads=1), Setup(threads=2)))

    decision = delegate([picky, FakeTarget("slow", delay_s=SLOW_S)]).load(linear(), "fp32", golden).run({"x": X})[1]

    assert decision.placement.endswith("1 thread")
    assert [item.target for item in decision.rejected] == ["slow"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([[1.0, 2.0, 3.0]], ""),
        ([[1.1, 2.0, 2.9]], ""),
        ([[1.0, 2.0]], "another shape"),
        ([[1.0, 2.0, float("nan")]], "not finite"),
        ([[3.0, -2.0, 1.0]], "cosine"),
        ([[2.0, 4.0, 6.0]], "size by a factor of 2"),
        ([[0.0, 0.0, 0.0]], "cosine 0"),
    ],
)
def test_two_targets_agree_where_direction_and_size_of_their_answers_do(given: list[list[float]], said: str) -> None:
    reason = disagreement([{"y": np.array(given)}], [{"y": np.array([[1.0, 2.0, 3.0]])}])

    assert (said in reason) if said else reason == ""


def test_answers_of_nothing_and_answers_that_are_infinite_on_both_sides_agree() -> None:
    for same in ([0.0, 0.0], [float("inf"), 1.0], []):
        assert disagreement([{"y": np.array(same)}], [{"y": np.array(same)}]) == ""


def test_targets_to_choose_among_are_named() -> None:
    with pytest.raises(InputMismatchError, match="give one or more"):
        Delegate([])
    with pytest.raises(UnplaceableError, match="'toaster'"):
        Delegate(["cpu", "toaster"])
    with pytest.raises(UnplaceableError, match="'auto'"):
        Delegate(["cpu", "auto"])
