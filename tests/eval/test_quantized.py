"""The verdict on a task, end to end: recall of sentences, and captions, before and after the picture tower is INT8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import nearsight as ns
import nearsight_models
from nearsight.preprocess import fit_picture
from nearsight_npu import quantize
from nearsight_npu.errors import QuantizationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST = 120


@pytest.mark.data("flickr8k_dev.tar", "flickr8k_dev_captions.jsonl")
def test_recall_at_1_decides_whether_the_picture_tower_may_be_int8(
    evaluation: Callable, data: Path, tmp_path: Path
) -> None:
    sets = evaluation("sets")
    captioned = sets.captions(data)
    shown = sets.pictures(data / "flickr8k_dev.tar")
    pixels = [{"pixels": fit_picture(shown[name], (224, 224))[None]} for name in captioned.files[: 2 * MOST]]
    texts = ns.Encoder().texts(captioned.en[: 5 * MOST]).vectors.reshape(MOST, 5, -1)

    def recall_at_1(outputs: dict[str, np.ndarray], places: np.ndarray) -> np.ndarray:
        vectors = outputs["embedding"] / np.linalg.norm(outputs["embedding"], axis=1, keepdims=True)
        scores = texts[places] @ vectors.T  # (pictures, 5 sentences, pictures)
        return (scores.argmax(axis=2) == np.arange(len(places))[:, None]).mean(axis=1)

    model = nearsight_models.load("nano", "search").files["image"]["fp16"].path
    usual = {
        "calibration": pixels[MOST : MOST + 40],
        "validation": pixels[:MOST],
        "mode": "static",
        "metric": recall_at_1,
        "keep_float": ("stem", "b1."),
        "cache_dir": tmp_path / "cache",
    }

    verdict = quantize(model, tmp_path / "good.onnx", max_drop=0.1, **usual).verdict

    assert verdict.task
    assert verdict.metric == "recall_at_1"
    assert verdict.samples == MOST
    assert verdict.before > 20 / MOST  # chance is one in so many
    assert verdict.low <= verdict.drop <= verdict.high <= 0.1
    assert verdict.accepted
    with pytest.raises(QuantizationError, match="recall_at_1; static lost"):
        quantize(model, tmp_path / "bad.onnx", max_drop=verdict.high - 0.001, **usual)
    assert not (tmp_path / "bad.onnx").exists()


@pytest.mark.data("flickr8k_dev.tar", "flickr8k_dev_captions.jsonl")
def test_cider_decides_whether_the_picture_tower_may_be_int8(evaluation: Callable, data: Path, tmp_path: Path) -> None:
    sets, captions = evaluation("sets"), evaluation("captions")
    captioned = sets.captions(data)
    shown = sets.pictures(data / "flickr8k_dev.tar")
    pixels = [{"pixels": fit_picture(shown[name], (224, 224))[None]} for name in captioned.files[: MOST + 40]]
    people = [captioned.en[5 * at : 5 * at + 5] for at in range(MOST)]
    sentences = captioned.en[5 * MOST : 10 * MOST]
    vectors = ns.Encoder().texts(sentences).vectors

    def cider(outputs: dict[str, np.ndarray], places: np.ndarray) -> np.ndarray:
        # A picture is given the nearest sentence that was written about another.
        said = [sentences[at] for at in (outputs["embedding"] @ vectors.T).argmax(axis=1)]
        return captions.agreeing(said, [people[place] for place in places], "en")

    report = quantize(
        nearsight_models.load("nano", "search").files["image"]["fp16"].path,
        tmp_path / "good.onnx",
        calibration=pixels[MOST:],
        validation=pixels[:MOST],
        mode="static",
        metric=cider,
        max_drop=0.05,
        keep_float=("stem", "b1."),
        cache_dir=tmp_path / "cache",
    )

    verdict = report.verdict
    assert (verdict.metric, verdict.task, verdict.samples) == ("cider", True, MOST)
    assert verdict.before > 0.15
    assert verdict.low <= verdict.drop <= verdict.high <= 0.05
    assert verdict.accepted
