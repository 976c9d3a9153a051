"""AP50 as COCO computes it, on cases that can be worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture
def detection(root, monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root))
    from eval import detection

    return detection


def boxes(detection: ModuleType, *rows: tuple) -> object:
    """Rows of left, top, right, bottom, class, then a score or whether it is a crowd."""
    table = np.array(rows, float).reshape(-1, 6)
    return detection.Boxes(
        xyxy=table[:, :4].astype(np.float32),
        classes=table[:, 4].astype(int),
        scores=table[:, 5],
        crowd=table[:, 5] == 1,
    )


def test_a_perfect_answer_has_one_and_an_empty_one_zero(detection) -> None:
    true = [boxes(detection, (0, 0, 9, 9, 3, 0), (20, 0, 29, 9, 5, 0))]

    assert detection.ap50(true, [boxes(detection, (0, 0, 9, 9, 3, 0.9), (20, 0, 29, 9, 5, 0.1))]) == {3: 1.0, 5: 1.0}
    assert detection.ap50(true, [boxes(detection)]) == {3: 0.0, 5: 0.0}


def test_precision_is_taken_at_101_recalls_from_the_best_beyond(detection) -> None:
    # Right, wrong, right, and a third true box that is not found: recall 1/3 at precision 1, 2/3 at 2/3.
    judged = [(0.9, True), (0.8, False), (0.7, True)]

    assert detection.interpolated(judged, 3) == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)


def test_a_true_box_counts_once_and_half_the_overlap_is_needed(detection) -> None:
    true = [boxes(detection, (0, 0, 10, 10, 0, 0))]

    # The second finds what is found already; at a lower score it does no harm to the precision at full recall.
    assert detection.ap50(true, [boxes(detection, (0, 0, 10, 10, 0, 0.9), (0, 0, 10, 9, 0, 0.8))])[0] == 1.0
    # At a higher score, the first right one comes second.
    assert detection.ap50(true, [boxes(detection, (0, 0, 10, 4, 0, 0.9), (0, 0, 10, 9, 0, 0.8))])[0] == 0.5


def test_what_lies_on_a_crowd_counts_neither_way(detection) -> None:
    true = [boxes(detection, (0, 0, 10, 10, 0, 0), (50, 50, 90, 90, 0, 1))]

    found = boxes(detection, (60, 60, 70, 70, 0, 0.99), (0, 0, 10, 10, 0, 0.5))

    assert detection.ap50(true, [found]) == {0: 1.0}


def test_only_labelled_classes_count_where_a_set_is_not_exhaustive(detection) -> None:
    true = [boxes(detection, (0, 0, 10, 10, 0, 0)), boxes(detection, (0, 0, 10, 10, 1, 0))]
    found = [boxes(detection, (0, 0, 10, 10, 0, 0.5)), boxes(detection, (0, 0, 9, 9, 0, 0.9), (0, 0, 10, 10, 1, 0.9))]

    assert detection.ap50(true, found) == {0: 0.5, 1: 1.0}
    assert detection.ap50(true, found, labelled_only=True) == {0: 1.0, 1: 1.0}


def test_a_class_with_nothing_but_a_crowd_has_no_precision(detection) -> None:
    assert detection.ap50([boxes(detection, (0, 0, 10, 10, 0, 1))], [boxes(detection)]) == {}


@pytest.mark.data("detection/dev.tar", "detection/dev.json")
def test_the_shipped_detector_holds_its_floor_on_sixty_photographs(detection, data) -> None:
    import json

    import nearsight as ns

    page = json.loads((data / "detection" / "dev.json").read_text(encoding="utf8"))
    page["images"] = page["images"][:60]
    shown = detection.sets.pictures(data / "detection" / "dev.tar")
    find = detection.by_name(ns.Detector())

    precisions = detection.ap50(detection.truths(page), [find(shown[image["file"]]) for image in page["images"]])

    assert precisions[0] > 0.45
    assert np.mean(list(precisions.values())) > 0.3
