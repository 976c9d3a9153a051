"""The detector on real photographs: names, routes, tiles, batches, what cannot be judged, and what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

import nearsight as ns
from nearsight.detect.boxes import overlaps
from nearsight.detect.crops import Cropper
from nearsight.detect.nearness import Nearness
from nearsight.detect.words import Words
from nearsight.sight import Sight


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
    assert detector.meaning("quasar plasma") == ((), "crop")
    assert detector.meaning("no cat") == ((), "")
    with pytest.raises(ns.InputError, match="labels are texts"):
        detector.meaning(" ")


def test_an_answer_says_where_it_was_computed_and_that_nothing_was_sent(detector, photos) -> None:
    found = detector.detect(photos / "cat.jpg", ["cat"])

    assert (found.decision.target, found.decision.precision, found.decision.sent) == ("cpu", "int8", ())
    assert found.decision.measured.latency_ms > 0
    assert found.size_wh == (320, 213)


def test_a_narrower_word_is_answered_by_its_class_at_half_the_chance(detector, photos) -> None:
    found = detector.detect(photos / "photographer.jpg", ["person", "woman"], min_score=0.3)

    woman = found[[label == "woman" for label in found.labels]]
    person = found[[label == "person" for label in found.labels]]
    sure = person[person.scores >= 0.6]
    assert len(woman) == len(sure) > 0
    assert woman.routes == ("similar",) * len(sure)
    assert woman.classes == sure.classes
    assert np.array_equal(woman.boxes_xyxy, sure.boxes_xyxy)
    assert woman.scores == pytest.approx(sure.scores / 2)


def test_a_word_near_a_class_is_answered_by_it_as_similar(detector, photos) -> None:
    found = detector.detect(photos / "cat.jpg", ["流浪猫"])

    assert found.routes[0] == "similar"
    assert found.classes[0] == "cat"
    assert found.unjudged == ()


def test_a_word_that_no_class_covers_is_judged_by_crops(detector, photos) -> None:
    found = detector.detect(photos / "astronaut.jpg", ["flag", "person", "chess board"], min_score=0.1)

    flag = found[[label == "flag" for label in found.labels]]
    _, top, right, bottom = flag.boxes_xyxy[0]
    assert set(flag.routes) == {"crop"}
    assert set(flag.classes) == {""}
    # The flag hangs on the left, behind the astronaut.
    assert right < 110
    assert bottom - top > 100
    assert "chess board" not in found.labels
    assert found.unjudged == ()


def test_crops_are_not_looked_at_where_classes_answer(detector, photos, monkeypatch) -> None:
    monkeypatch.setattr(Cropper, "look", lambda *_: 1 / 0)

    assert detector.detect(photos / "cat.jpg", ["cat", "流浪猫"]).routes == ("class", "similar")
    with pytest.raises(ZeroDivisionError):
        detector.detect(photos / "cat.jpg", ["cat", "helmet"])


@pytest.mark.parametrize("label", ["no cat", "不是猫", "一只", "red", "?!", "سيارة", "машина", "😀"])
def test_negations_numbers_and_other_scripts_cannot_be_judged(detector, photos, label) -> None:
    found = detector.detect(photos / "cat.jpg", [label, "cat"], min_score=0)

    assert found.unjudged == (label,)
    assert set(found.labels) == {"cat"}


def test_control_characters_in_a_label_change_nothing(detector, photos) -> None:
    found = detector.detect(photos / "cat.jpg", ["\x1b\tcat\x00"])

    assert (found.routes, found.classes) == (("class",), ("cat",))


@pytest.mark.parametrize("label", ["sea horse", "catfish", "phone booth", "河马", "斑马线"])
def test_a_compound_is_judged_by_crops_not_by_a_class_it_holds(detector, label) -> None:
    assert detector.meaning(label) == ((), "crop")


def test_ten_thousand_labels_are_answered(detector, photos) -> None:
    labels = [*(f"{number} cats" for number in range(9_990)), "car", "helmet", "no dog", "flag", "wooden fence"]

    found = detector.detect(photos / "cat.jpg", labels)

    assert len(found) == 9_990
    assert found.unjudged == ("no dog",)


def test_a_picture_of_a_thing_can_be_asked_for(detector, photos) -> None:
    cat = ns.read_image(photos / "cat.jpg")
    board = Image.new("RGB", (640, 480), (90, 120, 90))
    board.paste(cat.resize((320, 213)), (300, 200))

    found = detector.detect(board, [cat.crop((30, 0, 260, 213)), "cat"], min_score=0.02)

    mine = found[[route == "example" for route in found.routes]]
    assert mine.labels[0] == "example 1"
    assert overlaps(mine.boxes_xyxy[0], np.array([[300, 200, 620, 413]], np.float32))[0] > 0.4
    assert detector.detect(board, [photos / "cat.jpg"], min_score=0).labels[0] == "cat.jpg"


def test_examples_of_equal_file_names_are_told_apart(detector, photos, tmp_path) -> None:
    for folder, photo in (("mine", "cat.jpg"), ("yours", "coffee.jpg")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "thing.jpg").write_bytes((photos / photo).read_bytes())
    mine, yours = tmp_path / "mine" / "thing.jpg", tmp_path / "yours" / "thing.jpg"
    picture = ns.read_image(mine)

    found = detector.detect(photos / "cat.jpg", [mine, yours, yours, picture, picture, "example 2"], min_score=0)

    shown = {label for label, route in zip(found.labels, found.routes, strict=True) if route == "example"}
    assert shown == {"thing.jpg", "yours/thing.jpg", "thing.jpg (2)", "example 4", "example 5"}
    best = {label: found[[one == label for one in found.labels]].scores[0] for label in shown}
    assert best["thing.jpg"] == best["example 4"] > best["yours/thing.jpg"]


def test_a_limit_for_a_label_that_was_not_asked_is_refused(detector, photos) -> None:
    with pytest.raises(ns.InputError, match="min_score names 'dgo', which is no label here; there is 'cat', 'dog'"):
        detector.detect(photos / "cat.jpg", ["cat", "dog"], min_score={"cat": 0.2, "dgo": 0.3})
    with pytest.raises(ns.InputError, match="there is 'example 1'"):
        detector.detect(photos / "cat.jpg", [ns.read_image(photos / "cat.jpg")], min_score={"cat": 0.2})


def test_a_decision_holds_the_runs_that_new_labels_took_once(photos) -> None:
    fresh, label = ns.Detector(threads=1), "a lighthouse keeper's lantern"

    first, second = fresh.detect_many([photos / "cat.jpg"] * 2, [label])
    third = fresh.detect(photos / "cat.jpg", [label, photos / "cat.jpg"])

    runs = [one.decision.measured for one in (first, second, third)]
    assert runs[0].bytes_in > runs[1].bytes_in
    assert runs[2].bytes_in == runs[1].bytes_in + 224 * 224 * 3


def test_what_crops_say_of_a_label_does_not_hang_on_its_limit(detector, photos) -> None:
    everything = detector.detect(photos / "astronaut.jpg", ["flag", "helmet"], min_score=0)
    some = detector.detect(photos / "astronaut.jpg", ["flag", "helmet"], min_score=0.05)

    assert some.to_dicts() == everything[everything.scores >= 0.05].to_dicts()


def test_a_question_that_is_repeated_is_the_same_and_a_changed_one_is_not(detector, photos) -> None:
    labels = ["cat", "dog"]
    first, again = (detector.detect(photos / "cat.jpg", labels, 0.2).to_dicts() for _ in range(2))
    labels[0] = "sofa"
    changed = detector.detect(photos / "cat.jpg", labels, 0.2)
    limits = {"cat": 0.99}
    few = detector.detect(photos / "cat.jpg", ["cat"], limits)
    limits["cat"] = 0.0
    many = detector.detect(photos / "cat.jpg", ["cat"], limits)

    assert first == again
    assert "cat" not in changed.labels
    assert len(few) < len(many)
    detector.detect(photos / "cat.jpg", ["cat"], 1.0)
    with pytest.raises(ns.InputError, match="min_score is a score"):
        detector.detect(photos / "cat.jpg", ["cat"], True)


def test_one_look_serves_every_question(detector, photos, monkeypatch) -> None:
    sight = Sight(photos / "astronaut.jpg")
    first = detector.detect(sight, ["person", "flag"])
    monkeypatch.setattr(detector._engine, "run", lambda *_: 1 / 0)

    second = detector.detect(sight, ["person", "flag"])

    assert second.to_dicts() == first.to_dicts()


def test_compounds_are_mostly_refused_and_near_words_mostly_judged(detector, root) -> None:
    words = json.loads((root / "eval" / "names" / "near_words.json").read_text(encoding="utf8"))
    near = [(word, name) for name, row in words["near"].items() for word in row]

    judged = [detector.meaning(word)[0] for word in words["compounds"]]
    right = [detector.meaning(word)[0] == (name,) for word, name in near]

    assert np.mean([bool(classes) for classes in judged]) <= 0.15  # the rest goes to the crops
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


@pytest.mark.parametrize(("labels", "read"), [(["car"], (500, 375)), (["helmet"], (1000, 750))])
def test_a_large_jpeg_is_not_decoded_in_full(detector, tmp_path, labels, read) -> None:
    Image.new("RGB", (4000, 3000), "grey").save(tmp_path / "large.jpg")
    sight = Sight(tmp_path / "large.jpg")

    detector.detect(sight, labels)

    assert sight.picture((1, 1)).size == read


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


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_batches_answer_as_one_by_one_and_break_off_where_a_picture_is_missing(detector, photos, batch) -> None:
    paths = [photos / name for name in ("cat.jpg", "coffee.jpg", "astronaut.jpg", "no-such.jpg", "cat.jpg")]
    alone = [detector.detect(path, ["cat", "cup", "person"]) for path in paths[:3]]

    answers = detector.detect_many(paths, ["cat", "cup", "person"], batch=batch)

    for one, other in zip(alone, answers, strict=False):
        assert other.labels == one.labels
        assert other.boxes_xyxy == pytest.approx(one.boxes_xyxy, abs=0.5)
        assert other.scores == pytest.approx(one.scores, abs=0.01)
    with pytest.raises(ns.PictureUnreadableError, match="no-such"):
        next(answers)


def test_frames_and_arrays_are_pictures_too(detector, photos) -> None:
    pixels = np.array(ns.read_image(photos / "cat.jpg"))
    frame = ns.Frame(pixels=pixels, captured_at=datetime(2026, 1, 1), camera="gate", index=0)

    boxes = [found.boxes_xyxy.tolist() for found in detector.detect_many([frame, pixels], ["cat"])]

    assert boxes[0] == boxes[1] != []


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_a_batch_that_is_no_number_of_pictures_is_refused(detector, batch) -> None:
    with pytest.raises(ns.InputError, match="batch is a whole number from 1"):
        detector.detect_many([], ["cat"], batch=batch)


def test_tiles_find_small_things_that_the_whole_picture_misses(detector, photos) -> None:
    names = ("cat", "coffee", "astronaut")
    board = Image.new("RGB", (1600, 1200), (110, 110, 110))
    for number in range(20):
        thing = ns.read_image(photos / f"{names[number % 3]}.jpg").resize((160, 120))
        board.paste(thing, (40 + 310 * (number % 5), 60 + 290 * (number // 5)))
    labels = ["cat", "cup", "person"]

    whole, tiled = detector.detect(board, labels), detector.detect(board, labels, tiles=(4, 3))

    assert len(tiled) >= len(whole) + 5
    # Nothing twice: no box of a label lies within another one of it.
    for label in labels:
        boxes = tiled[[one == label for one in tiled.labels]].boxes_xyxy
        for at, box in enumerate(boxes):
            assert not (overlaps(box, np.delete(boxes, at, axis=0)) > 0.6).any()


@pytest.mark.parametrize("tiles", [0, 17, 2.0, True, (2, 0), (1, 2, 3), "2"])
def test_tiles_that_are_none_are_refused(detector, tiles) -> None:
    with pytest.raises(ns.InputError, match="tiles is a number from 1 to 16"):
        detector.detect("no-such.jpg", ["cat"], tiles=tiles)


def test_each_label_may_have_its_threshold(detector, photos) -> None:
    everything = detector.detect(photos / "cat.jpg", ["cat", "sofa"], min_score=1e-6)

    found = detector.detect(photos / "cat.jpg", ["cat", "sofa"], {"sofa": 1e-6})

    assert found.labels.count("cat") == 1 < everything.labels.count("cat")
    assert found.labels.count("sofa") == everything.labels.count("sofa") > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (7300, 5500)])
def test_a_pixel_and_forty_megapixels_are_pictures(detector, size) -> None:
    found = detector.detect(Image.new("RGB", size, (120, 90, 60)), ["car", "helmet"], min_score=0.9)

    assert (len(found), found.size_wh) == (0, size)


@pytest.mark.parametrize("labels", ["car", [], [""], ["  "], ["\x00"], [3], None, ["car", b"dog"], np.zeros((8, 8, 3))])
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


def test_class_words_of_another_space_are_refused(detector, tmp_path) -> None:
    manifest = detector._engine.manifest
    with np.load(manifest.files["words"]["npz"].path) as archive:
        np.savez(tmp_path / "words.npz", vectors=archive["vectors"], space=np.array("another"))
    made = (tmp_path / "words.npz").read_bytes()
    digest = hashlib.sha256(made).hexdigest()
    file = replace(manifest.files["words"]["npz"], path=tmp_path / "words.npz", bytes=len(made), sha256=digest)
    other = replace(manifest, files={**manifest.files, "words": {"npz": file}})

    with pytest.raises(ns.ModelError, match="were made in the space 'another'"):
        Nearness(other, Words("nano")).nearest(["helmet"])
