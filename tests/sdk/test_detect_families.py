"""Detectors of other architectures on graphs whose answers one can compute by hand: what labels, pictures and pages do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import colour_detectors as colour
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import nearsight as ns
import nearsight_models
from nearsight.detect.closedset import listed
from nearsight.detect.openset import english
from nearsight.families.canvas import kept_ratio, sampled
from nearsight.families.lookup import leaf

pytest.importorskip("tokenizers", reason="words are read with tokenizers, which is not installed")

KINDS = {"owlv2": colour.owlv2, "whole-owlv2": colour.whole_owlv2, "grounding-dino": colour.grounding_dino}
BLACK, RED, GREEN, BLUE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)
SURE = 1 / (1 + np.exp(-colour.SCALE * (1 + colour.SHIFT)))


@pytest.fixture
def models():
    """Give the folder of installed models; what is put there goes with the test."""
    folder = Path(os.environ["NEARSIGHT_MODELS"])
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=sorted(KINDS))
def open_detector(request, models) -> ns.Detector:
    KINDS[request.param](f"sees-{request.param}")
    return ns.Detector(f"sees-{request.param}", threads=1)


def quartered(*colours: tuple[int, int, int], side: int = 80) -> Image.Image:
    """Paint a square of four colours, row by row."""
    board = Image.new("RGB", (side, side))
    for place, colour_ in enumerate(colours):
        board.paste(colour_, ((place % 2) * side // 2, (place // 2) * side // 2, side, (place // 2 + 1) * side // 2))
    return board


def quarter(place: int, side: int = 80) -> list[float]:
    half = side / 2
    left, top = (place % 2) * half, (place // 2) * half
    return [left, top, left + half, top + half]


def test_words_are_found_where_their_colour_is(open_detector) -> None:
    found = open_detector.detect(quartered(RED, GREEN, BLUE, RED), ["red", "a green car", "blue"])

    rows = sorted(zip(found.labels, found.boxes_xyxy.tolist(), strict=True))
    assert rows == [("a green car", quarter(1)), ("blue", quarter(2)), ("red", quarter(0)), ("red", quarter(3))]
    assert found.scores == pytest.approx([SURE] * 4, abs=0.03)  # a quarter's edge has a little of its neighbours
    assert (set(found.routes), set(found.classes)) == ({"text"}, {""})
    assert (found.decision.target, found.decision.sent) == ("cpu", ())
    assert (open_detector.classes, open_detector.near) == ((), None)
    assert open_detector.meaning("red") == ((), "text")


def test_what_was_found_is_drawn_and_written_as_nanos_is(open_detector, tmp_path, capsys) -> None:
    from nearsight.cli.main import main

    picture = quartered(RED, GREEN, BLUE, RED)
    picture.save(tmp_path / "quarters.png")
    found = open_detector.detect(picture, ["green"])

    name = open_detector._engine.manifest.name
    code = main(["detect", str(tmp_path / "quarters.png"), "green", "no red", "--model", name, "--json"])

    said = json.loads((told := capsys.readouterr()).out)
    assert code == 0
    assert said["detections"] == found.to_dicts()
    assert (said["detections"][0]["route"], said["detections"][0]["class"]) == ("text", None)
    assert said["unjudged"] == ["no red"]
    assert f"a script that {name} lacks" in told.err
    assert ns.draw(picture, found).size == picture.size
    assert ns.to_coco(found, 7, {"green": 3})[0]["bbox"] == [40, 0, 40, 40]


def test_what_is_not_there_is_not_found(open_detector) -> None:
    found = open_detector.detect(quartered(RED, RED, RED, RED), ["blue"])

    assert (len(found), found.unjudged) == (0, ())


@pytest.mark.parametrize("label", ["no red", "不是红", "???", "سيارة", "红旗飘飘"])
def test_what_the_model_did_not_learn_and_negations_are_not_judged(open_detector, label) -> None:
    found = open_detector.detect(quartered(RED, RED, RED, RED), [label, "red"], 0)

    assert found.unjudged == (label,)
    assert set(found.labels) == {"red"}
    alone = open_detector.detect(quartered(RED, RED, RED, RED), [label])
    assert (len(alone), alone.unjudged, alone.decision, alone.size_wh) == (0, (label,), None, (80, 80))


def test_a_chinese_name_is_asked_in_english(open_detector) -> None:
    found = open_detector.detect(quartered(RED, GREEN, BLUE, RED), ["汽车"], 0)

    # The vocabulary has the word; no quarter has its colour, for it has none.
    assert (found.unjudged, set(found.labels)) == ((), {"汽车"})
    assert [english(label) for label in ("猫", "一只猫", "头盔", "红色的卡车", "红旗飘飘")] == [
        "cat",
        "cat",
        "helmet",
        None,
        None,
    ]


def test_labels_that_are_none_are_refused_before_a_picture_is_read(open_detector) -> None:
    for labels in ("red", [], [" "], [3], None):
        with pytest.raises(ns.InputError, match="labels"):
            open_detector.detect("no-such.jpg", labels)
    with pytest.raises(ns.InputError, match="min_score"):
        open_detector.detect("no-such.jpg", ["red"], 2)


def test_a_label_asked_twice_is_answered_once(open_detector) -> None:
    once, twice = (open_detector.detect(quartered(RED, BLUE, BLUE, BLUE), labels) for labels in (["red"], ["red"] * 2))

    assert twice.to_dicts() == once.to_dicts()


def test_each_label_may_have_its_threshold_and_there_is_a_default(open_detector) -> None:
    picture = quartered(RED, GREEN, BLUE, BLACK)

    found = open_detector.detect(picture, ["red", "green"], {"red": 0.999})

    assert set(found.labels) == {"green"}
    assert open_detector.default_min_score == (0.25 if "dino" in open_detector._engine.manifest.name else 0.1)


def test_batches_answer_as_one_by_one(open_detector) -> None:
    pictures = [quartered(*colours) for colours in ((RED, BLUE, BLUE, BLUE), (GREEN, RED, BLUE, BLUE), (BLUE,) * 4)]

    together = list(open_detector.detect_many(pictures, ["red", "green"], batch=2))

    assert [found.to_dicts() for found in together] == [
        open_detector.detect(picture, ["red", "green"]).to_dicts() for picture in pictures
    ]


def test_tiles_show_small_things(open_detector) -> None:
    board = Image.new("RGB", (320, 320))
    board.paste(RED, (0, 0, 60, 60))

    whole, tiled = open_detector.detect(board, ["red"], 0), open_detector.detect(board, ["red"], tiles=3)

    assert (whole.boxes_xyxy[:, 2:] - whole.boxes_xyxy[:, :2]).min() == 160
    assert len(tiled) == 1
    assert tiled.boxes_xyxy[0, :2] == pytest.approx([0, 0])
    assert tiled.boxes_xyxy[0, 2:].max() <= 80


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3000, 2000)])
def test_any_shape_of_picture_is_looked_at_and_boxes_stay_within_it(open_detector, size) -> None:
    found = open_detector.detect(Image.new("RGB", size, RED), ["red"], 0)

    assert found.size_wh == size
    assert found.boxes_xyxy.min(initial=0) >= 0
    assert (found.boxes_xyxy[:, 2:] <= size).all()
    assert ((found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]) > 0).all()


def test_a_wide_picture_keeps_its_shape_on_the_canvas(models) -> None:
    colour.owlv2("owl")
    colour.grounding_dino("dino")
    wide = Image.new("RGB", (160, 80), RED)

    # OWLv2's lower quarters lie in the black below the picture, and Grounding DINO counts in the picture itself.
    assert sorted(ns.Detector("owl").detect(wide, ["red"]).boxes_xyxy.tolist()) == [[0, 0, 80, 80], [80, 0, 160, 80]]
    assert sorted(ns.Detector("dino").detect(wide, ["red"]).boxes_xyxy.tolist()) == [[0, 0, 80, 40], [80, 0, 160, 40]]


def test_owlv2_looks_once_whatever_is_asked_and_remembers_words(models, monkeypatch) -> None:
    colour.owlv2("owl")
    detector, ran = ns.Detector("owl"), []
    run = detector._engine.run
    monkeypatch.setattr(detector._engine, "run", lambda role, *rest: (ran.append(role), run(role, *rest))[1])
    from nearsight.sight import Sight

    sight = Sight(quartered(RED, GREEN, BLUE, RED))
    for labels in (["red"], ["red", "green"], ["green"]):
        detector.detect(sight, labels)

    assert ran == ["text", "image", "text"]


def test_owlv2_finds_what_a_picture_shows(models) -> None:
    colour.owlv2("owl")

    found = ns.Detector("owl").detect(quartered(RED, GREEN, BLUE, RED), [Image.new("RGB", (9, 9), GREEN), "red"])

    shown = found[[route == "example" for route in found.routes]]
    assert shown.labels == ("example 1",)
    assert shown.boxes_xyxy.tolist() == [quarter(1)]
    assert found.labels.count("red") == 2


@pytest.mark.parametrize("kind", ["whole-owlv2", "grounding-dino"])
def test_a_graph_with_its_words_inside_takes_no_picture_for_a_label(kind, models) -> None:
    KINDS[kind]("inside")

    with pytest.raises(ns.InputError, match="takes texts as labels; got a picture; ask Detector"):
        ns.Detector("inside").detect("no-such.jpg", ["red", Image.new("RGB", (9, 9))])


def test_the_worse_of_two_boxes_of_a_label_is_left_out(models) -> None:
    colour.rt_detr("one", max_overlap=0.0)
    colour.yolox("twice", {0: (0, 0, 1, 1, 1, 0.9, 0), 1: (-1, 0, 1, 1, 1, 0.8, 0.7)}, classes=["person", "car"])

    found = ns.Detector("twice").detect(Image.new("RGB", (32, 32)), ["person", "car"])

    # The second box lies on the first: it is left out for a person, and stays for a car.
    assert [(label, round(float(score), 4)) for label, score in zip(found.labels, found.scores, strict=True)] == [
        ("person", 0.9),
        ("car", 0.7),
    ]


def test_more_phrases_than_a_sentence_holds_are_asked_in_several(models, monkeypatch) -> None:
    colour.grounding_dino("dino", longest=8)
    detector, asked = ns.Detector("dino"), []
    run = detector._engine.run
    monkeypatch.setattr(
        detector._engine, "run", lambda role, arrays: (asked.append(arrays["input_ids"].tolist()), run(role, arrays))[1]
    )

    found = detector.detect(quartered(RED, GREEN, BLUE, BLACK), ["red", "green", "red car", "blue", "a " * 50 + "red"])

    # [CLS] red . green . [SEP]: the third would need three tokens more of the eight.
    assert asked[0] == [[2, 10, 4, 11, 4, 3]]
    assert asked[1] == [[2, 10, 9, 4, 12, 4, 3]]
    assert max(len(row) for (row,) in asked) <= 8
    assert sorted(zip(found.labels, map(tuple, found.boxes_xyxy.tolist()), strict=True)) == [
        ("blue", tuple(quarter(2))),
        ("green", tuple(quarter(1))),
        ("red", tuple(quarter(0))),
        ("red car", tuple(quarter(0))),
    ]


def test_a_graph_that_reads_one_phrase_is_asked_one_at_a_time(models) -> None:
    colour.grounding_dino("dino", phrases=1)
    made = leaf(nearsight_models.load("dino"))

    prompts = made.prompts(["red", "Green. Car?", "blue [SEP]"])

    assert [prompt.arrays["input_ids"].tolist() for prompt in prompts] == [
        [[2, 10, 4, 3]],
        [[2, 11, 9, 4, 3]],  # what would part a label is left out
        [[2, 12, 1, 1, 1, 4, 3]],  # marks that a label spells out are none
    ]


def test_ten_thousand_labels_are_answered(models) -> None:
    colour.owlv2("owl")
    labels = [f"red car {number}" for number in range(9_999)] + ["green"]

    found = ns.Detector("owl").detect(quartered(RED, GREEN, BLUE, BLACK), labels)

    assert set(found.labels) == set(labels)
    assert (found.scores > 0.9).sum() == 10_000


def test_classes_are_asked_by_other_names_and_other_words_by_the_lexicon_nearness_and_crops(models, photos) -> None:
    colour.rt_detr("closed")
    detector = ns.Detector("closed")

    assert detector.classes == ("person", "motorcycle", "widget")
    assert detector.meaning("人") == (("person",), "class")
    assert detector.meaning("motorbikes") == (("motorcycle",), "class")
    assert detector.meaning("Widgets") == (("widget",), "class")
    assert detector.meaning("woman") == (("person",), "similar")
    assert detector.meaning("helmet") == ((), "crop")
    found = detector.detect(quartered(RED, GREEN, BLUE, BLACK), ["people", "woman", "widget"], 0.3)
    assert {
        (label, seen): box
        for label, seen, box in zip(found.labels, found.classes, found.boxes_xyxy.tolist(), strict=True)
    } == {
        ("people", "person"): quarter(0),
        ("woman", "person"): quarter(0),
        ("widget", "widget"): quarter(2),
    }
    scores = dict(zip(found.labels, found.scores.tolist(), strict=True))
    assert scores["people"] == pytest.approx(SURE, abs=0.03)
    assert scores["woman"] == pytest.approx(scores["people"] / 2)
    crops = detector.detect(photos / "astronaut.jpg", ["flag", photos / "cat.jpg"], 0)
    assert set(crops.routes) == {"crop", "example"}


def test_classes_spelled_as_darknet_does_get_the_lexicons_names() -> None:
    assert listed(["person", "tvmonitor", "pottedplant", "sofa", "aeroplane", "couch"]) == (
        "person", "tv", "potted plant", "couch", "airplane", "couch",
    )  # fmt: skip


def test_yolox_boxes_are_decoded_by_their_cells(models) -> None:
    row = (0.5, 0.5, np.log(2.0), np.log(1.0))
    # The 6th cell of the first grid: column 1, row 1, stride 8; the last one: stride 32.
    colour.yolox("cells", {5: (*row, 0.9, 1, 0), 20: (0.25, 0.25, -1.0, -1.0, 0.8, 0, 0.5)}, classes=["person", "car"])
    picture = Image.new("RGB", (64, 32))  # on the canvas at half its size

    found = ns.Detector("cells").detect(picture, ["person", "car"], 0.3)

    assert found.labels == ("person", "car")
    assert found.scores == pytest.approx([0.9, 0.4])
    # Centre (12, 12), size (16, 8) on the canvas.
    assert found.boxes_xyxy[0] == pytest.approx([8, 16, 40, 32])
    half = 32 / np.e
    assert found.boxes_xyxy[1] == pytest.approx([16 - half, max(0, 16 - half), 16 + half, 16 + half], abs=1e-4)


def test_yolox_sees_blue_green_red_on_grey(models) -> None:
    colour.yolox("cells", {0: (0, 0, 0, 0, 0, 0)}, classes=["person"])

    arrays = leaf(nearsight_models.load("cells")).picture_arrays(Image.new("RGB", (64, 32), (10, 20, 30)))

    assert arrays["images"].shape == (1, 3, 32, 32)
    assert arrays["images"][0, :, 0, 0].tolist() == [30, 20, 10]
    assert arrays["images"][0, :, 15, 31].tolist() == [30, 20, 10]
    assert arrays["images"][0, :, 16, 0].tolist() == [114, 114, 114]


def test_a_page_without_what_its_leaf_needs_is_named(models) -> None:
    folder = colour.yolox("cells", {0: (0, 0, 0, 0, 0, 0)})
    with pytest.raises(ns.ModelError, match="names no classes"):
        ns.Detector("cells")
    page = (folder / "manifest.toml").read_text(encoding="utf8")
    (folder / "manifest.toml").write_text(page.replace("canvas", "canvass"), encoding="utf8")
    with pytest.raises(ns.ModelError, match="states no canvas"):
        ns.Detector("cells")

    folder = colour.owlv2("owl")
    (folder / "tokenizer.json").write_text("{}", encoding="utf8")
    with pytest.raises(ns.ModelError, match=r"tokenizer\.json"):
        ns.Detector("owl")


def test_a_changed_graph_is_refused(models) -> None:
    folder = colour.owlv2("owl")
    graph = folder / "onnx" / "vision_model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")

    with pytest.raises(ns.NearsightError, match=r"vision_model|owl"):
        ns.Detector("owl").detect(quartered(RED, RED, RED, RED), ["red"])


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_picture_keeps_its_ratio_within_a_rounding(width, height) -> None:
    found = kept_ratio((width, height), 800, 1333)

    assert max(found) <= 1333 or found == (width, height)
    assert min(found) <= 800
    short, long = sorted(found)
    if short > 1:
        assert abs(long / short - max(width, height) / min(width, height)) <= (1 + long / short) / short


@pytest.mark.parametrize("blurred", [False, True])
@pytest.mark.parametrize(
    ("size", "wanted"), [((7, 5), (7, 7)), ((13, 29), (8, 8)), ((3, 4), (9, 9)), ((1, 40), (6, 6))]
)
def test_resampling_equals_a_plain_computation(size, wanted, blurred) -> None:
    drawn = np.random.default_rng(0)
    pixels = drawn.integers(0, 256, (size[1], size[0], 3), np.uint8)
    side = max(size)
    square = np.zeros((side, side, 3))
    square[: size[1], : size[0]] = pixels

    made = sampled(pixels, (side, side), wanted, blurred=blurred)

    assert made == pytest.approx(plainly(square, wanted, blurred=blurred), abs=1e-3)


def plainly(square: np.ndarray, wanted: tuple[int, int], *, blurred: bool) -> np.ndarray:
    """Blur with a whole mirrored picture around, then mix the four neighbours of each place."""
    side, factor = len(square), len(square) / wanted[0]
    sigma = (factor - 1) / 2
    if blurred and sigma > 0:
        reach = int(np.ceil(3 * sigma))
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
        around = np.pad(square, ((reach, reach), (reach, reach), (0, 0)), "reflect")
        square = sum(
            kernel[y, x] * around[y : y + side, x : x + side]
            for y in range(2 * reach + 1)
            for x in range(2 * reach + 1)
        )
    made = np.zeros((wanted[1], wanted[0], 3))
    for row in range(wanted[1]):
        for column in range(wanted[0]):
            x, y = (np.clip((at + 0.5) * factor - 0.5, 0, side - 1) for at in (column, row))
            left, top = int(x), int(y)
            right, bottom = min(left + 1, side - 1), min(top + 1, side - 1)
            upper = square[top, left] * (1 - x + left) + square[top, right] * (x - left)
            lower = square[bottom, left] * (1 - x + left) + square[bottom, right] * (x - left)
            made[row, column] = upper * (1 - y + top) + lower * (y - top)
    return made
