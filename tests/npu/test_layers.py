"""Layer by layer: the array that a group gives is compared where it stands, and the place where it went wrong is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nearsight_npu.quantization.calibration import Samples
from nearsight_npu.quantization.groups import group
from nearsight_npu.quantization.layers import compare_layers
from nearsight_npu.quantization.ranges import take_ranges
from nearsight_npu.quantization.source import inspect, prepare
from nearsight_npu.quantization.writing import write_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nearsight_npu.quantization.source import Prepared

DEPTH = 4


@pytest.fixture
def tower(saved: Callable[..., Path]) -> Path:
    """Four convolutions, each limited at 6, that keep their size."""
    numbers = np.random.default_rng(0)
    nodes, weights = [], {"zero": np.float32(0), "six": np.float32(6)}
    for place in range(DEPTH):
        weights[f"w{place}"] = (numbers.standard_normal((8, 8, 1, 1)) / 2).astype(np.float32)
        source = "x" if place == 0 else f"r{place - 1}"
        nodes += [
            helper.make_node("Conv", [source, f"w{place}"], [f"c{place}"], name=f"conv{place}", kernel_shape=[1, 1]),
            helper.make_node("Clip", [f"c{place}", "zero", "six"], [f"r{place}"], name=f"limit{place}"),
        ]
    nodes.append(helper.make_node("Identity", [f"r{DEPTH - 1}"], ["y"], name="out"))
    return saved(nodes, [("x", "float32", ("n", 8, 4, 4))], [("y", "float32", ("n", 8, 4, 4))], weights)


def samples(count: int = 12) -> Samples:
    numbers = np.random.default_rng(1)
    drawn = tuple({"x": numbers.standard_normal((1, 8, 4, 4)).astype(np.float32)} for _ in range(count))
    return Samples(calibrating=drawn, compared=drawn, first_compared=100, kind="held out")


def ready(path: Path, folder: Path) -> Prepared:
    folder.mkdir(exist_ok=True)
    return prepare(path, inspect(path, "static"), folder)


def test_the_layer_that_was_spoilt_is_where_the_figures_fall(tower: Path, tmp_path: Path) -> None:
    prepared = ready(tower, tmp_path / "a")
    model = onnx.load(prepared.path)
    for weight in model.graph.initializer:
        if weight.name == "w2":
            array = numpy_helper.to_array(weight).copy()
            array[3] = -array[3]
            weight.CopyFrom(numpy_helper.from_array(array, "w2"))
    onnx.save(model, tmp_path / "spoilt.onnx")

    found = compare_layers(prepared, tmp_path / "spoilt.onnx", group(prepared), samples(), tmp_path)

    assert [layer.group for layer in found] == [f"conv{place}" for place in range(DEPTH)]
    assert [layer.array for layer in found][:3] == ["r0", "r1", "r2"]
    for layer in found[:2]:
        assert layer.cosine == pytest.approx(1)
        assert layer.sqnr_db is None
    assert found[2].cosine < 0.95
    assert found[2].sqnr_db < 15
    assert found[3].cosine < 0.99


def test_integers_are_looked_at_behind_their_rounding(tower: Path, tmp_path: Path) -> None:
    prepared, some = ready(tower, tmp_path / "a"), samples()
    groups = group(prepared)
    ranges = take_ranges(prepared, some.calibrating, histograms=False)
    plan = {entry.name: "a8w8" for entry in groups}
    write_plan(prepared, groups, plan, tmp_path / "q.onnx", ranges=ranges)

    found = compare_layers(prepared, tmp_path / "q.onnx", groups, some, tmp_path, plan=plan)

    assert [layer.group for layer in found] == [f"conv{place}" for place in range(DEPTH)]
    assert {layer.precision for layer in found} == {"a8w8"}
    for layer in found:
        # Of numbers up to 6 in steps of 6 / 255, and weights in 127 steps, over at most four layers.
        assert 20 < layer.sqnr_db < 50
        assert layer.cosine > 0.99
        assert layer.cosine <= layer.mean_cosine
    assert found[0].sqnr_db > found[-1].sqnr_db


def test_figures_are_what_one_computes_by_hand(tower: Path, tmp_path: Path) -> None:
    prepared, some = ready(tower, tmp_path / "a"), samples()
    model = onnx.load(prepared.path)
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    moved = (weights["w0"] + np.random.default_rng(2).normal(0, 0.05, weights["w0"].shape)).astype(np.float32)
    for weight in model.graph.initializer:
        if weight.name == "w0":
            weight.CopyFrom(numpy_helper.from_array(moved, "w0"))
    onnx.save(model, tmp_path / "moved.onnx")

    first = compare_layers(prepared, tmp_path / "moved.onnx", group(prepared), some, tmp_path)[0]

    def layer(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.clip(np.einsum("oi,nihw->nohw", matrix[:, :, 0, 0], x), 0, 6).astype(np.float64)

    own, other = (np.stack([layer(matrix, s["x"]).ravel() for s in some.compared]) for matrix in (weights["w0"], moved))
    error = np.square(own - other).sum(axis=1)
    cosines = (own * other).sum(axis=1) / np.linalg.norm(own, axis=1) / np.linalg.norm(other, axis=1)
    assert first.sqnr_db == pytest.approx(10 * np.log10(np.square(own).sum() / error.sum()), abs=1e-3)
    assert first.cosine == pytest.approx(cosines.min(), abs=1e-6)
    shares = error / np.square(own).sum(axis=1)
    assert first.worst_samples == tuple(100 + int(place) for place in np.argsort(shares)[::-1][:3])


def test_a_graph_that_does_not_fit_into_memory_at_once_is_looked_at_in_parts(
    tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, some = ready(tower, tmp_path / "a"), samples()
    groups = group(prepared)
    plan = {entry.name: "w8" for entry in groups}
    write_plan(prepared, groups, plan, tmp_path / "q.onnx")
    whole = compare_layers(prepared, tmp_path / "q.onnx", groups, some, tmp_path, plan=plan)

    monkeypatch.setattr("nearsight_npu.quantization.layers._MOST_BYTES", 1)
    parts = compare_layers(prepared, tmp_path / "q.onnx", groups, some, tmp_path, plan=plan)

    assert [layer.group for layer in parts] == [layer.group for layer in whole]
    for part, one in zip(parts, whole, strict=True):
        assert part.cosine == pytest.approx(one.cosine, abs=1e-6)
