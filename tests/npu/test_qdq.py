"""Static integers: the codes are onnxruntime's own tool's, half a step is the furthest a number moves, borders hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.draft import Draft
from nearsight_npu.quantization.groups import group
from nearsight_npu.quantization.qdq import TYPES, Coding, QdqWriter, channel_codes, channel_scales, rounded, scale_of
from nearsight_npu.quantization.ranges import take_ranges
from nearsight_npu.quantization.source import inspect, prepare, quiet
from nearsight_npu.quantization.writing import write_plan
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.targets.openvino import OpenVinoTarget
from nearsight_npu.targets.qnn import QnnTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nearsight_npu.quantization.source import Prepared

TOOL = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8, "u16": QuantType.QUInt16}
SAMPLES = [{"x": np.random.default_rng(seed).uniform(-1, 2, (1, 3, 12, 12)).astype(np.float32)} for seed in range(8)]


class Reader(CalibrationDataReader):
    """Hands the samples to onnxruntime's tool."""

    def __init__(self) -> None:
        self._left: Iterator[dict[str, np.ndarray]] = iter(SAMPLES)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


@pytest.fixture
def prepared(saved: Callable[..., Path], tmp_path: Path) -> Prepared:
    """A small residual net: a convolution of each kind, limits, a sum, a pool, a product."""
    numbers = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c1", "zero", "six"], ["r1"], name="first.limit"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Relu", ["c2"], ["r2"], name="second.limit"),
        helper.make_node("Add", ["r1", "r2"], ["sum"], name="join"),
        helper.make_node("MaxPool", ["sum"], ["small"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["small", "w3"], ["up"], name="third", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["up"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["y"], name="classes", transB=1),
    ]
    weights = {
        "w1": numbers.standard_normal((8, 3, 3, 3)),
        "b1": numbers.standard_normal(8),
        "w2": numbers.standard_normal((8, 1, 3, 3)),
        "b2": numbers.standard_normal(8),
        "w3": numbers.standard_normal((8, 4, 2, 2)),
        "w4": numbers.standard_normal((5, 4)),
        "b4": numbers.standard_normal(5),
        "zero": np.array(0),
        "six": np.array(6),
    }
    ports = [("x", "float32", (1, 3, 12, 12))], [("y", "float32", (1, 5)), ("sum", "float32", (1, 8, 12, 12))]
    path = saved(nodes, *ports, {name: array.astype(np.float32) for name, array in weights.items()})
    (tmp_path / "ready").mkdir()
    return prepare(path, inspect(path, "static"), tmp_path / "ready")


def write(prepared: Prepared, out: Path, kinds: Mapping[str, str], **options: bool) -> Path:
    draft = Draft(prepared)
    QdqWriter(draft, kinds, Coding(ranges=take_ranges(prepared, SAMPLES), **options)).write()
    draft.save(out)
    onnx.checker.check_model(onnx.load(out))
    return out


def run(path: Path, *names: str) -> dict[str, np.ndarray]:
    return CpuTarget().compile(path).run(SAMPLES[0], names or ("y", "sum"))


def everything(prepared: Prepared, kind: str) -> dict[str, str]:
    return {node.name: kind for node in prepared.nodes if node.kind not in {"GlobalAveragePool", "Flatten"}}


@pytest.mark.parametrize("kind", ["u8", "s8", "u16"])
def test_a_file_gives_the_answers_of_onnxruntime_s_tool(kind: str, prepared: Prepared, tmp_path: Path) -> None:
    chosen = everything(prepared, kind)
    with quiet():
        quantize_static(
            str(prepared.path),
            str(tmp_path / "tool.onnx"),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=TOOL[kind],
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(chosen),
        )

    ours = run(write(prepared, tmp_path / "own.onnx", chosen))

    theirs, exact = run(tmp_path / "tool.onnx"), run(prepared.path)
    for name, answer in ours.items():
        # Their ranges come from an unoptimized graph: the last bit of a float may differ, and so a code of 16 bits.
        step = (exact[name].max() - min(exact[name].min(), 0)) / np.iinfo(TYPES[kind]).max
        assert np.abs(answer - theirs[name]).max() <= step * (2 if kind == "u16" else 1e-3)
        assert np.abs(answer - exact[name]).max() < 0.2 * np.abs(exact[name]).max()


@given(
    low=st.floats(-1e4, 0), high=st.floats(0, 1e4), seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(sorted(TYPES))
)
@settings(max_examples=100)
def test_an_activation_moves_by_half_a_step_and_zero_not_at_all(low: float, high: float, seed: int, kind: str) -> None:
    numbers = np.random.default_rng(seed).uniform(low, high, 500).astype(np.float32)

    scale, zero = scale_of(low, high, TYPES[kind])

    codes = rounded(numbers, scale, zero)
    restored = (codes.astype(np.int64) - int(zero)) * scale.astype(np.float64)
    assert (np.abs(restored - numbers) <= scale / 2 * 1.001 + np.abs(numbers) * 2**-22).all()
    assert rounded(np.zeros(1, np.float32), scale, zero)[0] == zero
    assert scale <= max((high - low) / np.iinfo(TYPES[kind]).max, 0) * 1.001 or high - low < 1e-30


@given(seed=st.integers(0, 2**32 - 1), narrow=st.booleans(), axis=st.sampled_from((None, 0, 1)))
@settings(max_examples=60)
def test_a_weight_moves_by_half_a_step_of_its_channel(seed: int, narrow: bool, axis: int | None) -> None:
    numbers = np.random.default_rng(seed)
    array = (numbers.standard_normal((4, 5, 3)) * 10 ** numbers.uniform(-3, 3, (4, 5, 1))).astype(np.float32)

    limit = 64 if narrow else 127
    shape = [-1 if place == axis else 1 for place in range(3)]

    scales = channel_scales(array, axis, limit).reshape(shape)
    codes = channel_codes(array, scales, limit)

    others = tuple(place for place in range(3) if place != axis)
    np.testing.assert_allclose(scales, np.abs(array).max(axis=others, keepdims=True) / limit, rtol=1e-6)
    assert (np.abs(codes * scales - array) <= scales / 2 * 1.001).all()
    assert np.abs(codes.astype(int)).max() == limit


def types_of(path: Path) -> dict[str, list[str]]:
    """Array -> the types that it is rounded to."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found: dict[str, list[str]] = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            source = node.input[0].removesuffix("_QuantizeLinear_Input")
            found.setdefault(source, []).append(constants[node.input[2]].dtype.name)
    return found


def test_float_operators_take_float_arrays_unrounded(prepared: Prepared, tmp_path: Path) -> None:
    # "first" and its limit stay in float; both the integer "second" and the float "join" take what they give.
    path = write(prepared, tmp_path / "q.onnx", {"second": "u8", "second.limit": "u8"})

    graph = onnx.load(path).graph
    takers = {node.name: node for node in graph.node}
    assert types_of(path) == {"r1": ["uint8"], "r2": ["uint8"]}
    assert takers["join"].input[0] == "r1"
    assert takers["second"].input[0] != "r1"


def test_float_operators_take_integer_arrays_rounded_once(prepared: Prepared, tmp_path: Path) -> None:
    path = write(prepared, tmp_path / "q.onnx", {"first": "u8", "first.limit": "u8", "second": "u8"})

    nodes = {node.name: node for node in onnx.load(path).graph.node}
    rounded_first = nodes["join"].input[0]
    assert nodes["second"].input[0] == rounded_first
    assert nodes["join"].op_type == "Add"
    assert types_of(path) == {"x": ["uint8"], "r1": ["uint8"], "c2": ["uint8"]}


def test_between_two_types_a_number_is_rounded_to_one_and_then_to_the_other(prepared: Prepared, tmp_path: Path) -> None:
    kinds = everything(prepared, "u8") | dict.fromkeys(("second", "second.limit"), "u16")

    path = write(prepared, tmp_path / "q.onnx", kinds)

    found = types_of(path)
    assert found["r1"] == ["uint8"]
    assert found["r1.u8.rounded"] == ["uint16"]
    assert found["r2"] == ["uint16"]
    assert found["r2.u16.rounded"] == ["uint8"]
    exact = run(prepared.path)
    for name, answer in run(path).items():
        assert np.abs(answer - exact[name]).max() < 0.2 * np.abs(exact[name]).max()


def test_what_only_moves_numbers_keeps_their_scale(prepared: Prepared, tmp_path: Path) -> None:
    path = write(prepared, tmp_path / "q.onnx", everything(prepared, "u8"))

    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    step = {
        n.input[0].removesuffix("_QuantizeLinear_Input"): constants[n.input[1]]
        for n in graph.node
        if "Quantize" in n.op_type
    }
    assert step["small"] == step["sum"]


def test_a_limit_goes_where_the_range_behind_it_does_its_work(prepared: Prepared, tmp_path: Path) -> None:
    path = write(prepared, tmp_path / "q.onnx", everything(prepared, "u8"))

    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert not {"Clip", "Relu"} & set(kinds)
    assert run(path)["sum"].min() >= 0


def test_a_limit_above_zero_stays(saved: Callable[..., Path], tmp_path: Path) -> None:
    # Zero has a code in every range, so rounding does not keep numbers above one.
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Clip", ["c", "one"], ["y"], name="limit"),
    ]
    weights = {"w": np.ones((2, 3, 1, 1), np.float32), "one": np.float32(1)}
    path = saved(nodes, [("x", "float32", (1, 3, 12, 12))], [("y", "float32", (1, 2, 12, 12))], weights)
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "static"), tmp_path / "ready")

    made = write(prepared, tmp_path / "q.onnx", {"conv": "u8", "limit": "u8"})

    assert "Clip" in [node.op_type for node in onnx.load(made).graph.node]
    step = run(prepared.path, "y")["y"].max() / 255
    assert run(made, "y")["y"].min() >= 1 - step


def test_pixels_that_come_as_codes_are_not_rounded_again(saved: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "step", "zero"], ["pixels"], name="read"),
        helper.make_node("Conv", ["pixels", "w", "b"], ["y"], name="conv"),
    ]
    weights = {
        "step": np.array([1 / 128], np.float32),
        "zero": np.array([127], np.uint8),
        "w": np.random.default_rng(0).standard_normal((2, 3, 1, 1)).astype(np.float32),
        "b": np.ones(2, np.float32),
    }
    path = saved(nodes, [("x", "uint8", (1, 3, 4, 4))], [("y", "float32", (1, 2, 4, 4))], weights)
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "static"), tmp_path / "ready")
    pixels = [{"x": np.random.default_rng(s).integers(0, 200, (1, 3, 4, 4)).astype(np.uint8)} for s in range(4)]
    ranges = take_ranges(prepared, pixels)

    for kind, rounded_arrays in (("u8", {"y"}), ("u16", {"pixels", "y"})):
        draft = Draft(prepared)
        QdqWriter(draft, {"conv": kind}, Coding(ranges=ranges)).write()
        draft.save(tmp_path / f"{kind}.onnx")

        assert set(types_of(tmp_path / f"{kind}.onnx")) == rounded_arrays
        y, exact = (CpuTarget().compile(file).run(pixels[0], ("y",))["y"] for file in (tmp_path / f"{kind}.onnx", path))
        assert np.abs(y - exact).max() <= 0.05


def test_a_bias_that_int32_does_not_reach_widens_the_step_of_its_channel(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    # Weights of almost nothing, a bias of one: the bias in steps of their products would be beyond 32 bits.
    weights = {"w": np.full((2, 3, 1, 1), 1e-20, np.float32), "b": np.array([1, -3], np.float32)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")
    path = saved([node], [("x", "float32", (1, 3, 12, 12))], [("y", "float32", (1, 2, 12, 12))], weights)
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "static"), tmp_path / "ready")

    made = write(prepared, tmp_path / "q.onnx", {"conv": "u8"})

    np.testing.assert_allclose(run(made, "y")["y"][0, :, 0, 0], [1, -3], atol=4 / 255)


def test_an_open_product_gives_its_answer_unrounded_where_only_floats_take_it(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"], name="one"),
        helper.make_node("MatMul", ["m", "w2"], ["y"], name="two"),
    ]
    numbers = np.random.default_rng(0)
    weights = {name: numbers.standard_normal((12, 12)).astype(np.float32) for name in ("w1", "w2")}
    path = saved(nodes, [("x", "float32", (1, 3, 12, 12))], [("y", "float32", (1, 3, 12, 12))], weights)
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "static"), tmp_path / "ready")
    kinds = {"one": "u8", "two": "u8"}

    closed = write(prepared, tmp_path / "closed.onnx", kinds)
    opened = write(prepared, tmp_path / "open.onnx", kinds, open_products=True)

    assert set(types_of(closed)) == {"x", "m", "y"}
    assert set(types_of(opened)) == {"x", "m"}
    exact = run(path, "y")["y"]
    assert np.linalg.norm(run(opened, "y")["y"] - exact) < np.linalg.norm(run(closed, "y")["y"] - exact)


def test_an_open_product_keeps_the_limit_behind_it(saved: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Relu", ["m"], ["r"], name="limit"),
        helper.make_node("Neg", ["r"], ["y"], name="float"),
    ]
    weights = {"w": np.random.default_rng(0).standard_normal((12, 12)).astype(np.float32)}
    path = saved(nodes, [("x", "float32", (1, 3, 12, 12))], [("y", "float32", (1, 3, 12, 12))], weights)
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "static"), tmp_path / "ready")

    made = write(prepared, tmp_path / "q.onnx", {"product": "u8", "limit": "u8"}, open_products=True)

    assert run(made, "y")["y"].max() <= 0


def test_a_limit_whose_numbers_a_branch_takes_too_stays(saved: Callable[..., Path], tmp_path: Path) -> None:
    shape = (1, 2, 12, 12)
    one, two = (
        helper.make_graph(
            [helper.make_node(kind, ["c"], [f"{kind}.out"])],
            kind,
            [],
            [helper.make_tensor_value_info(f"{kind}.out", onnx.TensorProto.FLOAT, shape)],
        )
        for kind in ("Neg", "Identity")
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["y"], name="limit"),
        helper.make_node("If", ["choice"], ["z"], name="either", then_branch=one, else_branch=two),
    ]
    ports = (
        [("x", "float32", (1, 3, 12, 12)), ("choice", "bool", ())],
        [("y", "float32", shape), ("z", "float32", shape)],
    )
    path = saved(nodes, *ports, {"w": np.random.default_rng(0).standard_normal((2, 3, 1, 1)).astype(np.float32)})
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "static"), tmp_path / "ready")
    draft, sample = Draft(prepared), SAMPLES[0] | {"choice": np.array(True)}

    QdqWriter(draft, {"conv": "u8", "limit": "u8"}, Coding(ranges=take_ranges(prepared, [sample]))).write()
    draft.save(tmp_path / "q.onnx")

    found = CpuTarget().compile(tmp_path / "q.onnx").run(sample, ("y", "z"))
    exact = CpuTarget().compile(path).run(sample, ("y", "z"))
    for name in ("y", "z"):
        assert np.abs(found[name] - exact[name]).max() <= 0.1


def test_limits_and_biases_that_come_at_run_time_are_not_rounded(saved: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "bias"], ["c"], name="conv"),
        helper.make_node("Clip", ["c", "", "most"], ["y"], name="limit"),
    ]
    ports = [("x", "float32", (1, 3, 12, 12)), ("bias", "float32", (2,)), ("most", "float32", ())]
    weights = {"w": np.random.default_rng(0).standard_normal((2, 3, 1, 1)).astype(np.float32)}
    path = saved(nodes, ports, [("y", "float32", (1, 2, 12, 12))], weights)
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "static"), tmp_path / "ready")
    draft, sample = (
        Draft(prepared),
        SAMPLES[0] | {"bias": np.array([0.1, 2], np.float32), "most": np.array(1, np.float32)},
    )

    QdqWriter(draft, {"conv": "u8", "limit": "u8"}, Coding(ranges=take_ranges(prepared, [sample]))).write()
    draft.save(tmp_path / "q.onnx")

    assert set(types_of(tmp_path / "q.onnx")) == {"x", "c", "y"}
    other = sample | {"most": np.array(0.5, np.float32)}
    y, exact = (CpuTarget().compile(file).run(other, ("y",))["y"] for file in (tmp_path / "q.onnx", path))
    assert np.abs(y - exact).max() <= 0.1


def test_an_array_without_a_known_range_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    ranges = take_ranges(prepared, SAMPLES, names={"x"})

    with pytest.raises(QuantizationError, match="no finite range of 'c1' is known"):
        QdqWriter(Draft(prepared), {"first": "u8"}, Coding(ranges=ranges)).write()


@pytest.fixture
def unlike(saved: Callable[..., Path], tmp_path: Path) -> Prepared:
    """A depthwise convolution between two others, whose channels have very unlike weights."""
    numbers = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="first"),
        helper.make_node("Conv", ["c1", "w2", "b2"], ["c2"], name="middle", group=8),
        helper.make_node("Clip", ["c2", "low", "high"], ["r2"], name="middle.limit"),
        helper.make_node("Conv", ["r2", "w3"], ["y"], name="last"),
    ]
    sizes = np.logspace(-3, 1, 8)
    weights = {
        "w1": numbers.standard_normal((8, 3, 3, 3)),
        "w2": numbers.standard_normal((8, 1, 3, 3)) * sizes[:, None, None, None],
        "b2": numbers.standard_normal(8) * sizes,
        "low": np.array(-100),
        "high": np.array(100),
        "w3": numbers.standard_normal((4, 8, 1, 1)) / sizes[:, None, None],
    }
    ports = [("x", "float32", (1, 3, 12, 12))], [("y", "float32", (1, 4, 8, 8))]
    path = saved(nodes, *ports, {name: array.astype(np.float32) for name, array in weights.items()})
    (tmp_path / "ready").mkdir()
    return prepare(path, inspect(path, "static"), tmp_path / "ready")


def plain(path: Path, level: str = "ORT_ENABLE_ALL") -> np.ndarray:
    """The answer of onnxruntime alone, as anybody would ask it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(["y"], SAMPLES[0])[0]
    return answer


@pytest.mark.parametrize("integer", ["a8w8", "s8w8", "a16w8"])
@pytest.mark.parametrize("middle", ["fp32", "fp16", "w8"])
def test_what_is_left_in_float_between_integers_stays_in_float_in_every_session(
    middle: str, integer: str, unlike: Prepared, tmp_path: Path
) -> None:
    """onnxruntime's optimizer would make integers of it, with one scale for channels of very unlike weights."""
    out = tmp_path / "kept.onnx"
    choices = {"first": integer, "middle": middle, "last": integer}

    write_plan(unlike, group(unlike), choices, out, ranges=take_ranges(unlike, SAMPLES))

    exact = plain(out, "ORT_DISABLE_ALL")
    assert np.abs(plain(out) - exact).max() <= 0.02 * np.abs(exact).max()
    np.testing.assert_allclose(plain(out), run(out, "y")["y"], rtol=1e-5, atol=1e-5 * np.abs(exact).max())


def test_a_file_that_others_wrote_stays_in_float_on_the_processor_too(unlike: Prepared, tmp_path: Path) -> None:
    model = onnx.load(write(unlike, tmp_path / "own.onnx", {"first": "u8", "last": "u8"}))
    taken = {name for node in model.graph.node for name in node.input} | {"y"}
    dead = [node for node in model.graph.node if node.output[0] not in taken]
    for node in dead:
        model.graph.node.remove(node)
    onnx.save(model, tmp_path / "others.onnx")

    exact, here = plain(tmp_path / "others.onnx", "ORT_DISABLE_ALL"), run(tmp_path / "others.onnx", "y")["y"]

    assert [node.input[0] for node in dead] == ["c2"]
    assert np.abs(here - exact).max() <= 0.02 * np.abs(exact).max()


def test_what_others_take_in_float_too_has_no_need_of_a_second_taker(prepared: Prepared, tmp_path: Path) -> None:
    kept = write(prepared, tmp_path / "kept.onnx", {"second": "u8", "second.limit": "u8"})
    whole = write(prepared, tmp_path / "whole.onnx", everything(prepared, "u8"))

    for path in (kept, whole):
        assert [node.name for node in onnx.load(path).graph.node if node.op_type == "Flatten"] == ["flat"]


@pytest.mark.parametrize("kind", [OpenVinoTarget, QnnTarget])
def test_the_second_taker_keeps_no_target_away(
    kind: type[OpenVinoTarget | QnnTarget], unlike: Prepared, tmp_path: Path
) -> None:
    target = kind(cache_dir=tmp_path / "cache")
    found = target.probe()
    if not found.available:
        pytest.skip(f"{found.reason}; {found.remedy}")
    out = write(unlike, tmp_path / "kept.onnx", {"first": "s8", "last": "s8"})

    program = target.compile(out, 1)

    exact = plain(out, "ORT_DISABLE_ALL")
    assert program.placement.outside == ()
    # QNN computes what is left in float in FP16, and so falls into a neighbouring code now and then. Made integer,
    # the middle would be off by .96.
    assert np.abs(program.run(SAMPLES[0], ("y",))["y"] - exact).max() <= 0.25 * np.abs(exact).max()
