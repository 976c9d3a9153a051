"""The proof at load on the captioner's graphs: damage is refused, the honest files never."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import nearsight_models
from nearsight_npu import Golden, prove

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

onnx = pytest.importorskip("onnx", reason="graphs are damaged with onnx, which is not installed")
from onnx import helper, numpy_helper  # noqa: E402

PAGE = nearsight_models.load("nano", "caption")
OUTPUTS = {"top": "cells", "see": "seen", "step": "logits"}
MATRICES = [
    (role, weight.name)
    for role in OUTPUTS
    for weight in onnx.load(PAGE.files[role]["int8"].path).graph.initializer
    if weight.name.endswith(".w_scale")
]


def proven(path: Path, role: str, tmp_path: Path, threads: int = 1) -> bool:
    return prove(path, PAGE.golden[role].path, "int8", threads=threads, cache_dir=tmp_path / "cache").passed


def changed(role: str, change: Callable[[onnx.GraphProto], None], tmp_path: Path) -> bool:
    model = onnx.load(PAGE.files[role]["int8"].path)
    change(model.graph)
    damaged = tmp_path / "damaged.onnx"
    onnx.save(model, damaged)
    return proven(damaged, role, tmp_path)


def reweighed(graph: onnx.GraphProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put a changed array in place of a weight."""
    weight = next(weight for weight in graph.initializer if weight.name == name)
    array = numpy_helper.to_array(weight)
    new = change(array)
    assert not np.array_equal(new, array)
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new.astype(array.dtype)), name))


@pytest.mark.parametrize("role", OUTPUTS)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_honest_files_are_proven(role, threads, tmp_path):
    assert proven(PAGE.files[role]["int8"].path, role, tmp_path, threads)


@pytest.mark.parametrize("role", OUTPUTS)
def test_a_constant_answer_is_refused(role, tmp_path):
    golden = Golden.load(PAGE.golden[role].path)

    def constant(graph: onnx.GraphProto) -> None:
        wanted = OUTPUTS[role]
        for node in graph.node:
            for place, name in enumerate(node.output):
                if name == wanted:
                    node.output[place] = "varying"
        mean = golden.outputs[wanted].mean(axis=0, keepdims=True).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(mean, "sabotage.mean"))
        graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "sabotage.zero"))
        graph.node.append(helper.make_node("Mul", ["varying", "sabotage.zero"], ["sabotage.nothing"]))
        graph.node.append(helper.make_node("Add", ["sabotage.nothing", "sabotage.mean"], [wanted]))

    assert not changed(role, constant, tmp_path)


@pytest.mark.parametrize(("role", "weight"), MATRICES)
def test_a_part_that_is_silent_is_refused(role, weight, tmp_path):
    assert not changed(role, lambda graph: reweighed(graph, weight, lambda array: array * 0), tmp_path)


def test_pieces_that_changed_places_are_refused(tmp_path):
    def swap(graph: onnx.GraphProto) -> None:
        reweighed(graph, "pieces.w_quantized", lambda codes: np.roll(codes, 1, axis=1))

    assert not changed("step", swap, tmp_path)


def test_the_table_of_pieces_is_in_the_file_once():
    """Read from and scored by the same INT8 codes: a second copy in FP32 would be as large as all the rest."""
    weights = {weight.name: weight for weight in onnx.load(PAGE.files["step"]["int8"].path).graph.initializer}

    assert weights["pieces.w_quantized"].data_type == onnx.TensorProto.INT8
    assert "pieces.w" not in weights
    assert sum(file.bytes for role in OUTPUTS for file in PAGE.files[role].values()) <= 8_000_000
