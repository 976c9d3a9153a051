"""The proof at load on the graphs that ship: every kind of damage is refused, the honest files never."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import nearsight_models
from nearsight_npu import DelegateError, prove

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

onnx = pytest.importorskip("onnx", reason="graphs are damaged with onnx, which is not installed")
from onnx import helper, numpy_helper  # noqa: E402

PAGE = nearsight_models.load("nano")
GRAPHS = [(role, precision) for role in ("image", "text") for precision in PAGE.files[role]]
PICTURES = [pair for pair in GRAPHS if pair[0] == "image"]


def proven(path: Path, role: str, precision: str, tmp_path: Path) -> bool:
    """Whether a file passes the embedded golden set; one that cannot even be loaded does not."""
    try:
        return prove(path, PAGE.golden[role].path, precision, cache_dir=tmp_path / "cache").passed
    except DelegateError:
        return False


def changed(role: str, precision: str, change: Callable[[onnx.ModelProto], None], tmp_path: Path) -> bool:
    graph = onnx.load(PAGE.files[role][precision].path)
    change(graph)
    damaged = tmp_path / "damaged.onnx"
    onnx.save(graph, damaged)
    return proven(damaged, role, precision, tmp_path)


def rewired(graph: onnx.ModelProto, old: str, new: str) -> None:
    """Let everything that reads `old` read `new`."""
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


@pytest.mark.parametrize(("role", "precision"), GRAPHS)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_honest_files_are_proven(role, precision, threads, tmp_path):
    file, golden = PAGE.files[role][precision].path, PAGE.golden[role].path

    assert prove(file, golden, precision, threads=threads, cache_dir=tmp_path).passed


@pytest.mark.parametrize(("role", "precision"), GRAPHS)
def test_a_constant_output_is_refused(role, precision, tmp_path):
    def constant(graph: onnx.ModelProto) -> None:
        last = next(node for node in graph.graph.node if "embedding" in node.output)
        last.output[list(last.output).index("embedding")] = "varying"
        zero = numpy_helper.from_array(np.float32(0), "sabotage.zero")
        value = np.random.default_rng(0).normal(size=(1, PAGE.dimensions)).astype(np.float32)
        level = numpy_helper.from_array(value / np.linalg.norm(value), "sabotage.level")
        graph.graph.initializer.extend([zero, level])
        graph.graph.node.append(helper.make_node("Mul", ["varying", "sabotage.zero"], ["sabotage.nothing"]))
        graph.graph.node.append(helper.make_node("Add", ["sabotage.nothing", "sabotage.level"], ["embedding"]))

    assert not changed(role, precision, constant, tmp_path)


@pytest.mark.parametrize(("role", "precision"), PICTURES)
def test_swapped_channels_are_refused(role, precision, tmp_path):
    def swap(graph: onnx.ModelProto) -> None:
        graph.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "sabotage.order"))
        rewired(graph, "pixels", "sabotage.bgr")
        graph.graph.node.insert(0, helper.make_node("Gather", ["pixels", "sabotage.order"], ["sabotage.bgr"], axis=3))

    assert not changed(role, precision, swap, tmp_path)


@pytest.mark.parametrize(("role", "precision"), PICTURES)
@pytest.mark.parametrize(("scale", "zero"), [(1 / 255, 0), (1 / 64, 127), (1 / 128, 0)])
def test_another_normalisation_is_refused(role, precision, scale, zero, tmp_path):
    def normalise(graph: onnx.ModelProto) -> None:
        for weight in graph.graph.initializer:
            if weight.name.startswith("pixels.scale"):
                dtype = numpy_helper.to_array(weight).dtype
                weight.CopyFrom(numpy_helper.from_array(np.array(scale, dtype), weight.name))
            if weight.name.startswith("pixels.zero"):
                weight.CopyFrom(numpy_helper.from_array(np.uint8(zero), weight.name))

    assert not changed(role, precision, normalise, tmp_path)


def skipped_block(graph: onnx.ModelProto, place: int) -> str:
    """Take out one residual addition: readers get the branch that skips the block."""
    sums = [node for node in graph.graph.node if node.op_type == "Add" and node.name.startswith(("b", "l"))]
    chosen = sums[place % len(sums)]
    rewired(graph, chosen.output[0], chosen.input[1])
    return chosen.name


@pytest.mark.parametrize(("role", "precision"), GRAPHS)
def test_a_dropped_layer_is_refused(role, precision, tmp_path, trials):
    """Whole residual branches of the picture tower, projections and attention of the text tower."""
    for place in range(trials(60)):
        names: list[str] = []

        assert not changed(
            role, precision, lambda graph, p=7 * place, n=names: n.append(skipped_block(graph, p)), tmp_path
        ), names


@pytest.mark.parametrize(("role", "precision"), GRAPHS)
def test_zeroed_weights_are_refused(role, precision, tmp_path, trials):
    """The tail of one of the large weights is gone, as after a write that stopped."""
    for seed in range(trials(60)):
        random = np.random.default_rng(seed)

        def cut(graph: onnx.ModelProto, random: np.random.Generator = random) -> None:
            large = [
                w for w in graph.graph.initializer if len(w.raw_data) > 50_000 and w.name != "word"
            ]  # a part of the vocabulary is found by its hash
            weight = large[random.integers(len(large))]
            data = weight.raw_data
            weight.raw_data = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)

        assert not changed(role, precision, cut, tmp_path), seed


@pytest.mark.parametrize(("role", "precision"), GRAPHS)
def test_a_cut_file_is_refused(role, precision, tmp_path, trials):
    whole = PAGE.files[role][precision].path.read_bytes()
    for seed in range(trials(60)):
        cut = tmp_path / "cut.onnx"
        cut.write_bytes(whole[: np.random.default_rng(seed).integers(len(whole))])

        assert not proven(cut, role, precision, tmp_path)
