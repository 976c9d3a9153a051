"""Pointing: what outranks what, and where pictures are pasted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import nearsight as ns

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture
def pointing(evaluation) -> ModuleType:
    return evaluation("pointing")


def detections(**scores: float) -> ns.Detections:
    """One box a label."""
    n = len(scores)
    return ns.Detections(
        boxes_xyxy=np.arange(4 * n, dtype=np.float32).reshape(n, 4),
        scores=np.array(list(scores.values()), np.float32),
        labels=tuple(name.rstrip("_") for name in scores),
        routes=("class",) * n,
        classes=("person",) * n,
        size_wh=(100, 100),
    )


def test_the_named_thing_outranks_if_its_best_box_scores_above_all_others(pointing) -> None:
    found = detections(anchor=0.2, crab=0.5, anchor_=0.6)

    assert pointing.outranks(found, "anchor", ["crab", "panda"]) == 1.0
    assert pointing.outranks(found, "crab", ["anchor", "panda"]) == 0.0


def test_a_tie_is_shared_and_no_box_is_a_miss(pointing) -> None:
    found = detections(anchor=0.5, crab=0.5)

    assert pointing.outranks(found, "anchor", ["crab", "panda"]) == 0.5
    assert pointing.outranks(found, "panda", ["okapi", "llama"]) == 0.0


def test_the_best_box_of_a_label_is_given_with_its_score(pointing) -> None:
    score, box = pointing.best(detections(anchor=0.2, anchor_=0.6), "anchor")

    assert score == pytest.approx(0.6)
    assert box.tolist() == [4, 5, 6, 7]


def test_a_pasted_picture_lies_where_it_is_said_to(pointing, photos) -> None:
    from PIL import Image

    board = Image.new("RGB", (300, 200), "black")
    shown = [Image.new("RGB", size, "white") for size in ((80, 40), (30, 90), (200, 200))]
    rows = [pointing.Asked(picture=one, name="anchor", known=False, distractors=("crab",)) for one in shown]

    for one in pointing.pasted(rows, [board]):
        pixels = np.asarray(one.picture)[:, :, 0]
        rows_with, columns_with = pixels.any(1).nonzero()[0], pixels.any(0).nonzero()[0]
        assert one.box.tolist() == [columns_with[0], rows_with[0], columns_with[-1] + 1, rows_with[-1] + 1]
        assert 0.4 * 200 - 1 <= max(one.box[2] - one.box[0], one.box[3] - one.box[1]) <= 0.7 * 200 + 1
    assert not np.asarray(board).any()


def test_a_cat_pasted_into_a_photograph_is_found_there(pointing, photos) -> None:
    from PIL import Image

    cat, bricks = (Image.open(photos / f"{name}.jpg").convert("RGB") for name in ("cat", "brick-wall"))
    row = pointing.Asked(picture=cat, name="cat", known=True, distractors=("elephant",))

    found = pointing.boxed(pointing.pasted([row], [bricks]), ns.Detector())

    assert found["named"]["overlap_of_half"] == 1.0
    assert found["named"]["mean_overlap"] > found["whole_picture_overlap"]


@pytest.mark.data("objects51.tar", "objects51.json")
def test_each_picture_has_ten_other_names_that_coco_does_not_cover(pointing, data) -> None:
    rows = pointing.read(data, 1)

    assert len(rows) == len({row.name for row in rows}) == 39
    for row in rows:
        assert len({*row.distractors, row.name}) == 11
        assert not {row.name, *row.distractors} & pointing.COVERED
    assert [row.distractors for row in rows] == [row.distractors for row in pointing.read(data, 1)]
