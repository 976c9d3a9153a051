"""Reading what an ONNX file says of itself: equal to what onnx reads, and honest about files that are no graph."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import nearsight_models
from nearsight_npu import Port
from nearsight_npu.errors import UnplaceableError, UnreadableGraphError
from nearsight_npu.targets.graphfile import GraphFile, Operator, graph_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EMBEDDED = sorted((Path(nearsight_models.__file__).parent / "embedded" / "nano").glob("*.onnx"))
KINDS = (
    "float32",
    "float16",
    "float64",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "uint32",
    "uint64",
    "bool",
)


def as_onnx_reads(path: Path) -> GraphFile:
    """Read the same with onnx."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}

    def ports(values: Sequence[onnx.ValueInfoProto]) -> tuple[Port, ...]:
        return tuple(
            Port(
                name=value.name,
                dtype=helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                shape=tuple(
                    axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?"
                    for axis in value.type.tensor_type.shape.dim
                ),
            )
            for value in values
        )

    return GraphFile(
        inputs=ports([value for value in graph.input if value.name not in weights]),
        outputs=ports(graph.output),
        operators=tuple(
            Operator(
                name=node.name,
                kind=node.op_type,
                domain=node.domain,
                inputs=tuple(node.input),
                outputs=tuple(node.output),
                integers={one.name: one.i for one in node.attribute if one.type == onnx.AttributeProto.INT},
            )
            for node in graph.node
        ),
        weights=frozenset(weights),
        beside=tuple(
            dict.fromkeys(
                entry.value for weight in graph.initializer for entry in weight.external_data if entry.key == "location"
            )
        ),
    )


@pytest.mark.parametrize("path", EMBEDDED, ids=lambda path: path.name)
def test_an_embedded_graph_reads_as_onnx_reads_it(path: Path) -> None:
    assert graph_file(path, "here") == as_onnx_reads(path)


def test_any_graph_reads_as_onnx_reads_it(trials: int, tmp_path: Path) -> None:
    for seed in range(trials):
        draw = np.random.default_rng(seed)
        path = tmp_path / f"{seed}.onnx"
        onnx.save(drawn(draw), path)

        assert graph_file(path, "here") == as_onnx_reads(path)


def drawn(draw: np.random.Generator) -> onnx.ModelProto:
    """Draw a model whose operators need not make sense: names in two languages, free axes, odd attributes."""

    def value(name: str) -> onnx.ValueInfoProto:
        axes = [draw.choice([0, 1, 7, 300, 1 << 40, "n", "高", None]) for _ in range(draw.integers(0, 5))]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(str(draw.choice(KINDS))))
        lengths = [int(axis) if str(axis).isdecimal() else axis for axis in axes]
        return helper.make_tensor_value_info(name, kind, lengths)

    def node(index: int) -> onnx.NodeProto:
        attributes = {
            "whole": int(draw.integers(-(1 << 62), 1 << 62)),
            "real": float(draw.random()),
            "many": [1, -2, 3],
            "words": "多 words",
            "array": numpy_helper.from_array(draw.random(5)),
        }
        kept = {key: attributes[key] for key in attributes if draw.random() < 0.5}
        domain = str(draw.choice(["", "com.microsoft"]))
        inputs = [str(draw.choice(["x0", "w0", "", f"t{index - 1}"])) for _ in range(draw.integers(0, 4))]
        return helper.make_node(
            f"Kind{index}", inputs, [f"t{index}"], name=f"名{index}" * (index % 2), domain=domain, **kept
        )

    weights = [numpy_helper.from_array(draw.random((3, index)), f"w{index}") for index in range(draw.integers(1, 4))]
    inputs = [value(name) for name in ("x0", "w0", "x1")]
    graph = helper.make_graph(
        [node(index) for index in range(draw.integers(1, 9))], "g", inputs, [value("t0")], weights
    )
    return helper.make_model(graph)


def test_weights_that_lie_beside_the_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    weights = [numpy_helper.from_array(np.ones((64, 64), np.float32), name) for name in ("v", "w")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("x", "y")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "v"], ["y"])]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], weights)),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )

    found = graph_file(path, "here")

    assert found.beside == ("weights.bin",)
    assert found.free_axes == ("n",)


def test_a_file_that_is_cut_anywhere_is_refused_or_reads_the_same(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = saved(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", "float32", ["n", 2])],
        [("y", "float32", ["n", 2])],
        {"w": np.ones((2, 2), np.float32)},
    )
    whole, cut = path.read_bytes(), tmp_path / "cut.onnx"
    read = []
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with contextlib.suppress(UnreadableGraphError):
            read.append(graph_file(cut, "here"))

    assert len(read) < 10  # the versions of the operator sets stand behind the graph
    assert all(found == graph_file(path, "here") for found in read)


def test_a_damaged_file_never_raises_anything_but_one_line(
    trials: int, saved: Callable[..., Path], tmp_path: Path
) -> None:
    path = saved(
        [helper.make_node("Concat", ["x", "w"], ["y"], axis=0)],
        [("x", "float32", ["n", 2])],
        [("y", "float32", ["m", 2])],
        {"w": np.ones((2, 2), np.float32)},
    )
    whole, damaged = path.read_bytes(), tmp_path / "damaged.onnx"
    refused: list[str] = []
    for seed in range(10 * trials):
        draw = np.random.default_rng(seed)
        data = bytearray(whole)
        for place in draw.integers(0, len(data), 3):
            data[place] = draw.integers(0, 256)
        damaged.write_bytes(data)
        try:
            graph_file(damaged, "here")
        except (UnreadableGraphError, UnplaceableError) as error:
            refused.append(str(error))

    assert len(refused) > trials
    assert all("damaged.onnx" in text and "\n" not in text for text in refused)


def test_what_is_no_array_of_numbers_is_named(tmp_path: Path) -> None:
    path = tmp_path / "words.onnx"
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in ("words", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["words"], ["same"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph), path)

    with pytest.raises(UnplaceableError, match=r"words\.onnx has 'words', which is not an array of numbers"):
        graph_file(path, "here")
