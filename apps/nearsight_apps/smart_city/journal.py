"""Where events go: a picture, a line of JSON, the gallery, in this order, so that none is ever lost or doubled.

An event counts as recorded when its line is durable; its picture is durable before. The gallery follows, and catches up
when the process was stopped in between. A line cut short by a stop is taken out again: its event comes once more.
"""

from __future__ import annotations

import errno
import json
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from PIL import Image

import nearsight as ns
from nearsight_apps.smart_city.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# How every line begins, and so every line that was cut short.
_BEGINNING = b'{"time": "'
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


class Journal:
    """The events of one camera on disk; while it is open, no other process writes them.

    Attributes:
        out: the events file.
        events: all that are recorded, in order.
    """

    def __init__(self, out: Path) -> None:
        """Open, lock and read the events file, made when absent; what is in it stays as it is.

        Raises:
            InputError: when another process is writing the file, it cannot be written, or it is something else.
        """
        self.out = out
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            # Without a buffer: what could not be written is not tried again when the file is closed.
            self._file = open(out, "ab", buffering=0)  # noqa: SIM115  (closed by close)
        try:
            _lock(self._file, out)
            self.events, self._size = _read(out)
        except BaseException:
            # Also on Ctrl-C: an object that was not made cannot be closed by its user.
            self._file.close()
            raise

    def clear(self, gallery: ns.Gallery) -> None:
        """Take out all events with their pictures and rows; the events go last, so that a stop can be mended.

        A picture that does not bear the name of its event is somebody else's, and stays.
        """
        pictures = [(self._picture(event), event) for event in self.events]
        mine = [path for path, event in pictures if path.name == event.file_name()]
        with writing(self.out):
            for path in mine:
                path.unlink(missing_ok=True)
            if mine:
                gallery.remove(*mine, missing=True)
            state_path(self.out).unlink(missing_ok=True)
            self._file.truncate(0)
        self.events, self._size = [], 0

    def begin(self, thumbnails: Path, gallery: ns.Gallery, *, run: str, indexed: int) -> None:
        """Get ready for more events: take out a line that was cut short, and bring the gallery up to date.

        Args:
            thumbnails: folder of the pictures; made when absent.
            gallery: where pictures are indexed.
            run: which watch this is.
            indexed: how many events are known to be there; the others are added, and all where it holds too few.

        Raises:
            InputError: when the folder cannot be made.
        """
        self._thumbnails, self._gallery, self._run = thumbnails, gallery, run
        with writing(thumbnails):
            thumbnails.mkdir(parents=True, exist_ok=True)
        with writing(self.out):
            self._file.truncate(self._size)
        self._known = {event.key for event in self.events}
        self._waiting = self.events[0 if self._gallery_lacks_some() else indexed :]
        self._catch_up()

    def record(self, event: Event, picture: bytes) -> bool:
        """Make an event durable; one that is recorded already is passed over.

        Args:
            event: with its thumbnail's path.
            picture: its picture, JPEG.

        Returns:
            Whether it is new.
        """
        if event.key in self._known:
            return False
        durable(self._picture(event), picture)
        self._append(json.dumps(event.to_dict(), ensure_ascii=False).encode() + b"\n")
        self._known.add(event.key)
        self.events.append(event)
        self._waiting.append(event)
        self._catch_up()
        return True

    @property
    def indexed(self) -> int:
        """How many events the gallery holds for certain, or cannot hold."""
        return len(self.events) - len(self._waiting)

    def place_of(self, event: Event) -> str:
        """Give the path of an event's picture as the events file states it."""
        return os.path.relpath(self._thumbnails / event.file_name(), self.out.parent)

    def settle(self) -> None:
        """Index what still waits.

        Raises:
            GalleryBusyError: when another process keeps the gallery busy; the next run over these events indexes them.
        """
        while self._waiting:
            self._index(self._waiting[0])
            self._waiting.pop(0)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        rest = line
        with writing(self.out):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(self._size)
                raise
        self._size += len(line)

    def _catch_up(self) -> None:
        try:
            self.settle()
        except ns.GalleryBusyError:
            # They wait for the next event, or for the end; they are in the file.
            return

    def _index(self, event: Event) -> None:
        path = self._picture(event)
        if not path.exists():
            reason = "it is gone"
        else:
            report = self._gallery.add(path, camera=event.camera, metadata=event.metadata())
            if not report.failed:
                return
            reason = report.failed[0].reason
        text = f"the picture {path} of an event cannot be indexed: {reason}; the event stays in {self.out}"
        warnings.warn(text, ns.NearsightWarning, stacklevel=2)

    def _gallery_lacks_some(self) -> bool:
        if not self.events:
            return False
        # Any picture will do as a query: what counts is how many rows it was compared with.
        anything = Image.new("RGB", (8, 8))
        held = self._gallery.search(anything, k=1, where={"kind": "event", "run": self._run}).total_considered
        return held < sum(self._picture(event).exists() for event in self.events)

    def _picture(self, event: Event) -> Path:
        return self.out.parent / event.thumbnail


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell in one line that something cannot be written.

    Raises:
        NearsightError: when the disk is full.
        InputError: for every other reason that the system has.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ns.NearsightError(
                f"no space is left to write {path}; make room, then go on after the last frame with --resume"
            ) from error
        raise ns.InputError(
            f"{path} cannot be written ({error.strerror}); name a place that can be in [events]"
        ) from error


def durable(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent, and stays after a power cut.

    Raises:
        NearsightError: when the disk is full.
        InputError: when it cannot be written.
    """
    fresh = path.with_name(path.name + ".new")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(fresh, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        if os.name == "nt":  # where a folder cannot be opened
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def state_path(out: Path) -> Path:
    """Give the place of the state that belongs to an events file, beside it."""
    return out.with_name(out.name + ".state")


def read_events(out: Path) -> list[Event]:
    """Read an events file; a last line that was cut short is left out.

    Raises:
        InputError: when it holds anything but events, or cannot be read.
    """
    return _read(out)[0]


def _read(out: Path) -> tuple[list[Event], int]:
    """Read an events file; gives its events and how many bytes they take. A last line cut short is left out.

    Raises:
        InputError: when it holds anything but events.
    """
    with writing(out):
        content = out.read_bytes()
    whole, _, rest = content.rpartition(b"\n")
    events = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            events.append(Event.from_dict(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            raise _stranger(out, number, str(error)) from error
    known = events or state_path(out).exists()
    if rest and not (known and rest[: len(_BEGINNING)] == _BEGINNING[: len(rest)]):
        raise _stranger(out, len(events) + 1, "it does not begin like one")
    return events, len(content) - len(rest)


def _stranger(out: Path, number: int, reason: str) -> ns.InputError:
    return ns.InputError(
        f"{out} line {number} is no event of nearsight watch ({reason}); name another file in [events] out"
    )


def _lock(file: Any, out: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ns.InputError(
            f"another nearsight watch is writing {out}; wait for it, or name another file in [events] out"
        ) from error
