"""`nearsight ask`: answers in both languages, JSON, approval, the trace, and what goes where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

NOTIFY = ("ask", "notify", "me", "if", "there", "is", "a", "cat", "at", "gate-3")


@pytest.mark.parametrize(
    ("question", "start"),
    [
        ("Is there a cat at gate-3?", "Yes: 1 of 8 pictures match"),
        ("3号门有没有猫？", "有：在gate-3，8张照片中有1张"),
    ],
)
def test_a_question_gets_an_answer_and_the_pictures_behind_it(
    nearsight: Callable, gallery: Path, album: Path, question: str, start: str
) -> None:
    said = nearsight("ask", question, "-g", gallery)

    assert said.code == 0
    assert said.out.startswith(start)
    assert said.out.splitlines()[1].endswith(f"gate-3  {album / 'cat.jpg'}")
    assert said.err == ""


def test_json_has_the_promised_shape(nearsight: Callable, gallery: Path) -> None:
    said = nearsight(
        "ask", "How many pictures were taken at gate-3 yesterday?", "-g", gallery, "--json", "--now", "2026-11-25"
    )

    form = json.loads(said.out)
    assert set(form) >= {"answer", "items", "steps", "decision"}
    assert form["steps"][0]["tool"] == "count"
    assert form["steps"][0]["arguments"] == {
        "query": "",
        "camera": "gate-3",
        "after": "2026-11-24T00:00:00",
        "before": "2026-11-25T00:00:00",
    }
    assert form["decision"]["rungs"][0]["target"] == "rules"


def test_the_trace_goes_to_stderr(nearsight: Callable, gallery: Path) -> None:
    said = nearsight("ask", "is there a cat?", "-g", gallery, "--trace")

    step, account = said.err.splitlines()
    assert step.startswith('nearsight: search(query="cat", k=5, camera="", after="", before=""): done, 1 found, ')
    assert account.endswith("nothing left the machine")


def test_without_a_terminal_nothing_is_sent_unless_yes_is_given(nearsight: Callable, gallery: Path) -> None:
    refused = nearsight(*NOTIFY, "-g", gallery)
    sent = nearsight(*NOTIFY, "-g", gallery, "--yes")

    assert "was not sent: it needs approval" in refused.out
    assert refused.err == ""
    assert 'The message "there is a cat at gate-3" was sent.' in sent.out
    assert sent.err == "nearsight: notify: there is a cat at gate-3\n"


def test_messages_are_appended_to_a_file_as_lines_of_json(nearsight: Callable, gallery: Path, tmp_path: Path) -> None:
    log = tmp_path / "told.jsonl"

    for _ in range(2):
        said = nearsight(*NOTIFY, "-g", gallery, "--yes", "--notify-to", log)

    assert said.err == ""
    assert [json.loads(line)["message"] for line in log.read_text().splitlines()] == ["there is a cat at gate-3"] * 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_message_that_cannot_be_written_costs_no_answer(nearsight: Callable, gallery: Path) -> None:
    said = nearsight(*NOTIFY, "-g", gallery, "--yes", "--notify-to", "/dev/full")

    assert said.code == 0
    assert said.out.startswith("Yes: 1 of 8 pictures match")
    assert "the message could not be sent: No space left on device" in said.out


@pytest.mark.parametrize(("typed", "sent"), [(b"y\n", True), (b"\n", False), (b"n\n", False)])
def test_a_person_at_a_terminal_is_asked(
    on_a_terminal: Callable, gallery: Path, tmp_path: Path, typed: bytes, sent: bool
) -> None:
    log = tmp_path / "told.jsonl"

    code, shown = on_a_terminal(*NOTIFY, "-g", gallery, "--notify-to", log, stream="stderr", typed=typed)

    assert code == 0
    assert 'run notify {"message": "there is a cat at gate-3"}? [y/N]' in shown
    assert bool(log.read_text()) is sent


def test_a_question_about_a_file_needs_no_gallery(
    nearsight: Callable, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(album)

    said = nearsight("ask", "is there a cat in no-such.jpg?")

    assert said.code == 2
    assert said.out == ""
    assert "no-such.jpg" in said.err


@pytest.mark.parametrize(("question", "start"), [("hello", "No tool here"), ("这辆车是什么颜色？", "没有工具可以回答")])
def test_a_question_that_no_tool_answers_needs_no_gallery_and_gets_one_line(
    nearsight: Callable, question: str, start: str
) -> None:
    said = nearsight("ask", question, "--trace")

    assert said.code == nearsight("ask", "find pictures like cat.jpg").code == 0
    assert said.out.startswith(start)
    assert said.out.count("\n") == 1
    assert "searched" not in said.err


def test_mistakes_are_one_line_with_the_remedy(nearsight: Callable, gallery: Path, tmp_path: Path) -> None:
    for words, remedy in (
        (("ask", "is there a cat?"), "--gallery"),
        (("ask", "is there a cat?", "-g", tmp_path / "none.nsg"), "there is no gallery at"),
        (("ask", "is there a cat?", "-g", gallery, "--now", "noon"), "ISO 8601"),
        (("ask", "is there a cat?", "-g", gallery, "--planner", "giant"), 'there is "nano"'),
        (("ask", " ", "-g", gallery), "nothing is asked"),
        (("ask", "is there a cat at gate-9?", "-g", gallery), "there are gate-3; ask for one of them"),
        ((*NOTIFY, "-g", gallery, "--notify-to", tmp_path / "no" / "x.jsonl"), "give a file that can be written"),
    ):
        said = nearsight(*words)
        assert said.code == 2
        assert remedy in said.err
        assert said.err.count("\n") == 1
