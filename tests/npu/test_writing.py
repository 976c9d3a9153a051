"""Plans: one file in which every group has its precision, of the size foretold, with answers as near as they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.plan import CHOICES, Group
from nearsight_npu.quantization.ranges import Ranges, take_ranges
from nearsight_npu.quantization.result import outcome
from nearsight_npu.quantization.sizes import plan_bytes
from nearsight_npu.quantization.source import Prepared, inspect, prepare
from nearsight_npu.quantization.weights import Weights
from nearsight_npu.quantization.writing import Recipe, activations, write_plan
from nearsight_npu.targets.cpu import CpuTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH, WORDS = 64, 300
OF_PRODUCTS = ("fp32", "fp16", "a16w8", "a8w8", "s8w8", "d8w8", "w8", "w4")
OF_CONVOLUTIONS = tuple(choice for choice in OF_PRODUCTS if choice != "d8w8")


def model(saved: Callable[..., Path]) -> Path:
    """Words and a picture meet: a table, convolutions with limits and a sum, normalised products with biases."""
    numbers = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"], name="words"),
        helper.make_node("Conv", ["pixels", "w1", "b1"], ["c1"], name="stem", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="stem.limit"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="deep", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["sum"], name="join"),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"], name="mean"),
        helper.make_node("Reshape", ["mean", "row"], ["seen"], name="seen"),
        helper.make_node("Add", ["words", "seen"], ["both"], name="meet"),
        helper.make_node("LayerNormalization", ["both", "gain", "offset"], ["normal"], name="norm", axis=-1),
        helper.make_node("MatMul", ["normal", "w3"], ["m3"], name="widen"),
        helper.make_node("Add", ["m3", "b3"], ["a3"], name="widen.bias"),
        helper.make_node("Relu", ["a3"], ["r3"], name="widen.limit"),
        helper.make_node("MatMul", ["r3", "w4"], ["m4"], name="narrow"),
        helper.make_node("Add", ["m4", "both"], ["stream"], name="residual"),
        helper.make_node("ReduceMean", ["stream", "first"], ["pooled"], name="pool", keepdims=0),
        helper.make_node("Gemm", ["pooled", "w5", "b5"], ["y"], name="classes", transB=1),
    ]
    shapes = {
        "table": (WORDS, WIDTH),
        "w1": (WIDTH, 3, 3, 3),
        "b1": (WIDTH,),
        "w2": (WIDTH, WIDTH, 3, 3),
        "b2": (WIDTH,),
        "w3": (WIDTH, 4 * WIDTH),
        "b3": (4 * WIDTH,),
        "w4": (4 * WIDTH, WIDTH),
        "w5": (40, WIDTH),
        "b5": (40,),
    }
    weights = {
        name: (numbers.standard_normal(shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32)
        for name, shape in shapes.items()
    }
    weights |= {"gain": np.ones(WIDTH, np.float32), "offset": np.zeros(WIDTH, np.float32)}
    weights |= {"row": np.array([1, 1, WIDTH]), "first": np.array([1])}
    ports = [("ids", "int64", (1, "n")), ("pixels", "float32", (1, 3, 16, 16))]
    return saved(nodes, ports, [("y", "float32", (1, 40))], weights)


GROUPS = (
    Group(name="words", kind="lookup", nodes=("words",), weights=("table",), elements=WORDS * WIDTH),
    Group(name="stem", kind="conv", nodes=("stem", "stem.limit"), weights=("w1",), elements=27 * WIDTH),
    Group(name="deep", kind="conv", nodes=("deep",), weights=("w2",), elements=9 * WIDTH**2),
    Group(
        name="widen",
        kind="matmul",
        nodes=("widen", "widen.bias", "widen.limit"),
        weights=("w3",),
        elements=4 * WIDTH**2,
    ),
    Group(name="narrow", kind="matmul", nodes=("narrow",), weights=("w4",), elements=4 * WIDTH**2),
    Group(name="classes", kind="matmul", nodes=("classes",), weights=("w5",), elements=40 * WIDTH),
)
SAMPLES = [
    {
        "ids": np.random.default_rng(seed).integers(0, WORDS, (1, 5 + seed)),
        "pixels": np.random.default_rng(seed).standard_normal((1, 3, 16, 16)).astype(np.float32),
    }
    for seed in range(6)
]


@pytest.fixture
def prepared(saved: Callable[..., Path], tmp_path: Path) -> Prepared:
    """The graph, its opset lowered in no way: 4 bits are allowed everywhere."""
    path = model(saved)
    (tmp_path / "ready").mkdir()
    return prepare(path, inspect(path, "static"), tmp_path / "ready")


@pytest.fixture
def ranges(prepared: Prepared) -> Ranges:
    """What flows through it."""
    return take_ranges(prepared, SAMPLES)


def answers(path: Path) -> np.ndarray:
    program = CpuTarget().compile(path)
    return np.concatenate([program.run(sample, ("y",))["y"] for sample in SAMPLES])


def uniform(choice: str) -> dict[str, str]:
    """A plan of one precision; convolutions cannot be dynamic."""
    return {group.name: choice for group in GROUPS if not (choice == "d8w8" and group.kind == "conv")}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_uniform_plan_loads_has_the_foretold_size_and_answers_nearly_the_same(
    choice: str, prepared: Prepared, ranges: Ranges, tmp_path: Path
) -> None:
    write_plan(prepared, GROUPS, uniform(choice), tmp_path / "q.onnx", ranges=ranges)

    size = (tmp_path / "q.onnx").stat().st_size
    wanted = answers(prepared.path)
    moved = np.linalg.norm(answers(tmp_path / "q.onnx") - wanted) / np.linalg.norm(wanted)
    assert plan_bytes(prepared, GROUPS, uniform(choice)) == pytest.approx(size, rel=0.03)
    limits = {"fp32": 1e-6, "fp16": 1e-3, "w4": 0.2}
    assert moved <= limits.get(choice, 0.05)
    assert choice == "fp32" or moved > 0


def test_random_plans_load_have_the_foretold_size_and_answer_nearly_the_same(
    prepared: Prepared, ranges: Ranges, tmp_path: Path, trials: int, soak: Callable[[str, dict[str, object]], None]
) -> None:
    wanted = answers(prepared.path)
    worst_size = worst_move = 0.0
    for seed in range(trials):
        numbers = np.random.default_rng(seed)
        plan = {g.name: str(numbers.choice(OF_CONVOLUTIONS if g.kind == "conv" else OF_PRODUCTS)) for g in GROUPS}
        recipe = Recipe(
            block=int(numbers.choice((16, 32, 64, 128))), method=str(numbers.choice(("minmax", "mse", "percentile")))
        )
        out = tmp_path / f"{seed}.onnx"

        write_plan(prepared, GROUPS, plan, out, ranges=ranges, recipe=recipe)

        size = out.stat().st_size
        worst_size = max(worst_size, abs(plan_bytes(prepared, GROUPS, plan, recipe) / size - 1))
        worst_move = max(worst_move, np.linalg.norm(answers(out) - wanted) / np.linalg.norm(wanted))
        assert worst_size <= 0.03, plan
        assert worst_move <= 0.25, plan
    soak("plans", {"plans": trials, "worst_size_error": worst_size, "worst_output_error": float(worst_move)})


@pytest.mark.parametrize("choice", ["fp16", "w8", "w4"])
def test_a_file_computes_with_the_weights_that_are_foretold(choice: str, prepared: Prepared, tmp_path: Path) -> None:
    recipe = Recipe(accuracy_level=0)
    weights = Weights(prepared, GROUPS, recipe)
    write_plan(prepared, GROUPS, uniform(choice), tmp_path / "q.onnx", recipe=recipe)
    model = onnx.load(prepared.path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for group in GROUPS:
        array = weights.becomes(group.name, choice)
        assert not np.array_equal(array, weights.of(group.name))
        tensors[group.weights[0]].CopyFrom(onnx.numpy_helper.from_array(array, group.weights[0]))
    onnx.save(model, tmp_path / "float.onnx")

    # A table of 4 bits hands its rows over in FP16.
    near = 1e-3 if choice == "w4" else 1e-5
    np.testing.assert_allclose(
        answers(tmp_path / "q.onnx"), answers(tmp_path / "float.onnx"), rtol=10 * near, atol=near
    )


def test_each_group_has_the_precision_of_its_own(prepared: Prepared, ranges: Ranges, tmp_path: Path) -> None:
    plan = {"words": "w4", "stem": "fp16", "deep": "a8w8", "widen": "d8w8", "narrow": "w8", "classes": "a16w8"}

    write_plan(prepared, GROUPS, plan, tmp_path / "q.onnx", ranges=ranges)

    graph = onnx.load(tmp_path / "q.onnx").graph
    kinds = {node.name: node.op_type for node in graph.node}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert kinds["words"] == "GatherBlockQuantized"
    assert kinds["widen"] == "MatMulInteger"
    assert kinds["narrow"] == "MatMulNBits"
    assert types["w1.half.f16"] == onnx.TensorProto.FLOAT16
    assert types["w2.s8"] == types["w5.s8.axis0"] == types["w3.d8"] == onnx.TensorProto.INT8
    assert types["table.t4b32"] == onnx.TensorProto.UINT4
    assert types["pooled.u16.zero"] == onnx.TensorProto.UINT16
    assert not {"table", "w1", "w2", "w3", "w4", "w5"} & set(types)


def test_what_lies_between_integer_groups_becomes_integer_and_else_stays(prepared: Prepared) -> None:
    both = activations(prepared, GROUPS, uniform("a8w8"))
    one = activations(prepared, GROUPS, uniform("a8w8") | {"stem": "fp16"})

    # The sum of two integer convolutions; not the bias of a product, nor the residual stream.
    assert both == dict.fromkeys(("stem", "stem.limit", "deep", "join", "widen", "narrow", "classes"), "u8")
    assert one == dict.fromkeys(("deep", "widen", "narrow", "classes"), "u8")


@pytest.mark.parametrize(("choice", "kind"), [("s8w8", "s8"), ("a16w8", "u16")])
def test_for_an_npu_all_that_follows_integers_becomes_integer(choice: str, kind: str, prepared: Prepared) -> None:
    found = activations(prepared, GROUPS, uniform(choice))

    computing = {node.name for node in prepared.nodes}
    # A table has no activations, so neither the words nor what they meet follow integers alone.
    assert computing - set(found) == {"words", "meet", "norm", "residual", "pool"}
    assert set(found.values()) == {kind}


def test_numbers_that_are_picked_keep_the_scale_of_those_they_are_compared_with(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("TopK", ["m", "three"], ["top", "places"], name="top"),
        helper.make_node("Gather", ["top", "last"], ["least"], name="least", axis=1),
        helper.make_node("GreaterOrEqual", ["m", "least"], ["y"], name="keep"),
    ]
    weights = {
        "w": np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32),
        "three": np.array([3]),
        "last": np.array([2]),
    }
    path = saved(nodes, [("x", "float32", (1, 16))], [("y", "bool", (1, 16))], weights)
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "static"), tmp_path / "ready")
    own = Group(name="product", kind="matmul", nodes=("product",), weights=("w",), elements=256)
    rows = [{"x": np.random.default_rng(s).standard_normal((1, 16)).astype(np.float32)} for s in range(8)]
    found = take_ranges(prepared, rows)

    write_plan(prepared, [own], {"product": "s8w8"}, tmp_path / "q.onnx", ranges=found)

    assert set(activations(prepared, [own], {"product": "s8w8"}, found)) == {"product", "top", "least"}
    program = CpuTarget().compile(tmp_path / "q.onnx")
    # Equal ones may be kept beside the third; none of the three may be lost.
    assert all(program.run(row, ("y",))["y"].sum() >= 3 for row in rows)


def test_a_precision_for_the_npu_does_not_leave_a_range_out_that_is_not_known(
    prepared: Prepared, ranges: Ranges
) -> None:
    known = {name: spread for name, spread in ranges.spreads.items() if name != "sum"}

    found = activations(prepared, GROUPS, uniform("s8w8"), Ranges(spreads=known, samples=6))

    assert {"join", "mean", "seen"} & set(found) == set()
    assert "deep" in found


def test_a_group_left_out_of_the_plan_stays_in_float(prepared: Prepared, tmp_path: Path) -> None:
    write_plan(prepared, GROUPS, {}, tmp_path / "q.onnx")

    np.testing.assert_array_equal(answers(tmp_path / "q.onnx"), answers(prepared.path))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"nowhere": "w8"}, "'nowhere' was to become w8; there is no such group; groups are words, stem"),
        ({"deep": "w2"}, "'deep' was to become 'w2'; there are fp32, fp16"),
        ({"deep": "d8w8"}, "'deep' was to become d8w8; that is for matrix products, and it is a convolution"),
        ({"deep": "a8w8"}, "1 operators were to become static integers; no ranges were given"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(
    plan: dict[str, str], said: str, prepared: Prepared, tmp_path: Path
) -> None:
    with pytest.raises(QuantizationError, match=said) as caught:
        write_plan(prepared, GROUPS, plan, tmp_path / "q.onnx")

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "q.onnx").exists()


def test_a_table_with_numbers_that_are_not_finite_is_refused_by_name(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    node = helper.make_node("Gather", ["mask", "ids"], ["y"], name="rows")
    mask = np.triu(np.full((32, 32), -np.inf, np.float32), 1)
    path = saved([node], [("ids", "int64", ("n",))], [("y", "float32", ("n", 32))], {"mask": mask})
    (tmp_path / "ready").mkdir()
    prepared = prepare(path, inspect(path, "weights"), tmp_path / "ready")
    own = Group(name="rows", kind="lookup", nodes=("rows",), weights=("mask",), elements=32 * 32)

    with pytest.raises(QuantizationError, match="its weight 'mask' holds numbers that are not finite"):
        write_plan(prepared, [own], {"rows": "w4"}, tmp_path / "q.onnx")


def test_blocks_may_differ_from_group_to_group_and_are_no_longer_than_a_row(prepared: Prepared, tmp_path: Path) -> None:
    recipe = Recipe(block=128, blocks={"narrow": 16})
    write_plan(prepared, GROUPS, {"widen": "w4", "narrow": "w4"}, tmp_path / "q.onnx", recipe=recipe)

    blocks = {
        node.name: {entry.name: entry.i for entry in node.attribute if entry.name == "block_size"}["block_size"]
        for node in onnx.load(tmp_path / "q.onnx").graph.node
        if node.op_type == "MatMulNBits"
    }
    assert blocks == {"widen": 64, "narrow": 16}


def test_the_outcome_names_what_computes_in_integers(prepared: Prepared, ranges: Ranges, tmp_path: Path) -> None:
    plan = {"deep": "a8w8", "widen": "a8w8", "narrow": "w8", "classes": "fp16", "words": "w4"}
    write_plan(prepared, GROUPS, plan, tmp_path / "q.onnx", ranges=ranges)

    integer, floating = outcome(tmp_path / "q.onnx", {node.name for node in prepared.nodes})

    assert set(integer) == {"deep", "widen", "narrow", "words"}
    assert {"stem", "join", "norm", "residual", "classes"} <= set(floating)
