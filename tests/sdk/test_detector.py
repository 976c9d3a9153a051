"""The detector on real photographs: names, routes, words that cannot be judged, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import nearsight as ns
from nearsight.detect.boxes import overlaps


@pytest.fixture(scope="module")
def detector() -> ns.Detector:
    return ns.Detector(threads=1)


@pytest.mark.parametrize(
    ("photo", "labels", "inside"),
    [
        ("cat.jpg", ("cat", "猫", "cats", "feline"), (150, 110)),
        ("coffee.jpg", ("cup", "杯子", "a cup"), (150, 80)),
        ("photographer.jpg", ("person", "人", "people"), (90, 200)),
        ("astronaut.jpg", ("person", "人们"), (120, 200)),
    ],
)
def test_a_thing_is_found_under_each_of_its_names_in_the_same_place(detector, photos, photo, labels, inside) -> None:
    found = [detector.detect(photos / photo, [label])[0] for label in labels]

    for label, one in zip(labels, found, strict=True):
        left, top, right, bottom = one.boxes_xyxy[0]
        assert left < inside[0] < right
        assert top < inside[1] < bottom
        assert (one.labels, one.routes) == ((label,), ("class",))
        assert one.scores[0] > 0.5
    assert len({tuple(one.boxes_xyxy[0]) for one in found}) == 1


def test_it_tells_what_a_label_is_answered_by_before_it_looks(detector) -> None:
    assert detector.meaning("猫") == (("cat",), "class")
    assert detector.meaning("kitten") == (("cat",), "similar")
    assert {"cat", "dog"} <= set(detector.meaning("animals")[0])
    assert detector.meaning("quasar plasma")[0] == ()
    with pytest.raises(ns.InputError, match="labels are texts"):
        detector.meaning(" ")


def test_an_answer_says_where_it_was_computed_and_that_nothing_was_sent(detector, photos) -> None:
    found = detector.detect(photos / "cat.jpg", ["cat"])

    assert (found.decision.target, found.decision.precision, found.decision.sent) == ("cpu", "int8", ())
    assert found.decision.measured.latency_ms > 0
    assert found.size_wh == (320, 213)


def test_a_narrower_word_is_answered_by_its_class_at_half_the_score(detector, photos) -> None:
    found = detector.detect(photos / "photographer.jpg", ["person", "woman"])

    woman, person = found[[label == "woman" for label in found.labels]], found[[r == "class" for r in found.routes]]
    assert woman.routes == ("similar",) * len(person)
    assert woman.classes == person.classes
    assert np.array_equal(woman.boxes_xyxy, person.boxes_xyxy)
    assert woman.scores == pytest.approx(person.scores / 2)
    assert woman.scores.max() <= 0.5


def test_a_word_near_a_class_is_answered_by_it_as_similar(detector, photos) -> None:
    found = detector.detect(photos / "cat.jpg", ["流浪猫"])

    assert found.routes[0] == "similar"
    assert found.classes[0] == "cat"
    assert found.unjudged == ()


def test_a_word_that_no_class_covers_is_not_judged(detector, photos) -> None:
    found = detector.detect(photos / "cat.jpg", ["helmet", "cat", "安全帽"])

    assert found.unjudged == ("helmet", "安全帽")
    assert set(found.labels) == {"cat"}


@pytest.mark.parametrize("label", ["sea horse", "catfish", "phone booth", "河马", "斑马线", "no cat", "不是猫", "一只"])
def test_a_compound_a_negation_or_a_measure_word_is_not_judged(detector, label) -> None:
    assert detector.meaning(label)[0] == ()


def test_compounds_are_mostly_refused_and_near_words_mostly_judged(detector, root) -> None:
    words = json.loads((root / "eval" / "names" / "near_words.json").read_text(encoding="utf8"))
    near = [(word, name) for name, row in words["near"].items() for word in row]

    judged = [detector.meaning(word)[0] for word in words["compounds"]]
    right = [detector.meaning(word)[0] == (name,) for word, name in near]

    assert np.mean([bool(classes) for classes in judged]) <= 0.15
    assert np.mean(right) >= 0.5


@pytest.mark.parametrize("label", ["3 cats", "3只猫"])
def test_a_number_before_a_class_leaves_it_that_class(detector, label) -> None:
    assert detector.meaning(label) == (("cat",), "class")


def test_what_is_not_there_is_not_found(detector, photos) -> None:
    found = detector.detect(photos / "brick-wall.jpg", ["person", "car", "dog"])

    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.unjudged == ()


def test_boxes_come_best_first_within_the_picture_and_above_the_threshold(detector, photos) -> None:
    found = detector.detect(photos / "coins.jpg", detector.classes, min_score=0.05)

    assert len(found) > 3
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.scores.min() >= 0.05
    assert found.boxes_xyxy.min() >= 0
    assert (found.boxes_xyxy[:, 2:] <= found.size_wh).all()
    assert (found.boxes_xyxy[:, :2] <= found.boxes_xyxy[:, 2:]).all()


def test_the_default_threshold_is_the_pages(detector, photos) -> None:
    loose = detector.detect(photos / "coffee.jpg", detector.classes, min_score=0)
    usual = detector.detect(photos / "coffee.jpg", detector.classes)

    assert len(usual) == int((loose.scores >= detector.default_min_score).sum())
    assert 0.1 < detector.default_min_score < 0.6


def test_a_label_asked_twice_is_answered_once(detector, photos) -> None:
    once = detector.detect(photos / "cat.jpg", ["cat"])
    twice = detector.detect(photos / "cat.jpg", ["cat", "cat"])

    assert twice.labels == once.labels


def test_a_word_for_several_classes_tells_which_was_seen(detector, photos) -> None:
    found = detector.detect(photos / "cat.jpg", ["animal"])

    assert (found.labels[0], found.routes[0], found.classes[0]) == ("animal", "class", "cat")


def test_files_bytes_pictures_and_arrays_give_the_same(detector, photos) -> None:
    path = photos / "cat.jpg"
    picture = ns.read_image(path)

    answers = [
        detector.detect(form, ["cat"]) for form in (path, str(path), path.read_bytes(), picture, np.array(picture))
    ]

    assert len({tuple(found.boxes_xyxy.ravel()) for found in answers}) == 1


def test_boxes_are_in_pixels_of_the_upright_picture(detector, photos, tmp_path) -> None:
    upright = ns.read_image(photos / "photographer.jpg").crop((0, 0, 240, 320))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)

    plain, turned = (detector.detect(source, ["person"]) for source in (upright, tmp_path / "turned.png"))

    assert turned.size_wh == (240, 320)
    assert np.array_equal(plain.boxes_xyxy, turned.boxes_xyxy)


@pytest.mark.parametrize("orientation", [1, 2, 6, 8])
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_a_large_picture_is_answered_in_its_own_pixels(detector, photos, tmp_path, ending, orientation) -> None:
    large = ns.read_image(photos / "photographer.jpg").crop((0, 0, 240, 320)).resize((1440, 1920))
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = large if back[orientation] is None else large.transpose(back[orientation])
    stored.save(tmp_path / f"large.{ending}", exif=exif, quality=95)

    whole = detector.detect(ns.read_image(tmp_path / f"large.{ending}"), ["person"])
    found = detector.detect(tmp_path / f"large.{ending}", ["person"])

    assert found.size_wh == whole.size_wh == (1440, 1920)
    assert len(found) == len(whole) > 0
    assert all(
        overlaps(mine, box[None])[0] >= 0.95 for mine, box in zip(found.boxes_xyxy, whole.boxes_xyxy, strict=True)
    )


def test_a_large_jpeg_is_not_decoded_in_full(detector, tmp_path, monkeypatch) -> None:
    Image.new("RGB", (4000, 3000), "grey").save(tmp_path / "large.jpg")
    seen = []
    monkeypatch.setattr(type(detector), "_pixels", lambda _, picture: seen.append(picture.size) or 1 / 0)

    with pytest.raises(ZeroDivisionError):
        detector.detect(tmp_path / "large.jpg", ["car"])
    assert seen == [(500, 375)]


def test_many_pictures_are_read_one_at_a_time(detector, photos) -> None:
    asked = []

    def walk():
        for name in ("cat.jpg", "no-such.jpg"):
            asked.append(name)
            yield photos / name

    answers = detector.detect_many(walk(), ["cat"])

    assert asked == []
    assert next(answers).labels == ("cat",)
    assert asked == ["cat.jpg"]
    with pytest.raises(ns.PictureUnreadableError, match="no-such"):
        next(answers)


@pytest.mark.parametrize("labels", ["car", [], [""], ["  "], [3], None, ["car", b"dog"]])
def test_labels_that_are_none_are_refused_before_a_picture_is_read(detector, labels) -> None:
    with pytest.raises(ns.InputError, match="labels"):
        detector.detect("no-such.jpg", labels)
    with pytest.raises(ns.InputError, match="labels"):
        detector.detect_many(["no-such.jpg"], labels)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), "0.5", True, [0.5], 0.5j])
def test_a_threshold_that_is_no_score_is_refused(detector, score) -> None:
    with pytest.raises(ns.InputError, match="min_score is a score from 0 to 1"):
        detector.detect("no-such.jpg", ["car"], score)


def test_a_model_that_does_not_detect_is_refused() -> None:
    with pytest.raises(ns.UnknownModelError, match="no model is called 'micro'"):
        ns.Detector("micro")
    with pytest.raises(ns.InputError, match="has no precision 'fp8' to detect with; it has int8"):
        ns.Detector(precision="fp8")


def test_the_classes_are_cocos_eighty(detector) -> None:
    assert len(detector.classes) == 80
    assert (detector.classes[0], detector.classes[-1]) == ("person", "toothbrush")


def test_class_words_of_another_space_are_refused(detector, tmp_path, monkeypatch) -> None:
    from dataclasses import replace

    from nearsight.detect.nearness import Nearness

    manifest = detector._engine.manifest
    with np.load(manifest.files["words"]["npz"].path) as archive:
        np.savez(tmp_path / "words.npz", vectors=archive["vectors"], space=np.array("another"))
    size = (tmp_path / "words.npz").stat().st_size
    import hashlib

    digest = hashlib.sha256((tmp_path / "words.npz").read_bytes()).hexdigest()
    file = replace(manifest.files["words"]["npz"], path=tmp_path / "words.npz", bytes=size, sha256=digest)
    other = replace(manifest, files={**manifest.files, "words": {"npz": file}})

    with pytest.raises(ns.ModelError, match="were made in the space 'another'"):
        Nearness(other, target="auto", threads=1).nearest(["helmet"])
