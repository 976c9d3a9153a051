"""Average precision as COCO computes it: on cases that can be worked out by hand, and against pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture
def precision(evaluation) -> ModuleType:
    return evaluation("precision")


def boxes(precision: ModuleType, *rows: tuple) -> object:
    """Rows of left, top, right, bottom, class, then a score or whether it is a crowd."""
    table = np.array(rows, float).reshape(-1, 6)
    return precision.Boxes(
        xyxy=table[:, :4].astype(np.float32),
        classes=table[:, 4].astype(int),
        scores=table[:, 5],
        crowd=table[:, 5] == 1,
    )


def ap50(precision: ModuleType, true: list, found: list, **how: bool) -> dict[int, float]:
    return {number: row[0] for number, row in precision.precisions(true, found, **how).items()}


def test_a_perfect_answer_has_one_and_an_empty_one_zero(precision) -> None:
    true = [boxes(precision, (0, 0, 9, 9, 3, 0), (20, 0, 29, 9, 5, 0))]

    perfect = precision.precisions(true, [boxes(precision, (0, 0, 9, 9, 3, 0.9), (20, 0, 29, 9, 5, 0.1))])
    empty = precision.precisions(true, [boxes(precision)])

    assert {number: row.tolist() for number, row in perfect.items()} == {3: [1.0] * 10, 5: [1.0] * 10}
    assert {number: row.tolist() for number, row in empty.items()} == {3: [0.0] * 10, 5: [0.0] * 10}


def test_precision_is_taken_at_101_recalls_from_the_best_beyond(precision) -> None:
    # Right, wrong, right, and a third true box that is not found: recall 1/3 at precision 1, 2/3 at 2/3.
    right = np.array([True, False, True])

    assert precision.interpolated(right, 3) == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)


def test_a_true_box_counts_once_and_half_the_overlap_is_needed(precision) -> None:
    true = [boxes(precision, (0, 0, 10, 10, 0, 0))]

    # The second finds what is found already; at a lower score it does no harm to the precision at full recall.
    assert ap50(precision, true, [boxes(precision, (0, 0, 10, 10, 0, 0.9), (0, 0, 10, 9, 0, 0.8))])[0] == 1.0
    # At a higher score, the first right one comes second.
    assert ap50(precision, true, [boxes(precision, (0, 0, 10, 4, 0, 0.9), (0, 0, 10, 9, 0, 0.8))])[0] == 0.5


def test_a_box_that_shares_three_quarters_counts_at_the_overlaps_up_to_there(precision) -> None:
    true = [boxes(precision, (0, 0, 10, 100, 0, 0))]

    (row,) = precision.precisions(true, [boxes(precision, (0, 0, 10, 76, 0, 0.9))]).values()

    assert row.tolist() == [1.0] * 6 + [0.0] * 4


def test_what_lies_on_a_crowd_counts_neither_way(precision) -> None:
    true = [boxes(precision, (0, 0, 10, 10, 0, 0), (50, 50, 90, 90, 0, 1))]
    found = boxes(precision, (60, 60, 70, 70, 0, 0.99), (0, 0, 10, 10, 0, 0.5))

    assert ap50(precision, true, [found]) == {0: 1.0}


def test_only_labelled_classes_count_where_a_set_is_not_exhaustive(precision) -> None:
    true = [boxes(precision, (0, 0, 10, 10, 0, 0)), boxes(precision, (0, 0, 10, 10, 1, 0))]
    found = [boxes(precision, (0, 0, 10, 10, 0, 0.5)), boxes(precision, (0, 0, 9, 9, 0, 0.9), (0, 0, 10, 10, 1, 0.9))]

    assert ap50(precision, true, found) == {0: 0.5, 1: 1.0}
    assert ap50(precision, true, found, labelled_only=True) == {0: 1.0, 1: 1.0}


def test_a_class_with_nothing_but_a_crowd_has_no_precision(precision) -> None:
    assert precision.precisions([boxes(precision, (0, 0, 10, 10, 0, 1))], [boxes(precision)]) == {}


def scattered(precision: ModuleType, pictures: int, classes: int) -> tuple[list, list]:
    """True boxes, some of them crowds, and found ones: shifted true ones with classes and scores astray, and noise."""
    random = np.random.default_rng(5)
    true, found = [], []
    for _ in range(pictures):
        corner, side = random.uniform(0, 200, (12, 2)), random.uniform(40, 90, (12, 2))
        rows = np.concatenate([corner, corner + side], 1)
        numbers, crowd = random.integers(0, classes, 12), random.uniform(size=12) < 0.15
        true.append(boxes(precision, *np.column_stack([rows, numbers, crowd]).tolist()))
        near = np.repeat(rows, 3, axis=0) + random.normal(0, 5, (36, 4))
        guessed = np.where(random.uniform(size=36) < 0.8, np.repeat(numbers, 3), random.integers(0, classes, 36))
        scores = np.round(random.uniform(0.02, 0.99, 36), 2)  # so few different ones that many are equal
        noise = np.concatenate([rows[:, :2], rows[:, :2] + 20], 1)
        found.append(
            boxes(
                precision,
                *np.column_stack([near, guessed, scores]).tolist(),
                *np.column_stack([noise, random.integers(0, classes, 12), random.uniform(0.02, 0.5, 12)]).tolist(),
            )
        )
    return true, found


def by_pycocotools(true: list, found: list) -> dict[int, np.ndarray]:
    """The same detections through COCO's own evaluation."""
    coco, cocoeval = (
        pytest.importorskip(f"pycocotools.{name}", reason="compared with pycocotools, which is not installed")
        for name in ("coco", "cocoeval")
    )

    def sized(box: np.ndarray) -> list[float]:
        left, top, right, bottom = box.astype(float).tolist()
        return [left, top, right - left, bottom - top]

    page = {
        "info": {},
        "images": [{"id": at} for at in range(1, len(true) + 1)],
        "categories": [{"id": number} for number in sorted({int(n) for one in true for n in one.classes})],
        "annotations": [
            {"image_id": at, "category_id": int(number), "bbox": sized(box), "iscrowd": int(crowd)}
            for at, one in enumerate(true, 1)
            for box, number, crowd in zip(one.xyxy, one.classes, one.crowd, strict=True)
        ],
    }
    for number, row in enumerate(page["annotations"], 1):
        row |= {"id": number, "area": row["bbox"][2] * row["bbox"][3]}
    rows = [
        {"image_id": at, "category_id": int(number), "bbox": sized(box), "score": float(score)}
        for at, one in enumerate(found, 1)
        for box, number, score in zip(one.xyxy, one.classes, one.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = page
        truth.createIndex()
        judge = cocoeval.COCOeval(truth, truth.loadRes(rows), "bbox")
        judge.evaluate()
        judge.accumulate()
    table = judge.eval["precision"][:, :, :, 0, -1].mean(1)  # overlaps, classes
    return {number: table[:, at] for at, number in enumerate(judge.params.catIds) if table[0, at] >= 0}


def test_the_figures_are_those_of_pycocotools(precision) -> None:
    true, found = scattered(precision, pictures=30, classes=4)

    ours, theirs = precision.precisions(true, found), by_pycocotools(true, found)

    assert ours.keys() == theirs.keys() == {0, 1, 2, 3}
    for number, row in ours.items():
        assert 0.1 < row[0] < 0.95
        assert row == pytest.approx(theirs[number], abs=1e-9)


@pytest.mark.data("detection/dev.tar", "detection/dev.json")
def test_the_figures_of_the_shipped_detector_are_those_of_pycocotools(evaluation, precision, data) -> None:
    import nearsight as ns

    detection = evaluation("detection")
    photographs = detection.read(data, "dev", 40)
    found = [detection.by_name(ns.Detector())(picture) for picture in photographs.pictures]

    ours, theirs = precision.precisions(photographs.true, found), by_pycocotools(photographs.true, found)

    assert ours.keys() == theirs.keys()
    assert len(ours) > 30
    for number, row in ours.items():
        assert row == pytest.approx(theirs[number], abs=1e-9), photographs.classes[number]
