"""Simulated chips: the integer arithmetic is the one computed by hand, and what a chip cannot run is refused by name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from nearsight_npu import Delegate, Policy, probe
from nearsight_npu.errors import UnplaceableError
from nearsight_npu.targets.chips import HOST, chip_named, chips
from nearsight_npu.targets.probe import target_named
from nearsight_npu.targets.simulated import SimulatedTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nearsight_npu.targets.target import Placement

node = helper.make_node
CHIPS = [chip.name for chip in chips()]
NANO = Path(__file__).parents[2] / "models/nearsight_models/embedded/nano"
# In Pulsar2's graphs, not in ONNX.
THEIR_OWN = {"InverseSigmoid", "Silu", "SpatialTransformer"}
FLOATS = [("x", "float32", [1, 4, 6, 6])]


def floats(values: object) -> np.ndarray:
    return np.asarray(values, np.float32)


@pytest.fixture
def compiled(saved: Callable[..., Path]) -> Callable[..., Any]:
    """Put a graph of these nodes on a chip; it takes `inputs` and gives y."""

    def put(
        chip: str,
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[tuple[str, str, Sequence[int | str]]] = FLOATS,
        weights: dict[str, Any] | None = None,
        gives: str = "float32",
    ) -> Any:
        axes = len(inputs[0][2])
        outputs = [("y", gives, [f"d{axis}" for axis in range(axes)])]
        return target_named(f"simulated:{chip}").compile(saved(nodes, inputs, outputs, weights or {}))

    return put


def shown(placement: Placement) -> tuple[str, tuple[tuple[str, str], ...]]:
    return str(placement), placement.outside


# Arithmetic.


@pytest.mark.parametrize(("chip", "kind"), [(chip.name, kind) for chip in chips() for kind in chip.codes])
def test_numbers_come_back_within_half_a_step_and_are_cut_off_at_the_ends(
    chip: str, kind: str, compiled: Callable[..., Any]
) -> None:
    draw = np.random.default_rng(7)
    info = np.iinfo(kind)
    zero, step = int(draw.integers(info.min, info.max + 1)), float(draw.uniform(1e-3, 1))
    x = floats(draw.uniform((info.min - zero - 50) * step, (info.max - zero + 50) * step, (1, 1, 8, 512)))
    program = compiled(
        chip,
        [node("QuantizeLinear", ["x", "step", "zero"], ["q"]), node("DequantizeLinear", ["q", "step", "zero"], ["y"])],
        [("x", "float32", x.shape)],
        {"step": floats(step), "zero": np.array(zero, kind)},
    )

    y = program.run({"x": x}, ("y",))["y"]

    low, high = (info.min - zero) * step, (info.max - zero) * step
    # A step, and what FP32 itself rounds at the far end of 16 bits.
    assert np.abs(y - np.clip(x, low, high)).max() <= step / 2 + max(abs(low), abs(high)) * 2**-22
    np.testing.assert_allclose([y.min(), y.max()], [low, high], atol=step, rtol=1e-6)


def convolution(
    codes: np.ndarray, weights: np.ndarray, bias: np.ndarray, scales: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute a convolution over codes in whole numbers: codes of the answer, and the number before rounding."""
    size, info = weights.shape[2], np.iinfo(codes.dtype)
    moved = codes.astype(np.int64) - int(scales["zero_in"])
    windows = np.lib.stride_tricks.sliding_window_view(moved, (size, size), axis=(2, 3))
    sums = np.einsum("nchwij,ocij->nohw", windows, weights.astype(np.int64)) + bias.astype(np.int64)[:, None, None]
    one = np.float64(scales["in"]) * scales["weights"].astype(np.float64) / np.float64(scales["out"])
    steps = sums * one[:, None, None]
    return np.clip(np.rint(steps) + int(scales["zero_out"]), info.min, info.max).astype(codes.dtype), steps


def qdq_convolution(codes: np.ndarray, weights: np.ndarray, bias: np.ndarray, scales: dict[str, Any]) -> dict[str, Any]:
    """Write the same convolution as a graph: nodes, inputs, weights, and the type that it gives."""
    kind, channels = codes.dtype, len(weights)
    return {
        "nodes": [
            node("DequantizeLinear", ["x", "in", "zero_in"], ["a"]),
            node("DequantizeLinear", ["w", "weights", "none"], ["b"], axis=0),
            node("DequantizeLinear", ["bias", "in_x_weights", "nought"], ["c"], axis=0),
            node("Conv", ["a", "b", "c"], ["d"]),
            node("QuantizeLinear", ["d", "out", "zero_out"], ["y"]),
        ],
        "inputs": [("x", kind.name, codes.shape)],
        "weights": {
            "in": floats(scales["in"]),
            "zero_in": np.array(scales["zero_in"], kind),
            "w": weights,
            "weights": scales["weights"],
            "none": np.zeros(channels, np.int8),
            "bias": bias,
            "in_x_weights": floats(scales["in"]) * scales["weights"],
            "nought": np.zeros(channels, np.int32),
            "out": floats(scales["out"]),
            "zero_out": np.array(scales["zero_out"], kind),
        },
        "gives": kind.name,
    }


@pytest.mark.trials
@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16"])
def test_a_qdq_convolution_is_the_integer_arithmetic_exactly(
    kind: str, trials: int, compiled: Callable[..., Any]
) -> None:
    info = np.iinfo(kind)
    spread = set()
    for seed in range(trials):
        draw = np.random.default_rng(seed)
        # Scales are powers of two and sums stay below 2^24, so that FP32 holds every number of it exactly.
        channels = 12 if info.bits == 8 else 1
        codes = draw.integers(info.min, info.max + 1, (1, channels, 7, 7)).astype(kind)
        size = int(draw.integers(1, 4))
        scales = {
            "in": 2.0 ** draw.integers(-9, 2),
            "weights": floats(2.0 ** draw.integers(-9, 0, 5)),
            "zero_in": draw.integers(info.min, info.max + 1),
            "zero_out": draw.integers(info.min, info.max + 1),
            "out": 1.0,
        }
        top = 127 if info.bits == 8 else 12
        weights = draw.integers(-top, top + 1, (5, channels, size, size)).astype(np.int8)
        bias = draw.integers(-5000, 5000, 5).astype(np.int32)
        _, steps = convolution(codes, weights, bias, scales)
        scales["out"] = float(2.0 ** np.ceil(np.log2(np.abs(steps).max() * 2 / (info.max - info.min))))
        wanted, _ = convolution(codes, weights, bias, scales)

        found = compiled("AX650N", **qdq_convolution(codes, weights, bias, scales)).run({"x": codes}, ("y",))["y"]

        np.testing.assert_array_equal(found, wanted)
        spread.add(len(np.unique(found)))
    assert max(spread) > 20  # no constants


@pytest.mark.parametrize(("kind", "share"), [("uint8", 1e-3), ("uint16", 5e-3)])
def test_with_any_scales_a_code_is_off_by_one_at_most_and_seldom(
    kind: str, share: float, compiled: Callable[..., Any]
) -> None:
    info, draw = np.iinfo(kind), np.random.default_rng(0)
    codes = draw.integers(0, info.max + 1, (1, 32, 20, 20)).astype(kind)
    weights = draw.integers(-127, 128, (16, 32, 3, 3)).astype(np.int8)
    bias = draw.integers(-3000, 3000, 16).astype(np.int32)
    scales = {
        "in": np.float32(0.0137),
        "weights": floats(draw.uniform(0.0005, 0.02, 16)),
        "zero_in": info.max // 3,
        "zero_out": info.max // 2,
        "out": np.float32(1),
    }
    _, steps = convolution(codes, weights, bias, scales)
    scales["out"] = np.float32(np.abs(steps).max() * 1.9 / info.max)
    wanted, _ = convolution(codes, weights, bias, scales)

    found = compiled("AX650N", **qdq_convolution(codes, weights, bias, scales)).run({"x": codes}, ("y",))["y"]

    away = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
    assert away.max() <= 1
    assert away.mean() <= share


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_eight_bits_agree_with_qualcomms_own_simulator_within_one_code(kind: str, saved: Callable[..., Path]) -> None:
    qnn = target_named("qnn")
    if not qnn.probe().available:
        pytest.skip(qnn.probe().reason)
    info, draw = np.iinfo(kind), np.random.default_rng(0)
    channels, lowest = 16, info.min
    weights = draw.integers(-127, 128, (8, channels, 3, 3)).astype(np.int8)
    steps = {"in": floats(0.0137), "out": floats(0.7), "zero": np.array(lowest + 100, kind)}
    x = floats((draw.integers(0, 256, (1, channels, 10, 10)) - 100) * steps["in"])
    nodes = [
        node("QuantizeLinear", ["x", "in", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "in", "zero"], ["a"]),
        node("DequantizeLinear", ["w", "weights", "none"], ["b"], axis=0),
        node("Conv", ["a", "b"], ["c"]),
        node("QuantizeLinear", ["c", "out", "zero"], ["r"]),
        node("DequantizeLinear", ["r", "out", "zero"], ["y"]),
    ]
    constants = {
        **steps,
        "w": weights,
        "weights": floats(draw.uniform(0.001, 0.02, 8)),
        "none": np.zeros(8, np.int8),
    }
    path = saved(nodes, [("x", "float32", x.shape)], [("y", "float32", [1, 8, 8, 8])], constants)

    ours = target_named("simulated:Qualcomm HTP").compile(path).run({"x": x}, ("y",))["y"]

    theirs = qnn.compile(path).run({"x": x}, ("y",))["y"]
    codes = [np.rint(answer / steps["out"]).astype(int) for answer in (ours, theirs)]
    assert len(np.unique(codes[0])) > 40
    assert np.abs(codes[0] - codes[1]).max() <= 1
    assert (codes[0] == codes[1]).mean() > 0.9


@settings(max_examples=25)
@given(data=st.data())
def test_a_qdq_product_is_the_integer_arithmetic_exactly(data: st.DataObject) -> None:
    rows, inner, columns = (data.draw(st.integers(1, 5)) for _ in range(3))
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    codes = draw.integers(0, 256, (rows, inner)).astype(np.uint8)
    weights = draw.integers(-128, 128, (inner, columns)).astype(np.int8)
    steps = floats(2.0 ** draw.integers(-6, 1, columns))
    zero = int(draw.integers(0, 256))
    nodes = [
        node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        node("DequantizeLinear", ["w", "t", "n"], ["b"], axis=1),
        node("MatMul", ["a", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, codes.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, columns])],
        [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for name, value in {
                "s": floats(0.25),
                "z": np.uint8(zero),
                "w": weights,
                "t": steps,
                "n": np.zeros(columns, np.int8),
            }.items()
        ],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "product.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
        found = target_named("simulated:Intel NPU").compile(path).run({"x": codes}, ("y",))["y"]

    sums = (codes.astype(np.int64) - zero) @ weights.astype(np.int64)
    np.testing.assert_array_equal(found, (sums * (steps.astype(np.float64) / 4)).astype(np.float32))


def test_each_rounding_of_the_graph_takes_place(compiled: Callable[..., Any]) -> None:
    # Coarse codes, then fine ones: a chip cannot bring back what the first lost. onnxruntime's fusing merges the pairs.
    steps = {"coarse": floats(1), "fine": floats(0.02), "zero": np.uint8(128)}
    nodes = [
        node("QuantizeLinear", ["x", "coarse", "zero"], ["q1"]),
        node("DequantizeLinear", ["q1", "coarse", "zero"], ["d1"]),
        node("QuantizeLinear", ["d1", "fine", "zero"], ["q2"]),
        node("DequantizeLinear", ["q2", "fine", "zero"], ["y"]),
    ]
    x = floats(np.linspace(-2, 2, 101))

    y = compiled("AX650N", nodes, [("x", "float32", x.shape)], steps).run({"x": x}, ("y",))["y"]

    np.testing.assert_allclose(y, np.rint(x), rtol=1e-6)


@pytest.mark.parametrize("graph", ["image.int8", "detect.int8"])
def test_nano_in_integers_gives_its_golden_answers_on_a_chip(
    graph: str, delegate: Callable[..., Delegate], tmp_path: Path
) -> None:
    model = onnx.load(str(NANO / f"{graph}.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / "fixed.onnx"
    onnx.save(model, str(path))

    session = delegate("simulated:AX650N", policy=Policy(strict=True)).load(
        path, "int8", golden=NANO / f"{graph.partition('.')[0]}.golden.npz"
    )

    assert session.proof is not None
    assert session.proof.passed


# What runs in which numbers.


def test_operators_are_counted_by_the_numbers_they_work_on(compiled: Callable[..., Any]) -> None:
    nodes = [
        node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),  # takes codes
        node("Mul", ["f", "s"], ["m"]),  # FP32
        node("QuantizeLinear", ["m", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "s", "n"], ["v"]),
        node("Conv", ["d", "v"], ["c"]),  # codes
        node("Relu", ["c"], ["r"]),  # with it
        node("Sigmoid", ["r"], ["g"]),  # FP32: nothing rounded the accumulators
        node("Shape", ["g"], ["shape"]),  # known beforehand
        node("Slice", ["shape", "zero", "two"], ["front"]),  # likewise
        node("Concat", ["front", "rest"], ["to"], axis=0),  # likewise
        node("Reshape", ["g", "to"], ["y"]),  # FP32
    ]
    weights = {
        "s": floats(0.5),
        "z": np.uint8(3),
        "w": np.ones((2, 4, 1, 1), np.int8),
        "n": np.int8(0),
        "zero": np.array([0]),
        "two": np.array([2]),
        "rest": np.array([36, 1]),
    }

    program = compiled("AX650N", nodes, [("x", "uint8", [1, 4, 6, 6])], weights)

    assert shown(program.placement) == ("3 operators on AX650N, 3 operators on AX650N in FP32", ())


def test_what_the_chip_leaves_to_the_host_is_told_and_strict_refuses_it(
    compiled: Callable[..., Any], saved: Callable[..., Path], delegate: Callable[..., Delegate]
) -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Erf", ["r"], ["e"]), node("Erf", ["e"], ["y"])]

    program = compiled("Qualcomm HTP", nodes)

    wanted = "2 operators on the host's processor, 1 operator on Qualcomm HTP in FP32 (there FP16)"
    assert shown(program.placement) == (wanted, (("Erf", HOST),))
    path = saved(nodes, FLOATS, [("y", "float32", FLOATS[0][2])], {})
    with pytest.raises(UnplaceableError, match="Erf on the host's processor"):
        delegate("simulated:Qualcomm HTP", policy=Policy(strict=True)).load(path)
    outputs, decision = delegate("simulated:Qualcomm HTP").load(path).run({"x": np.zeros((1, 4, 6, 6), np.float32)})
    np.testing.assert_array_equal(outputs["y"], 0)
    assert "2 operators on the host's processor" in decision.placement


@pytest.mark.parametrize(
    "written",
    [
        [("Div", "x", "root", "a"), ("Erf", "a", "b"), ("Add", "b", "one", "c"), ("Mul", "x", "c", "d"), ("Mul", "d", "half", "y")],
        [("Mul", "x", "inverse", "a"), ("Erf", "a", "b"), ("Mul", "b", "half", "c"), ("Add", "c", "half", "d"), ("Mul", "x", "d", "y")],
    ],
)  # fmt: skip
def test_an_erf_is_the_hosts_by_itself_and_the_chips_within_gelu(
    written: Sequence[tuple[str, ...]], compiled: Callable[..., Any]
) -> None:
    constants = {"root": floats(2**0.5), "inverse": floats(2**-0.5), "one": floats(1), "half": floats(0.5)}
    used = {name: value for name, value in constants.items() if any(name in step for step in written)}
    gelu = [node(kind, names[:-1], names[-1:]) for kind, *names in written]

    whole = compiled("Qualcomm HTP", gelu, weights=used).placement
    alone = compiled("Qualcomm HTP", [node("Erf", ["x"], ["y"])]).placement

    assert shown(whole) == ("5 operators on Qualcomm HTP in FP32 (there FP16)", ())
    assert shown(alone) == ("1 operator on the host's processor", (("Erf", HOST),))


# What a chip refuses.


@pytest.mark.parametrize(
    ("chip", "refused", "taken"),
    [
        ("AX650N", node("Reciprocal", ["x"], ["y"]), node("Neg", ["x"], ["y"])),
        ("AX630C", node("ReduceSum", ["x"], ["y"]), node("ReduceMean", ["x"], ["y"])),
        ("AX620Q", node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD"), node("DepthToSpace", ["x"], ["y"], blocksize=2)),
        ("AX650N", node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2]), node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[1, 1])),
        ("AX650N", node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], auto_pad="SAME_UPPER"), node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])),
        ("AX650N", node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)),
        ("AX650N", node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3])),
        ("AX650N", node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16), node("Cast", ["x"], ["y"], to=TensorProto.INT32)),
        ("AX650N", node("Gather", ["x", "square"], ["y"]), node("Gather", ["x", "row"], ["y"])),
        ("AX650N", node("Pow", ["x", "x"], ["y"]), node("Pow", ["x", "two"], ["y"])),
        ("AX650N", node("Pad", ["x", "pads"], ["y"], mode="reflect"), node("Pad", ["x", "pads"], ["y"])),
        ("AX650N", node("Pad", ["x", "few", "", "row"], ["y"]), node("Pad", ["x", "pads"], ["y"])),
        ("AX650N", node("LayerNormalization", ["x", "gain"], ["y"], axis=2), node("LayerNormalization", ["x", "lone"], ["y"])),
        ("Intel NPU", node("Softsign", ["x"], ["y"]), node("Tanh", ["x"], ["y"])),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else value,
)  # fmt: skip
def test_an_operator_beyond_the_chip_is_refused_by_name_and_one_within_is_not(
    chip: str, refused: onnx.NodeProto, taken: onnx.NodeProto, compiled: Callable[..., Any]
) -> None:
    weights = {
        "square": np.zeros((1, 1), np.int32),
        "row": np.zeros(1, np.int64),
        "two": floats(2),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "few": np.array([0, 1]),
        "gain": np.ones((6, 6), np.float32),
        "lone": np.ones(6, np.float32),
    }
    kinds = {TensorProto.FLOAT16: "float16", TensorProto.INT32: "int32"}

    def put(operator: onnx.NodeProto) -> Any:
        to = [item.i for item in operator.attribute if item.name == "to"]
        used = {name: weights[name] for name in operator.input if name in weights}
        return compiled(chip, [operator], FLOATS, used, kinds.get(to[0], "float32") if to else "float32")

    with pytest.raises(UnplaceableError, match=f"simulated:{chip}.*{refused.op_type}|float16") as error:
        put(refused)

    assert "\n" not in str(error.value)
    assert put(taken).outputs[0].name == "y"


QDQ = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
WEIGHTS = [node("DequantizeLinear", ["w", "s", "n"], ["v"], axis=0), node("MatMul", ["x", "v"], ["y"])]
OPERAND = [node("DequantizeLinear", ["w", "s", "n"], ["v"]), node("Mul", ["x", "v"], ["y"])]


@pytest.mark.parametrize(
    ("chip", "nodes", "weights", "said"),
    [
        ("Intel NPU", QDQ, {"s": floats(1), "z": np.uint16(0)}, "QuantizeLinear (activations are uint16, and may be uint8 or int8)"),
        ("AX650N", WEIGHTS, {"s": floats(1), "w": np.ones((6, 6), np.uint8), "n": np.uint8(0)}, "DequantizeLinear (weights are uint8, and may be int8)"),
        ("AX650N", QDQ, {"s": np.ones(4, np.float32), "z": np.zeros(4, np.uint8)}, "activations have a scale for each channel"),
        ("AX650N", [node("DequantizeLinear", ["w", "s", "n"], ["v"], axis=0, block_size=3), node("Add", ["x", "v"], ["y"])],
         {"s": np.ones(2, np.float32), "w": np.ones(6, np.int8), "n": np.zeros(2, np.int8)}, "weights have a scale for each block"),
        ("Intel NPU", OPERAND, {"s": floats(1), "w": np.ones(6, np.uint16), "n": np.uint16(0)}, "constants are uint16, and may be uint8, int8, int4 or uint4"),
    ],
    ids=["uint16 activations", "uint8 weights", "a scale a channel", "blocks", "uint16 operand"],
)  # fmt: skip
def test_number_types_beyond_the_chip_are_refused_by_name(
    chip: str, nodes: Sequence[onnx.NodeProto], weights: dict[str, Any], said: str, compiled: Callable[..., Any]
) -> None:
    with pytest.raises(UnplaceableError) as error:
        compiled(chip, nodes, FLOATS, weights)

    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_constant_operand_may_be_of_the_type_of_activations(compiled: Callable[..., Any]) -> None:
    operand = {"s": floats(0.5), "w": np.array([7, 9, 11, 3, 5, 5], np.uint16), "n": np.uint16(5)}

    program = compiled("AX650N", OPERAND, FLOATS, operand)

    y = program.run({"x": np.ones((1, 4, 6, 6), np.float32)}, ("y",))["y"]
    np.testing.assert_array_equal(y[0, 0, 0], floats([1, 2, 3, -1, 0, 0]))


@pytest.mark.parametrize("chip", CHIPS)
def test_free_lengths_are_refused_with_their_names_and_the_command_that_fixes_them(
    chip: str, compiled: Callable[..., Any]
) -> None:
    with pytest.raises(UnplaceableError) as error:
        compiled(chip, [node("Relu", ["x"], ["y"])], [("x", "float32", ["n", 3])])

    assert "'x' has the shape (n, 3), and every length has to be fixed" in str(error.value)
    assert "python -m onnxruntime.tools.make_dynamic_shape_fixed" in str(error.value)


def test_ports_of_64_bits_are_refused_by_name_where_the_chip_has_none(compiled: Callable[..., Any]) -> None:
    nodes = [node("Add", ["x", "x"], ["y"])]
    ports = [("x", "int64", [3])]

    with pytest.raises(UnplaceableError, match=r"'x' is int64, and it may be float32, uint8"):
        compiled("AX650N", nodes, ports, gives="int64")

    assert compiled("Intel NPU", nodes, ports, gives="int64").outputs[0].dtype == "int64"


# The table.


def test_the_table_has_as_many_operators_as_are_published() -> None:
    counts = {name: len(chip_named(name).operators) for name in ("AX650N", "AX8850", "AX630C", "AX620Q")}

    assert counts == {"AX650N": 94, "AX8850": 94, "AX630C": 75, "AX620Q": 75}


@pytest.mark.parametrize("chip", chips(), ids=CHIPS)
def test_every_operator_of_the_table_is_one(chip: Any) -> None:
    unknown = {name for name in chip.operators if "." not in name and not onnx.defs.has(name)}
    assert not set(chip.in_gelu) & chip.operators
    limits = (chip.attributes, chip.ranks, chip.scalars, chip.absent)
    limited = {name for table in limits for name in table}

    assert unknown <= THEIR_OWN
    assert limited <= chip.operators
    for name, attributes in chip.attributes.items():
        assert set(attributes) <= set(onnx.defs.get_schema(name).attributes), name


def test_a_chip_is_found_by_any_of_its_names() -> None:
    names = [(name, chip.name) for chip in chips() for name in (chip.name, *chip.aliases, chip.name.lower())]

    assert [chip_named(name).name for name, _ in names] == [right for _, right in names]
    assert target_named("simulated:intel-npu").name == "simulated:Intel NPU"


def test_a_chip_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnplaceableError, match="'AX9999' was asked for; there are AX650N, AX8850"):
        target_named("simulated:AX9999")


def test_a_simulated_chip_is_no_choice_of_auto() -> None:
    found = target_named("simulated:AX650N").probe()

    assert found.available
    assert found.simulator
    assert "simulated" not in [item.target for item in probe() if not item.simulator]


def test_versions_change_with_what_is_known_of_the_chip() -> None:
    one, other = (SimulatedTarget(chip_named(name)).versions() for name in ("AX650N", "AX630C"))

    assert set(one) == {"onnxruntime", "processor", "onnx", "chip"}
    assert one["chip"].split()[1] != other["chip"].split()[1]
