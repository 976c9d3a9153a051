"""`nearsight detect`: plain lines, a table, JSON, a drawing, and honest words for what cannot be judged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Path(sys.executable).parent / "nearsight"


@pytest.mark.parametrize("label", ["cat", "cats", "猫", "一只猫"])
def test_a_pipe_gets_score_box_and_label(nearsight: Callable, photos: Path, label: str) -> None:
    said = nearsight("detect", photos / "cat.jpg", label)

    score, box, name = said.out.splitlines()[0].split("  ")
    left, top, right, bottom = map(int, box.split())
    assert (said.code, said.err, name) == (0, "", label)
    assert float(score) > 0.5
    assert left < 150 < right
    assert top < 110 < bottom


def test_json_has_the_promised_shape(nearsight: Callable, photos: Path) -> None:
    said = nearsight("detect", photos / "coffee.jpg", "杯子", "no dog", "--json")

    answer = json.loads(said.out)
    first = answer["detections"][0]
    assert (first["label"], len(first["box_xyxy"])) == ("杯子", 4)
    assert 0 < first["score"] <= 1
    assert answer["unjudged"] == ["no dog"]
    assert answer["decision"]["target"] == "cpu"
    assert answer["decision"]["sent"] == []


def test_what_cannot_be_judged_is_said_and_is_no_failure(nearsight: Callable, photos: Path) -> None:
    said = nearsight("detect", photos / "cat.jpg", "no dog", "собака")

    assert (said.code, said.out) == (0, "")
    assert [line.split(":")[1] for line in said.err.splitlines()] == [
        " cannot judge 'no dog'",
        " cannot judge 'собака'",
    ]


@pytest.mark.parametrize("label", ["cat, dog", "cat，dog", "cat、dog"])
def test_several_names_in_one_argument_get_a_hint(nearsight: Callable, photos: Path, label: str) -> None:
    said = nearsight("detect", photos / "cat.jpg", label)
    apart = nearsight("detect", photos / "cat.jpg", "cat", "dog")

    hint = f"{label!r} is looked for as one thing; several are written apart: nearsight detect"
    assert (said.code, said.err.splitlines()[0]) == (0, f"nearsight: {hint} {photos / 'cat.jpg'} cat dog")
    assert "one thing" not in apart.err


def test_a_word_that_no_class_covers_is_judged(nearsight: Callable, photos: Path) -> None:
    found = nearsight("detect", photos / "astronaut.jpg", "flag", "--min-score", "0.1", "--json")
    missed = nearsight("detect", photos / "cat.jpg", "chess board")

    first = json.loads(found.out)["detections"][0]
    assert (first["label"], first["route"], first["class"]) == ("flag", "crop", None)
    assert (missed.code, missed.out, missed.err) == (0, "", "nearsight: not found: chess board\n")


@pytest.mark.parametrize("before", [True, False])
def test_an_example_stands_in_place_of_a_label_or_beside_one(
    nearsight: Callable, photos: Path, tmp_path: Path, before: bool
) -> None:
    with Image.open(photos / "cat.jpg") as cat:
        cat.crop((30, 0, 260, 213)).save(tmp_path / "mine.png")
    words = [photos / "cat.jpg", "--example", tmp_path / "mine.png"]

    alone = nearsight("detect", *(words[1:] + words[:1] if before else words), "--min-score", "0.01", "--json")
    beside = nearsight("detect", *words, "cat", "--json")

    assert {row["label"] for row in json.loads(alone.out)["detections"]} == {"mine.png"}
    assert "cat" in {row["label"] for row in json.loads(beside.out)["detections"]}


def test_tiles_are_asked_for_by_number_or_columns_and_rows(nearsight: Callable, photos: Path) -> None:
    for tiles in ("2", "2x1"):
        said = nearsight("detect", photos / "cat.jpg", "cat", "--tiles", tiles, "--json")

        assert len(json.loads(said.out)["detections"]) == 1


def test_what_can_be_judged_and_is_not_there_is_said(nearsight: Callable, photos: Path) -> None:
    said = nearsight("detect", photos / "brick-wall.jpg", "dog", "汽车")

    assert (said.code, said.out) == (0, "")
    assert said.err == "nearsight: not found: dog, 汽车\n"


def test_a_lower_threshold_shows_more(nearsight: Callable, photos: Path) -> None:
    usual = nearsight("detect", photos / "coins.jpg", "clock", "bowl").out.splitlines()
    loose = nearsight("detect", photos / "coins.jpg", "clock", "bowl", "--min-score", "0.05").out.splitlines()

    assert len(loose) > len(usual)
    assert loose[: len(usual)] == usual


def test_a_drawing_is_written_beside_the_answer(nearsight: Callable, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.png"

    said = nearsight("detect", photos / "cat.jpg", "猫", "--draw", out)

    assert said.out
    assert said.err == f"nearsight: drawing written to {out}\n"
    with Image.open(out) as drawn, Image.open(photos / "cat.jpg") as picture:
        assert drawn.size == picture.size
        assert drawn.convert("RGB").tobytes() != picture.convert("RGB").tobytes()


@pytest.mark.parametrize("link", [False, True])
def test_the_picture_itself_is_never_drawn_over(nearsight: Callable, photos: Path, tmp_path: Path, link: bool) -> None:
    mine, out = tmp_path / "mine.jpg", tmp_path / "out.jpg"
    mine.write_bytes((photos / "cat.jpg").read_bytes())
    if link:
        out.hardlink_to(mine)

    said = nearsight("detect", mine, "cat", "--draw", out if link else mine)

    assert (said.code, said.out) == (2, "")
    assert "is the picture itself; draw into another file" in said.err
    assert mine.read_bytes() == (photos / "cat.jpg").read_bytes()


def test_a_drawing_that_cannot_be_written_leaves_what_was_there(
    nearsight: Callable, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"the old drawing")

    def full(_: Image.Image, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    said = nearsight("detect", photos / "cat.jpg", "cat", "--draw", out)

    assert said.code == 2
    assert "No space left on device" in said.err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the old drawing"]


def test_a_picture_over_the_limit_is_told_what_can_be_done(nearsight: Callable, tmp_path: Path) -> None:
    (tmp_path / "huge.bmp").write_bytes(
        b"BM" + bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
        + (20_000).to_bytes(4, "little") * 2 + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)
    )  # fmt: skip

    said = nearsight("detect", tmp_path / "huge.bmp", "cat")

    assert said.code == 2
    assert "400.0 megapixels" in said.err
    assert "shrink it, or raise max_pixels (nearsight index: --max-megapixels)" in said.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["no-such.jpg", "cat"], "cannot read the picture no-such.jpg"),
        (["{cat}"], "the following arguments are required: LABEL"),
        (["{cat}", "cat", "--draw", "out.txt"], "a picture file is wanted, such as out.png"),
        (["{cat}", "cat", "--draw", "{tmp}/none/out.png"], "cannot write"),
        (["{cat}", "cat", "--tiles", "many"], "a number such as 3, or columns and rows such as 3x2"),
        (["{cat}", "cat", "--tiles", "0"], "tiles is a number from 1 to 16"),
        (["{cat}", "--example", "no-such.jpg"], "cannot read the picture no-such.jpg"),
        (["{cat}", "cat", "--min-score", "2"], "a number from 0 to 1 is wanted"),
        (["{cat}", " "], "labels are texts such as 'car'"),
        (["{cat}", "cat", "--model", "micro"], "no model is called 'micro'"),
    ],
)
def test_a_mistake_is_one_line(
    nearsight: Callable, photos: Path, tmp_path: Path, words: list[str], complaint: str
) -> None:
    said = nearsight("detect", *(word.format(cat=photos / "cat.jpg", tmp=tmp_path) for word in words))

    assert said.code == 2
    assert said.out == ""
    assert complaint in said.err
    assert said.err.count("\n") == 1


def test_a_person_gets_a_table_that_says_when_only_the_class_was_seen(photos: Path, on_a_terminal: Callable) -> None:
    code, shown = on_a_terminal("detect", photos / "photographer.jpg", "person", "woman", columns=120)

    assert code == 0
    assert "only a person was seen" in shown
    assert "nothing left the machine" in shown
