"""`nearsight caption`: a sentence in a pipe, a sentence and how it came about for a person, and JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nearsight as ns

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Path(sys.executable).parent / "nearsight"


def test_a_pipe_gets_the_sentence_and_its_confidence(nearsight: Callable, photos: Path) -> None:
    said = nearsight("caption", photos / "coffee.jpg")

    caption = ns.Captioner().caption(photos / "coffee.jpg")
    assert said.code == 0
    assert said.out == f"{caption.text}\t{caption.confidence:.2f}\n"
    assert said.err == ""


def test_the_language_and_the_length_can_be_chosen(nearsight: Callable, photos: Path) -> None:
    said = nearsight("caption", photos / "photographer.jpg", "--language", "zh", "--max-words", "6")

    assert said.code == 0
    assert 1 <= sum("\u4e00" <= c <= "\u9fff" for c in said.out) <= 6


def test_json_has_the_text_the_confidence_and_the_decision(nearsight: Callable, photos: Path) -> None:
    said = nearsight("caption", photos / "rocket.jpg", "--json")

    answer = json.loads(said.out)
    assert {"text", "confidence", "decision"} <= set(answer)
    assert 0 < answer["confidence"] < 1
    assert answer["decision"]["sent"] == []


def test_several_pictures_get_a_line_each_with_their_path(nearsight: Callable, photos: Path) -> None:
    files = [photos / "cat.jpg", photos / "rocket.jpg"]

    said = nearsight("caption", *files)

    assert said.code == 0
    captions = [ns.Captioner().caption(path) for path in files]
    lines = [f"{path}\t{one.text}\t{one.confidence:.2f}\n" for path, one in zip(files, captions, strict=True)]
    assert said.out == "".join(lines)


def test_several_pictures_are_one_object_in_json(nearsight: Callable, photos: Path) -> None:
    files = [photos / "cat.jpg", photos / "rocket.jpg"]

    said = nearsight("caption", *files, "--json")

    rows = json.loads(said.out)["captions"]
    assert [row["path"] for row in rows] == [str(path) for path in files]
    assert all(isinstance(seen, bool) for row in rows for _, seen in row["grounding"])


def test_of_several_pictures_a_bad_one_is_named_and_left_out(nearsight: Callable, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")

    said = nearsight("caption", photos / "cat.jpg", tmp_path / "bad.jpg", photos / "rocket.jpg")

    assert said.code == 2
    assert len(said.out.splitlines()) == 2
    assert "bad.jpg" in said.err
    assert said.err.count("\n") == 1


def test_a_terminal_also_shows_how_it_came_about(photos: Path, on_a_terminal: Callable) -> None:
    code, shown = on_a_terminal("caption", str(photos / "cat.jpg"))

    assert code == 0
    assert "confidence 0." in shown
    assert "nothing left the machine" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--language", "fr"), "speaks en, zh"),
        (("--model", "nowhere"), "no model is called 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(nearsight: Callable, photos: Path, words, message) -> None:
    said = nearsight("caption", photos / "cat.jpg", *words)

    assert said.code == 2
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_picture_that_is_not_there_is_named(nearsight: Callable, tmp_path: Path) -> None:
    said = nearsight("caption", tmp_path / "gone.jpg")

    assert said.code == 2
    assert "gone.jpg" in said.err
