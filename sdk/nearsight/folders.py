"""Find the picture files below folders."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

EXTENSIONS = frozenset(
    {
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
        ".hif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".mpo",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
    }
)
EXCLUDED_FOLDERS = ("@eaDir", "node_modules", ".git")


def absolute(path: str | os.PathLike[str]) -> Path:
    """Give the absolute path, links not resolved; `~` is the home folder.

    Raises:
        InputError: for a blank path: the system takes it for the current folder, and it is a slip of the pen.
    """
    if not os.fspath(path).strip():
        raise InputError("a path is blank; name a file or folder (. is the current one)")
    return Path(os.path.abspath(os.path.expanduser(path)))


def walk(
    paths: Iterable[str | os.PathLike[str]],
    *,
    recursive: bool = True,
    hidden: bool = False,
    exclude: Sequence[str] = EXCLUDED_FOLDERS,
    on_error: Callable[[Path, str], None] | None = None,
) -> Iterator[Path]:
    """Find picture files, sorted by name within each folder; a folder's files come before its sub-folders.

    Linked folders are followed after all real ones, and no folder is entered twice, so loops end. A file that is named
    itself is given whatever its extension.

    Args:
        paths: files and folders; `~` is the home folder.
        recursive: whether to enter sub-folders.
        hidden: whether to take files and folders whose name starts with a dot.
        exclude: names of folders that are never entered below the given ones.
        on_error: called with a folder that cannot be listed and the reason; without it such folders raise.

    Yields:
        Absolute paths, links not resolved, each once.

    Raises:
        InputError: when one of the paths does not exist, before anything is yielded from it.
    """
    entered: set[tuple[int, int]] = set()
    given: set[Path] = set()
    for path in paths:
        root = absolute(path)
        try:
            status = os.stat(root)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no such file or folder: {root} ({getattr(error, 'strerror', None) or error}); check the spelling"
            ) from error
        if not stat.S_ISDIR(status.st_mode):
            found: Iterable[Path] = (root,)
        else:
            found = _walk_folder(root, recursive, hidden, frozenset(exclude), on_error, entered)
        for file in found:
            if file not in given:
                given.add(file)
                yield file


def _walk_folder(
    root: Path,
    recursive: bool,
    hidden: bool,
    exclude: frozenset[str],
    on_error: Callable[[Path, str], None] | None,
    entered: set[tuple[int, int]],
) -> Iterator[Path]:
    real: list[Path] = [root]
    linked: list[Path] = []
    while real or linked:
        # Links wait until the real folders are done, so that a picture is known by its real path.
        folder = real.pop() if real else linked.pop(0)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if on_error is None:
                raise InputError(f"cannot list the folder {folder}: {error.strerror}; check its permissions") from error
            on_error(folder, f"cannot be listed: {error.strerror}")
            continue
        folders: list[Path] = []
        for entry in entries:
            if entry.name.startswith(".") and not hidden:
                continue
            path = folder / entry.name
            try:
                a_folder, a_file = entry.is_dir(), entry.is_file()
            except OSError as error:  # a link that leads round in a circle, say
                if on_error is None:
                    raise InputError(f"cannot look at {path}: {error.strerror}; remove it or mend it") from error
                on_error(path, f"cannot be looked at: {error.strerror}")
                continue
            if a_folder:
                if not recursive or entry.name in exclude or entry.name.endswith(".nsg"):
                    continue
                (linked if entry.is_symlink() else folders).append(path)
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS and a_file:
                yield path
        real.extend(reversed(folders))
