"""Graphs that were compiled for a chip once, kept in the user's cache folder: bounded, and verified when loaded."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight_npu.memory import Memory, bound, removed, touch
from nearsight_npu.targets.target import Placement

if TYPE_CHECKING:
    import os
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
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            removed(path)
            return None
        touch(path)
        return data, Placement(parts=tuple((str(name), int(count)) for name, count in operators.items()))

    @contextlib.contextmanager
    def room(self) -> Iterator[Path | None]:
        """Give a path where a compiler may write; None where nothing can be written. What is not kept is removed."""
        with contextlib.ExitStack() as stack:
            place = None
            # A full or closed disk means compiling again next time, and nothing worse.
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                making = tempfile.TemporaryDirectory(dir=self._folder, prefix="making-")
                place = Path(stack.enter_context(making)) / "made.onnx"
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
            bound(self._folder, "*.bin", "making-*", most_bytes=self._most_bytes, spared=kept)
