"""How well things are found: AP beside FP32 and peers, and what the default threshold gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from eval import sets
from eval.precision import OVERLAPS, Boxes, Judged, found_boxes, judged, numbers, precisions, shared, truths
from PIL import Image

import nearsight as ns

# name -> (path without ending, whether only the classes boxed in a picture are labelled there)
SETS = {
    "dev": ("detection/dev", False),
    "open_dev": ("detection/open_dev", True),
    "coco_val64": ("coco_val64", False),
}
SIZES = (0.05, 0.1, 0.2, 0.4)
LEAST_SCORE = 0.001  # above it, average precision is lost

Finder = Callable[[Image.Image], Boxes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographs:
    """A set with true boxes: pictures, what is boxed in each, the classes' names, and whether all is boxed."""

    pictures: list[Image.Image]
    true: list[Boxes]
    classes: list[str]
    labelled_only: bool


def read(data: Path, which: str, most: int | None = None) -> Photographs:
    """Read one of `SETS`, or its first `most` pictures."""
    place, labelled_only = SETS[which]
    page = json.loads(sets.need(data / f"{place}.json").read_text(encoding="utf8"))
    page["images"] = page["images"][:most]
    shown = sets.pictures(data / f"{place}.tar")
    return Photographs(
        pictures=[shown[image["file"]] for image in page["images"]],
        true=truths(page),
        classes=page["classes"],
        labelled_only=labelled_only,
    )


def numbered(found: ns.Detections, labels: Sequence[str]) -> Boxes:
    """Detections as boxes whose classes are places among the labels."""
    at = {label: number for number, label in enumerate(labels)}
    return found_boxes(found.boxes_xyxy, np.array([at[label] for label in found.labels], int), found.scores)


def by_name(detector: ns.Detector) -> Finder:
    """Ask for every class by its name, as a user would."""
    return lambda picture: numbered(detector.detect(picture, detector.classes, LEAST_SCORE), detector.classes)


def measure(photographs: Photographs, find: Finder) -> dict[str, float]:
    """AP50 and AP of a finder: the mean over the classes that are boxed; AP50 of person and car beside it."""
    found = [find(picture) for picture in photographs.pictures]
    rows = precisions(photographs.true, found, labelled_only=photographs.labelled_only)
    return {
        "ap50": round(float(np.mean([row[0] for row in rows.values()])), 4),
        "ap": round(float(np.mean(list(rows.values()))), 4),
        **{photographs.classes[c]: round(float(rows[c][0]), 4) for c in (0, 2) if c in rows},
        "classes": len(rows),
        "pictures": len(found),
    }


def at_default(photographs: Photographs, detector: ns.Detector) -> dict[str, object]:
    """What a user gets who asks for COCO names and gives no threshold, on exhaustively boxed pictures."""
    found = [numbered(detector.detect(p, detector.classes), detector.classes) for p in photographs.pictures]
    right = {}
    rows = [
        (number, judged(true.of(number), boxes.of(number)))
        for true, boxes in zip(photographs.true, found, strict=True)
        for number in set(boxes.classes.tolist())
    ]
    for name, kept in (("all classes", set(range(80))), ("person", {0}), ("all but person", set(range(1, 80)))):
        wanted = sum(int(np.isin(t.classes[~t.crowd], list(kept)).sum()) for t in photographs.true)
        right[name] = {"wanted": wanted, **rates((row for number, row in rows if number in kept), wanted)}
    absent = [
        int((~np.isin(boxes.classes, true.classes)).sum()) for true, boxes in zip(photographs.true, found, strict=True)
    ]
    labels = [len(detector.classes) - len(set(true.classes.tolist())) for true in photographs.true]
    return {
        "pictures": len(found),
        "boxes": right,
        "absent_names": false_positives(absent, labels),
        "recall_by_size": recall_by_size(photographs, found),
    }


def rates(rows: Iterable[Judged], wanted: int) -> dict[str, float]:
    """Precision and recall of all boxes given, at an overlap of one half."""
    rows = list(rows)
    hits, counted = sum(int(row.right[0].sum()) for row in rows), sum(int(row.counted[0].sum()) for row in rows)
    return {
        "given": counted,
        "precision": round(hits / max(1, counted), 4),
        "recall": round(hits / max(1, wanted), 4),
    }


def false_positives(boxes: Sequence[int], labels: Sequence[int]) -> dict[str, float]:
    """Boxes of labels whose things are not there: a picture, a label asked, and the share of pictures with one."""
    return {
        "labels_a_picture": round(float(np.mean(labels)), 2),
        "boxes_a_picture": round(float(np.mean(boxes)), 4),
        "boxes_a_label": round(sum(boxes) / sum(labels), 5),
        "pictures_with_one": sets.share(count > 0 for count in boxes),
    }


def recall_by_size(photographs: Photographs, found: list[Boxes]) -> dict[str, dict[str, float]]:
    """The share of things that are found, by their longer side in parts of the picture's."""
    sizes: list[float] = []
    hits: list[bool] = []
    for picture, true, boxes in zip(photographs.pictures, photographs.true, found, strict=True):
        for number in numbers([true]):
            mine = true.of(number)
            things = mine.xyxy[~mine.crowd]
            sizes += ((things[:, 2:] - things[:, :2]) / picture.size).max(1).tolist()
            hits += seen(things, boxes.of(number))
    bands = np.digitize(sizes, SIZES)
    return {
        f"{low:g} to {high:g}": {"things": int((bands == at).sum()), "found": sets.share(np.array(hits)[bands == at])}
        for at, (low, high) in enumerate(zip((0, *SIZES), (*SIZES, 1), strict=True))
        if (bands == at).any()
    }


def seen(things: np.ndarray, found: Boxes) -> list[bool]:
    """Whether each of true boxes (n, 4) was found, where one found box finds one thing."""
    hit = np.zeros(len(things), bool)
    for box in found.xyxy[np.argsort(-found.scores, kind="stable")]:
        shares = shared(box[None], things)[0] * ~hit
        hit[shares.argmax()] |= shares.max() >= OVERLAPS[0]
    return hit.tolist()
