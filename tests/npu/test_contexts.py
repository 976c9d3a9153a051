"""Compiled graphs that are kept: whole, bounded, and never in the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nearsight_npu.targets.contexts import Contexts
from nearsight_npu.targets.target import Placement

if TYPE_CHECKING:
    from pathlib import Path

PLACED = Placement(parts=(("chip", 7), ("other", 2)))


def keep(contexts: Contexts, key: str, data: bytes) -> None:
    with contexts.room() as place:
        assert place is not None
        place.write_bytes(data)
        contexts.keep(key, place, PLACED)


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "chip").glob("*.bin"))


def test_what_was_kept_comes_back_with_where_it_runs(tmp_path: Path) -> None:
    keep(Contexts("chip", tmp_path), "a", b"compiled")

    again = Contexts("chip", tmp_path)

    assert again.read("a") == (b"compiled", PLACED)
    assert again.read("b") is None
    assert [path.name for path in (tmp_path / "chip").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "entry"])
def test_a_damaged_file_is_as_good_as_absent(damage: str, tmp_path: Path) -> None:
    contexts = Contexts("chip", tmp_path)
    keep(contexts, "a", b"compiled")
    path = kept(tmp_path)[0]
    if damage == "gone":
        path.unlink()
    elif damage == "entry":
        next((tmp_path / "chip").glob("*.json")).write_text('{"key": "a"}')
    else:
        path.write_bytes({"changed": b"Compiled", "cut": b"comp"}[damage])

    assert contexts.read("a") is None

    keep(contexts, "a", b"compiled")
    assert contexts.read("a") == (b"compiled", PLACED)


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    contexts = Contexts("chip", tmp_path, most_bytes=30)
    for age, key in enumerate(("a", "b", "c")):
        keep(contexts, key, key.encode() * 10)
        os.utime(max(kept(tmp_path), key=lambda path: path.stat().st_mtime_ns), (age, age))
    contexts.read("a")

    keep(contexts, "d", b"d" * 10)

    assert [contexts.read(key) is not None for key in "abcd"] == [True, False, True, True]


def test_one_that_is_larger_than_all_room_is_kept_alone(tmp_path: Path) -> None:
    contexts = Contexts("chip", tmp_path, most_bytes=30)
    keep(contexts, "a", b"a" * 10)

    keep(contexts, "b", b"b" * 40)

    assert contexts.read("a") is None
    assert contexts.read("b") == (b"b" * 40, PLACED)


def test_what_a_compiler_left_behind_is_removed(tmp_path: Path) -> None:
    contexts = Contexts("chip", tmp_path)
    with contexts.room() as place:
        place.write_bytes(b"half of it")
        place.with_name("more.bin").write_bytes(b"and more")

    contexts.keep("a", None, PLACED)

    assert list((tmp_path / "chip").iterdir()) == []


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    contexts = Contexts("chip", tmp_path / "file")

    with contexts.room() as place:
        contexts.keep("a", place, PLACED)

    assert place is None
    assert contexts.read("a") is None
