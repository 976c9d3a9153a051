"""Detections for other tools: COCO's list of results and supervision."""

from __future__ import annotations

import contextlib
import importlib.util
import io

import numpy as np
import pytest

import nearsight as ns


@pytest.fixture
def three() -> ns.Detections:
    return ns.Detections(
        boxes_xyxy=np.array([[0, 0, 10, 10], [5, 5, 20, 25], [1, 2, 3, 4]], np.float32),
        scores=np.array([0.75, 0.5, 0.25], np.float32),
        labels=("car", "taxi", "car"),
        routes=("class", "similar", "class"),
        classes=("car", "car", "car"),
        size_wh=(40, 30),
    )


def test_coco_gets_corners_and_sizes(three) -> None:
    rows = ns.to_coco(three, image_id=7, category_ids={"car": 3, "taxi": 91})

    assert rows[1] == {"image_id": 7, "category_id": 91, "bbox": [5.0, 5.0, 15.0, 20.0], "score": 0.5}
    assert [row["category_id"] for row in rows] == [3, 91, 3]
    assert ns.to_coco(three[[]], 7, {}) == []


def test_a_label_without_a_category_is_named(three) -> None:
    with pytest.raises(ns.InputError, match="'taxi' was found and has no category; add it to category_ids"):
        ns.to_coco(three, 7, {"car": 3})


@pytest.mark.skipif(importlib.util.find_spec("pycocotools") is None, reason="pycocotools is not installed")
def test_pycocotools_reads_it(three) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    true = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 9], "area": 90, "iscrowd": 0}
    truth.dataset = {"images": [{"id": 7}], "categories": [{"id": 3}, {"id": 91}], "annotations": [true]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(ns.to_coco(three, 7, {"car": 3, "taxi": 91})), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()

    # The best box shares nine tenths with the true one.
    assert judge.stats[1] == pytest.approx(1.0)


@pytest.mark.skipif(importlib.util.find_spec("supervision") is not None, reason="supervision is installed here")
def test_without_supervision_the_remedy_is_named(three) -> None:
    with pytest.raises(ns.InputError, match="pip install supervision"):
        ns.to_supervision(three)


@pytest.mark.skipif(importlib.util.find_spec("supervision") is None, reason="supervision is not installed")
def test_supervision_gets_the_same_boxes(three) -> None:
    handed = ns.to_supervision(three)

    assert handed.xyxy.tolist() == three.boxes_xyxy.tolist()
    assert handed.confidence.tolist() == three.scores.tolist()
    assert handed.class_id.tolist() == [0, 1, 0]
    assert handed.data["class_name"].tolist() == ["car", "taxi", "car"]
