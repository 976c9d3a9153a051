"""What is remembered between runs: found again, bounded in number, and the least recently used leave first."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from nearsight_npu import memory
from nearsight_npu.memory import Memory, bound

if TYPE_CHECKING:
    from pathlib import Path

HOUR_S = 3600.0


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let folders hold three files."""
    monkeypatch.setattr(memory, "MOST_FILES", 3)


def aged(path: Path, hours: float) -> Path:
    then = time.time() - hours * HOUR_S
    os.utime(path, (then, then))
    return path


def remember(kept: Memory, folder: Path, kind: str, key: str, hours: float) -> None:
    """Write an entry that was last used so many hours ago."""
    before = set(folder.glob(f"{kind}/*.json"))
    kept.write(kind, key, {"key": key})
    (path,) = set(folder.glob(f"{kind}/*.json")) - before
    aged(path, hours)


@pytest.mark.usefixtures("few")
def test_of_one_kind_the_last_used_are_kept(tmp_path: Path) -> None:
    kept = Memory(tmp_path)
    for key, hours in {"a": 9, "b": 8, "c": 7}.items():
        remember(kept, tmp_path, "proofs", key, hours)
    remember(kept, tmp_path, "hashes", "other", 99)
    assert kept.read("proofs", "a") == {"key": "a"}  # which marks it as used

    kept.write("proofs", "d", {"key": "d"})

    assert [kept.read("proofs", key) is not None for key in "abcd"] == [True, False, True, True]
    assert kept.read("hashes", "other") == {"key": "other"}


@pytest.mark.usefixtures("few")
def test_what_was_just_written_stays_whatever_the_clock_says(tmp_path: Path) -> None:
    kept = Memory(tmp_path)
    for key in "abc":
        remember(kept, tmp_path, "proofs", key, hours=-24)

    kept.write("proofs", "d", {"key": "d"})

    assert kept.read("proofs", "d") == {"key": "d"}
    assert len(kept.all("proofs")) == 3


def test_reading_marks_an_entry_once_an_hour(tmp_path: Path) -> None:
    kept = Memory(tmp_path)
    remember(kept, tmp_path, "proofs", "a", 0.5)
    (path,) = tmp_path.glob("proofs/*.json")
    before = path.stat().st_mtime_ns

    kept.read("proofs", "a")
    soon = path.stat().st_mtime_ns
    aged(path, 2)
    kept.read("proofs", "a")

    assert soon == before
    assert path.stat().st_mtime_ns > before


@pytest.mark.parametrize("hours", [0.5, 2.0])
def test_what_a_killed_process_left_half_written_goes_after_an_hour(hours: float, tmp_path: Path) -> None:
    kept = Memory(tmp_path)
    kept.write("proofs", "a", {"key": "a"})
    file, folder = tmp_path / "proofs" / "x.part", tmp_path / "proofs" / "y.part"
    file.write_text("{")
    folder.mkdir()
    (folder / "more").write_text("more")
    aged(file, hours)
    aged(folder, hours)

    kept.write("proofs", "b", {"key": "b"})

    assert file.exists() == folder.exists() == (hours < 1)
    assert len(kept.all("proofs")) == 2


def test_files_leave_until_the_others_are_small_enough(tmp_path: Path) -> None:
    for hours, name in enumerate(("new", "middle", "old")):
        (tmp_path / f"{name}.bin").write_bytes(bytes(10))
        aged(tmp_path / f"{name}.bin", hours)

    bound(tmp_path, "*.bin", "making-*", most_bytes=20)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["middle", "new"]

    bound(tmp_path, "*.bin", "making-*", most_bytes=5, spared=tmp_path / "middle.bin")
    assert [path.stem for path in tmp_path.iterdir()] == ["middle"]


def test_a_folder_that_is_not_there_is_small_enough(tmp_path: Path) -> None:
    bound(tmp_path / "none", "*.bin", "making-*", most_bytes=1)

    assert list(tmp_path.iterdir()) == []
