"""Finding picture files below folders, and what their EXIF says about time and camera."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from nearsight.errors import InputError, PictureUnreadableError
from nearsight.pictures import camera_model, captured_at, picture_facts, walk

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.JPG", "a.png", "c.HeIc", "notes.txt", "no_extension", ".hidden.jpg", "sub/d.tiff", "sub/deep/e.webp",
        ".secret/f.jpg", "@eaDir/g.jpg", "node_modules/h.jpg", ".git/i.jpg", "other.nsg/j.jpg", "sub/@eaDir/k.jpg",
    ):  # fmt: skip
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "tree"


def names(root: Path, paths) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_a_walk_is_sorted_and_passes_over_what_is_hidden_or_excluded(tree: Path) -> None:
    found = list(walk([tree]))

    assert names(tree, found) == ["a.png", "b.JPG", "c.HeIc", "sub/d.tiff", "sub/deep/e.webp"]
    assert all(path.is_absolute() for path in found)


def test_hidden_names_and_other_folders_come_when_asked_for(tree: Path) -> None:
    found = names(tree, walk([tree], hidden=True, exclude=("sub",)))

    assert set(found) == {
        ".hidden.jpg",
        "a.png",
        "b.JPG",
        "c.HeIc",
        ".git/i.jpg",
        ".secret/f.jpg",
        "@eaDir/g.jpg",
        "node_modules/h.jpg",
    }


def test_without_recursion_only_the_folder_itself_is_listed(tree: Path) -> None:
    assert names(tree, walk([tree], recursive=False)) == ["a.png", "b.JPG", "c.HeIc"]


def test_a_file_named_itself_is_given_whatever_it_is_called_and_nothing_twice(tree: Path) -> None:
    found = names(tree, walk([tree / "no_extension", tree / ".secret", tree, tree / "a.png"]))

    assert found == ["no_extension", ".secret/f.jpg", "a.png", "b.JPG", "c.HeIc", "sub/d.tiff", "sub/deep/e.webp"]


def test_loops_of_links_end_and_real_paths_win(tree: Path) -> None:
    (tree / "aa_link_to_sub").symlink_to(tree / "sub")
    (tree / "sub" / "loop").symlink_to(tree)
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "z.jpg").write_bytes(b"x")
    (tree / "linked").symlink_to(outside)
    (tree / "broken.jpg").symlink_to(tree / "gone.jpg")

    found = names(tree, walk([tree]))

    assert found == ["a.png", "b.JPG", "c.HeIc", "sub/d.tiff", "sub/deep/e.webp", "linked/z.jpg"]


def test_odd_names_are_found(tmp_path: Path) -> None:
    odd = [b"new\nline.jpg", b"latin\xe9.jpg", "红灯.jpg".encode(), b" space .jpg", b"-dash.jpg"]
    for name in odd:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass

    assert {os.fsencode(path.name) for path in walk([tmp_path])} == set(odd)


def test_a_path_that_does_not_exist_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        list(walk([tmp_path / "none"]))


def test_a_name_that_is_a_pipe_is_not_a_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")

    assert list(walk([tmp_path])) == []


def photo(path: Path, **tags: str) -> Path:
    exif = Image.Exif()
    details = exif.get_ifd(0x8769)
    for name, value in tags.items():
        if name == "model":
            exif[0x0110] = value
        else:
            details[{"time": 0x9003, "sub": 0x9291, "offset": 0x9011, "digitized": 0x9004}[name]] = value
    if path.suffix == ".tif":
        # Pillow writes a TIFF's sub-folder only when it is given as a dict.
        exif[0x8769] = dict(details)
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_time_and_camera_are_read_from_exif(tmp_path: Path, suffix: str) -> None:
    path = photo(tmp_path / f"a{suffix}", time="2024:05:01 18:30:05", model="Lens\x00 ")

    assert captured_at(path) == datetime(2024, 5, 1, 18, 30, 5)
    assert captured_at(path).tzinfo is None
    assert camera_model(path) == "Lens"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"time": "2024:05:01 18:30:05", "offset": "+09:00"}, datetime(2024, 5, 1, 18, 30, 5, tzinfo=timezone(timedelta(hours=9)))),
        ({"time": "2024:05:01 18:30:05", "offset": "-03:30"}, datetime(2024, 5, 1, 18, 30, 5, tzinfo=timezone(-timedelta(hours=3, minutes=30)))),
        ({"time": "2024:05:01 18:30:05", "offset": "Z"}, datetime(2024, 5, 1, 18, 30, 5, tzinfo=UTC)),
        ({"time": "2024:05:01 18:30:05", "offset": "   :  "}, datetime(2024, 5, 1, 18, 30, 5)),
        ({"time": "2024:05:01 18:30:05", "sub": "25"}, datetime(2024, 5, 1, 18, 30, 5, 250000)),
        ({"time": "2024-05-01T18:30:05"}, datetime(2024, 5, 1, 18, 30, 5)),
        ({"time": "0000:00:00 00:00:00"}, None),
        ({"time": "    :  :     :  :  "}, None),
        ({"time": "2024:13:41 18:30:05"}, None),
        ({"time": "yesterday"}, None),
        ({"digitized": "2024:05:01 18:30:05"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_capture_times_are_taken_as_the_camera_wrote_them(
    tmp_path: Path, tags: dict, expected: datetime | None
) -> None:
    found = captured_at(photo(tmp_path / "a.jpg", **tags))

    assert found == expected
    assert (found and found.utcoffset()) == (expected and expected.utcoffset())


def test_facts_can_be_asked_of_an_opened_picture(tmp_path: Path) -> None:
    with Image.open(photo(tmp_path / "a.jpg", time="2024:05:01 18:30:05", model="Box")) as picture:
        facts = picture_facts(picture)

    assert (facts.captured_at, facts.camera) == (datetime(2024, 5, 1, 18, 30, 5), "Box")


def test_facts_of_what_is_no_picture_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")

    with pytest.raises(PictureUnreadableError):
        captured_at(tmp_path / "a.jpg")
