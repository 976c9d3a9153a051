"""The shipped picture tower, put back into FP32 and made INT8 again by the settings that ship."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import nearsight_models
from nearsight_npu import Delegate, quantize

if TYPE_CHECKING:
    from nearsight_npu import QuantizationReport

EMBEDDED = Path(nearsight_models.__file__).parent / "embedded" / "nano"
SIDE = 224


def full_precision(target: Path) -> Path:
    """Write the tower with its stored FP16 weights as FP32, and no Cast."""
    model = onnx.load(EMBEDDED / "image.fp16.onnx")
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    for cast in [node for node in graph.node if node.op_type == "Cast" and node.input[0] in weights]:
        weight = weights[cast.input[0]]
        array = numpy_helper.to_array(weight).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(array, cast.output[0]))
        graph.initializer.remove(weight)
        graph.node.remove(cast)
    onnx.save(model, target)
    return target


def samples(photos: Path) -> list[dict[str, np.ndarray]]:
    """Four quarters of each photograph to calibrate with, and behind them the photographs to compare on."""
    whole = [Image.open(path).convert("RGB") for path in sorted(photos.glob("*.jpg"))]
    quarters = []
    for picture in whole:
        width, height = picture.size
        for left in (0, width // 2):
            quarters += [picture.crop((left, top, left + width // 2, top + height // 2)) for top in (0, height // 2)]
    return [{"pixels": np.array(picture.resize((SIDE, SIDE)))[None]} for picture in (*quarters, *whole)]


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> QuantizationReport:
    full = full_precision(tmp_path_factory.mktemp("nano") / "image.onnx")
    return quantize(
        full,
        calibration=samples(photos),
        kinds={"Conv", "Clip", "Add", "Gemm"},
        keep_float=("stem", "b1."),
        method="percentile",
        percentile=99.995,
        reduce_range=False,
    )


def test_the_photographs_keep_their_vectors(made: QuantizationReport) -> None:
    assert (made.calibrated_on, made.compared_on, made.compared_with) == (32, 8, "held out")
    for change in made.outputs:
        assert change.cosine >= 0.97, change
        assert change.centred >= 0.97, change
    assert {change.output for change in made.outputs} == {"embedding", "grid", "lower"}


def test_the_file_shrinks_and_leaves_in_float_what_it_should(made: QuantizationReport) -> None:
    kinds = set(made.float_nodes.values())

    assert made.ratio > 3
    assert {"Softmax", "MatMul", "GlobalAveragePool", "Concat"} <= kinds
    assert {name for name, kind in made.float_nodes.items() if kind == "Conv"} == {"stem.conv", "b1.0.conv", "b1.1"}
    assert len(made.integer_nodes) == 46 + 9 + 2  # convolutions, sums, matrices


def test_the_file_passes_the_proof_of_the_one_that_ships(made: QuantizationReport, tmp_path: Path) -> None:
    session = Delegate("cpu", cache_dir=tmp_path).load(made.out, precision="int8", golden=EMBEDDED / "image.golden.npz")

    assert session.proof is not None
    assert session.proof.passed, session.proof.reason


def test_the_defaults_take_the_stored_file_as_it_is(photos: Path, tmp_path: Path) -> None:
    report = quantize(EMBEDDED / "image.fp16.onnx", tmp_path / "image.onnx", calibration=samples(photos))

    assert report.bytes_after < 6e6
    assert "Conv" not in report.float_nodes.values()
    assert all(change.cosine > 0.9 for change in report.outputs)
