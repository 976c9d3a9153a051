"""Loading: what is chosen, what is refused, how loudly, and what is remembered."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper
from toys import WEIGHTS, X

from nearsight_npu import (
    Availability,
    Delegate,
    Floor,
    Golden,
    NearsightDelegateWarning,
    Policy,
    prove,
    remembered_proofs,
)
from nearsight_npu.errors import (
    InputMismatchError,
    ProofFailedError,
    UnplaceableError,
    UnreadableGoldenError,
    UnreadableGraphError,
)
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.testing import FakeTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.targets.target import Placement, Port, Program

STRICT = Policy(strict=True)


@dataclass
class CountingTarget:
    """The cpu target, whose programs count their runs and may be made to lie."""

    name: str = "counting"
    tolerance: float = 1e-4
    lies: bool = False
    available: bool = True
    runs: list[int] = field(default_factory=list)
    version: str = "1"

    def probe(self) -> Availability:
        return Availability(
            target=self.name, available=self.available, reason="the card was pulled", remedy="push it in"
        )

    def versions(self) -> dict[str, str]:
        return {"counting": self.version}

    def compile(self, path: Path, threads: int | None = None) -> Program:
        return CountingProgram(CpuTarget().compile(path, threads), self)


@dataclass
class CountingProgram:
    program: Program
    target: CountingTarget

    @property
    def inputs(self) -> tuple[Port, ...]:
        return self.program.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        return self.program.outputs

    @property
    def placement(self) -> Placement:
        return self.program.placement

    def run(self, arrays: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        self.target.runs.append(len(next(iter(arrays.values()))))
        found = self.program.run(arrays, outputs)
        return {name: np.ones_like(array) for name, array in found.items()} if self.target.lies else found


def test_a_decision_says_how_the_answer_came_about(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    path = linear()

    _, decision = delegate().load({"fp32": path}, golden=golden).run({"x": X})

    assert decision.requested == "cpu"
    assert (decision.target, decision.precision) == ("cpu", "fp32")
    assert decision.model_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [rung.reason for rung in decision.rungs] == ["the first choice"]
    assert decision.predicted is None
    assert decision.measured is not None
    assert (decision.measured.bytes_in, decision.measured.bytes_out) == (24, 16)
    assert decision.rejected == ()
    assert decision.sent == ()
    assert decision.placement == "cpu: 1 operator on CPUExecutionProvider; its own number of threads"
    assert json.loads(json.dumps(decision.to_dict())) == decision.to_dict()


def test_precisions_are_tried_in_the_order_given(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    files = {"fp16": linear("a.onnx"), "int8": linear("b.onnx")}

    assert delegate().load(files).precision == "fp16"
    assert delegate().load(dict(reversed(files.items()))).precision == "int8"
    assert delegate().load(files, "int8").precision == "int8"
    assert delegate().load(files["int8"]).precision == "unstated"
    assert delegate().load(files["int8"], "int8").precision == "int8"


def test_a_precision_that_fails_its_proof_is_replaced_loudly(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    files = {"int8": linear("bad.onnx", WEIGHTS[::-1].copy()), "fp32": linear("good.onnx")}

    with pytest.warns(NearsightDelegateWarning, match="runs as fp32 on cpu.*int8 on cpu.*golden answers") as warned:
        session = delegate().load(files, golden=golden, name="toy")
    _, decision = session.run({"x": X})

    assert warned[0].filename == __file__
    assert session.precision == "fp32"
    assert session.proof is not None
    assert session.proof.passed
    assert [(item.target, item.precision) for item in decision.rejected] == [("cpu", "int8")]
    assert "cosine" in decision.rejected[0].reason


def test_a_target_that_fails_the_proof_is_replaced_by_the_processor(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    with pytest.warns(NearsightDelegateWarning, match="on cpu"):
        session = delegate(CountingTarget(lies=True)).load({"fp32": linear()}, golden=golden)
    outputs, decision = session.run({"x": X})

    np.testing.assert_allclose(outputs["y"], X @ WEIGHTS, rtol=1e-5)
    assert (decision.requested, decision.target) == ("counting", "cpu")
    assert decision.rejected[0].target == "counting"


def test_a_target_that_is_not_available_is_replaced_by_the_processor(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    with pytest.warns(NearsightDelegateWarning, match="on cpu"):
        session = delegate(CountingTarget(available=False)).load(linear())

    _, decision = session.run({"x": X})
    assert decision.target == "cpu"
    assert decision.rejected[0].precision == ""


def test_a_strict_policy_refuses_a_target_that_is_not_available(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    with pytest.raises(UnplaceableError, match="the card was pulled; push it in"):
        delegate(CountingTarget(available=False), policy=STRICT).load(linear())


def test_a_strict_policy_refuses_instead_of_falling_back(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    files = {"int8": linear("bad.onnx", WEIGHTS[::-1].copy()), "fp32": linear("good.onnx")}

    with pytest.raises(ProofFailedError, match=r"toy \(int8\)"):
        delegate(policy=STRICT).load(files, golden=golden, name="toy")


def test_where_nothing_holds_the_error_names_every_refusal(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    files = {"int8": linear("bad.onnx", WEIGHTS[::-1].copy()), "fp32": tmp_path / "gone.onnx"}

    with pytest.raises(ProofFailedError, match=r"int8 on cpu.* \| fp32 on cpu.*gone\.onnx") as error:
        delegate().load(files, golden=golden)

    assert "\n" not in str(error.value)


def test_an_unknown_target_is_refused_at_once() -> None:
    with pytest.raises(
        UnplaceableError,
        match="'gpu' was asked for; there are auto, reference, cpu, openvino, qnn, axera, simulated:<chip>",
    ):
        Delegate("gpu")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "two"])
def test_a_number_of_threads_is_a_whole_number_from_one(threads: Any) -> None:
    with pytest.raises(InputMismatchError, match="threads="):
        Delegate(threads=threads)


@pytest.mark.parametrize("target", [5, None, ["cpu", 3], b"cpu", object, [None], {}.keys])
def test_what_is_no_target_is_refused_in_one_line(target: Any) -> None:
    with pytest.raises(InputMismatchError, match=r"^target=.* was given; it is the name of a target, such as 'auto'"):
        Delegate(target)


@pytest.mark.parametrize("files", [[], {}, None, "", 5, {"fp32": None}, {"fp32": ""}, ["a.onnx"], b"a model" * 999])
def test_what_is_no_file_is_refused_in_one_line(files: Any) -> None:
    with pytest.raises(InputMismatchError, match=r"^files=.* was given; it is the path of an ONNX file") as caught:
        Delegate().load(files)

    assert len(str(caught.value)) < 200


def test_other_arguments_of_another_kind_are_refused_in_one_line(
    linear: Callable[..., Path], delegate: Callable[..., Delegate]
) -> None:
    with pytest.raises(InputMismatchError, match=r"^golden=5 was given; it is a nearsight_npu.Golden"):
        delegate("cpu").load(linear(), golden=5)
    with pytest.raises(InputMismatchError, match=r"^policy='strict' was given; it is a nearsight_npu.Policy"):
        Delegate(policy="strict")
    with pytest.raises(InputMismatchError, match=r"^file=\[\] was given; it is the path of an ONNX file; give one"):
        prove([], "golden.npz")
    with pytest.raises(InputMismatchError, match=r"^golden=\[\] was given"):
        prove(linear(), [])
    with pytest.raises(InputMismatchError, match=r"^target=5 was given"):
        prove(linear(), "golden.npz", target=5)


def test_a_file_that_is_not_there_is_said_to_be_missing_once() -> None:
    with pytest.raises(UnreadableGraphError) as caught:
        Delegate(["cpu", "reference"]).load("nowhere.onnx")

    assert str(caught.value).count("nowhere.onnx") == 1


def test_a_precision_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputMismatchError, match=r"'int8' was asked for; the files are of fp32"):
        Delegate().load({"fp32": "a.onnx"}, "int8")


def test_a_file_must_have_the_hash_that_is_expected(
    delegate: Callable[..., Delegate], linear: Callable[..., Path]
) -> None:
    path = linear()
    right, wrong = hashlib.sha256(path.read_bytes()).hexdigest(), "0" * 64

    assert delegate().load(path, model_hash=right).model_hash == right
    assert delegate().load({"a": path}, model_hash={"a": right.upper()}).model_hash == right
    with pytest.raises(UnreadableGraphError, match=f"{right[:12]}.* {wrong[:12]}.* is expected"):
        delegate().load(path, model_hash=wrong)
    with pytest.raises(InputMismatchError, match="one model_hash was given for 2 files"):
        delegate().load({"a": path, "b": path}, model_hash=right)


def test_a_proof_is_made_once_and_remembered(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    target, path = CountingTarget(), linear()

    first = delegate(target).load(path, "fp32", golden)
    runs = len(target.runs)
    second = delegate(target).load(path, "fp32", golden)

    assert runs == len(golden) + 1  # each sample, then all in one batch
    assert len(target.runs) == runs
    assert first.proof is not None
    assert second.proof is not None
    assert (first.proof.remembered, second.proof.remembered) == (False, True)
    assert second.proof.to_dict() == {**first.proof.to_dict(), "remembered": True}


def test_a_proof_holds_only_for_what_it_was_made_with(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    target, path = CountingTarget(), linear()

    def proves_again(**changes: Any) -> bool:
        before = len(target.runs)
        arguments = {"files": path, "precision": "fp32", "golden": golden, **changes}
        delegate(target).load(**arguments)
        return len(target.runs) > before

    assert proves_again()
    assert not proves_again()
    assert proves_again(precision="int8")
    assert proves_again(golden=Golden(inputs=golden.inputs, outputs=golden.outputs))
    assert proves_again(files=linear("nearly.onnx", WEIGHTS * np.float32(1.000001)))
    target.version = "2"
    assert proves_again()
    assert not proves_again()
    (tmp_path / "linear.onnx.data").write_bytes(b"weights beside the graph")
    assert proves_again()


def test_a_file_that_changed_in_place_is_proven_again(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    path = linear()
    delegate().load(path, "fp32", golden)

    linear(weights=WEIGHTS[::-1].copy())  # the same path, size and time of change

    with pytest.raises(ProofFailedError):
        delegate().load(path, "fp32", golden)


def test_weights_beside_a_graph_are_proven_whatever_their_file_is_called(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    path, weights = linear(), tmp_path / "tower.bin"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location=weights.name, size_threshold=0)
    for file in (path, weights):
        os.utime(file, (1_000_000, 1_000_000))
    delegate(policy=STRICT).load(path, "fp32", golden).close()

    weights.write_bytes((-WEIGHTS).tobytes())

    with pytest.raises(ProofFailedError):
        delegate(policy=STRICT).load(path, "fp32", golden)


def test_weights_beside_a_graph_count_for_what_it_fills(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = saved(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", "float32", ["n", 1000])],
        [("y", "float32", ["n", 500])],
        {"w": np.ones((1000, 500), np.float32)},
    )
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="tower.bin")
    target = FakeTarget()

    with pytest.raises(UnplaceableError, match="fills 2\\.0 MB"):
        Delegate(target, Policy(max_memory_mb=1.5, strict=True), tmp_path / "cache").load(path)

    assert target.compiled == []


def test_a_failed_proof_is_not_believed_again(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    target, path = CountingTarget(lies=True), linear()
    with pytest.raises(ProofFailedError):
        delegate(target, policy=STRICT).load(path, "fp32", golden)
    assert [report.passed for report in remembered_proofs(tmp_path / "cache")] == [False]

    target.lies = False

    assert delegate(target, policy=STRICT).load(path, "fp32", golden).precision == "fp32"


@pytest.mark.parametrize(
    "damage", ["", "{", "null", "[]", '{"key": 1}', '{"key": "KEY", "report": {"passed": true}}', "\x00\xff"]
)
def test_a_damaged_memory_means_proving_again(
    damage: str, delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    target, path = CountingTarget(), linear()
    delegate(target).load(path, "fp32", golden)
    runs = len(target.runs)
    for file in (tmp_path / "cache").rglob("*.json"):
        key = json.loads(file.read_text("utf-8")).get("key", "")
        file.write_text(damage.replace("KEY", key), "latin-1")
    assert remembered_proofs(tmp_path / "cache") == ()

    session = delegate(target).load(path, "fp32", golden)

    assert len(target.runs) == 2 * runs
    assert session.proof is not None
    assert not session.proof.remembered


def test_a_cache_that_cannot_be_written_does_not_stop_loading(
    linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")

    session = Delegate(cache_dir=tmp_path / "file" / "cache").load(linear(), "fp32", golden)

    assert session.proof is not None
    assert session.proof.passed
    assert "could not be remembered" in session.proof.flags[0]
    assert remembered_proofs(tmp_path / "file" / "cache") == ()


def test_a_golden_file_does_as_well_as_a_golden_set(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    golden.save(tmp_path / "golden.npz")

    session = delegate().load(linear(), "fp32", tmp_path / "golden.npz")

    assert session.proof is not None
    assert session.proof.passed
    with pytest.raises(UnreadableGoldenError, match=r"none\.npz"):
        delegate().load(linear(), "fp32", tmp_path / "none.npz")


def test_without_a_golden_set_nothing_is_proven(delegate: Callable[..., Delegate], linear: Callable[..., Path]) -> None:
    assert delegate().load(linear()).proof is None


def test_prove_reports_a_failure_and_what_it_measured(
    linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    good = prove(linear(), golden, "fp32", cache_dir=tmp_path / "cache", name="toy")
    bad = prove(linear("bad.onnx", WEIGHTS[::-1].copy()), golden, "fp32", cache_dir=tmp_path / "cache")

    assert good.passed
    assert good.reason == ""
    assert (good.name, good.target, good.order) == ("toy", "cpu", 1.0)
    assert good.latency_ms is not None
    assert good.findings[0].cosine > 0.99999
    assert not bad.passed
    assert "cosine" in bad.reason
    assert {report.name for report in remembered_proofs(tmp_path / "cache")} == {"toy", "bad.onnx"}
    assert json.loads(json.dumps(bad.to_dict())) == bad.to_dict()


def test_a_golden_set_for_another_graph_fails_the_proof(linear: Callable[..., Path], tmp_path: Path) -> None:
    zeros = np.zeros((3, 6), np.float32)
    for golden in (
        Golden(inputs={"pixels": zeros}, outputs={"y": zeros}),
        Golden(inputs={"x": zeros}, outputs={"embedding": zeros}),
        Golden(inputs={"x": zeros}, outputs={"y": zeros}),
    ):
        report = prove(linear(), golden, cache_dir=tmp_path / "cache")

        assert not report.passed
        assert report.reason


def test_a_lost_scale_is_seen_though_cosine_is_blind_to_it(
    linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    report = prove(linear(weights=WEIGHTS * 3), golden, "fp32", cache_dir=tmp_path / "cache")

    assert report.findings[0].cosine > 0.9999
    assert "off in size by a factor of 3" in report.reason


def test_a_graph_that_fails_only_in_batches_is_refused(
    saved: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    path = saved(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Reshape", ["m", "shape"], ["y"]),
        ],
        [("x", "float32", ["n", 6])],
        [("y", "float32", ["n", 4])],
        {"w": WEIGHTS, "shape": np.array([1, 4])},
    )

    report = prove(path, golden, "fp32", cache_dir=tmp_path / "cache")

    assert not report.passed
    assert "in one batch" in report.reason


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_a_graph_of_a_fixed_batch_is_proven_in_such_batches(
    batch: int, saved: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    path = saved(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", "float32", [batch, 6])],
        [("y", "float32", [batch, 4])],
        {"w": WEIGHTS},
    )

    report = prove(path, golden, "fp32", cache_dir=tmp_path / "cache")

    assert report.passed, report.reason


def test_the_floor_is_the_one_stated_for_the_precision(linear: Callable[..., Path], tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    x = draw.standard_normal((5, 6)).astype(np.float32)
    noisy = WEIGHTS + draw.standard_normal(WEIGHTS.shape).astype(np.float32) * 0.05
    floors = {"int4": Floor(cosine=0.9, centred=0.9, order=0.8)}
    golden = Golden(inputs={"x": x}, outputs={"y": x @ WEIGHTS}, floors=floors)
    path = linear(weights=noisy)

    passed = {name: prove(path, golden, name, cache_dir=tmp_path).passed for name in ("int4", "fp32", "unstated")}

    assert passed == {"int4": True, "fp32": False, "unstated": False}


def test_a_file_of_an_unstated_precision_is_told_whose_floor_it_was_held_to(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], golden: Golden
) -> None:
    path = linear("rounded.onnx", WEIGHTS.round(1))

    with pytest.raises(ProofFailedError, match="held to the floors of fp32; say what it is, precision='fp32' or"):
        delegate().load(path, golden=golden)
    assert delegate().load(path, precision="int8", golden=golden).precision == "int8"


def test_a_golden_set_that_is_not_there_is_said_to_be_missing(
    delegate: Callable[..., Delegate], linear: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UnreadableGoldenError, match=r"there is no such file; check the path"):
        delegate().load(linear(), golden=tmp_path / "none.npz")


def test_what_the_reference_cannot_evaluate_in_this_version_is_not_called_damaged(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    scale = onnx.numpy_helper.from_array(np.array(0.1, np.float32), "s")
    graph = helper.make_graph(nodes, "old", ports[:1], ports[1:], [scale])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "old.onnx"
    )

    with pytest.raises(UnplaceableError, match=r"in newer versions only .*; export it with a newer opset"):
        Delegate("reference", policy=STRICT).load(tmp_path / "old.onnx")


def test_a_latency_that_cannot_be_right_is_flagged_and_passes(
    linear: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    stated = Golden(inputs=golden.inputs, outputs=golden.outputs, latency_ms={"fp32": 90_000.0})

    report = prove(linear(), stated, "fp32", cache_dir=tmp_path)

    assert report.passed
    assert "90000" in report.flags[0] or "9e+04" in report.flags[0]


def test_several_threads_may_prove_at_once(linear: Callable[..., Path], golden: Golden, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = linear()
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda _: prove(path, golden, "fp32", cache_dir=tmp_path / "cache"), range(32)))

    assert all(report.passed and not report.flags for report in reports)
    assert len(remembered_proofs(tmp_path / "cache")) == 1
    assert list((tmp_path / "cache").rglob("*.part")) == []
