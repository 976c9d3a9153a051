"""Half precision: stored weights are FP16's nearest numbers, and whole graphs compute in it but where it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.groups import group
from nearsight_npu.quantization.half import widen_tables, write_computing_half, write_half
from nearsight_npu.quantization.ranges import take_ranges
from nearsight_npu.quantization.sizes import plan_bytes
from nearsight_npu.quantization.source import inspect, prepare
from nearsight_npu.quantization.writing import write_plan
from nearsight_npu.targets.cpu import CpuTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nearsight_npu.quantization.source import Prepared


@pytest.fixture
def prepared(saved: Callable[..., Path], tmp_path: Path) -> Prepared:
    """Two products, the first of whose answers go far beyond FP16 and come back."""
    numbers = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"], name="first"),
        helper.make_node("Mul", ["m", "m"], ["far"], name="away"),
        helper.make_node("Sqrt", ["far"], ["near"], name="back"),
        helper.make_node("Add", ["near", "bias"], ["a"], name="sum"),
        helper.make_node("MatMul", ["a", "w2"], ["y"], name="second"),
    ]
    weights = {
        "w1": (300 * numbers.standard_normal((16, 32))).astype(np.float32),
        "w2": numbers.standard_normal((32, 32)).astype(np.float32),
        "bias": np.ones(32, np.float32),
    }
    path = saved(nodes, [("x", "float32", ("n", 16))], [("y", "float32", ("n", 32))], weights)
    (tmp_path / "ready").mkdir()
    return prepare(path, inspect(path, "half"), tmp_path / "ready")


def rows() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)}


def run(path: Path) -> np.ndarray:
    return CpuTarget().compile(path).run(rows(), ("y",))["y"]


def test_stored_weights_are_the_nearest_half_precision_numbers(prepared: Prepared, tmp_path: Path) -> None:
    halved = write_half(prepared, tmp_path / "half.onnx")

    given = {weight.name: numpy_helper.to_array(weight) for weight in onnx.load(prepared.path).graph.initializer}
    found = {w.name: numpy_helper.to_array(w) for w in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert halved == ("w1", "w2")
    for name in halved:
        np.testing.assert_array_equal(found[f"{name}.half.f16"], given[name].astype(np.float16))
    # Small ones would cost more in a Cast than they save.
    assert found["bias"].dtype == np.float32
    assert {array.size for array in found.values() if array.dtype == np.float32} <= {1, 32}


def test_a_file_with_stored_weights_is_half_as_large_and_hardly_moves(prepared: Prepared, tmp_path: Path) -> None:
    write_half(prepared, tmp_path / "half.onnx")

    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * prepared.path.stat().st_size
    wanted = run(prepared.path)
    assert np.abs(run(tmp_path / "half.onnx") - wanted).max() <= 2**-9 * np.abs(wanted).max()
    assert not np.array_equal(run(tmp_path / "half.onnx"), wanted)


def test_weights_that_fp16_does_not_reach_stay_in_fp32(saved: Callable[..., Path], tmp_path: Path) -> None:
    weights = {"w1": np.full((16, 32), 1e6, np.float32)}
    node = helper.make_node("MatMul", ["x", "w1"], ["y"], name="only")
    path = saved([node], [("x", "float32", ("n", 16))], [("y", "float32", ("n", 32))], weights)
    (tmp_path / "ready").mkdir()

    halved = write_half(prepare(path, inspect(path, "half"), tmp_path / "ready"), tmp_path / "half.onnx")

    assert halved == ()
    np.testing.assert_array_equal(run(tmp_path / "half.onnx"), run(path))


def test_a_computing_graph_takes_and_gives_fp32_and_keeps_far_numbers_in_it(prepared: Prepared, tmp_path: Path) -> None:
    ranges = take_ranges(prepared, [rows()], histograms=False)

    far = write_computing_half(prepared, tmp_path / "half.onnx", ranges)

    model = onnx.load(tmp_path / "half.onnx")
    onnx.checker.check_model(model)
    assert far == ("away", "back")
    types = {weight.name: weight.data_type for weight in model.graph.initializer}
    assert types == dict.fromkeys(("w1.half", "w2.half", "bias.half"), TensorProto.FLOAT16)
    ports = (*model.graph.input, *model.graph.output)
    assert {value.type.tensor_type.elem_type for value in ports} == {TensorProto.FLOAT}
    wanted = run(prepared.path)
    assert np.abs(run(tmp_path / "half.onnx") - wanted).max() <= 0.01 * np.abs(wanted).max()


def test_constants_beyond_fp16_keep_their_operator_in_fp32_but_in_masks(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "million"], ["far"], name="away"),
        helper.make_node("Where", ["choice", "x", "never"], ["masked"], name="mask"),
        helper.make_node("Softmax", ["masked"], ["p"], name="softmax"),
    ]
    weights = {"million": np.float32(1e6), "never": np.float32(-1e30)}
    ports = (
        [("x", "float32", (1, 4)), ("choice", "bool", (1, 4))],
        [("far", "float32", (1, 4)), ("p", "float32", (1, 4))],
    )
    path = saved(nodes, *ports, weights)
    (tmp_path / "ready").mkdir()

    full = write_computing_half(prepare(path, inspect(path, "half"), tmp_path / "ready"), tmp_path / "half.onnx")

    arrays = {"x": np.array([[1, 2, 3, 4]], np.float32), "choice": np.array([[True, False, True, True]])}
    wanted = CpuTarget().compile(path).run(arrays, ("far", "p"))
    given = CpuTarget().compile(tmp_path / "half.onnx").run(arrays, ("far", "p"))
    assert full == ("away",)
    np.testing.assert_array_equal(given["far"], wanted["far"])
    np.testing.assert_allclose(given["p"], wanted["p"], atol=2e-3)
    assert given["p"][0, 1] == 0


def test_an_operator_without_an_fp16_form_stays_between_casts(saved: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["pixels", "step", "zero"], ["x"], name="read"),
        helper.make_node("Resize", ["x", "", "scales"], ["large"], name="resize", mode="nearest"),
        helper.make_node("Cast", ["large"], ["whole"], name="count", to=TensorProto.INT32),
        helper.make_node("Cast", ["whole"], ["again"], name="float", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["again", "w"], ["y"], name="conv"),
    ]
    weights = {
        "step": np.float32(0.5),
        "zero": np.uint8(3),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w": np.ones((1, 1, 3, 3), np.float32),
    }
    ports = [("pixels", "uint8", (1, 1, 4, 4))], [("y", "float32", (1, 1, 6, 6)), ("large", "float32", (1, 1, 8, 8))]
    path = saved(nodes, *ports, weights)
    (tmp_path / "ready").mkdir()

    full = write_computing_half(prepare(path, inspect(path, "half"), tmp_path / "ready"), tmp_path / "half.onnx")

    pixels = {"pixels": np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)}
    assert full == ("read",)
    wanted = CpuTarget().compile(path).run(pixels, ("y", "large"))
    given = CpuTarget().compile(tmp_path / "half.onnx").run(pixels, ("y", "large"))
    for name in wanted:
        assert given[name].dtype == np.float32
        np.testing.assert_array_equal(given[name], wanted[name])


def test_a_graph_with_branches_is_refused(saved: Callable[..., Path], tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["twice"])],
        "then",
        [],
        [helper.make_tensor_value_info("twice", TensorProto.FLOAT, (1, 4))],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])],
        "else",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, (1, 4))],
    )
    node = helper.make_node("If", ["choice"], ["y"], name="either", then_branch=inner, else_branch=other)
    ports = [("x", "float32", (1, 4)), ("choice", "bool", ())], [("y", "float32", (1, 4))]
    path = saved([node], *ports, {})
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "half"), tmp_path / "ready")

    with pytest.raises(QuantizationError, match=r"a branch \(If, Loop\) takes"):
        write_computing_half(prepared, tmp_path / "half.onnx")


IDS = {"ids": np.array([[3, 0, 499, 7]])}


@pytest.fixture
def words(saved: Callable[..., Path], tmp_path: Path) -> Callable[..., Prepared]:
    """Prepare a graph that looks words up in a table of FP16 and multiplies what it made of them with a matrix."""

    def make(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",), kind: str = "float16") -> Prepared:
        numbers = np.random.default_rng(0)
        weights = {
            "table": numbers.standard_normal((500, 32)).astype(kind),
            "w": numbers.standard_normal((32, 32)).astype(np.float32),
        }
        product = helper.make_node("MatMul", ["full", "w"], ["y"], name="product")
        types = {"y": "float32", "full": "float32", "rows": kind, "doubled": kind}
        ports = [(name, types[name], None) for name in outputs]
        path = saved([*nodes, product], [("ids", "int64", ("n", "t"))], ports, weights)
        (tmp_path / "ready").mkdir()
        return prepare(path, inspect(path, "static"), tmp_path / "ready")

    return make


LOOKUP = helper.make_node("Gather", ["table", "ids"], ["rows"], name="words")
CAST = helper.make_node("Cast", ["rows"], ["full"], name="full", to=TensorProto.FLOAT)


def answer(path: Path) -> np.ndarray:
    return CpuTarget().compile(path).run(IDS, ("y",))["y"]


@pytest.mark.parametrize("choice", ["fp32", "fp16", "w8", "w4"])
def test_a_table_that_is_looked_up_in_fp16_takes_part_in_a_plan(
    choice: str, words: Callable[..., Prepared], tmp_path: Path
) -> None:
    narrow = words(LOOKUP, CAST, outputs=("y", "full"))
    wanted, size = answer(narrow.path), narrow.path.stat().st_size

    wide = widen_tables(narrow)
    groups = group(wide)
    write_plan(wide, groups, {"words": choice}, tmp_path / "q.onnx")

    assert [found.name for found in groups] == ["words", "product"]
    np.testing.assert_array_equal(answer(wide.path), wanted)
    model = onnx.load(tmp_path / "q.onnx")
    onnx.checker.check_model(model)
    given, moved = (tmp_path / "q.onnx").stat().st_size, np.abs(answer(tmp_path / "q.onnx") - wanted).max()
    assert plan_bytes(wide, groups, {"words": choice}) == pytest.approx(given, rel=0.03)
    if choice in {"fp32", "fp16"}:  # as it was: no larger, and not a bit moves
        assert moved == 0
        assert given <= 1.03 * size
        assert [node.op_type for node in model.graph.node] == ["Gather", "Cast", "MatMul"]
    else:
        assert 0 < moved <= {"w8": 0.02, "w4": 0.3}[choice] * np.abs(wanted).max()
        assert given < size


def test_a_table_that_no_group_has_stays_in_fp16(words: Callable[..., Prepared], tmp_path: Path) -> None:
    wide = widen_tables(words(LOOKUP, CAST))
    (product,) = [found for found in group(wide) if found.kind == "matmul"]

    write_plan(wide, [product], {}, tmp_path / "q.onnx")

    types = [weight.data_type for weight in onnx.load(tmp_path / "q.onnx").graph.initializer if weight.dims[0] == 500]
    assert types == [TensorProto.FLOAT16]


def test_an_operator_that_takes_nothing_keeps_no_table_away(words: Callable[..., Prepared]) -> None:
    nodes = (
        helper.make_node("Cast", ["rows"], ["quiet"], name="quiet", to=TensorProto.FLOAT),
        helper.make_node("RandomUniform", [], ["noise"], name="noise", shape=[1, 32]),
        helper.make_node("Add", ["quiet", "noise"], ["full"], name="loud"),
    )

    assert widen_tables(words(LOOKUP, *nodes)).halves == {"table.full"}


def test_the_same_tables_make_the_same_file(saved: Callable[..., Path], tmp_path: Path) -> None:
    names = ("a", "b")
    nodes = [helper.make_node("Gather", [name, "ids"], [f"{name}.rows"], name=f"words.{name}") for name in names]
    weights = {name: np.full((500, 4), 0.5, np.float32) for name in names}
    outputs = [(f"{name}.rows", "float32", ("n", "t", 4)) for name in names]
    path = saved(nodes, [("ids", "int64", ("n", "t"))], outputs, weights)
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "static"), tmp_path / "ready")

    for order in (names, names[::-1]):  # a set has any order
        write_plan(replace(prepared, halves=dict.fromkeys(order)), group(prepared), {}, tmp_path / f"{order[0]}.onnx")

    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    ("nodes", "outputs", "kind"),
    [
        pytest.param((LOOKUP, CAST), ("y", "rows"), "float16", id="whose rows are an output"),
        pytest.param((LOOKUP, CAST), ("y",), "int64", id="of whole numbers"),
        pytest.param(
            (LOOKUP, CAST, helper.make_node("Add", ["rows", "rows"], ["doubled"], name="twice")),
            ("y", "doubled"),
            "float16",
            id="whose rows are computed with in FP16",
        ),
        pytest.param(
            (
                LOOKUP,
                helper.make_node("Transpose", ["rows"], ["turned"], name="turn", perm=[1, 0, 2]),
                helper.make_node("Cast", ["turned"], ["full"], name="full", to=TensorProto.FLOAT),
            ),
            ("y",),
            "float16",
            id="whose rows are cast later",
        ),
    ],
)
def test_a_table_stays_as_it_is(
    nodes: tuple[onnx.NodeProto, ...], outputs: tuple[str, ...], kind: str, words: Callable[..., Prepared]
) -> None:
    narrow = words(*nodes, outputs=outputs, kind=kind)

    assert widen_tables(narrow) == narrow


def test_a_table_in_half_precision_is_cast_behind_the_look_up(words: Callable[..., Prepared], tmp_path: Path) -> None:
    wide = words(helper.make_node("Gather", ["table", "ids"], ["full"], name="words"), kind="float32")

    assert write_half(wide, tmp_path / "half.onnx") == ("table", "w")

    nodes = {node.output[0]: node for node in onnx.load(tmp_path / "half.onnx").graph.node}
    assert nodes["full"].op_type == "Cast"
    assert nodes[nodes["full"].input[0]].op_type == "Gather"
    wanted = answer(wide.path)
    assert 0 < np.abs(answer(tmp_path / "half.onnx") - wanted).max() <= 2**-9 * np.abs(wanted).max()
