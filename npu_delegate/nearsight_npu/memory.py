"""What is remembered between runs, as small JSON files that may be lost at any time: file hashes and proofs.

Every folder of the cache is bounded; the least recently used leave first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight_npu.errors import UnreadableGraphError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A file changed so shortly ago may change again within the same tick of the file system's clock.
_SETTLED_NS = 2_000_000_000
PATIENCE_S = 30.0  # for another process that measures; it takes a second or two unless a target hangs
_LOOK_AGAIN_S = 0.02
MOST_FILES = 1000  # of one kind
_USED_ANEW_S = 3600.0  # a file that was last used so long ago is marked again when it is read
_LEFT_BEHIND_S = 3600.0  # what is half-written and as old as this is of a process that was killed


class Memory:
    """A folder of JSON files; an unreadable or damaged one is as good as absent, and writing may fail."""

    __slots__ = ("_folder",)

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Remember under a folder, which need not exist.

        Args:
            folder: None is the user's cache folder for "nearsight".
        """
        if folder is None:
            import platformdirs

            folder = platformdirs.user_cache_dir("nearsight")
        self._folder = Path(folder).expanduser()

    def read(self, kind: str, key: str) -> dict[str, object] | None:
        """Give what was remembered under a key, or None."""
        path = self._path(kind, key)
        value = _json(path)
        if value is not None and _age_s(path) > _USED_ANEW_S:
            touch(path)
        return value

    def write(self, kind: str, key: str, value: dict[str, object]) -> str | None:
        """Remember something, in one step: another process sees the old file or the new one.

        Of one kind the thousand are kept that were used last.

        Returns:
            None, or why it could not be remembered.
        """
        path = self._path(kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                    json.dump(value, stream)
                Path(part).replace(path)
            except OSError:
                Path(part).unlink(missing_ok=True)
                raise
        except OSError as error:
            return f"{error.strerror} ({path.parent})"
        bound(path.parent, "*.json", "*.part", spared=path)
        return None

    @contextlib.contextmanager
    def alone(self, kind: str, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Keep other processes out that ask for the same; one that takes too long is waited for no longer.

        Args:
            kind: what for.
            patience_s: seconds to wait for others. Where nothing can be written, or files cannot be locked, there is
                no waiting.
        """
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError, ImportError):
                import fcntl

                self._folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((self._folder / f"{kind}.lock").open("ab"))
                end = time.monotonic() + patience_s
                while True:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        if time.monotonic() >= end:
                            break
                        time.sleep(_LOOK_AGAIN_S)
                    else:
                        # By hand: a child that was forked meanwhile holds the file open, too.
                        stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
                        break
            yield

    def all(self, kind: str) -> tuple[dict[str, object], ...]:
        """Give everything of one kind that can be read."""
        paths = sorted(_listed(self._folder / kind, "*.json"))
        return tuple(value for path in paths if (value := _json(path)) is not None)

    def _path(self, kind: str, key: str) -> Path:
        return self._folder / kind / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.json"


def bound(
    folder: Path, pattern: str, unfinished: str, *, most_bytes: int | None = None, spared: Path | None = None
) -> None:
    """Let the least recently used files of a folder go until the others are few and small enough.

    Args:
        folder: the folder.
        pattern: what its files are called.
        unfinished: what files and folders are called that are still written to; those of killed processes go, too.
        most_bytes: what all files together may take; None does not look.
        spared: a file that stays, whatever its size.
    """
    for path in _listed(folder, unfinished):
        if _age_s(path) > _LEFT_BEHIND_S:
            shutil.rmtree(path, ignore_errors=True)
            removed(path)
    files = _listed(folder, pattern)
    if most_bytes is None and len(files) <= MOST_FILES:
        return
    states = [(path, state) for path in files if (state := _state(path)) is not None]
    states.sort(key=lambda entry: (entry[0] == spared, entry[1].st_mtime_ns), reverse=True)
    total = 0
    for place, (path, state) in enumerate(states):
        total += state.st_size
        if path != spared and (place >= MOST_FILES or (most_bytes is not None and total > most_bytes)):
            removed(path)


def removed(*paths: Path) -> None:
    """Remove files; on Windows one that somebody reads cannot be, and goes the next time."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def touch(*paths: Path) -> None:
    """Mark files as used now; where that may not be written, or one has just gone, who leaves first is left open."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.utime(path)


def file_hash(path: Path, memory: Memory) -> str:
    """Give a file's SHA-256, read anew only if its size or one of its times changed.

    Args:
        path: the file.
        memory: where hashes are remembered.

    Returns:
        64 hexadecimal digits.

    Raises:
        UnreadableGraphError: if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            state = os.fstat(stream.fileno())
            facts = [str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns]
            known = memory.read("hashes", str(facts[0]))
            if known is not None and known.get("facts") == facts and isinstance(digest := known.get("sha256"), str):
                return digest
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableGraphError(
            f"{path} was to be loaded; it cannot be read ({error.strerror}); check the path, or fetch the file again"
        ) from error
    if time.time_ns() - state.st_mtime_ns > _SETTLED_NS:
        memory.write("hashes", str(facts[0]), {"facts": facts, "sha256": digest})
    return digest


def _json(path: Path) -> dict[str, object] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _listed(folder: Path, pattern: str) -> tuple[Path, ...]:
    try:
        return tuple(folder.glob(pattern))
    except OSError:
        return ()  # another process has just removed it


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None  # another process has just removed it


def _age_s(path: Path) -> float:
    state = _state(path)
    return 0.0 if state is None else time.time() - state.st_mtime
