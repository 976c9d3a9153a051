"""Quantizing beyond INT8: precisions, targets, limits, scores that keep their meaning, and files made before."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nearsight_npu import Delegate, Progress, quantize
from nearsight_npu.errors import QuantizationError, UnplaceableError
from nearsight_npu.quantization import limits
from nearsight_npu.quantization.limits import smallest
from nearsight_npu.quantization.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def rows(count: int, width: int = 64, seed: int = 0) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(seed)
    return [{"x": numbers.standard_normal((1, width)).astype(np.float32)} for _ in range(count)]


@pytest.fixture
def eye(saved: Callable[..., Path]) -> Path:
    """A convolution and a product."""
    numbers = np.random.default_rng(2)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"], name="limit"),
        helper.make_node("Flatten", ["r"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "m"], ["y"], name="head"),
    ]
    weights = {
        "k": numbers.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "m": (numbers.standard_normal((8 * 36, 16)) / 8).astype(np.float32),
    }
    return saved(nodes, [("x", "float32", ("n", 3, 8, 8))], [("y", "float32", ("n", 16))], weights, "eye.onnx")


def views(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(seed)
    return [{"x": numbers.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def detector(saved: Callable[..., Path]) -> Path:
    """Scores whose weights all lie four tenths of a 4-bit step above a code: rounding takes part of each logit away."""
    numbers = np.random.default_rng(3)
    weights = (numbers.integers(0, 15, (32, 40)) + 0.4) / 10
    weights[0], weights[1] = 0, 1.5
    shift = -(weights.sum(axis=0) / 2) - 1.5
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="product"),
        helper.make_node("Add", ["z", "b"], ["logit"], name="shift"),
        helper.make_node("Sigmoid", ["logit"], ["scores"], name="score"),
    ]
    constants = {"w": weights.astype(np.float32), "b": shift.astype(np.float32)}
    return saved(nodes, [("x", "float32", ("n", 32))], [("scores", "float32", ("n", 40))], constants, "detector.onnx")


def looks(count: int) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(4)
    return [{"x": numbers.uniform(0, 1, (1, 32)).astype(np.float32)} for _ in range(count)]


def answers(path: Path, samples: list[dict[str, np.ndarray]], output: str, target: str = "cpu") -> np.ndarray:
    session = Delegate(target).load(path)
    return np.concatenate([session.run(sample, (output,))[0][output] for sample in samples])


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(("bits", "ending"), [(8, ".w8.onnx"), (4, ".w4.onnx"), (None, ".w8.onnx")])
def test_weights_alone_become_integers_in_blocks(bits: int | None, ending: str, layered: Path) -> None:
    report = quantize(layered, mode="weights", bits=bits, validation=rows(30))

    made = layered.with_name(f"model{ending}")
    products = [node for node in onnx.load(made).graph.node if node.op_type == "MatMulNBits"]
    assert [helper.get_node_attr_value(node, "bits") for node in products] == [bits or 8] * 2
    assert (report.mode, report.bits, report.activations, report.method) == ("weights", bits or 8, None, None)
    assert report.plan == {"first": f"w{bits or 8}", "second": f"w{bits or 8}"}
    assert set(report.integer_nodes) == {"first", "second"}
    assert report.ratio > {8: 2.5, 4: 4}[bits or 8]
    assert report.outputs[0].sqnr_db > {8: 30, 4: 15}[bits or 8]


def test_smaller_blocks_err_less_and_take_more(layered: Path, tmp_path: Path) -> None:
    small, large = (
        quantize(layered, tmp_path / f"{block}.onnx", mode="weights", bits=4, block=block, validation=rows(30))
        for block in (16, 32)
    )

    assert small.verdict.drop < large.verdict.drop
    assert small.bytes_after > large.bytes_after


def test_four_bits_are_not_for_convolutions_and_the_report_says_so(eye: Path) -> None:
    report = quantize(eye, mode="weights", bits=4, validation=views(20))

    assert report.plan == {"conv": "w8", "head": "w4"}
    assert "4 bits are for matrix products and tables; 1 convolutions are stored in 8" in report.warnings


def test_half_precision_halves_the_file_and_hardly_moves_an_answer(eye: Path) -> None:
    report = quantize(eye, mode="half", validation=views(20))

    assert report.out.endswith("eye.fp16.onnx")
    assert report.ratio == pytest.approx(2, rel=0.1)
    assert report.outputs[0].sqnr_db > 60
    types = {weight.name: weight.data_type for weight in onnx.load(report.out).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types.values()
    assert onnx.TensorProto.FLOAT not in types.values()


@pytest.mark.parametrize(
    ("activations", "dtype", "least_db"), [("u8", np.uint8, 25), ("s8", np.int8, 25), ("u16", np.uint16, 35)]
)
def test_static_activations_are_of_the_type_that_is_asked_for(
    activations: str, dtype: type, least_db: float, eye: Path, tmp_path: Path
) -> None:
    # Judged on the same samples, so that none leaves the range that was taken.
    arguments: dict[str, Any] = {"calibration": views(40), "validation": views(40), "reduce_range": False}
    report = quantize(eye, tmp_path / "q.onnx", activations=activations, **arguments)

    model = onnx.load(tmp_path / "q.onnx")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    types = {constants[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert types == {np.dtype(dtype)}
    assert report.activations == activations
    assert report.outputs[0].sqnr_db > least_db


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_every_method_is_recorded_and_runs(method: str, eye: Path, tmp_path: Path) -> None:
    report = quantize(eye, tmp_path / "q.onnx", calibration=views(40), method=method)

    assert (report.mode, report.method) == ("static", method)
    assert answers(tmp_path / "q.onnx", views(1), "y").shape == (1, 16)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"bits": 3, "mode": "weights"}, "bits=3 was asked for; there are 4, 8; choose"),
        ({"bits": True, "mode": "weights"}, "bits=True was asked for"),
        ({"block": 31, "mode": "weights"}, "there are 16, 32, 64, 128; choose"),
        ({"bits": 4}, "bits=4 was asked for with mode='dynamic', where it would change nothing; give mode='weights'"),
        ({"mode": "half", "method": "mse"}, "give mode='static' or mode='mixed', or leave it out"),
        ({"mode": "half", "kinds": {"MatMul", "Add"}}, "kinds=['Add', 'MatMul'] was asked for with mode='half'"),
        ({"mode": "weights", "activations": "u8"}, "give mode='static', or leave it out"),
        ({"activations": "s4", "calibration": rows(8)}, "there are u8, s8, u16; choose"),
        ({"activations": "u16", "calibration": rows(8), "target": "openvino"}, "would make a16w8; what runs there is"),
        ({"mode": "weights", "target": "qnn"}, "what runs there is s8w8, a16w8, a8w8; choose another mode="),
        ({"target": "tpu", "calibration": rows(8)}, "there are cpu, openvino, qnn, axera, simulated:<chip>; choose"),
        (
            {"target": "simulated:none", "calibration": rows(8)},
            "target='simulated:none' was asked for; there are AX650N",
        ),
        ({"mode": "mixed", "calibration": rows(8)}, "give budget_mb=, budget_ms= or max_drop="),
        ({"budget_mb": 1}, "mixed precision was asked for without calibration data"),
        ({"budget_mb": 1, "budget_ms": 1, "calibration": rows(8)}, "one of them can lead"),
        ({"budget_mb": 0, "calibration": rows(8)}, "budget_mb=0 was asked for; it is a number above 0"),
        ({"budget_mb": "1", "calibration": rows(8)}, "budget_mb='1' was asked for"),
        ({"max_drop": float("nan"), "calibration": rows(8)}, "max_drop=nan was asked for"),
        ({"max_drop": -1, "calibration": rows(8)}, "max_drop=-1 was asked for"),
        ({"budget_mb": 1, "mode": "static", "calibration": rows(8)}, "give mode='mixed', or leave it out"),
        (
            {"budget_ms": 5, "calibration": rows(8), "target": "qnn"},
            "whose time cannot be measured here; give budget_mb=",
        ),
        ({"pareto": "p.svg", "calibration": rows(8)}, "pareto='p.svg' was asked for with mode='static'"),
        ({"budget_mb": 0.001, "calibration": rows(8)}, "a file of 0.001 MB was asked for; the least that fp32, fp16"),
        ({"budget_ms": 1e-9, "calibration": rows(8)}, "a file of 1e-09 ms a run was asked for; the quickest that was"),
        ({"max_drop": 0.1, "mode": "half"}, "without samples to judge on; give calibration= or validation="),
        ({"scores": ("y",), "mode": "half"}, "scores=('y',) was asked for without calibration data"),
        ({"scores": ("z",), "calibration": rows(8)}, "the model's outputs in floating point are y; name one of them"),
        ({"scores": "y", "calibration": rows(8)}, "give scores=('NAME',)"),
    ],
)
def test_what_cannot_be_followed_is_one_line_and_leaves_nothing(
    arguments: dict[str, Any], said: str, layered: Path
) -> None:
    before = sorted(layered.parent.iterdir())

    with pytest.raises((QuantizationError, UnplaceableError)) as error:
        quantize(layered, **arguments)

    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(layered.parent.iterdir()) == before


def test_a_file_that_loses_too_much_is_not_written(layered: Path, tmp_path: Path) -> None:
    (tmp_path / "q.onnx").write_bytes(b"the old file")

    with pytest.raises(
        QuantizationError, match=r"was to lose at most 0\.01 by output error; weights lost 0\."
    ) as error:
        quantize(layered, tmp_path / "q.onnx", mode="weights", bits=4, validation=rows(30), max_drop=0.01)

    assert "not accepted: the drop itself is more" in str(error.value)
    assert (tmp_path / "q.onnx").read_bytes() == b"the old file"
    report = quantize(layered, tmp_path / "q.onnx", mode="weights", bits=8, validation=rows(30), max_drop=0.05)
    assert report.verdict.accepted is True
    assert report.verdict.high <= 0.05
    assert "cosine is not the task" in report.warnings[-1]


def test_a_task_metric_is_measured_on_the_samples_it_can_name(layered: Path, tmp_path: Path) -> None:
    samples = rows(60)
    labels = answers(layered, samples, "y").argmax(axis=1)

    def top1(outputs: dict[str, np.ndarray], places: np.ndarray) -> np.ndarray:
        return (outputs["y"].argmax(axis=1) == labels[places]).astype(float)

    report = quantize(layered, tmp_path / "q.onnx", calibration=samples, metric=top1)

    kept = answers(tmp_path / "q.onnx", samples[48:], "y").argmax(axis=1) == labels[48:]
    assert report.compared_on == 12  # the last fifth
    assert report.verdict.before == 1.0
    assert report.verdict.after == pytest.approx(kept.mean())
    assert (report.verdict.metric, report.verdict.task, report.verdict.accepted) == ("top1", True, None)
    assert not any("cosine is not the task" in line for line in report.warnings)


def test_samples_to_judge_on_leave_all_others_to_calibrate_with(layered: Path, tmp_path: Path) -> None:
    report = quantize(layered, tmp_path / "q.onnx", calibration=rows(40), validation=rows(70, seed=1))

    assert (report.calibrated_on, report.compared_on, report.compared_with) == (40, 70, "validation")
    assert max(report.outputs[0].worst_samples) < 70


def test_scores_keep_their_meaning(saved: Callable[..., Path], tmp_path: Path) -> None:
    path, samples = detector(saved), looks(280)
    held = samples[180:]

    plain = quantize(path, tmp_path / "plain.onnx", mode="weights", bits=4, validation=held)
    report = quantize(
        path,
        tmp_path / "kept.onnx",
        mode="weights",
        bits=4,
        calibration=samples[:180],
        samples=180,
        validation=held,
        scores=["scores"],
    )

    own, moved, back = (answers(at, held, "scores") for at in (path, tmp_path / "plain.onnx", tmp_path / "kept.onnx"))
    found = report.recalibrated[0]
    assert (found.kept, found.fitted_on) == (True, 180)
    assert plain.recalibrated == ()
    for threshold in (0.2, 0.3, 0.5):
        before, converted, after = ((scores >= threshold).sum() for scores in (own, moved, back))
        assert converted < 0.85 * before
        assert abs(after - before) < 0.1 * before
        entry = next(entry for entry in found.passing if entry.threshold == threshold)
        assert (entry.before, entry.converted) == (before, converted)
        assert entry.recalibrated == pytest.approx(after, abs=2)
    # The report is of the file as it is, step and all.
    assert report.verdict.drop < plain.verdict.drop


def test_a_step_that_would_not_help_is_left_out_and_said(saved: Callable[..., Path], tmp_path: Path) -> None:
    report = quantize(detector(saved), tmp_path / "q.onnx", mode="half", calibration=looks(120), scores=("scores",))

    assert report.recalibrated[0].kept is False
    assert any("it is left out" in line for line in report.warnings)
    assert kinds(tmp_path / "q.onnx")["Sigmoid"] == 1
    assert "Mul" not in kinds(tmp_path / "q.onnx")


def test_the_report_looks_into_the_graph_where_asked(layered: Path, tmp_path: Path) -> None:
    samples = rows(40)
    arguments: dict[str, Any] = {"calibration": samples, "cache_dir": tmp_path / "cache"}

    report = quantize(layered, tmp_path / "q.onnx", layers=True, **arguments)
    partial = quantize(layered, tmp_path / "p.onnx", layers=True, keep_float=("first",), **arguments)

    assert [(layer.group, layer.array, layer.kind) for layer in report.layers] == [
        ("first", "a", "matmul"),
        ("second", "y", "matmul"),
    ]
    second = report.layers[1]
    assert second.cosine == pytest.approx(report.outputs[0].cosine, abs=1e-4)
    assert second.sqnr_db == pytest.approx(report.outputs[0].sqnr_db, abs=0.5)
    assert all(32 <= place < 40 for layer in report.layers for place in layer.worst_samples)
    # What stayed in float moved nothing, and what stands behind it moved less.
    assert partial.layers[0].cosine == pytest.approx(1)
    assert partial.layers[0].sqnr_db is None or partial.layers[0].sqnr_db > 100
    assert partial.layers[1].sqnr_db > second.sqnr_db


def test_the_signal_over_the_noise_is_what_one_computes_by_hand(layered: Path, tmp_path: Path) -> None:
    samples = rows(30)
    report = quantize(layered, tmp_path / "q.onnx", mode="weights", bits=4, validation=samples)

    own, moved = (answers(path, samples, "y").astype(np.float64) for path in (layered, tmp_path / "q.onnx"))

    cosines = (own * moved).sum(axis=1) / np.linalg.norm(own, axis=1) / np.linalg.norm(moved, axis=1)
    change = report.outputs[0]
    assert change.sqnr_db == pytest.approx(10 * np.log10(np.square(own).sum() / np.square(own - moved).sum()))
    assert change.worst_samples == tuple(np.argsort(cosines)[:3])
    assert change.worst_samples[0] == change.worst_sample


def test_the_same_wish_is_granted_from_what_was_made_before(layered: Path, tmp_path: Path) -> None:
    def made(name: str, **changes: Any) -> tuple[bool, bytes]:
        arguments = {"calibration": rows(40), "cache_dir": tmp_path / "cache", **changes}
        report = quantize(layered, tmp_path / name, **arguments)
        return report.remembered, (tmp_path / name).read_bytes()

    first = made("a.onnx")
    again = made("b.onnx")

    assert (first[0], again) == (False, (True, first[1]))
    # How it is judged is measured anew, and is no other file; what goes into it is.
    assert made("c.onnx", max_drop=0.9, mode="static")[0] is True
    for changes in (
        {"method": "mse"},
        {"calibration": rows(40, seed=1)},
        {"keep_float": ("first",)},
        {"activations": "s8"},
        {"reduce_range": True},
        {"reduce_range": False, "mode": "dynamic"},
    ):
        assert made("d.onnx", **changes)[0] is False, changes
        assert made("d.onnx", **changes)[0] is True, changes
    for file in (tmp_path / "cache" / "quantized").glob("*.onnx"):
        file.write_bytes(file.read_bytes()[:-1])
    assert made("e.onnx") == (False, first[1])


def test_where_nothing_can_be_kept_the_file_is_made_and_the_report_says_so(layered: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")

    report = quantize(layered, tmp_path / "q.onnx", calibration=rows(40), cache_dir=tmp_path / "cache")

    assert any("could not be kept for the next time" in line for line in report.warnings)
    assert (tmp_path / "q.onnx").is_file()


@given(sizes=st.tuples(st.integers(1, 10**7), st.integers(0, 10**8)), enough=st.floats(-0.1, 1.1))
@settings(max_examples=60)
def test_the_smallest_budget_is_found_to_within_a_fiftieth(sizes: tuple[int, int], enough: float) -> None:
    least, most = sizes[0], sizes[0] + sizes[1]
    needed = least + enough * (most - least)
    tried: list[int] = []

    found = smallest(least, most, lambda budget: (tried.append(budget), budget >= needed)[1])

    assert len(tried) <= 9
    if needed > most:
        assert found is None
    else:
        assert found in tried
        assert max(needed, least) <= found <= max(needed, least) + 0.02 * (most - least) + 1


def test_more_room_is_used_to_move_answers_less(layered: Path, tmp_path: Path) -> None:
    whole = layered.stat().st_size
    arguments: dict[str, Any] = {"calibration": rows(60), "validation": rows(60, seed=1)}
    drops = []
    for place, share in enumerate((0.25, 0.4, 0.6)):
        budget = share * whole / 1e6
        report = quantize(layered, tmp_path / f"{place}.onnx", budget_mb=budget, **arguments)
        drops.append(report.verdict.drop)
        assert report.mode == "mixed"
        assert set(report.plan) == {"first", "second"}
        assert report.bytes_after == (tmp_path / f"{place}.onnx").stat().st_size <= budget * 1e6

    assert drops[0] > drops[1] > drops[2]


def test_the_smallest_file_inside_the_drop_is_written(layered: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"calibration": rows(60), "validation": rows(60, seed=1)}
    sizes = {}
    for most in (0.3, 0.05, 0.002):
        report = quantize(layered, tmp_path / "q.onnx", max_drop=most, **arguments)
        sizes[most] = report.bytes_after
        assert report.verdict.accepted is True
        assert report.verdict.high <= most
        assert report.after.runs >= 7

    assert sizes[0.3] < sizes[0.05] < sizes[0.002] < layered.stat().st_size
    with pytest.raises(QuantizationError, match="even the largest file of mixed precision lost"):
        quantize(layered, tmp_path / "none.onnx", max_drop=1e-9, **arguments)
    assert not (tmp_path / "none.onnx").exists()


def test_a_table_that_is_looked_up_in_half_precision_becomes_smaller_too(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    numbers = np.random.default_rng(3)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="words"),
        helper.make_node("Cast", ["rows"], ["full"], name="full", to=1),
        helper.make_node("MatMul", ["full", "w"], ["y"], name="product"),
    ]
    weights = {
        "table": numbers.standard_normal((100, 64)).astype(np.float16),
        "w": numbers.standard_normal((64, 64)).astype(np.float32),
    }
    model = saved(nodes, [("ids", "int64", ("n", "t"))], [("y", "float32", ("n", "t", 64))], weights)
    texts = [{"ids": numbers.integers(0, 100, (1, 5))} for _ in range(40)]

    report = quantize(model, tmp_path / "q.onnx", calibration=texts, budget_mb=0.4 * model.stat().st_size / 1e6)

    assert set(report.plan) == {"words", "product"}
    assert report.plan["words"] in {"w8", "w4"}
    assert report.bytes_after <= 0.4 * model.stat().st_size
    assert report.verdict.drop < 0.2


def test_what_stays_in_float_is_in_no_plan(eye: Path, tmp_path: Path) -> None:
    budget = 0.9 * eye.stat().st_size / 1e6

    report = quantize(eye, tmp_path / "q.onnx", calibration=views(40), budget_mb=budget, keep_float=("conv",))

    assert set(report.plan) == {"head"}


def test_a_budget_of_time_is_kept_as_it_was_measured(eye: Path, tmp_path: Path) -> None:
    # As generous as that, full precision keeps to it.
    report = quantize(eye, tmp_path / "q.onnx", calibration=views(40), budget_ms=10_000)

    assert set(report.plan.values()) == {"fp32"}
    assert report.verdict.drop < 1e-5


def test_static_int8_is_written_where_it_is_quick_enough_and_errs_less_than_what_is_mixed(
    layered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FOR_TIME", ("w4",))  # which errs more

    report = quantize(layered, tmp_path / "q.onnx", calibration=rows(40), budget_ms=10_000, cache_dir=tmp_path / "c")

    quantize(layered, tmp_path / "static.onnx", calibration=rows(40))
    assert report.plan == {"first": "a8w8", "second": "a8w8"}
    assert (tmp_path / "q.onnx").read_bytes() == (tmp_path / "static.onnx").read_bytes()


@pytest.fixture
def reader(saved: Callable[..., Path]) -> Callable[..., Path]:
    """Write a graph that looks words up in a table of some type and multiplies what it found with a matrix."""

    def make(kind: str) -> Path:
        numbers = np.random.default_rng(3)
        nodes = [
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="words"),
            helper.make_node("Cast", ["rows"], ["full"], name="full", to=onnx.TensorProto.FLOAT),
            helper.make_node("MatMul", ["full", "w"], ["y"], name="product"),
        ]
        weights = {
            "table": numbers.standard_normal((500, 32)).astype(kind),
            "w": numbers.standard_normal((32, 32)).astype(np.float32),
        }
        return saved(nodes, [("ids", "int64", ("n", "t"))], [("y", "float32", ("n", "t", 32))], weights)

    return make


def texts(count: int) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(4)
    return [{"ids": numbers.integers(0, 500, (1, 5))} for _ in range(count)]


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_a_chip_that_takes_no_weights_alone_in_integers_is_given_the_table_as_it_is(
    kind: str, reader: Callable[..., Path], tmp_path: Path
) -> None:
    model, out = reader(kind), tmp_path / "q.onnx"

    report = quantize(model, out, calibration=texts(40), budget_mb=1, target="axera", cache_dir=tmp_path / "cache")

    assert set(report.plan) == {"product"}
    assert report.bytes_after < report.bytes_before
    assert {node.domain for node in onnx.load(out).graph.node if node.name == "words"} == {""}


def test_a_table_that_is_looked_up_in_fp16_stays_so_beside_static_int8(
    reader: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FOR_TIME", ("w4",))  # which errs more
    model, out = reader("float16"), tmp_path / "q.onnx"

    report = quantize(model, out, calibration=texts(40), budget_ms=10_000, cache_dir=tmp_path / "cache")

    assert report.plan == {"words": "fp32", "product": "a8w8"}
    assert report.bytes_after < report.bytes_before


def test_stages_are_told_in_order_and_counted_to_their_end(layered: Path, tmp_path: Path) -> None:
    told: list[Progress] = []

    quantize(
        layered,
        tmp_path / "q.onnx",
        calibration=rows(60),
        budget_mb=0.5 * layered.stat().st_size / 1e6,
        pareto=tmp_path / "what.svg",
        layers=True,
        cache_dir=tmp_path / "cache",
        progress=told.append,
    )

    assert list(dict.fromkeys(one.stage for one in told)) == [
        "reading the model",
        "reading samples",
        "rounding weights",
        "measuring groups of operators",
        "measuring around the plan",
        "running the model",
        "running what was written",
        "timing both",
        "judging",
        "looking into layers",
        "making files to choose from",
        "timing files to choose from",
        "comparing files to choose from",
    ]
    last = {one.stage: one for one in told}
    assert all(one.done == one.total for one in last.values() if one.total is not None)
    assert (last["reading samples"].done, last["measuring groups of operators"].total) == (60, 2)


def test_searching_for_the_smallest_file_is_told(eye: Path, tmp_path: Path) -> None:
    told: list[Progress] = []

    quantize(eye, tmp_path / "q.onnx", calibration=views(80), max_drop=0.5, progress=told.append)

    tried = [one.done for one in told if one.stage in {"searching for the smallest file", "accepting a file"}]
    assert tried == list(range(len(tried)))
    assert len({one.stage for one in told} & {"searching for the smallest file", "accepting a file"}) == 2


def test_a_fault_of_the_caller_s_own_function_goes_through(layered: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        raise KeyError(progress.stage)

    with pytest.raises(KeyError, match="reading the model"):
        quantize(layered, tmp_path / "q.onnx", progress=stop)

    assert not (tmp_path / "q.onnx").exists()


def test_what_else_could_be_had_is_drawn_and_told(layered: Path, tmp_path: Path) -> None:
    budget = 0.5 * layered.stat().st_size / 1e6

    report = quantize(
        layered, tmp_path / "q.onnx", calibration=rows(60), budget_mb=budget, pareto=tmp_path / "what.svg"
    )

    names = [row.name for row in report.pareto]
    assert {"fp16", "w8", "w4"} <= set(names)
    assert [row.mb for row in report.pareto] == sorted(row.mb for row in report.pareto)
    drawn = (tmp_path / "what.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert all(name in drawn for name in names)
    (written,) = [row for row in report.pareto if row.written]
    assert written.mb * 1e6 == pytest.approx((tmp_path / "q.onnx").stat().st_size)
    assert f">{written.name} (written)</text>" in drawn
    assert drawn.count('fill="none" stroke="#c92a2a" stroke-width="2"') == 2  # for MB and for ms
    assert json.loads(json.dumps(report.to_dict()))["pareto"][0]["mb"] == report.pareto[0].mb


@pytest.mark.parametrize("activations", [None, "u16"])
def test_for_a_chip_lengths_are_fixed_and_the_figures_are_the_chip_s(
    activations: str | None, eye: Path, tmp_path: Path
) -> None:
    report = quantize(
        eye, tmp_path / "q.onnx", calibration=views(30), target="simulated:AX650N", activations=activations
    )

    assert (report.target, report.activations) == ("simulated:AX650N", activations or "s8")
    # It says what the chip would answer, not how quickly.
    assert (report.before, report.after) == (None, None)
    assert report.outputs[0].sqnr_db > 20
    session = Delegate("simulated:AX650N").load(tmp_path / "q.onnx")
    assert [str(port) for port in session.inputs] == ["x float32 (1, 3, 8, 8)"]
    assert [str(port) for port in session.outputs] == ["y float32 (1, 16)"]
    assert session.run(views(1)[0])[0]["y"].shape == (1, 16)


def test_a_chip_that_wants_one_shape_is_not_given_two(eye: Path) -> None:
    samples = [*views(5), {"x": np.zeros((2, 3, 8, 8), np.float32)}]

    with pytest.raises(QuantizationError, match="the samples are of 2 unlike shapes; give samples of the one shape"):
        quantize(eye, calibration=samples, target="simulated:AX650N")


def test_a_graph_that_the_chip_cannot_run_is_not_written(saved: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        helper.make_node("Det", ["a"], ["y"], name="determinant"),
    ]
    ports = [("x", "float32", (1, 4, 4))], [("y", "float32", (1,))]
    path = saved(nodes, *ports, {"w": np.eye(4, dtype=np.float32)})
    samples = [{"x": np.random.default_rng(seed).standard_normal((1, 4, 4)).astype(np.float32)} for seed in range(8)]

    with pytest.raises(UnplaceableError, match="Det"):
        quantize(path, tmp_path / "q.onnx", calibration=samples, target="simulated:AX650N")

    assert not (tmp_path / "q.onnx").exists()


def test_where_compiled_files_are_needed_the_processor_compares_and_says_so(eye: Path, tmp_path: Path) -> None:
    report = quantize(eye, tmp_path / "q.onnx", calibration=views(30), target="axera")

    assert (report.target, report.activations) == ("axera", "s8")
    assert any(line.startswith("compared on cpu: axera runs compiled files only") for line in report.warnings)


def test_the_whole_report_is_json(saved: Callable[..., Path], tmp_path: Path) -> None:
    report = quantize(
        detector(saved),
        tmp_path / "q.onnx",
        mode="weights",
        bits=4,
        calibration=looks(120),
        scores=("scores",),
        layers=True,
        max_drop=0.99,
    )

    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))

    assert again["verdict"]["accepted"] is True
    assert again["recalibrated"][0]["step"]["space"] == "logit"
    assert again["layers"][0]["group"].startswith("product")
    assert list(again["plan"].values()) == ["w4"]
    assert again["outputs"][0]["worst_samples"]


def test_for_a_chip_mixed_precision_is_made_of_what_it_runs(eye: Path, tmp_path: Path) -> None:
    report = quantize(
        eye, tmp_path / "q.onnx", calibration=views(40), target="simulated:AX650N", max_drop=0.5, mode="mixed"
    )

    assert set(report.plan.values()) <= {"s8w8", "a16w8", "a8w8"}
    assert report.verdict.accepted is True
    assert Delegate("simulated:AX650N").load(tmp_path / "q.onnx").run(views(1)[0])[0]["y"].shape == (1, 16)


# Another value for every setting that a file depends on.
OTHERS: dict[str, dict[str, Any]] = {
    "mode": {"mode": "dynamic"},
    "kinds": {"kinds": frozenset({"Conv"})},
    "keep_float": {"keep_float": ("stem",)},
    "method": {"method": "mse"},
    "percentile": {"percentile": 99.0, "method": "percentile"},
    "reduce_range": {"reduce_range": True},
    "bits": {"bits": 4, "mode": "weights"},
    "block": {"block": 64, "mode": "weights"},
    "activations": {"activations": "s8"},
    "budget_mb": {"budget_mb": 1.0, "mode": "mixed"},
    "budget_ms": {"budget_ms": 1.0, "mode": "mixed"},
    "runs_on": {"runs_on": "openvino"},
}
NOT_IN_THE_FILE = {"source", "target", "samples", "threads", "max_drop", "scores"}


def test_the_key_of_a_file_knows_every_setting_that_goes_into_it(tmp_path: Path) -> None:
    usual: dict[str, Any] = {
        "source": tmp_path / "a.onnx",
        "target": tmp_path / "b.onnx",
        "mode": "static",
        "kinds": None,
        "keep_float": (),
        "method": None,
        "percentile": None,
        "reduce_range": False,
        "samples": 100,
        "threads": 1,
    }

    keys = [json.dumps(Settings(**{**usual, **change}).to_dict(), sort_keys=True) for change in ({}, *OTHERS.values())]

    assert len(set(keys)) == 1 + len(OTHERS)
    assert {field.name for field in fields(Settings)} == set(OTHERS) | NOT_IN_THE_FILE
    same = Settings(**{**usual, "target": tmp_path / "c.onnx", "max_drop": 0.1, "scores": ("y",), "samples": 5})
    assert json.dumps(same.to_dict(), sort_keys=True) == keys[0]


def test_a_sample_to_judge_on_that_the_model_cannot_run_on_is_named(saved: Callable[..., Path]) -> None:
    nodes = [helper.make_node("Gather", ["table", "x"], ["rows"]), helper.make_node("MatMul", ["rows", "w"], ["y"])]
    weights = {"table": np.eye(4, dtype=np.float32), "w": np.eye(4, dtype=np.float32)}
    path = saved(nodes, [("x", "int64", ("n", "t"))], [("y", "float32", ("n", "t", 4))], weights)
    samples = [{"x": np.array([[0, 1, place]])} for place in (1, 2, 3, 4, 0)]

    with pytest.raises(QuantizationError, match="validation sample 3: the model cannot run on it"):
        quantize(path, validation=samples, mode="weights")
