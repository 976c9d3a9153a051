"""Quantizing: how far answers may move, what becomes integer, what the report says, and that the file runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nearsight_npu import Delegate, quantize
from nearsight_npu.quantization.calibration import Samples
from nearsight_npu.quantization.report import compare, remarks
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.target import Placement, Port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

QUICK = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def rows(count: int, width: int, low: float = -1.0, high: float = 1.0, seed: int = 0) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(seed)
    return [{"x": numbers.uniform(low, high, (1, width)).astype(np.float32)} for _ in range(count)]


def gemm(
    saved: Callable[..., Path], weights: np.ndarray, bias: np.ndarray | None = None, name: str = "gemm.onnx"
) -> Path:
    inputs, constants = ["x", "w"], {"w": weights.astype(np.float32)}
    if bias is not None:
        inputs.append("b")
        constants["b"] = bias.astype(np.float32)
    node = helper.make_node("Gemm", inputs, ["y"], name="product")
    width, height = weights.shape
    return saved([node], [("x", "float32", ("n", width))], [("y", "float32", ("n", height))], constants, name)


def net(saved: Callable[..., Path], gain: float = 20.0, name: str = "net.onnx") -> Path:
    """A small convolutional net: limited, residual, pooled, classified; its first convolution goes far beyond 6."""
    numbers = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c1", "zero", "six"], ["r1"], name="first.limit"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second", kernel_shape=[1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["sum"], name="join"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "w3"], ["logits"], name="classes"),
        helper.make_node("Softmax", ["logits"], ["p"], name="softmax", axis=-1),
    ]
    weights = {
        "w1": (gain * numbers.standard_normal((8, 3, 3, 3)) / 5).astype(np.float32),
        "b1": numbers.standard_normal(8).astype(np.float32),
        "w2": (numbers.standard_normal((8, 8, 1, 1)) / 3).astype(np.float32),
        "w3": numbers.standard_normal((8, 5)).astype(np.float32),
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    ports = [("x", "float32", ("n", 3, 12, 12))]
    return saved(nodes, ports, [("p", "float32", ("n", 5)), ("logits", "float32", ("n", 5))], weights, name)


def pictures(count: int) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(2)
    # A slope of its own in each, so that pooled answers differ.
    slopes = np.linspace(-1, 1, 12)
    return [
        {
            "x": (
                numbers.uniform(-1, 1, (1, 3, 1, 1))
                + numbers.uniform(-1, 1) * slopes
                + numbers.uniform(-1, 1, (1, 3, 12, 12))
            ).astype(np.float32)
        }
        for _ in range(count)
    ]


def answer(path: Path, arrays: Mapping[str, np.ndarray], output: str) -> np.ndarray:
    found, _ = Delegate("cpu").load(path).run(arrays, (output,))
    return found[output]


def scales(path: Path) -> dict[str, np.ndarray]:
    """Array that is quantized -> its scale."""
    model = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return {node.input[0].removesuffix("_QuantizeLinear_Input"): constants[node.input[1]] for node in quantizers}


@given(low=st.floats(-50, -0.1), high=st.floats(0.1, 50), places=st.lists(st.floats(0, 1), min_size=4, max_size=4))
@QUICK
def test_a_number_that_goes_through_moves_by_half_a_step_at_most(
    low: float, high: float, places: list[float], saved: Callable[..., Path]
) -> None:
    # The weights are 0 and 1, which S8 holds exactly: all that is left is the rounding of the numbers themselves.
    path = gemm(saved, np.eye(4))
    ends = [{"x": np.full((1, 4), end, np.float32)} for end in (low, high)] * 2
    quantize(path, path.with_name("q.onnx"), calibration=ends, reduce_range=False)
    x = (low + np.array([places]) * (high - low)).astype(np.float32)

    y = answer(path.with_name("q.onnx"), {"x": x}, "y")

    step = (high - low) / 255
    assert np.abs(y - x).max() <= step / 2 * 1.001 + 1e-5


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 40), height=st.integers(1, 8))
@QUICK
def test_a_product_moves_no_further_than_its_roundings_add_up_to(
    seed: int, width: int, height: int, saved: Callable[..., Path]
) -> None:
    numbers = np.random.default_rng(seed)
    weights, bias = numbers.standard_normal((width, height)) * 3, numbers.standard_normal(height)
    path, samples = gemm(saved, weights, bias), rows(6, width, seed=seed)
    quantize(path, path.with_name("q.onnx"), calibration=samples, reduce_range=False)
    found = scales(path.with_name("q.onnx"))
    step_x, step_y, step_w = float(found["x"]), float(found["y"]), np.abs(weights).max(axis=0) / 127

    for sample in samples:
        x = np.abs(sample["x"][0])
        moved = np.abs(answer(path.with_name("q.onnx"), sample, "y") - answer(path, sample, "y"))[0]
        allowed = np.abs(weights).T @ np.full(width, step_x / 2) + (x + step_x / 2).sum() * step_w / 2
        allowed += step_y / 2 + step_x * step_w / 2  # of the answer, and of the bias
        assert (moved <= allowed * 1.001 + 1e-5).all()


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(2, 40))
@QUICK
def test_dynamic_weights_move_by_half_a_step_of_their_own_column(
    seed: int, width: int, saved: Callable[..., Path]
) -> None:
    numbers = np.random.default_rng(seed)
    # One column a thousand times larger: a single scale would leave nothing of the others.
    weights = numbers.uniform(-1, 1, (width, 3)) * np.array([1, 1000, 0.001])
    path = gemm(saved, weights)
    report = quantize(path, path.with_name("q.onnx"), reduce_range=False)
    sample = rows(1, width, seed=seed)[0]

    y = answer(path.with_name("q.onnx"), sample, "y")[0]

    x = sample["x"][0]
    step_x = (max(x.max(), 0) - min(x.min(), 0)) / 255
    step_w = np.abs(weights).max(axis=0) / 127
    allowed = np.abs(weights).sum(axis=0) * step_x / 2 + (np.abs(x) + step_x / 2).sum() * step_w / 2
    assert (np.abs(y - x @ weights) <= allowed * 1.001 + 1e-6).all()
    assert (report.mode, report.calibrated_on, report.compared_with) == ("dynamic", 0, "random")


def test_a_convolution_takes_the_range_of_the_clip_behind_it(saved: Callable[..., Path], tmp_path: Path) -> None:
    path, samples = net(saved), pictures(40)

    whole = quantize(path, tmp_path / "whole.onnx", calibration=samples)
    parted = quantize(path, tmp_path / "parted.onnx", calibration=samples, kinds={"Conv", "Add", "Gemm"})

    wide = float(scales(tmp_path / "parted.onnx")["c1"])
    assert float(scales(tmp_path / "whole.onnx")["r1"]) <= 6 / 255 * 1.001
    assert wide > 5 * 6 / 255
    assert any("'first'" in line and "Clip or Relu behind" in line for line in parted.warnings)
    assert not any("Clip or Relu behind" in line for line in whole.warnings)
    assert whole.outputs[1].error_share < parted.outputs[1].error_share


def test_sums_and_products_become_integer_and_softmax_stays(saved: Callable[..., Path], tmp_path: Path) -> None:
    report = quantize(net(saved), tmp_path / "q.onnx", calibration=pictures(40))

    assert set(report.integer_nodes) >= {"first", "second", "join", "classes"}
    assert report.float_nodes["softmax"] == "Softmax"
    assert not set(report.integer_nodes) & set(report.float_nodes)
    assert min(change.cosine for change in report.outputs) > 0.99
    assert all(change.centred > 0.98 for change in report.outputs)


def test_what_is_to_stay_in_float_does(saved: Callable[..., Path], tmp_path: Path) -> None:
    report = quantize(net(saved), tmp_path / "q.onnx", calibration=pictures(40), keep_float=("first", "join"))

    assert set(report.float_nodes) >= {"first", "first.limit", "join"}
    assert set(report.integer_nodes) == {"second", "classes"}


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_every_method_gives_a_file_that_the_delegate_runs(
    method: str, saved: Callable[..., Path], tmp_path: Path, delegate: Callable[..., Delegate]
) -> None:
    path = net(saved)
    report = quantize(path, tmp_path / "q.onnx", calibration=pictures(40), method=method)

    for target in ("cpu", "reference"):
        found, decision = delegate(target).load(tmp_path / "q.onnx", precision="int8").run(pictures(1)[0])
        assert found["p"].shape == (1, 5)
        assert (decision.target, decision.precision) == (target, "int8")
    assert report.method == method
    assert report.bytes_after == (tmp_path / "q.onnx").stat().st_size


def test_static_weights_have_a_step_of_their_own_for_each_channel(saved: Callable[..., Path], tmp_path: Path) -> None:
    weights = np.random.default_rng(0).uniform(-1, 1, (16, 3)) * np.array([1, 1000, 0.001])
    quantize(gemm(saved, weights), tmp_path / "q.onnx", calibration=rows(8, 16), reduce_range=False)
    model = onnx.load(tmp_path / "q.onnx")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    codes, steps = next(
        (constants[node.input[0]], constants[node.input[1]]) for node in model.graph.node if node.input[0] in constants
    )

    np.testing.assert_allclose(steps, np.abs(weights).max(axis=0) / 127, rtol=1e-5)
    assert (np.abs(codes * steps - weights) <= steps / 2 * 1.001).all()


def test_a_percentile_cuts_what_minmax_keeps(saved: Callable[..., Path], tmp_path: Path) -> None:
    path, samples = gemm(saved, np.eye(64)), rows(20, 64)
    samples[3]["x"][0, 0] = 100.0

    quantize(path, tmp_path / "all.onnx", calibration=samples)
    quantize(path, tmp_path / "cut.onnx", calibration=samples, method="percentile", percentile=99.0)

    assert float(scales(tmp_path / "all.onnx")["x"]) == pytest.approx(101 / 255, rel=0.02)
    assert float(scales(tmp_path / "cut.onnx")["x"]) < 4 / 255


def test_seven_bits_are_kept_to_where_asked(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = gemm(saved, np.random.default_rng(0).standard_normal((8, 8)))
    largest = {}

    for narrow in (True, False):
        report = quantize(path, tmp_path / "q.onnx", calibration=rows(8, 8), reduce_range=narrow)
        codes = [
            numpy_helper.to_array(t) for t in onnx.load(tmp_path / "q.onnx").graph.initializer if t.name.startswith("w")
        ]
        largest[narrow] = max(int(np.abs(code.astype(int)).max()) for code in codes if code.dtype == np.int8)
        assert report.reduce_range is narrow

    assert largest == {True: 64, False: 127}


@pytest.mark.parametrize(("flags", "offered"), [("fma avx2", False), ("avx2 avx_vnni", True), ("avx512_vnni", True)])
def test_the_processor_says_whether_it_has_vnni(flags: str, offered: bool, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(f"processor : 0\nflags\t\t: fpu {flags}\n\nprocessor : 1\n")

    assert Machine(root=tmp_path).offers("avx512_vnni", "avx_vnni") is offered


def test_a_fifth_is_held_out_and_the_worst_sample_is_named_by_its_place(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    samples = rows(25, 16)
    samples[23] = {"x": 30 * samples[23]["x"]}  # far outside of every range taken

    path = gemm(saved, np.random.default_rng(0).standard_normal((16, 4)))
    report = quantize(path, tmp_path / "q.onnx", calibration=samples)

    assert (report.calibrated_on, report.compared_on, report.compared_with) == (20, 5, "held out")
    assert report.worst.worst_sample == 23
    assert report.worst.cosine == min(
        cosine(answer(tmp_path / "q.onnx", s, "y"), answer(path, s, "y")) for s in samples[20:]
    )
    assert any("sample 23" in line for line in report.warnings)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (x.astype(np.float64).ravel() for x in (a, b))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_no_more_samples_are_used_than_asked_for(saved: Callable[..., Path], tmp_path: Path) -> None:
    def endless() -> Any:
        for place in range(10**9):
            yield rows(1, 4, seed=place)[0]

    report = quantize(gemm(saved, np.eye(4)), tmp_path / "q.onnx", calibration=endless(), samples=50)

    assert (report.calibrated_on, report.compared_on) == (50, 14)


def test_few_samples_serve_twice_and_the_report_says_so(saved: Callable[..., Path], tmp_path: Path) -> None:
    report = quantize(gemm(saved, np.eye(4)), tmp_path / "q.onnx", calibration=rows(8, 4))

    assert (report.calibrated_on, report.compared_on, report.compared_with) == (8, 8, "calibration")
    assert any("8 samples only" in line for line in report.warnings)
    assert any("that ranges were taken from" in line for line in report.warnings)


def test_dynamic_compares_on_every_sample_that_is_given(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = gemm(saved, np.random.default_rng(0).standard_normal((16, 4)))

    report = quantize(path, tmp_path / "q.onnx", calibration=rows(8, 16), mode="dynamic")

    assert (report.calibrated_on, report.compared_on, report.compared_with) == (0, 8, "held out")
    assert report.outputs[0].cosine > 0.999
    kinds = {node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node}
    assert kinds >= {"DynamicQuantizeLinear", "MatMulInteger"}


def test_an_archive_gives_what_the_same_dictionaries_give(saved: Callable[..., Path], tmp_path: Path) -> None:
    path, samples = gemm(saved, np.random.default_rng(0).standard_normal((16, 4))), rows(30, 16)
    stacked = np.stack([sample["x"] for sample in samples])
    np.savez(tmp_path / "flat.npz", x=stacked[:, 0])
    np.savez(tmp_path / "deep.npz", x=stacked)

    for name, data in (("list", samples), ("flat", tmp_path / "flat.npz"), ("deep", str(tmp_path / "deep.npz"))):
        report = quantize(path, tmp_path / f"{name}.onnx", calibration=data)
        assert (report.calibrated_on, report.compared_on) == (24, 6)

    assert len({(tmp_path / f"{name}.onnx").read_bytes() for name in ("list", "flat", "deep")}) == 1


def test_a_fixed_batch_is_cut_out_of_an_archive_whole(saved: Callable[..., Path], tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    path = saved([node], [("x", "float32", (4, 8))], [("y", "float32", (4, 2))], {"w": np.ones((8, 2), np.float32)})
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32))

    assert quantize(path, tmp_path / "q.onnx", calibration=tmp_path / "a.npz").calibrated_on == 8


def test_weights_that_are_stored_in_fp16_count_as_what_they_are(saved: Callable[..., Path], tmp_path: Path) -> None:
    half = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["w16"], ["w"], name="w.cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Gemm", ["x", "w"], ["y"], name="product"),
    ]
    stored = saved(nodes, [("x", "float32", ("n", 16))], [("y", "float32", ("n", 4))], {"w16": half}, "half.onnx")
    plain = gemm(saved, half.astype(np.float32), name="full.onnx")
    sample = rows(1, 16, seed=9)[0]

    for path in (stored, plain):
        quantize(path, calibration=rows(20, 16))

    assert np.array_equal(*(answer(path.with_suffix(".int8.onnx"), sample, "y") for path in (stored, plain)))


def test_batch_normalisation_is_folded_before_ranges_are_taken(saved: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),  # and names may be missing
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"]),
    ]
    ones = {name: np.full(3, value, np.float32) for name, value in (("g", 2), ("b", 1), ("m", 0.5), ("v", 4))}
    weights = {"w": np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32), **ones}
    path = saved(nodes, [("x", "float32", ("n", 3, 12, 12))], [("y", "float32", ("n", 3, 12, 12))], weights)

    report = quantize(path, tmp_path / "q.onnx", calibration=pictures(20))

    assert report.float_nodes == {}
    assert len(report.integer_nodes) == 1
    assert report.worst.cosine > 0.999


def test_residual_streams_of_transformers_stay_in_float(saved: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g"], ["n"], name="norm", axis=-1),
        helper.make_node("MatMul", ["n", "w"], ["m"], name="product"),
        helper.make_node("Add", ["m", "x"], ["y"], name="residual"),
    ]
    weights = {"g": np.ones(8, np.float32), "w": np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)}
    path = saved(nodes, [("x", "float32", ("n", "t", 8))], [("y", "float32", ("n", "t", 8))], weights)
    numbers = np.random.default_rng(1)
    # Sentences of unlike lengths: minmax takes them.
    samples = [{"x": numbers.standard_normal((1, 3 + place % 5, 8)).astype(np.float32)} for place in range(25)]

    report = quantize(path, tmp_path / "q.onnx", calibration=samples)

    assert report.integer_nodes == ("product",)
    assert report.float_nodes == {"norm": "LayerNormalization", "residual": "Add"}
    assert report.worst.centred is None
    assert any("no centred cosine" in line for line in report.warnings)


def test_the_report_is_json_and_says_that_cosine_is_not_the_task(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = net(saved)
    report = quantize(path, tmp_path / "q.onnx", calibration=pictures(40))

    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))

    assert again["ratio"] == report.ratio == path.stat().st_size / (tmp_path / "q.onnx").stat().st_size
    assert again["threads"] == 1
    assert again["before"]["runs"] == again["after"]["runs"] >= 7
    for timing in (report.before, report.after):
        assert 0 < timing.low_ms <= timing.median_ms <= timing.high_ms
    assert "measure recall, AP" in report.warnings[-1]


class Plain:
    """A program that computes what the test says."""

    inputs = (Port(name="x", dtype="float32", shape=("n", 2)),)
    outputs = (Port(name="y", dtype="float32", shape=("n", 2)),)
    placement = Placement()

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self._function = function

    def run(self, arrays: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: self._function(arrays["x"]) for name in outputs}


def test_a_constant_is_seen_through_though_its_cosine_is_good() -> None:
    compared = tuple({"x": np.array([[10.0, place]])} for place in (-1.0, 1.0, 0.5, -0.5))
    samples = Samples(calibrating=(), compared=compared, first_compared=0, kind="held out")

    found = compare(Plain(lambda x: x), Plain(lambda x: x * [1, 0] + 0.01), samples)

    assert found.outputs[0].cosine > 0.99
    assert abs(found.outputs[0].centred) < 0.05
    assert found.outputs[0].error_share == pytest.approx(1.0, abs=0.01)
    assert found.outputs[0].max_abs_error == pytest.approx(1.01)
    assert any("tell samples apart less well" in line for line in remarks(found, samples))


def test_the_two_take_turns_in_being_timed_first() -> None:
    runs: list[str] = []

    def noted(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: (runs.append(name), x)[1]

    compared = tuple({"x": np.array([[10.0, place]])} for place in (-1.0, 1.0))
    samples = Samples(calibrating=(), compared=compared, first_compared=0, kind="held out")
    found = compare(Plain(noted("before")), Plain(noted("after")), samples)

    timed = runs[2 * len(compared) :]
    pairs = list(zip(timed[::2], timed[1::2], strict=True))
    assert len(pairs) == found.before.runs == found.after.runs
    assert set(pairs[::2]) == {("after", "before")}
    assert set(pairs[1::2]) == {("before", "after")}


def test_an_honest_answer_is_not_suspected() -> None:
    compared = tuple({"x": np.array([[10.0, place]])} for place in (-1.0, 1.0, 0.5, -0.5))
    samples = Samples(calibrating=(), compared=compared, first_compared=0, kind="held out")

    found = compare(Plain(lambda x: x), Plain(lambda x: np.round(x, 2)), samples)

    assert found.outputs[0].centred == pytest.approx(1.0)
    assert not any("outputs" in line for line in remarks(found, samples))


def test_an_output_that_never_changes_has_no_centred_cosine() -> None:
    compared = tuple({"x": np.array([[10.0, place]])} for place in (-1.0, 1.0))
    samples = Samples(calibrating=(), compared=compared, first_compared=0, kind="held out")

    found = compare(Plain(lambda x: x * 0 + 1), Plain(lambda x: x * 0 + 1), samples)

    assert (found.outputs[0].cosine, found.outputs[0].centred) == (pytest.approx(1.0), None)
    assert any("no centred cosine" in line for line in remarks(found, samples))
