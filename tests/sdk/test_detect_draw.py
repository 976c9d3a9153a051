"""Drawing: boxes where they belong, one colour a label, and words whatever the system's fonts can write."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import nearsight as ns
from nearsight.detect import draw as drawing


def found(
    *labels: str, route: str = "class", seen: str = "car", size_wh: tuple[int, int] = (200, 150)
) -> ns.Detections:
    corners = [(10 + 40 * at, 60, 45 + 40 * at, 100) for at in range(len(labels))]
    return ns.Detections(
        boxes_xyxy=np.array(corners, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.5, len(labels), dtype=np.float32),
        labels=labels,
        routes=(route,) * len(labels),
        classes=(seen,) * len(labels),
        size_wh=size_wh,
    )


@pytest.fixture
def grey() -> Image.Image:
    return Image.new("RGB", (200, 150), (128, 128, 128))


def test_a_box_is_drawn_on_its_edges_in_its_labels_colour_and_the_picture_is_left_alone(grey) -> None:
    drawn = ns.draw(grey, found("car"))

    colour = drawing.colours_of(["car"])["car"]
    assert [drawn.getpixel(at) for at in ((10, 80), (45, 80), (30, 100))] == [colour] * 3
    assert drawn.getpixel((30, 80)) == (128, 128, 128)
    assert grey.getcolors() == [(200 * 150, (128, 128, 128))]


def test_nothing_found_leaves_the_picture_as_it_is(grey) -> None:
    assert np.array_equal(np.asarray(ns.draw(grey, found())), np.asarray(grey))


def test_boxes_of_another_picture_are_refused(grey) -> None:
    with pytest.raises(ns.InputError, match="400 x 300 pixels, this one has 200 x 150"):
        ns.draw(grey, found("car", size_wh=(400, 300)))


@pytest.mark.parametrize("odd", [[1], None, "car", {"boxes_xyxy": []}])
def test_what_is_no_detections_is_refused(grey, odd) -> None:
    with pytest.raises(ns.InputError, match="give the Detections that detect"):
        ns.draw(grey, odd)


def test_thousands_of_boxes_are_not_cut_out_one_by_one(grey, monkeypatch) -> None:
    many = found(*["car", "taxi"] * 2000)
    monkeypatch.setattr(ns.Detections, "__getitem__", lambda *_: pytest.fail("a box was cut out"))
    looked_up = []
    monkeypatch.setattr(drawing, "caption", lambda *named: looked_up.append(named) or ("x", drawing._fonts(12)[0]))

    ns.draw(grey, many)

    assert len(looked_up) == 2


@given(st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=24))
def test_up_to_24_labels_have_distinct_colours(labels) -> None:
    assert len(set(drawing.colours_of(labels).values())) == len(labels)


def test_a_label_keeps_its_colour_from_picture_to_picture() -> None:
    assert drawing.colours_of(["car"])["car"] == drawing.colours_of(["person", "car"])["car"]


def test_a_similar_box_says_what_was_seen() -> None:
    text, _ = drawing.caption("taxi", "car", "similar", 12)

    assert text == "taxi? car"


def test_a_chinese_label_is_written_as_it_is_where_a_font_has_it_and_in_english_otherwise(monkeypatch) -> None:
    drawing._fonts.cache_clear()
    text, font = drawing.caption("汽车", "car", "class", 12)
    assert text == ("汽车" if len(drawing._fonts(12)) == 2 else "car")
    assert font in drawing._fonts(12)

    drawing._fonts.cache_clear()
    monkeypatch.setattr(drawing, "HAN_FONTS", ("no-such-font.ttf",))
    assert drawing.caption("汽车", "car", "class", 12)[0] == "car"
    assert drawing.caption("出租车", "car", "similar", 12)[0] == "car?"
    drawing._fonts.cache_clear()


@pytest.mark.parametrize("label", ["🚗", "\ud800", "a\nb", "x" * 400, "ไทย", "\u0000"])
def test_no_label_breaks_a_drawing(grey, label) -> None:
    drawn = ns.draw(grey, found(label))

    assert drawn.size == grey.size
    assert drawn.getpixel((10, 80)) == drawing.colours_of([label])[label]


@pytest.mark.parametrize("corners", [(-20, -20, 400, 400), (199, 149, 199, 149), (50, 50, 20, 20), (0, 0, 0.4, 0.4)])
def test_odd_boxes_are_drawn_as_far_as_they_go(grey, corners) -> None:
    odd = found("car")
    odd.boxes_xyxy[0] = corners

    assert ns.draw(grey, odd).size == grey.size


def test_tags_do_not_cover_better_ones() -> None:
    taken = [(10.0, 40.0, 60.0, 50.0)]

    above = drawing.place_tag((100, 50), (40, 10), (200, 150), taken)
    below = drawing.place_tag((10, 50), (40, 10), (200, 150), taken)
    nowhere = drawing.place_tag((10, 50), (40, 10), (200, 150), [(0.0, 30.0, 200.0, 80.0)])

    assert above == (100, 40)
    assert below == (10, 50)
    assert nowhere is None


def boxes(*rows: tuple[str, float, tuple[float, ...]], size_wh: tuple[int, int] = (200, 150)) -> ns.Detections:
    return ns.Detections(
        boxes_xyxy=np.array([box for _, _, box in rows], np.float32),
        scores=np.array([score for _, score, _ in rows], np.float32),
        labels=tuple(label for label, _, _ in rows),
        routes=("class",) * len(rows),
        classes=("",) * len(rows),
        size_wh=size_wh,
    )


def written(monkeypatch, picture: Image.Image, answer: ns.Detections) -> list[tuple[str, tuple[float, ...]]]:
    """What is written on a drawing, and where."""
    texts = []
    pen = drawing.ImageDraw.ImageDraw
    plain = pen.text

    def text(self, at, words, **how) -> None:
        texts.append((words, self.textbbox(at, words, font=how["font"])))
        plain(self, at, words, **how)

    monkeypatch.setattr(pen, "text", text)
    ns.draw(picture, answer)
    return texts


def test_the_best_box_of_every_label_is_labelled_before_other_boxes(grey, monkeypatch) -> None:
    crowd = [("person", 0.9 - at / 100, (20.0 + at, 40.0 + at, 120.0, 140.0)) for at in range(8)]

    texts = written(monkeypatch, grey, boxes(*crowd, ("tie", 0.3, (21.0, 41.0, 60.0, 90.0))))

    assert [words for words, _ in texts][:2] == ["person 0.90", "tie 0.30"]
    for at, (_, (left, top, right, bottom)) in enumerate(texts):
        for _, (other, upper, end, lower) in texts[at + 1 :]:
            assert right <= other or end <= left or bottom <= upper or lower <= top


def test_labels_that_share_a_box_share_a_tag(grey, monkeypatch) -> None:
    same = (30.0, 50.0, 120.0, 140.0)

    texts = written(monkeypatch, grey, boxes(("cat", 0.9, same), ("kitten", 0.45, same), ("pet", 0.4, same)))

    assert [words for words, _ in texts] == ["cat 0.90\nkitten 0.45\npet 0.40"]
