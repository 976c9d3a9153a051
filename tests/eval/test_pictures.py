"""The contact sheets of the cards: what is right is told by rule, and a sheet keeps to its size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import nearsight as ns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

TEXTS = {
    "cat.jpg": {"en": ["a close view of a cat", "a cat"], "zh": ["一只猫", "猫的特写"]},
    "galaxies.jpg": {"en": ["a bowl of noodles", "noodles"], "zh": ["一碗面条", "面条"]},
}


@pytest.fixture
def pictures(evaluation: Callable[[str], ModuleType]) -> ModuleType:
    return evaluation("pictures")


@pytest.fixture
def shown(photos: Path) -> dict[str, Image.Image]:
    return {name: ns.read_image(photos / name) for name in TEXTS}


def test_a_search_is_right_where_the_wanted_photograph_is_the_best(pictures, shown) -> None:
    cells = pictures.searches(shown, TEXTS, ns.Encoder("nano"))

    assert len(cells) == 4
    assert cells[0].verdict == pictures.RIGHT
    assert all(("wanted" in cell.lines[1]) == (cell.verdict == pictures.WRONG) for cell in cells)


def test_boxes_are_right_wrong_or_missed(pictures, shown) -> None:
    detector = ns.Detector("nano")
    true = pictures.boxed(detector.classes)["chelsea.png"]
    cat = shown["cat.jpg"]
    share = cat.width / 451  # of the photograph from which the boxes were read
    boxes = pictures.Boxes(xyxy=true.xyxy * share, classes=true.classes, scores=true.scores, crowd=true.crowd)

    there = pictures.found("cat.jpg", cat, boxes, detector)
    elsewhere = pictures.found("galaxies.jpg", shown["galaxies.jpg"], boxes, detector)

    assert there.lines[0].startswith("cat: 1 right")
    assert there.verdict in {pictures.RIGHT, pictures.PARTLY}
    assert elsewhere.lines == ["galaxies: 1 missed", "no cat"]
    assert elsewhere.verdict == pictures.WRONG


def test_a_caption_is_right_where_people_name_all_that_it_names(pictures, shown) -> None:
    cells = pictures.sayings(shown, TEXTS, ns.Captioner("nano"))

    assert [cell.verdict for cell in cells[2:]] == [pictures.WRONG] * 2
    assert all("confidence 0." in cell.lines[1] for cell in cells)


def test_a_sheet_shows_every_cell_and_stays_small(pictures, tmp_path) -> None:
    noise = Image.fromarray(np.random.default_rng(5).integers(0, 256, (300, 400, 3), np.uint8))
    cells = [pictures.Cell(picture=noise, lines=["a line of words", "一行字"], verdict=pictures.RIGHT)] * 30

    page = pictures.sheet("thirty of them", cells, 5, (176, 132))
    size = pictures.saved(page, tmp_path / "cards" / "page.jpg")

    assert size == (tmp_path / "cards" / "page.jpg").stat().st_size <= pictures.MOST_BYTES
    assert (np.asarray(page) == pictures.RIGHT).all(axis=2).sum() > 30 * 4 * 132
    assert pictures.tally(cells) == {"right": 30, "partly": 0, "wrong": 0}


def test_lines_break_between_words(pictures) -> None:
    lines = pictures.wrapped("a cup of coffee on a wooden table 木桌上的一杯咖啡", 90)

    assert all("table" in line or not set("tbl") & set(line.split()) for line in lines)
    assert " ".join(lines).replace(" ", "") == "acupofcoffeeonawoodentable木桌上的一杯咖啡"
    assert len(lines) > 2
