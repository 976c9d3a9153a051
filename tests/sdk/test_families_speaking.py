"""What the leaves of captioners know by heart: tasks and places of Florence-2, tiles and prompts of SmolVLM."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import nearsight as ns
from nearsight.families.florence2 import TASKS, prompted, told
from nearsight.families.smolvlm import shown, tiled


@pytest.mark.parametrize(
    ("question", "task", "prompt"),
    [
        ("<OCR>", "<OCR>", "What is the text in the image?"),
        ("ocr", "<OCR>", "What is the text in the image?"),
        (" <detailed_caption> ", "<DETAILED_CAPTION>", "Describe in detail what is shown in the image."),
        ("<OPEN_VOCABULARY_DETECTION> a red bus", "<OPEN_VOCABULARY_DETECTION>", "Locate a red bus in the image."),
        (
            "<CAPTION_TO_PHRASE_GROUNDING>a {dog}",
            "<CAPTION_TO_PHRASE_GROUNDING>",
            "Locate the phrases in the caption: a {dog}",
        ),
    ],
)
def test_a_task_is_asked_in_the_words_it_was_trained_with(question, task, prompt):
    assert prompted(question.strip(), "florence-2-base") == (task, prompt)


@pytest.mark.parametrize("question", ["how many people are there?", "?", "<NOTHING>", "狗在哪里"])
def test_a_free_question_is_refused_with_the_tasks_there_are(question):
    with pytest.raises(ns.InputError, match=r"florence-2-base follows tasks .*<OCR>"):
        prompted(question, "florence-2-base")


@pytest.mark.parametrize(
    ("question", "wanted"),
    [("<OCR> of the sign", "takes nothing after it"), ("<CAPTION_TO_PHRASE_GROUNDING>", "takes words after it")],
)
def test_words_that_are_missing_or_too_many_are_told(question, wanted):
    with pytest.raises(ns.InputError, match=wanted):
        prompted(question, "florence-2-base")


def test_places_are_told_in_pixels_of_the_picture():
    text = "car<loc_52><loc_334><loc_932><loc_774>door handle<loc_425><loc_504><loc_474><loc_516>"

    said = told(text, (640, 480))

    # The middle of a bin: (52 + .5) x 640 / 1000, cut.
    assert said == "car [33, 160, 596, 371] door handle [272, 242, 303, 247]"


def test_marks_of_shapes_are_not_told_and_words_stay():
    assert told("a sign <that> says<poly><loc_0><loc_999></poly>", (100, 200)) == "a sign <that> says [0, 199]"
    assert told("nothing here", (1, 1)) == "nothing here"


@given(st.integers(0, 999), st.integers(1, 5000))
def test_a_place_lies_in_the_picture(place, side):
    said = told(f"<loc_{place}>", (side, side))

    assert 0 <= int(said.strip("[]")) <= side


def test_every_task_has_one_place_for_words_at_most():
    assert all(prompt.count("{") == prompt.count("{input}") <= 1 for prompt in TASKS.values())


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((2048, 1536), 3, 4),
        ((1536, 2048), 4, 3),
        ((640, 480), 3, 4),  # small pictures are enlarged
        ((3000, 100), 1, 4),
        ((500, 500), 4, 4),
        ((1, 1), 4, 4),
    ],
)
def test_a_picture_is_brought_to_2048_pixels_and_cut_into_tiles_of_512(size, rows, columns):
    tiles, *grid = tiled(Image.new("RGB", size), 2048, 512, Image.Resampling.LANCZOS, split=True)

    assert grid == [rows, columns]
    assert len(tiles) == rows * columns + 1
    assert {tile.shape for tile in tiles} == {(512, 512, 3)}


def test_a_picture_as_a_whole_is_one_tile():
    tiles, rows, columns = tiled(Image.new("L", (300, 90)), 256, 64, Image.Resampling.LANCZOS, split=False)

    assert [tile.shape for tile in tiles] == [(64, 64, 3)]
    assert (rows, columns) == (0, 0)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_tiles_of_any_picture_have_one_size_and_fill_their_grid(width, height):
    tiles, rows, columns = tiled(Image.new("RGB", (width, height)), 64, 16, Image.Resampling.NEAREST, split=True)

    assert len(tiles) == (rows * columns + 1 if rows * columns > 1 else 1)
    assert {tile.shape for tile in tiles} == {(16, 16, 3)}
    assert max(rows, columns) == 4


def test_a_prompt_marks_each_tile_by_row_and_column_and_the_whole_last():
    text = shown(1, 2, 2)

    around = "<fake_token_around_image>"
    assert text == (
        f"{around}<row_1_col_1><image><image>{around}<row_1_col_2><image><image>\n"
        f"\n{around}<global-img><image><image>{around}"
    )
    assert shown(0, 0, 1) == f"{around}<global-img><image>{around}"
