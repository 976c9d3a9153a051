"""Installs a model of the catalogue from the hub or from a folder: whole and as stated, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from dataclasses import replace as with_changes
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nearsight_models import pages, sound, store
from nearsight_models.catalogue import entry
from nearsight_models.errors import ChecksumError, MissingFilesError, ModelError, UnknownModelError
from nearsight_models.manifest import File, Manifest, Source, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_models.catalogue import Entry, Hub, HubFile

PARTS = ".parts"
_ANOTHER = "copy it from the hub again, or say that it is of another commit with --revision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a pull is doing.

    Attributes:
        file: Which file, as the hub names it.
        bytes: Its size; None where it is not known.
        state: `fetching`, `copied`, `kept` (it had come before) or `again` (it did not come, or came cut or wrong).
    """

    file: str
    bytes: int | None
    state: str


class Origin(Protocol):
    """Where files come from."""

    revision: str
    """The commit that they are of; empty where that cannot be told."""

    def bring(self, file: HubFile, to: Path, sha256: str, told: Callable[[Progress], None]) -> None:
        """Put one file there, whole and as stated, or raise."""


def pull(
    name: str,
    *,
    precision: str | None = None,
    folder: Path | str | None = None,
    revision: str | None = None,
    told: Callable[[Progress], None] | None = None,
    replace: bool = False,
) -> Manifest:
    """Install a model of the catalogue; one that is installed and whole is left as it is.

    Every file is held against the hash that the catalogue, an earlier pull of the same commit, or the hub itself
    states. The model appears in one step, with its page. What has come of an interrupted pull is kept aside, and the
    next one goes on from there.

    Args:
        name: As the catalogue names it.
        precision: Which graphs are wished; a part of the model that lacks it, and None, take what is preferred.
        folder: A folder laid out as the repository on the hub: its files are copied, and nothing is fetched.
        revision: Another commit, branch or tag than the one that the catalogue pins.
        told: Called for each file.
        replace: Whether a model of this name that was exported gives way.

    Returns:
        The page of the installed model.

    Raises:
        UnknownModelError: If the catalogue has no such model, or it has no ready graphs, or none in that precision.
        MissingFilesError: If the folder, or the hub's cache when offline, lacks a file.
        ChecksumError: If a file is another one than stated.
        UsageError: If an exported model has the name, or the environment names no folder or no URL.
        ModelError: If the hub cannot be asked, or declines, or another process is pulling the same.
    """
    model = entry(name)
    hub = _ready(model, precision)
    graphs = list({file.path: file for row in hub.chosen(precision).values() for file in row.values()}.values())
    wanted = [part for file in (*graphs, *hub.assets) for part in file.parts()]
    with store.in_the_making(name) as staging:
        if not replace:
            store.mind(name, "pull")
        origin = (
            _Folder(Path(folder).expanduser(), hub) if folder is not None else _online(name, hub, revision, staging)
        )
        earlier = _earlier(name, hub, origin.revision)
        if earlier is not None and folder is None and _serves(earlier, hub, precision):
            return earlier
        _make_room(staging, wanted)
        known = _known(wanted, hub, origin.revision if folder is None else revision or hub.revision, earlier)
        of_the_page = hub.revision == (origin.revision if folder is None else revision or hub.revision)
        for part in wanted:
            asked = part if of_the_page else with_changes(part, bytes=None)
            origin.bring(asked, staging / part.path, known[part.path], told or _silent)
        _clear(staging, {part.path for part in wanted})
        pages.save(_page(model, hub, precision, origin.revision, staging), staging)
        store.put_in_place(name, staging)
    return store.load(name)


def _silent(_: Progress) -> None:
    """Tell nobody."""


def _online(name: str, hub: Hub, revision: str | None, staging: Path) -> Origin:
    from nearsight_models.hub import Online

    earlier = store.models_folder() / name
    return Online(hub.repo, revision or hub.revision, parts=staging / PARTS, earlier=earlier)


def _ready(model: Entry, precision: str | None) -> Hub:
    if model.hub is None:
        raise UnknownModelError(
            f"there are no ready graphs of {model.name!r} to pull; make them: nearsight models export {model.name}"
        )
    known = model.hub.precisions()
    if precision is not None and precision not in known:
        raise UnknownModelError(f"model {model.name!r} cannot be pulled in {precision!r}; there is {', '.join(known)}")
    return model.hub


def _earlier(name: str, hub: Hub, revision: str) -> Manifest | None:
    """Give the page that an earlier pull of the same commit left, if its files are as it states."""
    if name not in store.installed():
        return None
    try:
        page = store.load(name)
        page.check()
    except ModelError:
        return None  # damaged: it is replaced
    pulled = Source(repo=hub.repo, revision=revision, how="pull")
    return page if page.source == pulled and revision else None


def _serves(page: Manifest, hub: Hub, precision: str | None) -> bool:
    return {role: list(row) for role, row in page.files.items()} == {
        role: list(row) for role, row in hub.chosen(precision).items()
    }


def _known(wanted: list[HubFile], hub: Hub, revision: str, earlier: Manifest | None) -> dict[str, str]:
    """Give path -> SHA-256 as the catalogue states it for its commit, or as an earlier pull of that commit recorded."""
    recorded: dict[str, str] = {}
    if earlier is not None:
        home = store.models_folder() / earlier.name
        for file in earlier.every_file():
            recorded |= {part.path.relative_to(home).as_posix(): part.sha256 for part in file.parts()}
    pinned = bool(revision) and revision == hub.revision
    return {part.path: (part.sha256 if pinned else "") or recorded.get(part.path, "") for part in wanted}


def _make_room(staging: Path, wanted: list[HubFile]) -> None:
    came = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    needed = sum(part.bytes or 0 for part in wanted) - came
    free = shutil.disk_usage(staging).free
    if needed > free:
        raise ModelError(
            f"{needed / 1e6:.0f} MB are to come and {free / 1e6:.0f} MB are free in {staging.parent}; make room there, "
            f"or name another folder in {store.FOLDER_VARIABLE}"
        )


def _clear(staging: Path, wanted: set[str]) -> None:
    """Leave nothing beside what was wanted, such as parts, or graphs of another precision."""
    for path in sorted(staging.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(staging).as_posix() not in wanted:
            path.unlink()


def _page(model: Entry, hub: Hub, precision: str | None, revision: str, home: Path) -> Manifest:
    files = {
        role: {one: _described(file, home) for one, file in row.items()} for role, row in hub.chosen(precision).items()
    }
    whole = hashlib.sha256()
    for _, row in sorted(files.items()):
        for file in row.values():
            whole.update("".join(part.sha256 for part in file.parts()).encode())
    searches = model.capability == "search"
    return Manifest(
        name=model.name,
        family=model.name,
        capability=model.capability,
        architecture=model.architecture,
        summary=model.summary,
        languages=model.languages,
        licence=model.licence,
        trained_on=model.trained_on,
        research_only=model.research_only,
        parameters=model.parameters,
        files=files,
        golden={},
        preprocessing=None,
        settings=model.settings,
        space=f"{model.name}-{whole.hexdigest()[:8]}" if searches else "",
        dimensions=model.dimensions,
        assets={file.name or file.path: _described(file, home) for file in hub.assets},
        source=Source(repo=hub.repo, revision=revision, how="pull"),
    )


def _described(file: HubFile, home: Path) -> File:
    return File.of(home / file.path, beside=tuple(home / other.path for other in file.beside))


class _Folder:
    """A folder laid out as the repository on the hub."""

    revision = ""

    def __init__(self, folder: Path, hub: Hub) -> None:
        if not folder.is_dir():
            raise MissingFilesError(f"there is no folder {folder}; give one that holds the files of {hub.repo}")
        self._folder = folder

    def bring(self, file: HubFile, to: Path, sha256: str, told: Callable[[Progress], None]) -> None:
        origin = self._folder / file.path
        if not origin.is_file():
            raise MissingFilesError(f"{self._folder} lacks {file.path}; put the whole repository of the hub there")
        if sound.is_pointer(origin):
            raise ChecksumError(
                f"{file.path} in {self._folder} is a git-lfs pointer, not the file; fetch it there: git lfs pull"
            )
        size = origin.stat().st_size
        if not sha256 and file.bytes not in (None, size):
            raise ChecksumError(
                f"{file.path} in {self._folder} has {size} bytes, the catalogue states {file.bytes}; {_ANOTHER}"
            )
        copy(origin, to)
        told(Progress(file=file.path, bytes=size, state="copied"))
        if sha256 and sha256_of(to) != sha256:
            to.unlink()
            raise ChecksumError(
                f"{file.path} in {self._folder} has SHA-256 {sha256_of(origin)[:12]} and {size} bytes, "
                f"the catalogue states {sha256[:12]}; {_ANOTHER}"
            )
        if not sha256 and (fault := sound.fault(to)):
            to.unlink()
            raise ChecksumError(f"{file.path} in {self._folder} {fault}; copy it from the hub again")


def copy(origin: Path, to: Path) -> None:
    """Copy a file and flush it to the disk."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(origin, to)
    flush(to)


def flush(path: Path) -> None:
    """Let a file's content survive a power cut."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
