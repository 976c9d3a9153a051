"""The configuration of `nearsight watch`: read strictly, complaints name the line of the file."""

from __future__ import annotations

import math
import os
import re
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import nearsight as ns
from nearsight_apps.smart_city.events import escaped
from nearsight_apps.smart_city.lines import POINTS, Line

_ENCODING = "utf-8-sig"  # editors on Windows begin a file with a byte order mark
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w\"'.-]+)\s*\]")
# Of a camera's or a line's name as it stands in file names, which may have 255 bytes in all.
_NAME_BYTES = 96
# Years that a start may lie in; a year outside them is a slip of the pen.
_YEARS = range(1900, 3000)
_TABLES: dict[str, tuple[str, ...]] = {
    "camera": ("name", "source", "fps", "start"),
    "detect": ("labels", "min_score"),
    "line": ("name", "from", "to", "labels", "point"),
    "events": ("out", "thumbnails", "gallery"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to watch, what for, and where events go; paths are absolute.

    Attributes:
        path: the file that was read.
        camera: name of the camera, as events and the gallery call it.
        source: video file or folder of pictures.
        fps: frames a second to look at; None for all.
        start: time of the first frame; None for what the source says.
        labels: what is looked for.
        min_score: score from which a thing may begin to be followed; None for the detector's default.
        lines: where to count.
        out: file of events, JSON Lines.
        thumbnails: folder of their pictures.
        gallery: where the pictures are indexed.
    """

    path: Path
    camera: str
    source: Path
    fps: float | None
    start: datetime | None
    labels: tuple[str, ...]
    min_score: float | None
    lines: tuple[Line, ...]
    out: Path
    thumbnails: Path
    gallery: Path

    def essence(self) -> dict[str, Any]:
        """Give what decides which events there are, as JSON-able values."""
        return {
            "camera": self.camera,
            "source": str(self.source),
            "fps": self.fps,
            "start": None if self.start is None else self.start.isoformat(),
            "labels": list(self.labels),
            "min_score": self.min_score,
            "lines": [[n.name, *n.start, *n.end, *n.labels, n.point] for n in self.lines],
        }


def read_config(path: str | Path) -> Config:
    """Read and check a configuration.

    Args:
        path: a TOML file; paths in it start from its folder.

    Raises:
        InputError: when the file is absent, not TOML, or says something that cannot be meant.
    """
    page = _Page(Path(path).expanduser().resolve())
    camera, detect, events = (page.table(name) for name in ("camera", "detect", "events"))
    source = camera.path("source", None)
    if not source.exists():
        camera.fail("source", f"there is no video file or folder at {source}")
    labels = detect.texts("labels", None)
    return Config(
        path=page.path,
        camera=camera.name("name", source.stem),
        source=source,
        fps=camera.number("fps", 0, math.inf),
        start=camera.time("start"),
        labels=labels,
        min_score=detect.number("min_score", 0, 1),
        lines=page.lines(labels),
        out=events.place("out", "events.jsonl", a_folder=False),
        thumbnails=events.place("thumbnails", "thumbs", a_folder=True),
        gallery=events.path("gallery", "events.nsg"),
    )


def complaint(path: Path, table: str, key: str, what: str, nth: int = 0) -> ns.InputError:
    """Make the error about one key, with the line where it stands."""
    place = _line_of(path.read_text(encoding=_ENCODING), table, key, nth)
    return ns.InputError(f"{path} line {place}: [{table}] {key}: {what}")


class _Page:
    """The parsed file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data = tomllib.loads(path.read_text(encoding=_ENCODING))
        except OSError as error:
            raise ns.InputError(f"no configuration at {path} ({error.strerror}); check the spelling") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ns.InputError(f"{path} is not TOML: {error}; mend that line") from error
        for name in self.data:
            if name not in _TABLES:
                raise complaint(path, name, name, f"no such table; there are {', '.join(_TABLES)}")

    def table(self, name: str) -> _Table:
        values = self.data.get(name, {})
        if not isinstance(values, dict):
            raise complaint(self.path, name, name, f"a table is wanted, written as [{name}]")
        return _Table(self.path, name, 0, values)

    def lines(self, labels: tuple[str, ...]) -> tuple[Line, ...]:
        tables = self.data.get("line", [])
        if not isinstance(tables, list) or not all(isinstance(values, dict) for values in tables):
            raise complaint(self.path, "line", "line", "lines are written as [[line]], one for each")
        lines: list[Line] = []
        for nth, values in enumerate(tables):
            table = _Table(self.path, "line", nth, values)
            line = table.line(labels)
            if line.name in {other.name for other in lines}:
                table.fail("name", f"there are two lines {line.name!r}; give each its own name")
            lines.append(line)
        return tuple(lines)


class _Table:
    """One table of the file, whose values are asked for by key."""

    def __init__(self, path: Path, name: str, nth: int, values: dict[str, Any]) -> None:
        self._path, self._name, self._nth, self._values = path, name, nth, values
        for key in values:
            if key not in _TABLES[name]:
                self.fail(key, f"no such key; there are {', '.join(_TABLES[name])}")

    def fail(self, key: str, what: str) -> NoReturn:
        raise complaint(self._path, self._name, key, what, self._nth)

    def text(self, key: str, default: str | None) -> str:
        value = self._values.get(key, default)
        if value is None:
            self.fail(key, "is missing")
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self.fail(key, f"a text is wanted; got {value!r}")
        return value

    def name(self, key: str, default: str | None) -> str:
        text = self.text(key, default)
        size = len(escaped(text).encode())
        if size > _NAME_BYTES:
            most = f"at most {_NAME_BYTES} bytes, which are {_NAME_BYTES // 3} Chinese characters"
            self.fail(key, f"{text[:20]}... is too long for the names of pictures ({size} bytes; {most})")
        return text

    def place(self, key: str, default: str, *, a_folder: bool) -> Path:
        """Give a path that is to be written: a folder, or a file in one; either may be absent yet."""
        path = self.path(key, default)
        if path.exists() and path.is_dir() != a_folder:
            self.fail(key, f"there is a {'file' if a_folder else 'folder'} at {path}; name another place")
        above = next(parent for parent in path.parents if parent.exists())
        if not above.is_dir():
            self.fail(key, f"{above} is a file, not a folder; name another place")
        return path

    def path(self, key: str, default: str | None) -> Path:
        text = self.text(key, default)
        if "://" in text:
            # Not repeated: an address may hold a password.
            self.fail(key, "an address is not read in this version; give a video file or a folder of pictures")
        return Path(os.path.abspath(self._path.parent / os.path.expanduser(text)))

    def number(self, key: str, low: float, high: float) -> float | None:
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value < high:
            bound = "above 0" if high == math.inf else f"between {low} and {high}"
            self.fail(key, f"a number {bound} is wanted; got {value!r}")
        return float(value)

    def time(self, key: str) -> datetime | None:
        value = self._values.get(key)
        try:
            value = datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            self.fail(key, f"a time is wanted, such as 2026-05-01T18:00:00; got {value!r}")
        if value is not None and not isinstance(value, datetime):
            self.fail(key, f"a time is wanted, such as 2026-05-01T18:00:00; got {str(value)!r}")
        if value is not None and value.year not in _YEARS:
            self.fail(key, f"{value} is not within the years {_YEARS[0]} to {_YEARS[-1]}")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None) -> tuple[str, ...]:
        value = self._values.get(key, default)
        if value is None:
            self.fail(key, 'is missing; give what to look for, such as ["car", "person"]')
        if not isinstance(value, (list, tuple)) or not value:
            self.fail(key, f'a list of texts is wanted, such as ["car", "person"]; got {value!r}')
        for text in value:
            if not isinstance(text, str) or not text.strip():
                self.fail(key, f"every label must be a text that is not empty; got {text!r}")
        if len(set(value)) < len(value):
            self.fail(key, f"a label stands there twice: {value!r}")
        return tuple(value)

    def point(self, key: str) -> tuple[float, float]:
        value = self._values.get(key)
        if (
            not isinstance(value, list)
            or len(value) != 2
            or not all(isinstance(part, (int, float)) and not isinstance(part, bool) for part in value)
        ):
            self.fail(key, f"[x, y] is wanted; got {'nothing' if value is None else repr(value)}")
        if not all(0 <= part <= 1 for part in value):
            self.fail(key, f"{value} is outside the frame; x and y are fractions of its width and height, 0 to 1")
        return float(value[0]), float(value[1])

    def line(self, all_labels: tuple[str, ...]) -> Line:
        labels = self.texts("labels", all_labels)
        for label in labels:
            if label not in all_labels:
                self.fail("labels", f"{label!r} is not looked for; [detect] labels has {', '.join(all_labels)}")
        start, end = self.point("from"), self.point("to")
        if start == end:
            self.fail("to", "a line needs two different ends")
        point = self.text("point", POINTS[0])
        if point not in POINTS:
            self.fail("point", f"{' or '.join(POINTS)} is wanted; got {point!r}")
        return Line(name=self.name("name", None), start=start, end=end, labels=labels, point=point)


def _line_of(text: str, table: str, key: str, nth: int) -> int:
    """Find the line of a key, else of its table's header, else the first."""
    inside, best = False, 1
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header is not None:
            inside = header[2].strip("\"'") == table and nth == 0
            nth -= header[2].strip("\"'") == table
            best = number if inside else best
        elif (inside or table == key) and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return best
