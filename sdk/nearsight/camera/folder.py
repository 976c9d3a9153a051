"""Frames out of a folder of pictures: by the times that they state, else by their names."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from nearsight.camera.source import YEARS, Still
from nearsight.errors import InputError, PictureUnreadableError
from nearsight.pictures import captured_at, read_image, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_DEFAULT_FPS = 1.0


class Folder:
    """The pictures of one folder, its sub-folders left out."""

    def __init__(self, path: Path, fps: float | None, start: datetime | None) -> None:
        """Find the pictures and read their times.

        Raises:
            InputError: when there are none.
        """
        files = sorted(walk([path], recursive=False), key=_natural)
        if not files:
            raise InputError(f"no pictures in {path}; give a folder of pictures, or a video file")
        times, unreadable = _times(files)
        if times and len(times) + len(unreadable) == len(files):
            known = sorted(times, key=lambda file: _clock(times[file]))
            first = times[known[0]]
            # What has no time because it cannot be read comes first, where no rate leaves it out untold.
            self._timed = [(0.0, file) for file in unreadable]
            self._timed += [((_clock(times[file]) - _clock(first)).total_seconds(), file) for file in known]
        else:
            first = datetime.fromtimestamp(min(file.stat().st_mtime for file in files), UTC).astimezone()
            self._timed = [(place / (fps or _DEFAULT_FPS), file) for place, file in enumerate(files)]
        self.start = first if start is None else start

    def stills(self) -> Iterator[Still]:
        """Give the pictures one by one."""
        for index, (time_s, file) in enumerate(self._timed):
            yield Still(index=index, time_s=time_s, pixels=_Reader(file), file=file)


class _Reader:
    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self) -> NDArray[np.uint8]:
        # A copy: Pillow lends its own memory, which may not be written to.
        return np.array(read_image(self._file))


def _times(files: list[Path]) -> tuple[dict[Path, datetime], list[Path]]:
    """Give the times that pictures state, and those whose header cannot be read."""
    times: dict[Path, datetime] = {}
    unreadable = []
    for file in files:
        try:
            time = captured_at(file)
        except PictureUnreadableError:
            unreadable.append(file)
            continue
        if time is not None and time.year in YEARS:
            times[file] = time
    return times, unreadable


def _natural(file: Path) -> tuple[list[str | int], str]:
    """Give a key by which 2 comes before 10."""
    parts = re.split(r"(\d+)", file.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], file.name


def _clock(time: datetime) -> datetime:
    """Give a time that can be compared: the wall clock's reading, as one camera writes it."""
    return time.replace(tzinfo=None)
