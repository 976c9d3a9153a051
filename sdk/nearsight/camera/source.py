"""A camera: whatever gives frames one after another, each with the time at which it was taken."""

from __future__ import annotations

import math
import os
import re
import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from nearsight.errors import CameraError, InputError, NearsightWarning, PictureUnreadableError
from nearsight.values import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

_ADDRESS = re.compile(r"(?i)([a-z][a-z0-9+.-]+)://")
# Frame times are rational numbers that became floats; a frame a nanosecond early is in time.
_EARLY_S = 1e-6
# Years in which frames are taken; what lies outside is a clock that was never set, or a slip of the pen.
YEARS = range(1900, 3000)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture of a camera.

    Attributes:
        pixels: uint8 (h, w, 3), RGB, upright.
        captured_at: when it was taken.
        camera: name of the camera.
        index: place in the source, from 0; frames that `fps` leaves out are counted, too.
    """

    pixels: NDArray[np.uint8]
    captured_at: datetime
    camera: str
    index: int

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """A frame that is not in memory yet.

    Attributes:
        index: place in the source.
        time_s: seconds since the first frame.
        pixels: gives uint8 (h, w, 3), RGB, or raises `PictureUnreadableError`.
        file: of this frame alone; None for a frame of a video.
    """

    index: int
    time_s: float
    pixels: Callable[[], NDArray[np.uint8]]
    file: Path | None = None


class Source(Protocol):
    """What a camera reads from."""

    start: datetime

    def stills(self) -> Iterator[Still]:
        """Give all frames from the first on, in order of time."""


class Camera:
    """The frames of a video file or of a folder of pictures; iterate over it, as often as wanted, from the start.

    When a frame was taken: `start` plus its time in the source. Without `start`, a video begins at the recording time
    that the file states, else at the file's modification time less its duration. Pictures have the time that their
    EXIF states; a folder where one lacks it is read by name, `fps` pictures a second, from the oldest file's
    modification time on. A picture that cannot be read is left out with a `NearsightWarning` that names it; it keeps
    its place in the count, and `skipped` lists it.

    Attributes:
        path: of the source.
        name: of the camera.
        fps: frames a second that are wanted; None for all.
        skipped: pictures that could not be read, in the iteration under way or the last one.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        name: str | None = None,
        fps: float | None = None,
        start: str | datetime | None = None,
    ) -> None:
        """Look at the source; no frame is read yet.

        Args:
            source: a video file or a folder of pictures.
            name: name of the camera; the file's or folder's by default.
            fps: frames a second that are wanted, the others are left out; None for all. For pictures without times:
                how many were taken a second (1 by default).
            start: time of the first frame, ISO 8601 text or datetime; without a zone it is local time.

        Raises:
            InputError: when there is nothing at the path, it holds no video and no picture, it is an address or no
                path at all, PyAV is not installed, or an argument makes no sense.
        """
        self.path = _located(source)
        self.name = self.path.stem if name is None else name
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(f'name={name!r} is no name of a camera; give text such as "gate-3"')
        self.fps = _rate(fps)
        self._source = _opened(self.path, self.fps, _moment(start))
        self.skipped: list[Failure] = []
        self._reading: Iterator[Frame] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        """Read from the first frame on; an iteration that is under way ends.

        Raises:
            CameraError: when the source is damaged or cut short, after all frames before that place.
        """
        if self._closed:
            raise InputError(f"the camera {self.name} is closed; make another with Camera({str(self.path)!r})")
        self._stop()
        self.skipped = []
        self._reading = self._frames()
        return self._reading

    def close(self) -> None:
        """Let go of the file."""
        self._stop()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Camera({str(self.path)!r}, name={self.name!r})"

    def _stop(self) -> None:
        close = getattr(self._reading, "close", None)
        if close is not None:
            close()
        self._reading = None

    def _frames(self) -> Iterator[Frame]:
        due = 0
        for still in self._source.stills():
            slot = due if self.fps is None else math.floor((still.time_s + _EARLY_S) * self.fps)
            if slot < due:
                continue
            try:
                pixels = still.pixels()
            except PictureUnreadableError as error:
                self._skip(still, error)
                continue
            due = due if self.fps is None else slot + 1
            yield Frame(pixels=pixels, captured_at=self._moment_of(still), camera=self.name, index=still.index)

    def _skip(self, still: Still, error: PictureUnreadableError) -> None:
        self.skipped.append(Failure(path=still.file or self.path, reason=getattr(error, "reason", str(error))))
        warnings.warn(f"{error}; it is left out", NearsightWarning, stacklevel=4)

    def _moment_of(self, still: Still) -> datetime:
        try:
            return self._source.start + timedelta(seconds=still.time_s)
        except OverflowError as error:
            raise CameraError(
                f"{self.path} puts frame {still.index} {still.time_s:.0f} s after the first, beyond the calendar; "
                "give another fps, or mend the times of the source"
            ) from error


def _located(source: str | os.PathLike[str]) -> Path:
    text = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise InputError(
            f"a camera is a video file or a folder of pictures; got {type(source).__name__} {source!r}; give a path "
            "(attached cameras are not read in this version)"
        )
    address = _ADDRESS.match(text)
    if address is not None:
        # The address itself is not repeated: it may hold a password.
        raise InputError(
            f"an address ({address[1]}://) is not read in this version, only video files and folders of pictures; "
            "record it to a file first, such as: ffmpeg -i ADDRESS -c copy -t 60 clip.mp4"
        )
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if not path.exists():
        raise InputError(f"no video file or folder of pictures at {path}; check the spelling")
    return path


def _opened(path: Path, fps: float | None, start: datetime | None) -> Source:
    if path.is_dir():
        from nearsight.camera.folder import Folder

        return Folder(path, fps, start)
    from nearsight.camera.video import Video

    return Video(path, start)


def _rate(fps: float | None) -> float | None:
    if fps is None:
        return None
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < math.inf:
        raise InputError(f"fps={fps!r} is not a rate; give frames a second, such as 5, or None for all frames")
    return float(fps)


def _moment(start: str | datetime | None) -> datetime | None:
    if start is None:
        return None
    try:
        moment = start if isinstance(start, datetime) else datetime.fromisoformat(start)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"start={start!r} is not a time; write it as 2026-05-01T18:00:00, with +08:00 if a zone is known"
        ) from error
    if moment.year not in YEARS:
        raise InputError(f"start={start!r} is not within the years {YEARS[0]} to {YEARS[-1]}; mend the year")
    return moment
