"""What is measured on photographs: sets, default thresholds, absent labels, words and routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import nearsight as ns

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture
def detection(evaluation) -> ModuleType:
    return evaluation("detection")


@pytest.fixture
def routes(evaluation) -> ModuleType:
    return evaluation("routes")


@pytest.fixture
def photographs(evaluation, detection, photos) -> object:
    """An astronaut, a photographer, and bricks; who is in them is boxed by eye."""
    from PIL import Image

    boxes = {"astronaut": (11, 8, 231, 320), "photographer": (0, 38, 206, 320), "brick-wall": None}
    pictures = [Image.open(photos / f"{name}.jpg").convert("RGB") for name in boxes]
    page = {"images": [{"boxes": [] if box is None else [[*box, 0]]} for box in boxes.values()]}
    return detection.Photographs(
        pictures=pictures,
        true=evaluation("precision").truths(page),
        classes=list(ns.Detector().classes),
        labelled_only=False,
    )


def test_people_in_carried_photographs_are_found_by_the_name_of_their_class(detection, photographs) -> None:
    figures = detection.measure(photographs, detection.by_name(ns.Detector()))

    assert figures["ap50"] == figures["person"] > 0.9
    assert figures["ap"] < figures["ap50"]
    assert (figures["classes"], figures["pictures"]) == (1, 3)


def test_the_default_threshold_is_told_with_what_it_gives_and_what_it_invents(detection, photographs) -> None:
    found = detection.at_default(photographs, ns.Detector())

    assert found["boxes"]["person"]["wanted"] == 2
    assert found["boxes"]["person"]["recall"] == 1.0
    assert 79 < found["absent_names"]["labels_a_picture"] < 80
    assert sum(band["things"] for band in found["recall_by_size"].values()) == 2


def test_a_box_finds_one_thing(detection, evaluation) -> None:
    things = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], np.float32)
    found = evaluation("precision").found_boxes(
        np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32), np.zeros(2, int), np.array([0.9, 0.1], np.float32)
    )

    assert detection.seen(things, found) == [True, False, True]


def test_boxes_of_absent_labels_are_counted_a_picture_and_a_label(detection) -> None:
    assert detection.false_positives([0, 3, 1, 0], [10, 10, 10, 10]) == {
        "labels_a_picture": 10.0,
        "boxes_a_picture": 1.0,
        "boxes_a_label": 0.1,
        "pictures_with_one": 0.5,
    }


def test_precision_and_recall_count_no_box_on_a_crowd(detection, evaluation) -> None:
    precision = evaluation("precision")
    true = precision.truths({"images": [{"boxes": [[0, 0, 10, 10, 0, 0], [20, 0, 90, 90, 0, 1]]}]})[0]
    edges = np.array([[0, 0, 10, 10], [30, 30, 40, 40], [0, 50, 10, 60]], np.float32)
    found = precision.found_boxes(edges, np.zeros(3, int), np.array([0.9, 0.8, 0.7], np.float32))

    rates = detection.rates([precision.judged(true, found)], 1)

    assert rates == {"given": 2, "precision": 0.5, "recall": 1.0}


def test_scores_are_held_against_the_share_of_boxes_that_are_right(routes, evaluation) -> None:
    scores = np.array([0.95, 0.95, 0.15, 0.15, 0.05], np.float32)
    right = np.array([[True, False, False, False, True]])
    row = evaluation("precision").Judged(scores=scores, right=right, counted=np.ones((1, 5), bool))

    found = routes.calibration([row])

    # What scores less than a tenth is not told of.
    assert found["score_right_boxes"] == [(0.15, 0.0, 2), (0.95, 0.5, 2)]
    assert found["calibration_gap"] == pytest.approx((0.15 * 2 + 0.45 * 2) / 4)


def test_words_of_one_meaning_are_answered_alike(photographs) -> None:
    """Why each meaning is asked once, by `words.labels`."""
    found = ns.Detector().detect(photographs.pictures[0], ["person", "人", "people"], 0.05)
    scores = {label: found.scores[np.isin(found.labels, [label])].tolist() for label in ("person", "人", "people")}

    assert scores["person"] == scores["人"] == scores["people"] != []


def test_every_word_has_its_precision_and_its_route(evaluation, routes, photographs) -> None:
    found = routes.measure(photographs, ns.Detector())
    words = [word for word in evaluation("words").every() if word.means == "person"]

    assert found["each"].keys() == {word.text for word in words}
    assert found["words"]["en all"]["words"] == sum(word.language == "en" for word in words)
    assert found["each"]["人类"]["ap50"] > 0.9
    assert found["routes"]["class"]["labels"] >= 1


@pytest.mark.data("detection/dev.tar", "detection/dev.json")
def test_the_shipped_detector_holds_its_floor_on_sixty_photographs(detection, data) -> None:
    figures = detection.measure(detection.read(data, "dev", 60), detection.by_name(ns.Detector()))

    assert figures["person"] > 0.45
    assert figures["ap50"] > 0.3


@pytest.mark.data("detection/dev.tar", "detection/dev.json", "../weights/detectors/yolox_nano.onnx")
def test_the_peers_find_people_too(detection, evaluation, data) -> None:
    photographs = detection.read(data, "dev", 30)
    peers = {name: peer for name, peer in evaluation("peers").there(data) if not isinstance(peer, str)}

    found = {name: detection.measure(photographs, peer)["person"] for name, peer in peers.items()}

    assert {"YOLOX-nano", "FastestDet"} <= found.keys()
    assert all(value > 0.45 for value in found.values()), found


def test_a_higher_threshold_gives_the_part_of_the_answer_that_reaches_it(photographs) -> None:
    """Why `routes.measure` looks at each picture once."""
    detector, labels = ns.Detector(), ["person", "wagon", "flag"]

    for picture in photographs.pictures[:2]:
        low, default = detector.detect(picture, labels, 0.02), detector.detect(picture, labels)
        part = low[low.scores >= detector.default_min_score]
        assert (part.labels, part.scores.tolist()) == (default.labels, default.scores.tolist())
        assert part.boxes_xyxy.tolist() == default.boxes_xyxy.tolist()
        assert len(part) < len(low)
