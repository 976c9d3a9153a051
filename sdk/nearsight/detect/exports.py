"""Hands detections over to other tools: COCO's list of results, and the package `supervision`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearsight.detect.boxes import Detections


def to_coco(found: Detections, image_id: int, category_ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """Write detections as COCO's list of results, which pycocotools reads.

    Args:
        found: Boxes of one picture.
        image_id: The picture's number in the annotations.
        category_ids: Label -> number of its category there.

    Returns:
        One dict a box, best first: image_id, category_id, bbox (left, top, width, height in pixels) and score.

    Raises:
        InputError: If a label that was found has no category.
    """
    missing = sorted({*found.labels} - {*category_ids})
    if missing:
        raise InputError(f"{missing[0]!r} was found and has no category; add it to category_ids ({len(category_ids)})")
    sizes = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
    boxes = np.concatenate([found.boxes_xyxy[:, :2], sizes], axis=1)
    return [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for label, box, score in zip(found.labels, boxes.tolist(), found.scores.tolist(), strict=True)
    ]


def to_supervision(found: Detections) -> Any:
    """Hand detections over to the package `supervision`.

    Returns:
        A `supervision.Detections`: xyxy, confidence, class ids counted in the order in which labels first appear, and
        the labels as `data["class_name"]`.

    Raises:
        InputError: if supervision is not installed.
    """
    try:
        supervision = import_module("supervision")
    except ImportError as error:
        raise InputError("supervision is not installed; pip install supervision") from error
    order = {label: number for number, label in enumerate(dict.fromkeys(found.labels))}
    return supervision.Detections(
        xyxy=found.boxes_xyxy.copy(),
        confidence=found.scores.copy(),
        class_id=np.array([order[label] for label in found.labels], int),
        data={"class_name": np.array(found.labels, dtype=str)},
    )
