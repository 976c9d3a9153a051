"""Runs `nearsight watch` as a program of its own, as a user does, and reads what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageDraw

import nearsight as ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

LINE = "line"
# How `nearsight watch` ends when somebody has seen enough.
INTERRUPTED, LISTENING_S = 130, 5.0
Ends = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to watch, and what for.

    Attributes:
        source: a video file or a folder of pictures.
        camera: its name.
        labels: what is looked for.
        ends: x and y of the line's start and end, 0 to 1.
        fps: frames a second to look at.
        most: frames at most.
    """

    source: Path
    camera: str
    labels: tuple[str, ...]
    ends: Ends
    fps: float
    most: int


@dataclass(slots=True)
class Seen:
    """What a run has said so far.

    Attributes:
        folder: where its pictures and its gallery are.
        events: as in the events file.
        summary: None until the end, and where it was ended without one.
        stopped: whether somebody has seen enough.
    """

    folder: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] | None = None
    stopped: bool = False

    def counts(self) -> list[tuple[str, int, int, int]]:
        """Count for each label what appeared and what crossed the line, in and out."""
        kinds = [(event["label"], event["direction"]) for event in self.events]
        labels = dict.fromkeys(label for label, _ in kinds)
        return [(label, *(kinds.count((label, way)) for way in (None, "in", "out"))) for label in labels]


def configuration(wish: Wish) -> str:
    """Write the configuration of `nearsight watch`."""
    x1, y1, x2, y2 = wish.ends
    rows = ["[camera]", f"name = {_text(wish.camera)}", f"source = {_text(str(wish.source))}", f"fps = {wish.fps}"]
    rows += ["[detect]", f"labels = [{', '.join(_text(label) for label in wish.labels)}]"]
    rows += ["[[line]]", f"name = {_text(LINE)}", f"from = [{x1}, {y1}]", f"to = [{x2}, {y2}]"]
    return "\n".join(rows) + "\n"


def _text(value: str) -> str:
    """Write a text as TOML does: JSON's escapes, and the one character that JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


class Watching:
    """One run of `nearsight watch`, in a folder of its own.

    Args:
        wish: what to watch.
        home: where to make the folder.

    Raises:
        InputError: when the program is not there.
    """

    def __init__(self, wish: Wish, home: Path) -> None:
        self._seen = Seen(Path(tempfile.mkdtemp(prefix="watch-", dir=home)))
        config = self._seen.folder / "config.toml"
        config.write_text(configuration(wish), encoding="utf-8")
        self._complaints = self._seen.folder / "complaints.txt"
        command = [*program(), "watch", str(config), "--json", "--max-frames", str(wish.most)]
        with self._complaints.open("wb") as errors:
            self._program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)

    def seen(self) -> Iterator[Seen]:
        """Give what is seen at the start, after each event, and with the summary at the end.

        Raises:
            InputError: with the program's own line, when it fails.
        """
        yield self._seen
        with self._program as program:
            assert program.stdout is not None
            for line in program.stdout:
                said = json.loads(line)
                if "summary" in said:
                    self._seen.summary = said["summary"]
                else:
                    self._seen.events.append(said)
                    yield self._seen
            code = program.wait()
        if not self._seen.stopped and (code not in {0, INTERRUPTED} or self._seen.summary is None):
            told = self._complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = told[-1].removeprefix("nearsight: ") if told else f"nearsight watch ended with code {code}"
            raise ns.InputError(last)
        yield self._seen

    def stop(self) -> None:
        """Ask it to end, which it does with a summary; end it where it does not listen."""
        if self._program.poll() is None:
            self._seen.stopped = True
            # Not SIGINT: a page that was started in the background hands on that it is ignored.
            self._program.terminate()
            try:
                self._program.wait(LISTENING_S)
            except subprocess.TimeoutExpired:
                self._program.kill()


def program() -> list[str]:
    """Find the `nearsight` program that belongs to this Python.

    Raises:
        InputError: when there is none.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which("nearsight", path=beside) or shutil.which("nearsight")
    if found is None:
        raise ns.InputError("the program nearsight is not on the path; install the package: pip install nearsight")
    return [found]


def source_of(files: Sequence[str], home: Path) -> Path:
    """Make one source of what was given: a video file, or pictures put into one folder."""
    paths = [Path(file) for file in files]
    if len(paths) == 1:
        return paths[0]
    folder = Path(tempfile.mkdtemp(prefix="pictures-", dir=home))
    for path in paths:
        shutil.copy(path, folder / path.name)
    return folder


def preview(source: Path, ends: Ends) -> Image.Image:
    """Show the first frame with the line; an arrow's head points to what counts as in."""
    from PIL import Image as Pictures

    with ns.Camera(source) as camera:
        frame = next(iter(camera))
    picture = Pictures.fromarray(frame.pixels)
    width, height = picture.size
    x1, y1, x2, y2 = ends[0] * width, ends[1] * height, ends[2] * width, ends[3] * height
    pen, thick = ImageDraw.Draw(picture), max(3, height // 120)
    pen.line((x1, y1, x2, y2), fill=(255, 196, 0), width=thick)
    length = max(((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5, 1.0)
    across, along = (-(y2 - y1) / length, (x2 - x1) / length), ((x2 - x1) / length, (y2 - y1) / length)
    size, middle = height / 14, ((x1 + x2) / 2, (y1 + y2) / 2)
    tip = (middle[0] + across[0] * size, middle[1] + across[1] * size)
    feet = [(middle[0] + way * along[0] * size / 2, middle[1] + way * along[1] * size / 2) for way in (-1, 1)]
    pen.polygon([tip, *feet], fill=(255, 196, 0))
    return picture
