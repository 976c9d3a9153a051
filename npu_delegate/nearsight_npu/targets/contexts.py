"""Graphs that were compiled for a chip once, kept in the user's cache folder: bounded, and verified when loaded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight_npu.memory import Memory
from nearsight_npu.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import Iterator

# What all kept files together may take; the least recently used go first.
MOST_BYTES = 1 << 30


class Contexts:
    """Compiled graphs by what they depend on. Files are named by their SHA-256: a changed one is as good as absent."""

    __slots__ = ("_folder", "_kind", "_memory", "_most_bytes")

    def __init__(self, kind: str, folder: str | os.PathLike[str] | None = None, most_bytes: int = MOST_BYTES) -> None:
        """Keep them under a folder, which need not exist.

        Args:
            kind: the target they are for; names their own folder.
            folder: None is the user's cache folder for "nearsight".
            most_bytes: what all files together may take.
        """
        if folder is None:
            import platformdirs

            folder = platformdirs.user_cache_dir("nearsight")
        self._kind = kind
        self._memory = Memory(folder)
        self._folder = Path(folder).expanduser() / kind
        self._most_bytes = most_bytes

    def read(self, key: str) -> tuple[bytes, Placement] | None:
        """Give what was kept under a key, and where its operators were placed; None where nothing whole is left."""
        entry = self._memory.read(self._kind, key)
        if entry is None or entry.get("key") != key:
            return None
        digest, operators = entry.get("sha256"), entry.get("operators")
        if not isinstance(digest, str) or not isinstance(operators, dict):
            return None
        path = self._folder / f"{digest}.bin"
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return data, Placement(parts=tuple((str(name), int(count)) for name, count in operators.items()))

    @contextlib.contextmanager
    def room(self) -> Iterator[Path | None]:
        """Give a path where a compiler may write; None where nothing can be written. What is not kept is removed."""
        with contextlib.ExitStack() as stack:
            place = None
            # A full or closed disk means compiling again next time, and nothing worse.
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder))) / "made.onnx"
            yield place

    def keep(self, key: str, made: Path | None, placement: Placement) -> None:
        """Keep what a compiler wrote, and let go what no longer fits beside it.

        Args:
            key: what it depends on.
            made: the file, in a place that `room` gave; None keeps nothing.
            placement: where its operators were placed.
        """
        if made is None or not made.is_file():
            return
        with contextlib.suppress(OSError):
            with made.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            kept = made.replace(self._folder / f"{digest}.bin")
            self._memory.write(self._kind, key, {"key": key, "sha256": digest, "operators": dict(placement.parts)})
            self._trim(kept)

    def _trim(self, newest: Path) -> None:
        states = {path: path.stat() for path in self._folder.glob("*.bin")}
        size = sum(state.st_size for state in states.values())
        for path in sorted(states.keys() - {newest}, key=lambda path: states[path].st_mtime_ns):
            if size <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            size -= states[path].st_size
