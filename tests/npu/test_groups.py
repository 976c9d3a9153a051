"""Groups: one for each constant weight, with what only follows it, and no operator or weight in two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import helper

import nearsight_models
from nearsight_npu.quantization.groups import group
from nearsight_npu.quantization.source import Prepared, inspect, prepare
from nearsight_npu.quantization.static import WEIGHTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import onnx


@pytest.fixture
def ready(saved: Callable[..., Path], tmp_path: Path) -> Callable[..., Prepared]:
    """Write a graph and prepare it."""

    def make(
        nodes: Sequence[onnx.NodeProto],
        weights: dict[str, np.ndarray],
        shape: Sequence[int | str],
        kind: str = "float32",
    ) -> Prepared:
        path = saved(nodes, [("x", kind, shape)], [("y", "float32", ("n", *("?" for _ in shape[1:])))], weights)
        folder = tmp_path / "ready"
        folder.mkdir()
        return prepare(path, inspect(path, "static"), folder)

    return make


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_convolution_takes_its_limits_along_and_a_sum_of_two_belongs_to_neither(
    ready: Callable[..., Prepared],
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="stem/conv"),
        helper.make_node("Relu", ["c1"], ["r1"], name="stem/limit"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="b1/conv"),
        helper.make_node("Add", ["c2", "r1"], ["s"], name="join"),
        helper.make_node("Sigmoid", ["s"], ["y"], name="end"),
    ]

    found = group(ready(nodes, {"w1": floats(8, 3, 1, 1), "b1": floats(8), "w2": floats(8, 8, 1, 1)}, ("n", 3, 4, 4)))

    assert [(entry.name, entry.kind, entry.nodes) for entry in found] == [
        ("stem/conv", "conv", ("stem/conv", "stem/limit")),
        ("b1/conv", "conv", ("b1/conv",)),
    ]
    assert [entry.elements for entry in found] == [24, 64]


def test_a_product_takes_its_bias_along_and_one_without_constant_weights_is_none(
    ready: Callable[..., Prepared],
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="q.m"),
        helper.make_node("Add", ["m", "b"], ["q"], name="q"),
        helper.make_node("Transpose", ["q"], ["t"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["y"], name="scores"),
    ]

    found = group(ready(nodes, {"w": floats(6, 5), "b": floats(5)}, ("n", 4, 6)))

    assert [(entry.name, entry.kind, entry.nodes, entry.weights) for entry in found] == [
        ("q.m", "matmul", ("q.m", "q"), ("w",))
    ]


def test_operators_with_one_weight_become_the_same_precision_together(ready: Callable[..., Prepared]) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="second"),
    ]

    (found,) = group(ready(nodes, {"w": floats(6, 6)}, ("n", 6)))

    assert found.nodes == ("first", "second")
    assert found.elements == 36


def test_a_table_of_embeddings_is_a_group_of_its_own(ready: Callable[..., Prepared]) -> None:
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"], name="words")]

    (found,) = group(ready(nodes, {"table": floats(50, 8)}, ("n", 3), "int64"))

    assert (found.kind, found.weights, found.elements) == ("lookup", ("table",), 400)


@pytest.mark.parametrize("kind", ["float16", "int64"])
def test_a_table_that_is_looked_up_in_other_numbers_than_fp32_is_no_group(
    kind: str, ready: Callable[..., Prepared]
) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["rows"], name="words"),
        helper.make_node("Cast", ["rows"], ["full"], name="full", to=1),
        helper.make_node("MatMul", ["full", "w"], ["y"], name="product"),
    ]

    found = group(ready(nodes, {"table": floats(50, 8).astype(kind), "w": floats(8, 4)}, ("n", 3), "int64"))

    assert [entry.name for entry in found] == ["product"]


def test_a_part_of_the_model_is_what_neighbours_names_begin_with(ready: Callable[..., Prepared]) -> None:
    names = ["stem.conv", "b1.wide.conv", "b1.deep.conv", "b10.wide.conv", "b10.deep.conv", "head"]
    arrays = ["x", *(f"a{place}" for place in range(len(names) - 1)), "y"]
    nodes = [
        helper.make_node("MatMul", [arrays[place], f"w{place}"], [arrays[place + 1]], name=name)
        for place, name in enumerate(names)
    ]

    found = group(ready(nodes, {f"w{place}": floats(4, 4) + place for place in range(len(names))}, ("n", 4)))

    assert [entry.block for entry in found] == ["", "b1", "b1", "b10", "b10", ""]


@pytest.mark.parametrize(("capability", "role", "precision"), [("search", "image", "fp16")])
def test_every_weight_of_the_embedded_tower_is_in_exactly_one_group(
    capability: str, role: str, precision: str, tmp_path: Path
) -> None:
    path = nearsight_models.load("nano", capability).files[role][precision].path
    prepared = prepare(path, inspect(path, "static"), tmp_path)

    found = group(prepared)

    weighted = {node.inputs[1] for node in prepared.nodes if node.kind in WEIGHTED} & prepared.constants
    assert sorted(name for entry in found for name in entry.weights) == sorted(weighted)
    nodes = [name for entry in found for name in entry.nodes]
    assert len(nodes) == len(set(nodes))
    assert sum(entry.elements for entry in found) > 5_000_000
