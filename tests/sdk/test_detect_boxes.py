"""Boxes: the value that detection gives, overlaps, and non-maximum suppression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nearsight as ns
from nearsight.detect.boxes import matched, overlaps, suppressed


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.fixture
def three() -> ns.Detections:
    return ns.Detections(
        boxes_xyxy=boxes((0, 0, 10, 10), (5, 5, 20, 20), (1, 2, 3, 4)),
        scores=np.array([0.9, 0.6, 0.3], np.float32),
        labels=("car", "taxi", "car"),
        routes=("class", "similar", "class"),
        classes=("car", "car", "car"),
        size_wh=(40, 30),
        unjudged=("helmet",),
    )


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(0, 12))
    edges = st.integers(0, 20)
    corners = [
        (min(x, X), min(y, Y), max(x, X), max(y, Y))
        for x, y, X, Y in (draw(st.tuples(edges, edges, edges, edges)) for _ in range(count))
    ]
    scores = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9, 0.3]), min_size=count, max_size=count))
    return boxes(*corners), np.array(scores, np.float32)


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0),
        ((0, 0, 4, 4), (1, 1, 2, 2), 1 / 16),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0.0),
        ((0, 0, 1, 1), (9, 9, 5, 5), 0.0),
    ],
)
def test_overlaps_are_as_computed_by_hand(one, other, share) -> None:
    assert overlaps(boxes(one)[0], boxes(other))[0] == pytest.approx(share)


def test_of_a_heap_the_best_box_stays_and_a_distant_one_stays_too() -> None:
    scene = boxes((0, 0, 10, 10), (1, 0, 11, 10), (30, 30, 40, 40), (0, 1, 10, 11))

    kept = suppressed(scene, np.array([0.5, 0.9, 0.2, 0.4], np.float32), 0.6)

    # The first shares 9/11 with the second, the fourth 81/119 of it with the second.
    assert kept.tolist() == [1, 2]
    assert suppressed(scene, np.array([0.5, 0.9, 0.2, 0.4], np.float32), 0.7).tolist() == [1, 3, 2]


def test_of_equal_scores_the_earlier_box_is_kept() -> None:
    assert suppressed(boxes((0, 0, 9, 9), (0, 0, 9, 9)), np.array([0.5, 0.5], np.float32), 0.5).tolist() == [0]


@given(scenes(), st.sampled_from([0.0, 0.3, 0.6, 1.0]))
def test_what_is_kept_is_apart_and_what_is_not_lies_on_something_better(scene, most) -> None:
    places, scores = scene

    kept = suppressed(places, scores, most).tolist()

    assert [scores[at] for at in kept] == sorted((scores[at] for at in kept), reverse=True)
    for order, at in enumerate(kept):
        assert all(overlaps(places[at], places[[other]])[0] <= most for other in kept[:order])
    for at in set(range(len(places))) - set(kept):
        assert any(scores[other] >= scores[at] and overlaps(places[at], places[[other]])[0] > most for other in kept)


@given(scenes(), st.integers(0, 5))
def test_a_limit_keeps_the_best(scene, most) -> None:
    places, scores = scene

    assert suppressed(places, scores, 0.5, most).tolist() == suppressed(places, scores, 0.5).tolist()[:most]


def test_a_true_box_is_matched_once_and_what_lies_half_on_a_crowd_counts_neither_way() -> None:
    found = boxes((0, 0, 10, 10), (0, 0, 10, 9), (55, 50, 65, 60), (48, 50, 58, 60), (42, 50, 52, 60))
    scores = np.array([0.5, 0.9, 0.8, 0.7, 0.6], np.float32)

    judged = matched(found, scores, boxes((0, 0, 10, 10)), boxes((50, 50, 90, 90)))

    # The fourth lies within the crowd by eight tenths, the fifth by two.
    assert judged == [(pytest.approx(0.9), True), (pytest.approx(0.6), False), (0.5, False)]


def test_a_piece_is_left_out_only_if_it_was_seen_in_another_part() -> None:
    scene = boxes((0, 0, 20, 20), (1, 1, 8, 8), (30, 0, 50, 20))
    scores = np.array([0.9, 0.8, 0.7])

    assert suppressed(scene, scores, 0.6, parts=np.array([0, 1, 0])).tolist() == [0, 2]
    assert suppressed(scene, scores, 0.6, parts=np.array([1, 1, 0])).tolist() == [0, 1, 2]


@given(scenes(), st.sampled_from([0.3, 0.6]))
def test_suppressing_twice_changes_nothing(scene, most) -> None:
    places, scores = scene
    kept = suppressed(places, scores, most)

    assert suppressed(places[kept], scores[kept], most).tolist() == list(range(len(kept)))


@pytest.mark.parametrize(
    ("which", "scores"),
    [
        (0, [0.9]),
        (-1, [0.3]),
        (slice(1, None), [0.6, 0.3]),
        ([2, 0], [0.3, 0.9]),
        ([], []),
        ([False, True, False], [0.6]),
        (np.array([True, False, True]), [0.9, 0.3]),
        (np.array([1]), [0.6]),
    ],
)
def test_detections_can_be_chosen_from_like_an_array(three, which, scores) -> None:
    chosen = three[which]

    assert chosen.scores.tolist() == pytest.approx(scores)
    assert len(chosen) == len(chosen.labels) == len(chosen.routes) == len(chosen.classes) == len(chosen.boxes_xyxy)
    assert (chosen.size_wh, chosen.unjudged) == ((40, 30), ("helmet",))


def test_a_mask_over_scores_reads_as_in_the_documentation(three) -> None:
    assert three[three.scores > 0.5].labels == ("car", "taxi")


@pytest.mark.parametrize(
    "which", [3, [0, 5], [True, False], True, [0.5], "car", None, np.zeros((2, 2), int), [[0], [1, 2]], slice(0.5, 2)]
)
def test_a_box_that_is_not_there_cannot_be_chosen(three, which) -> None:
    with pytest.raises(ns.InputError, match="3 detections were indexed with"):
        three[which]


def test_walking_over_detections_gives_them_one_by_one(three) -> None:
    assert [(one.labels[0], len(one)) for one in three] == [("car", 1), ("taxi", 1), ("car", 1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"boxes_xyxy": np.zeros((2, 4), np.float32)},
        {"boxes_xyxy": np.zeros((3, 4))},
        {"scores": np.zeros((3, 1), np.float32)},
        {"scores": [0.1, 0.2, 0.3]},
        {"routes": ("class",)},
        {"classes": ()},
    ],
)
def test_parts_that_do_not_agree_are_refused(three, wrong) -> None:
    with pytest.raises(ns.InputError, match=r"3 (detections|labels)"):
        replace(three, **wrong)


def test_the_json_form_is_the_promised_one(three) -> None:
    form = three.to_dict()

    assert form["detections"][1] == {
        "label": "taxi", "score": 0.6, "box_xyxy": [5.0, 5.0, 20.0, 20.0], "route": "similar", "class": "car",
    }  # fmt: skip
    assert form["unjudged"] == ["helmet"]
    assert form["size_wh"] == [40, 30]
    assert form["decision"] is None
    assert form["detections"] == three.to_dicts()
