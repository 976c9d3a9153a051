"""Frames of a video file, through PyAV: the only module that imports it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.camera.source import YEARS, Still
from nearsight.errors import CameraError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

REMEDY = 'pip install "nearsight[video]"'
# Files whose clock was not set say 1904 or 1970.
_EARLIEST_YEAR = 1971
# How much less than the file promises may come before it counts as cut short: containers round and trim.
_LACKING_S = 0.5


class Video:
    """The first video stream of a file."""

    def __init__(self, path: Path, start: datetime | None) -> None:
        """Look into the file's header.

        Raises:
            InputError: when PyAV is not installed, or the file is no video.
        """
        self._path = path
        with _container(path) as container:
            stream = container.streams.video[0]
            self._seconds = _duration_s(container, stream)
            self.start = start or _recorded(container, stream) or _written(path, self._seconds)

    def stills(self) -> Iterator[Still]:
        """Give all frames; a damaged or missing rest raises `CameraError` after the frames before it."""
        av = _av()
        index, first_s, last_s = 0, 0.0, 0.0
        with _container(self._path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            # Without it FFmpeg paints over what it cannot decode.
            stream.codec_context.options = {"err_detect": "explode"}
            step_s = 1.0 / float(stream.average_rate or 25)
            decoding = container.decode(stream)
            while True:
                try:
                    frame = next(decoding, None)
                except av.FFmpegError as error:
                    raise self._fault(index, last_s, f"the data after it is damaged ({error.strerror})") from error
                if frame is None:
                    break
                if frame.is_corrupt:
                    raise self._fault(index, last_s, "the next frame is damaged")
                time_s = float(frame.time) if frame.time is not None else first_s + index * step_s
                if index == 0:
                    first_s = time_s
                last_s = max(time_s - first_s, last_s)
                yield Still(index=index, time_s=last_s, pixels=_Picture(frame))
                index += 1
            if self._seconds is not None and last_s + step_s < self._seconds - _LACKING_S:
                raise self._fault(index, last_s, f"it ends there, but says it lasts {self._seconds:.1f} s")

    def _fault(self, frames: int, time_s: float, reason: str) -> CameraError:
        return CameraError(
            f"{self._path} can be read up to frame {frames} ({time_s:.1f} s): {reason}; "
            "copy the file again from where it came"
        )


class _Picture:
    """Turns a decoded frame into upright RGB when asked: frames that are left out cost no conversion."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __call__(self) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = self._frame.to_ndarray(format="rgb24")
        # The display matrix of telephones: degrees to turn anticlockwise, in quarter turns.
        turns = round(self._frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _av() -> Any:
    try:
        return import_module("av")
    except ImportError as error:
        raise InputError(f"reading a video file needs PyAV; {REMEDY}, or give a folder of pictures") from error


@contextmanager
def _container(path: Path) -> Iterator[Any]:
    av = _av()
    try:
        # A playlist could name other machines.
        container = av.open(os.fspath(path), options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path} is no video file that can be read ({error.strerror}); check the file") from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path} holds no video stream, only {_kinds(container)}; give a video file")
        yield container


def _kinds(container: Any) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _duration_s(container: Any, stream: Any) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    # A container's own duration is that of its longest stream.
    alone = len(container.streams) == 1 and container.duration is not None
    return container.duration / 1e6 if alone else None


def _recorded(container: Any, stream: Any) -> datetime | None:
    """Read the recording time that the file states, as local time."""
    text = container.metadata.get("creation_time") or stream.metadata.get("creation_time") or ""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not _EARLIEST_YEAR <= time.year <= YEARS[-1]:
        return None
    return time.replace(tzinfo=time.tzinfo or UTC).astimezone()


def _written(path: Path, seconds: float | None) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).astimezone() - timedelta(seconds=seconds or 0.0)
