"""`nearsight search`: words, pictures and both; plain lines, tables, JSON and pages; and honest words for weak matches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Path(sys.executable).parent / "nearsight"


def best(said: object) -> str:
    return Path(said.out.splitlines()[0].split("  ", 2)[2]).name


@pytest.mark.parametrize(
    ("query", "name"),
    [("a cat", "cat.jpg"), ("a cup of coffee", "coffee.jpg"), ("一只猫", "cat.jpg"), ("一杯咖啡", "coffee.jpg")],
)
def test_words_in_both_languages_find_the_photograph(nearsight: Callable, gallery: Path, query: str, name: str) -> None:
    said = nearsight("search", query, "-g", gallery, "--min-relevance", "0")

    assert said.code == 0
    assert best(said) == name
    assert said.err == ""


def test_a_pipe_gets_score_relevance_and_path_and_nothing_else(nearsight: Callable, gallery: Path, album: Path) -> None:
    said = nearsight("search", "a cat", "-g", gallery, "--min-relevance", "0", "--top", "3")

    rows = [line.split("  ", 2) for line in said.out.splitlines()]
    assert len(rows) == 3
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    assert all(0.0 <= float(row[1]) <= 1.0 for row in rows)
    assert all(Path(row[2]).parent == album for row in rows)


def test_words_need_no_quotes(nearsight: Callable, gallery: Path) -> None:
    quoted = nearsight("search", "a cup of coffee", "-g", gallery, "--min-relevance", "0")
    bare = nearsight("search", "a", "cup", "-g", gallery, "of", "coffee", "--min-relevance", "0")

    assert quoted.out == bare.out


def test_a_picture_file_is_a_query(
    nearsight: Callable, gallery: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(album)

    for query in ("./cat.jpg", "cat.jpg", str(album / "cat.jpg")):
        assert best(nearsight("search", query, "-g", gallery)) == "cat.jpg"


def test_a_picture_and_words_together_are_one_query(nearsight: Callable, gallery: Path, album: Path) -> None:
    said = nearsight(
        "search", album / "cat.jpg", "a cup of coffee", "-g", gallery, "--min-relevance", "0", "-k", "2", "-f"
    )

    assert {Path(line).name for line in said.out.splitlines()} == {"cat.jpg", "coffee.jpg"}


def test_terms_can_be_added_and_taken_away_with_weights(nearsight: Callable, gallery: Path, album: Path) -> None:
    common = ("-g", gallery, "--min-relevance", "0")

    pulled = nearsight("search", "a cat", "--plus", "3:a cup of coffee", *common)
    by_picture = nearsight("search", "a cat", "--plus", f"5:{album / 'coffee.jpg'}", *common)
    pushed = nearsight("search", "a cat", "--minus", "a cat:", "--minus", "0.5:a cup of coffee", *common)

    assert best(pulled) == "coffee.jpg"
    assert best(by_picture) == "coffee.jpg"
    assert pushed.code == 0


def test_a_path_to_a_picture_that_is_not_there_is_a_mistake(nearsight: Callable, gallery: Path) -> None:
    said = nearsight("search", "./no-such.jpg", "-g", gallery)

    assert said.code == 2
    assert said.err == "nearsight: no picture at ./no-such.jpg; give an existing file, or words\n"


def test_json_has_the_promised_shape(nearsight: Callable, gallery: Path, album: Path) -> None:
    said = nearsight("search", "一只猫", "-g", gallery, "--min-relevance", "0", "--json", "-t", "2")

    answer = json.loads(said.out)
    assert answer["query"] == "一只猫"
    assert [set(hit) >= {"path", "score", "relevance", "captured_at", "camera"} for hit in answer["hits"]] == [True] * 2
    assert answer["hits"][0]["path"] == str(album / "cat.jpg")
    assert answer["hits"][0]["camera"] == "gate-3"
    assert answer["decision"]["target"] == "cpu"
    assert answer["decision"]["measured"]["latency_ms"] > 0


def test_nothing_above_the_threshold_is_said_in_words(nearsight: Callable, gallery: Path) -> None:
    said = nearsight("search", "a cat", "-g", gallery, "--min-relevance", "1")
    as_json = nearsight("search", "a cat", "-g", gallery, "--min-relevance", "1", "--json")

    assert said.code == 0
    assert said.out == ""
    best = json.loads(nearsight("search", "a cat", "-g", gallery, "--json").out)["hits"][0]
    told = f"nearsight: nothing matches 'a cat'; the nearest of 8 pictures is {best['path']}, a weak match at relevance"
    assert said.err.startswith(f"{told} {best['relevance']:.2f} (below 1.00)")
    assert "--min-relevance 0" in said.err
    assert json.loads(as_json.out)["hits"] == []


@pytest.mark.parametrize("more", [(), ("--min-relevance", "0"), ("--camera", "gate-4")], ids=" ".join)
def test_a_text_that_the_model_does_not_read_has_no_hits(nearsight: Callable, gallery: Path, more: tuple) -> None:
    said = nearsight("search", "кошка", "-g", gallery, *more)

    told = "nano does not read this script: 'кошка'; ask in one of its languages: nearsight models list nano"
    assert (said.code, said.out, said.err) == (0, "", f"nearsight: {told}\n")
    assert nearsight("models", "list", "nano").code == 0


def test_a_picture_beside_an_unread_text_is_searched_for(nearsight: Callable, gallery: Path, album: Path) -> None:
    said = nearsight("search", "кошка", album / "cat.jpg", "-g", gallery, "--min-relevance", "0")

    assert (best(said), said.err) == ("cat.jpg", "")


def test_filters_that_leave_nothing_are_named(nearsight: Callable, gallery: Path) -> None:
    said = nearsight("search", "a cat", "-g", gallery, "--camera", "gate-4")

    assert said.code == 0
    assert "no picture passes --camera, --after, --before and --where together" in said.err


def test_an_empty_gallery_is_said_to_be_empty(nearsight: Callable, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert nearsight("index", tmp_path / "none", "-g", tmp_path / "g.nsg").code == 0

    said = nearsight("search", "a cat", "-g", tmp_path / "g.nsg")

    assert said.code == 0
    assert "the gallery is empty" in said.err


def test_a_gallery_that_is_not_there_is_a_mistake_and_is_not_made(nearsight: Callable, tmp_path: Path) -> None:
    said = nearsight("search", "a cat", "-g", tmp_path / "none.nsg")

    assert said.code == 2
    assert "there is no gallery at" in said.err
    assert not (tmp_path / "none.nsg").exists()


def test_pages_of_hits_continue_each_other(nearsight: Callable, gallery: Path) -> None:
    common = ("search", "a cat", "-g", gallery, "--min-relevance", "0", "-f")

    whole = nearsight(*common, "-k", "6").out.splitlines()
    pages = (
        nearsight(*common, "-k", "3").out.splitlines() + nearsight(*common, "-k", "3", "--offset", "3").out.splitlines()
    )

    assert len(whole) == 6
    assert pages == whole
    assert "no more matches" in nearsight(*common, "--offset", "100").err


def test_a_person_gets_a_table_in_honest_words(gallery: Path, on_a_terminal: Callable) -> None:
    code, shown = on_a_terminal("search", "a cat", "-g", gallery, "--min-relevance", "0")

    assert code == 0
    assert " match" in shown
    assert "gate-3" in shown
    assert "nothing left the machine" in shown
    assert "found" not in shown


def test_the_contact_sheet_is_written_beside_the_answer(nearsight: Callable, gallery: Path, tmp_path: Path) -> None:
    page = tmp_path / "out.html"

    said = nearsight("search", "一只猫", "-g", gallery, "--min-relevance", "0", "--html", page)

    assert best(said) == "cat.jpg"
    assert said.err == f"nearsight: contact sheet written to {page}\n"
    assert "一只猫" in page.read_text(encoding="utf-8")


def test_a_file_name_that_is_no_text_leaves_as_the_bytes_it_came_in_as(album: Path, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(odd)).write_bytes((album / "cat.jpg").read_bytes())
    place = tmp_path / "g.nsg"
    subprocess.run([COMMAND, "index", odd, "-g", place], check=True, capture_output=True)

    plain = subprocess.run(
        [COMMAND, "search", "a cat", "-g", place, "--min-relevance", "0", "-f"], check=True, capture_output=True
    )
    as_json = subprocess.run(
        [COMMAND, "search", "a cat", "-g", place, "--min-relevance", "0", "--json"], check=True, capture_output=True
    )

    assert plain.stdout.strip() == odd
    assert os.fsencode(json.loads(as_json.stdout)["hits"][0]["path"]) == odd


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_query_is_a_mistake(nearsight: Callable, gallery: Path, blank: str) -> None:
    said = nearsight("search", blank, "--gallery", str(gallery))

    assert said.code == 2
    assert "the query is blank" in said.err
