"""A configuration is read strictly: each mistake is one line that names the key and the line of the file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import nearsight as ns
from nearsight_apps.smart_city.config import read_config
from nearsight_apps.smart_city.lines import Line

if TYPE_CHECKING:
    from pathlib import Path

FULL = """
[camera]
name = "gate 3"
source = "street"
fps = 5
start = 2026-11-26T18:00:00Z

[detect]
labels = ["car", "person", "红绿灯"]
min_score = 0.35

[[line]]
name = "entrance"
from = [0, 0.5]
to = [1.0, 0.5]
labels = ["car"]

[[line]]
name = "pavement"
from = [0.2, 0.1]
to = [0.2, 0.9]
point = "foot"

[events]
out = "out/events.jsonl"
thumbnails = "out/thumbs"
gallery = "out/events.nsg"
"""


@pytest.fixture
def written(tmp_path, street):
    (tmp_path / "street").symlink_to(street)

    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_everything_is_read_and_paths_start_from_the_file(written, tmp_path) -> None:
    config = read_config(written(FULL))

    assert (config.camera, config.source, config.fps) == ("gate 3", tmp_path / "street", 5.0)
    assert config.start == datetime(2026, 11, 26, 18, tzinfo=UTC)
    assert (config.labels, config.min_score) == (("car", "person", "红绿灯"), 0.35)
    assert config.lines == (
        Line(name="entrance", start=(0.0, 0.5), end=(1.0, 0.5), labels=("car",)),
        Line(name="pavement", start=(0.2, 0.1), end=(0.2, 0.9), labels=config.labels, point="foot"),
    )
    assert config.out == tmp_path / "out" / "events.jsonl"


def test_little_is_needed(written, tmp_path) -> None:
    config = read_config(written('camera.source = "street"\ndetect.labels = ["car"]\n'))

    assert (config.camera, config.fps, config.start, config.min_score, config.lines) == ("street", None, None, None, ())
    assert (config.out, config.thumbnails, config.gallery) == (
        tmp_path / "events.jsonl",
        tmp_path / "thumbs",
        tmp_path / "events.nsg",
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("fps = 5", "fsp = 5", 5, "[camera] fsp: no such key; there are name, source, fps, start"),
        ("fps = 5", "fps = 0", 5, "[camera] fps: a number above 0 is wanted; got 0"),
        ("fps = 5", "fps = true", 5, "[camera] fps: a number above 0"),
        ('source = "street"', 'source = "road.mp4"', 4, "[camera] source: there is no video file or folder at"),
        ('source = "street"', 'source = "rtsp://u:secret@h/1"', 4, "[camera] source: an address is not read"),
        ('source = "street"', "", 2, "[camera] source: is missing"),
        ("start = 2026-11-26T18:00:00Z", "start = 2026-11-26", 6, "[camera] start: a time is wanted"),
        ('labels = ["car", "person", "红绿灯"]', "labels = []", 9, "[detect] labels: a list of texts is wanted"),
        ('labels = ["car", "person", "红绿灯"]', 'labels = "car"', 9, "[detect] labels: a list of texts is wanted"),
        ('labels = ["car", "person", "红绿灯"]', 'labels = ["car", " "]', 9, "[detect] labels: every label must be"),
        ('labels = ["car", "person", "红绿灯"]', 'labels = ["car", "car"]', 9, "[detect] labels: a label stands there twice"),
        ("min_score = 0.35", "min_score = 1.5", 10, "[detect] min_score: a number between 0 and 1 is wanted"),
        ("to = [1.0, 0.5]", "to = [1.5, 0.5]", 15, "[line] to: [1.5, 0.5] is outside the frame"),
        ("to = [1.0, 0.5]", "to = [0.0, 0.5]", 15, "[line] to: a line needs two different ends"),
        ("to = [1.0, 0.5]", "to = [1.0]", 15, "[line] to: [x, y] is wanted; got [1.0]"),
        ("to = [0.2, 0.9]", "to = [0.2, nan]", 21, "[line] to: [0.2, nan] is outside the frame"),
        ("to = [0.2, 0.9]", "", 18, "[line] to: [x, y] is wanted; got nothing"),
        ('point = "foot"', 'point = "head"', 22, "[line] point: centre or foot is wanted; got 'head'"),
        ('labels = ["car"]\n', 'labels = ["dog"]\n', 16, "[line] labels: 'dog' is not looked for; [detect] labels has car"),
        ('name = "pavement"', 'name = "entrance"', 19, "[line] name: there are two lines 'entrance'"),
        ("[events]", "[event]", 24, "[event] event: no such table; there are camera, detect, line, events"),
        ('[[line]]\nname = "entrance"', '[line]\nname = "entrance"', None, "is not TOML"),
        ('name = "gate 3"', 'name = "a\\nb"', 3, "[camera] name: a text is wanted"),
        ('name = "gate 3"', f'name = "{"门" * 90}"', 3, "is too long for the names of pictures (270 bytes; at most 96 bytes"),
        ('name = "pavement"', f'name = "{"线" * 33}"', 19, "is too long for the names of pictures (99 bytes; at most 96 bytes"),
        ("start = 2026-11-26T18:00:00Z", "start = 9999-12-31T23:59:59", 6, "[camera] start: 9999-12-31 23:59:59 is not within the years"),
        ("start = 2026-11-26T18:00:00Z", 'start = "0001-01-01"', 6, "[camera] start: 0001-01-01 00:00:00 is not within the years"),
        ('thumbnails = "out/thumbs"', 'thumbnails = "config.toml"', 26, "[events] thumbnails: there is a file at"),
        ('thumbnails = "out/thumbs"', 'thumbnails = "config.toml/a/b"', 26, "config.toml is a file, not a folder; name another place"),
        ('out = "out/events.jsonl"', 'out = "config.toml/x.jsonl"', 25, "config.toml is a file, not a folder; name another place"),
        ('out = "out/events.jsonl"', 'out = "street"', 25, "[events] out: there is a folder at"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_key_and_its_line(written, old, new, line, words) -> None:
    path = written(FULL.replace(old, new, 1))

    with pytest.raises(ns.InputError) as caught:
        read_config(path)

    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert "secret" not in message
    if line is not None:
        assert message.startswith(f"{path} line {line}: ")


def test_a_byte_order_mark_is_no_mistake(written, tmp_path) -> None:
    path = written(FULL.lstrip())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert read_config(path).camera == "gate 3"
    path.write_bytes(path.read_bytes().replace(b"fps = 5", b"fps = 0"))
    with pytest.raises(ns.InputError, match="line 4: "):
        read_config(path)


def test_a_file_that_is_absent_or_no_toml_is_told(written, tmp_path) -> None:
    with pytest.raises(ns.InputError, match=r"no configuration at .*absent\.toml"):
        read_config(tmp_path / "absent.toml")
    with pytest.raises(ns.InputError, match=r"is not TOML: .*line 2"):
        read_config(written("[camera]\nname = gate\n"))
    path = written("")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ns.InputError, match="is not TOML"):
        read_config(path)
