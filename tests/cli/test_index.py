"""`nearsight index`: what it stores, skips and says, and what is left when it is interrupted."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from nearsight import Gallery, GalleryNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Path(sys.executable).parent / "nearsight"
PATIENCE_S = 60.0


@pytest.fixture
def folder(album: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(album, tmp_path / "photos"))


def test_a_second_run_adds_nothing(nearsight: Callable, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "g.nsg"

    first = json.loads(nearsight("index", folder, "-g", place, "--json").out)
    second = json.loads(nearsight("index", folder, "-g", place, "--json").out)

    assert (first["added"], first["items"], first["failed"]) == (8, 8, [])
    assert first["decision"]["target"] == "cpu"
    assert (second["added"], second["unchanged"], second["encoded"], second["items"]) == (0, 8, 0, 8)


def test_one_bad_file_stops_nothing_and_is_named(nearsight: Callable, folder: Path, tmp_path: Path) -> None:
    (folder / "torn.jpg").write_bytes((folder / "cat.jpg").read_bytes()[:200])

    said = nearsight("index", folder, "-g", tmp_path / "g.nsg")

    assert said.code == 0
    assert said.out.startswith("8 added, 1 failed in ")
    assert "skipped" in said.err
    assert "torn.jpg" in said.err


def test_nothing_but_bad_files_is_a_failure(nearsight: Callable, tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(b"no picture")

    assert nearsight("index", tmp_path / "torn.jpg", "-g", tmp_path / "g.nsg").code == 1


def test_a_wrong_path_leaves_no_gallery_behind(nearsight: Callable, tmp_path: Path) -> None:
    said = nearsight("index", tmp_path / "nowhere", "-g", tmp_path / "g.nsg")

    assert said.code == 2
    assert "no such file or folder" in said.err
    assert not (tmp_path / "g.nsg").exists()


def test_the_gallery_may_be_named_once_for_all(
    nearsight: Callable, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARSIGHT_GALLERY", str(tmp_path / "g.nsg"))

    assert nearsight("index", folder / "cat.jpg").code == 0
    assert nearsight("search", "a cat", "--min-relevance", "0", "-f").out.endswith("cat.jpg\n")


def test_folders_can_be_left_out(nearsight: Callable, folder: Path, tmp_path: Path) -> None:
    for name in ("old", ".git", "node_modules"):
        shutil.copytree(folder, folder.parent / "all" / name)

    said = nearsight("index", folder.parent / "all", "-g", tmp_path / "g.nsg", "--exclude-dir", "old")

    assert said.code == 0
    assert said.out.startswith("0 added")


def test_progress_is_shown_to_a_person(folder: Path, tmp_path: Path, on_a_terminal: Callable) -> None:
    code, shown = on_a_terminal("index", folder, "-g", tmp_path / "g.nsg", stream="stderr")

    assert code == 0
    assert "indexing" in shown
    assert "8/8" in shown


def many_pictures(folder: Path, count: int) -> Path:
    """Fill a folder quickly: one picture, each copy with bytes of its own after the end, so that each is encoded."""
    noise = np.random.default_rng(11).integers(0, 255, (48, 64, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((1280, 960)).save(stream, "JPEG", quality=80)
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:04}.jpg").write_bytes(stream.getvalue() + number.to_bytes(4, "big"))
    return folder


def stored(place: Path) -> int:
    try:
        with Gallery.open(place, encoder=None, read_only=True) as gallery:
            return len(gallery)
    except GalleryNotFoundError:
        return 0


def test_an_interrupted_run_keeps_what_it_stored_and_the_same_command_finishes_it(
    process: Callable, tmp_path: Path
) -> None:
    folder, place = many_pictures(tmp_path / "many", 500), tmp_path / "g.nsg"
    with subprocess.Popen([COMMAND, "index", folder, "-g", place], stderr=subprocess.PIPE, text=True) as running:
        until = time.monotonic() + PATIENCE_S
        while stored(place) == 0 and time.monotonic() < until:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        told = running.stderr.read()
    kept = stored(place)

    resumed = json.loads(process("index", folder, "-g", place, "--json").out)

    assert running.returncode == 130
    assert told.count("\n") == 1
    assert f"{kept} pictures are stored" in told
    assert "the same command goes on from there" in told
    assert 0 < kept < 500
    assert resumed["items"] == 500
    assert resumed["encoded"] == 500 - kept


def test_a_limit_on_megapixels_can_be_set_and_lifted(process: Callable, tmp_path: Path) -> None:
    folder, place = tmp_path / "large", tmp_path / "g.nsg"
    folder.mkdir()
    Image.new("RGB", (2000, 1500), "teal").save(folder / "large.jpg")

    refused = process("index", folder, "-g", place, "--max-megapixels", "2")
    taken = process("index", folder, "-g", place, "--max-megapixels", "none")

    assert (refused.code, taken.code) == (1, 0)
    assert "--max-megapixels" in refused.err
    assert taken.out.startswith("1 added")
    assert process("index", folder, "-g", place, "--max-megapixels", "many").code == 2


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_path_is_not_taken_for_the_current_folder(nearsight: Callable, tmp_path: Path, blank: str) -> None:
    said = nearsight("index", blank, "--gallery", str(tmp_path / "g.nsg"))

    assert said.code == 2
    assert said.err == "nearsight: a path is blank; name a file or folder (. is the current one)\n"
    assert not (tmp_path / "g.nsg").exists()


def test_another_encoder_moves_a_gallery_over_and_search_follows(
    nearsight: Callable, folder: Path, tmp_path: Path, installed: Callable
) -> None:
    name, place = installed("nano", "other").name, tmp_path / "g.nsg"
    nearsight("index", folder, "-g", place)

    moved = nearsight("index", folder, "-g", place, "--encoder", name)
    again = nearsight("index", folder, "-g", place)
    found = nearsight("search", "a cat", "-g", place, "--json")
    asked = nearsight("ask", "is there a picture of a cat?", "-g", place)

    assert moved.code == 0, moved.err
    assert f"encoding 8 pictures of {place} anew with {name}" in moved.err
    assert f"8 encoded anew with {name} in " in moved.err
    assert again.out.startswith("0 added, 8 unchanged")
    assert json.loads(found.out)["hits"][0]["path"].endswith("cat.jpg")
    assert "cat.jpg" in asked.out
    with Gallery.open(place, encoder=None) as gallery:
        assert gallery.stats().model == name
        assert gallery.stats().space.startswith(f"{name}-")


def test_a_gallery_whose_model_is_gone_says_which(
    nearsight: Callable, folder: Path, tmp_path: Path, installed: Callable
) -> None:
    place = tmp_path / "g.nsg"
    model = installed("nano", "other")
    nearsight("index", folder, "-g", place, "--encoder", model.name)
    shutil.rmtree(model)

    said = nearsight("search", "a cat", "-g", place)

    assert said.code == 2
    assert said.err.count("\n") == 1
    assert "'other'" in said.err


def test_other_weights_under_the_same_name_are_noticed_and_the_remedy_works(
    nearsight: Callable, folder: Path, tmp_path: Path, installed: Callable
) -> None:
    model, place = installed("nano", "other"), tmp_path / "g.nsg"
    nearsight("index", folder, "-g", place, "--encoder", "other")
    page = (model / "manifest.toml").read_text(encoding="utf-8")
    (model / "manifest.toml").write_text(page.replace('space = "other', 'space = "another'), encoding="utf-8")

    refused = nearsight("search", "a cat", "-g", place)
    moved = nearsight("index", folder, "-g", place, "--encoder", "other")

    assert refused.code == 2
    assert "--encoder other" in refused.err
    assert "open it with" not in refused.err
    assert moved.code == 0
    assert nearsight("search", "a cat", "-g", place, "-f").out.splitlines()[0].endswith("cat.jpg")
