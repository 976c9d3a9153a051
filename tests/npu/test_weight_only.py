"""Weights in 4 and 8 bits: no number moves by more than half a step, and files compute with exactly those weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.plan import Group
from nearsight_npu.quantization.source import inspect, prepare
from nearsight_npu.quantization.weight_only import BLOCKS, blockwise, packed
from nearsight_npu.quantization.weights import Weights
from nearsight_npu.quantization.writing import Recipe, write_plan
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.targets.reference import ReferenceTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nearsight_npu.quantization.source import Prepared

EXACT = {"accuracy_level": 0}


def ready(path: Path) -> Prepared:
    folder = path.parent / f"ready-{path.stem}"
    folder.mkdir()
    return prepare(path, inspect(path, "weights"), folder)


def product(saved: Callable[..., Path], kind: str, rows: int = 70, columns: int = 5) -> Prepared:
    numbers = np.random.default_rng(3)
    shape = (columns, rows) if kind == "Gemm" else (rows, columns)
    weights = {"w": numbers.standard_normal(shape).astype(np.float32), "b": np.arange(columns, dtype=np.float32)}
    if kind == "Gemm":
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="product", transB=1)]
    else:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
            helper.make_node("Add", ["m", "b"], ["y"], name="bias"),
        ]
    return ready(saved(nodes, [("x", "float32", ("n", rows))], [("y", "float32", ("n", columns))], weights))


def group(name: str, kind: str, weight: str) -> Group:
    return Group(name=name, kind=kind, nodes=(name,), weights=(weight,), elements=0)


@given(
    seed=st.integers(0, 2**32 - 1),
    columns=st.integers(1, 150),
    bits=st.sampled_from((4, 8)),
    block=st.sampled_from(BLOCKS),
    size=st.floats(-6, 4),
)
@settings(max_examples=60)
def test_no_weight_moves_by_more_than_half_a_step_of_its_block(
    seed: int, columns: int, bits: int, block: int, size: float
) -> None:
    numbers = np.random.default_rng(seed)
    matrix = (numbers.standard_normal((3, columns)) * 10**size + numbers.uniform(-1, 1)).astype(np.float32)

    made = blockwise(matrix, bits, block)

    steps = np.repeat(made.scales.astype(np.float32), block, axis=1)[:, :columns]
    assert (np.abs(made.restored() - matrix) <= steps / 2 * 1.0001).all()
    # And the grid that spans a block has steps no wider than its ends ask for, but for FP16's own rounding.
    padded = np.pad(matrix, ((0, 0), (0, -columns % block))).reshape(3, -1, block)
    needed = (np.maximum(padded.max(axis=2), 0) - np.minimum(padded.min(axis=2), 0)) / (2**bits - 1)
    spanning = blockwise(matrix, bits, block, spanning=True)
    assert (spanning.scales.astype(np.float32) <= needed * (1 + 2**-9) + 6e-8).all()


@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from((4, 8)), block=st.sampled_from(BLOCKS))
@settings(max_examples=60)
def test_codes_that_use_their_whole_range_are_found_again(seed: int, bits: int, block: int) -> None:
    # So weights that were rounded with more care, and restored, can be written as they are.
    numbers = np.random.default_rng(seed)
    largest = 2**bits - 1
    codes = numbers.integers(0, largest, (3, 2, block), endpoint=True)
    codes[..., 0], codes[..., -1] = 0, largest
    zeros = numbers.integers(0, largest, (3, 2, 1), endpoint=True)
    scales = (10 ** numbers.uniform(-3, 2, (3, 2, 1))).astype(np.float16)
    matrix = ((codes - zeros) * scales.astype(np.float32)).astype(np.float32).reshape(3, -1)

    made = blockwise(matrix, bits, block)

    np.testing.assert_array_equal(made.codes.reshape(codes.shape), codes)
    np.testing.assert_array_equal(made.restored(), matrix)


@given(
    seed=st.integers(0, 2**32 - 1),
    zero=st.sampled_from((7, 8)),
    end=st.sampled_from((0, 1, 14, 15)),
    block=st.sampled_from(BLOCKS),
)
@settings(max_examples=60)
def test_weights_that_were_in_4_bits_around_zero_stay_where_they_are(
    seed: int, zero: int, end: int, block: int
) -> None:
    assume(abs(end - zero) >= 7)  # a format around zero has its largest number at one of its ends
    numbers = np.random.default_rng(seed)
    codes = numbers.integers(1, 15, (3, 2, block))
    codes[..., numbers.integers(block)] = end
    steps = numbers.uniform(1e-3, 1, (3, 2, 1)).astype(np.float16).astype(np.float32)
    weights = ((codes - zero) * steps).reshape(3, -1).astype(np.float32)

    np.testing.assert_array_equal(blockwise(weights, 4, block).restored(), weights)


@given(seed=st.integers(0, 2**32 - 1), block=st.sampled_from(BLOCKS))
@settings(max_examples=60)
def test_a_block_never_moves_more_than_on_the_grid_that_spans_it(seed: int, block: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((5, 150)).astype(np.float32)

    nearest, spanning = (blockwise(weights, 4, block, spanning=kept).restored() for kept in (False, True))

    assert ((nearest - weights) ** 2).sum() <= ((spanning - weights) ** 2).sum() * (1 + 1e-6)


def test_zero_stays_zero() -> None:
    matrix = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    matrix[:, ::3] = 0
    matrix[2] = 0

    for bits in (4, 8):
        made = blockwise(matrix, bits, 16).restored()
        assert not made[matrix == 0].any()


def test_steps_that_fp16_does_not_reach_are_kept_in_fp32() -> None:
    matrix = np.array([[1e9, -1e9, 3.0, 0.0]], np.float32)

    made = blockwise(matrix, 8, 16)

    assert made.scales.dtype == np.float32
    assert abs(made.restored()[0, 0] - 1e9) <= 2e9 / 255 / 2 * 1.0001


def test_two_codes_share_a_byte_the_first_one_low() -> None:
    assert packed(np.array([[1, 2, 15]], np.uint8), 4).tolist() == [[0x21, 0x0F]]
    assert packed(np.array([[1, 2, 15]], np.uint8), 8).tolist() == [[1, 2, 15]]


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("bits", [4, 8])
def test_a_product_multiplies_with_the_rounded_weights(
    kind: str, block: int, bits: int, saved: Callable[..., Path], tmp_path: Path
) -> None:
    prepared = product(saved, kind)
    # The Add is part of a Gemm once the graph is prepared, under a name of onnxruntime's.
    name = prepared.nodes[0].name
    own, recipe = group(name, "matmul", "w"), Recipe(block=block, **EXACT)
    write_plan(prepared, [own], {name: f"w{bits}"}, tmp_path / "q.onnx", recipe=recipe)
    matrix = Weights(prepared, [own], recipe).becomes(name, f"w{bits}")
    x = np.random.default_rng(1).standard_normal((6, 70)).astype(np.float32)

    for target in (CpuTarget(), ReferenceTarget()):
        y = target.compile(tmp_path / "q.onnx").run({"x": x}, ("y",))["y"]
        wanted = x @ (matrix.T if kind == "Gemm" else matrix) + np.arange(5)
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
    kinds = [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node]
    assert "MatMulNBits" in kinds
    assert not {"MatMul", "Gemm"} & set(kinds)


@pytest.mark.parametrize("level", [0, 4])
def test_the_accuracy_level_is_the_one_asked_for(level: int, saved: Callable[..., Path], tmp_path: Path) -> None:
    recipe = Recipe(accuracy_level=level)

    write_plan(
        product(saved, "Gemm"), [group("product", "matmul", "w")], {"product": "w8"}, tmp_path / "q.onnx", recipe=recipe
    )

    nodes = onnx.load(tmp_path / "q.onnx").graph.node
    (made,) = (node for node in nodes if node.op_type == "MatMulNBits")
    assert {entry.name: entry.i for entry in made.attribute}["accuracy_level"] == level


@pytest.mark.parametrize("width", [33, 64])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_lookup_gives_the_rounded_rows(bits: int, width: int, saved: Callable[..., Path], tmp_path: Path) -> None:
    table = np.random.default_rng(2).standard_normal((9, width)).astype(np.float32)
    node = helper.make_node("Gather", ["table", "ids"], ["y"], name="rows")
    ports = [("ids", "int64", (1, "n"))], [("y", "float32", (1, "n", width))]
    prepared = ready(saved([node], *ports, {"table": table}))
    own = group("rows", "lookup", "table")
    write_plan(prepared, [own], {"rows": f"w{bits}"}, tmp_path / "q.onnx")
    ids = np.array([[0, 8, 3, 3, -1]])

    for target in (CpuTarget(), ReferenceTarget()):
        y = target.compile(tmp_path / "q.onnx").run({"ids": ids}, ("y",))["y"]
        # 4-bit rows are handed over in FP16.
        rounding = 0 if bits == 8 else 2**-11
        np.testing.assert_allclose(y, Weights(prepared, [own]).becomes("rows", f"w{bits}")[ids], rtol=rounding)


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_convolution_restores_its_weights_when_it_is_loaded(
    bits: int, channels: int, opset: int, saved: Callable[..., Path], tmp_path: Path
) -> None:
    # An odd number of weights leaves half a byte over.
    weights = {"w": np.random.default_rng(4).standard_normal((channels, 3, 3, 3)).astype(np.float32)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    path = saved([node], [("x", "float32", (1, 3, 8, 8))], [("y", "float32", (1, channels, 6, 6))], weights)
    model = onnx.load(path)
    model.opset_import[0].version = opset
    onnx.save(model, path)
    prepared, own = ready(path), group("conv", "conv", "w")
    write_plan(prepared, [own], {"conv": f"w{bits}"}, tmp_path / "q.onnx")
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), axis=(1, 2))
    onnx.checker.check_model(onnx.load(tmp_path / "q.onnx"))

    program = CpuTarget().compile(tmp_path / "q.onnx")

    wanted = np.einsum("cijkl,ockl->oij", windows, Weights(prepared, [own]).becomes("conv", f"w{bits}"))
    np.testing.assert_allclose(program.run({"x": x}, ("y",))["y"][0], wanted, rtol=1e-4, atol=1e-4)
    assert len(onnx.load(tmp_path / "q.onnx").graph.node) > 4
    # Nothing is left of the restoring: the convolution, and at most a re-ordering of its own.
    assert sum(count for _, count in program.placement.parts) <= 3


def test_tied_weights_are_stored_once(saved: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="first"),
        helper.make_node("MatMul", ["m", "w"], ["y"], name="second"),
    ]
    weights = {"w": np.random.default_rng(5).standard_normal((32, 32)).astype(np.float32)}
    ports = [("x", "float32", ("n", 32))], [("y", "float32", ("n", 32))]
    prepared = ready(saved(nodes, *ports, weights))
    groups = [group("first", "matmul", "w"), group("second", "matmul", "w")]

    write_plan(prepared, groups, {"first": "w8", "second": "w8"}, tmp_path / "both.onnx")
    write_plan(prepared, groups, {"first": "w8"}, tmp_path / "one.onnx")

    def matrices(name: str) -> list[np.ndarray]:
        tensors = onnx.load(tmp_path / name).graph.initializer
        return [array for array in map(numpy_helper.to_array, tensors) if array.size == 32 * 32]

    assert [array.dtype for array in matrices("both.onnx")] == [np.uint8]
    assert {array.dtype.name for array in matrices("one.onnx")} == {"uint8", "float32"}


def test_a_weight_that_an_old_graph_lists_among_its_inputs_goes_with_its_entry(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    weights = {"w": np.random.default_rng(5).standard_normal((32, 32)).astype(np.float32)}
    ports = [("x", "float32", ("n", 32)), ("w", "float32", (32, 32))], [("y", "float32", ("n", 32))]
    prepared = ready(saved([helper.make_node("MatMul", ["x", "w"], ["y"], name="only")], *ports, weights))

    write_plan(prepared, [group("only", "matmul", "w")], {"only": "w8"}, tmp_path / "q.onnx")

    assert [port.name for port in CpuTarget().compile(tmp_path / "q.onnx").inputs] == ["x"]


@pytest.mark.parametrize("block", [8, 48, 0])
def test_a_block_that_there_is_none_of_is_refused(block: int) -> None:
    with pytest.raises(QuantizationError, match=f"blocks of {block} weights were asked for; there are 16, 32, 64, 128"):
        Recipe(blocks={"a": block})
