"""Published weights of another's detector on real photographs; they are not in the repository."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

import nearsight as ns
import nearsight_models
from nearsight.detect.boxes import MATCH, matched, overlaps
from nearsight_models import Manifest
from nearsight_models.manifest import File
from nearsight_models.pages import save

WEIGHTS = "../weights/detectors/yolox_nano.onnx"
NO_CROWD = np.zeros((0, 4), np.float32)
LARGE = 0.05  # of a picture: a box that is larger should be found


@pytest.fixture
def yolox(data):
    """Install YOLOX-nano, its authors' file, under the catalogue's name and settings."""
    entry = nearsight_models.entry("yolox-nano")
    folder = Path(os.environ["NEARSIGHT_MODELS"], entry.name)
    folder.mkdir(parents=True)
    shutil.copy(data / WEIGHTS, folder / "yolox_nano.onnx")
    page = Manifest(
        name=entry.name,
        family=entry.name,
        capability="detect",
        architecture=entry.architecture,
        summary=entry.summary,
        languages=entry.languages,
        licence=entry.licence,
        trained_on=entry.trained_on,
        research_only=entry.research_only,
        parameters=entry.parameters,
        files={"detect": {"fp32": File.of(folder / "yolox_nano.onnx")}},
        golden={},
        preprocessing=None,
        settings=dict(entry.settings),
    )
    save(page, folder)
    yield ns.Detector(entry.name, threads=1)
    shutil.rmtree(folder)


@pytest.mark.data(WEIGHTS, "coco_val64.json", "coco_val64.tar")
def test_yolox_finds_the_large_things_of_photographs_and_little_else(yolox, data) -> None:
    page = json.loads((data / "coco_val64.json").read_text(encoding="utf8"))
    large = seen = given = right = 0
    with tarfile.open(data / "coco_val64.tar") as tar:
        for image in page["images"]:
            answer = yolox.detect(tar.extractfile(image["file"]).read(), yolox.classes)
            boxes = np.array(image["boxes"], np.float32).reshape(-1, len(image["boxes"][0]))
            for number, name in enumerate(page["classes"]):
                true = boxes[boxes[:, 4] == number, :4]
                mine = answer[[label == name for label in answer.labels]]
                judged = matched(mine.boxes_xyxy, mine.scores, true, NO_CROWD)
                given, right = given + len(judged), right + sum(good for _, good in judged)
                big = true[np.prod(true[:, 2:] - true[:, :2], axis=1) > LARGE * np.prod(answer.size_wh)]
                large += len(big)
                seen += sum(len(mine) > 0 and overlaps(box, mine.boxes_xyxy).max() >= MATCH for box in big)

    # Measured: 95 of 136, and 192 of 262.
    assert seen / large >= 0.65
    assert right / given >= 0.68


@pytest.mark.data(WEIGHTS)
def test_yolox_is_asked_by_any_word_as_nano_is(yolox, photos) -> None:
    cat = yolox.detect(photos / "cat.jpg", ["cat", "猫", "kitten", "helmet"], 0.2)

    assert yolox.classes == ns.Detector().classes
    assert cat.labels[:2] == ("cat", "猫")
    assert dict(zip(cat.labels, cat.routes, strict=True))["kitten"] == "similar"
    left, top, right, bottom = cat.boxes_xyxy[0]
    assert left < 150 < right
    assert top < 110 < bottom
