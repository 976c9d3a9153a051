"""The models there are: those in the wheel, and those in the models folder, each with its page."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nearsight_models import manifest as manifests
from nearsight_models.errors import MissingFilesError, ModelError, UnknownModelError
from nearsight_models.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearsight_models.manifest import Manifest

FOLDER_VARIABLE = "NEARSIGHT_MODELS"


def models_folder() -> Path:
    """The folder of installed models: `$NEARSIGHT_MODELS`, else `models` in the user's data folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("nearsight") / "models"


def embedded() -> list[str]:
    """Every model that is in the wheel, in alphabetical order."""
    return sorted(path.stem for path in (manifests.root() / "manifests").glob("*.toml"))


def installed() -> list[str]:
    """Every model in the models folder that has its page, in alphabetical order."""
    found = (path.parent.name for path in models_folder().glob(f"*/{PAGE}"))
    return sorted(name for name in found if not name.startswith("."))


def names() -> list[str]:
    """Every model that can be loaded: those of the wheel, then the installed ones, each in alphabetical order."""
    carried = embedded()
    return [*carried, *(name for name in installed() if name not in carried)]


def load(name: str, capability: str | None = None) -> Manifest:
    """Read the manifest of a model.

    Args:
        name: As `names()` lists it; with a capability also the name of a family, such as `nano`.
        capability: What the model shall serve; None takes the page of that very name.

    Raises:
        UnknownModelError: If no manifest bears this name, or none of that name serves the capability.
        MissingFilesError: If one of its files is not there, or the model is known but not installed.
    """
    carried = {title: _read(title) for title in embedded()}
    families = {page.get("family", title) for title, page in carried.items()}
    if name not in carried and name not in families:
        return _load_installed(name, capability)
    if capability is None and name in carried:
        return manifests.built(carried[name], manifests.root())
    serving = {title: page for title, page in carried.items() if page.get("capability") == capability}
    for title, page in serving.items():
        if name in (title, page.get("family", title)):
            return manifests.built(page, manifests.root())
    raise UnknownModelError(
        f"model {name!r} does not serve {capability!r}; what does: {', '.join(serving) or 'none'} "
        "(see: nearsight models list)"
    )


def _read(name: str) -> dict[str, Any]:
    return manifests.toml((manifests.root() / "manifests" / f"{name}.toml").read_text(encoding="utf8"))


def _load_installed(name: str, capability: str | None) -> Manifest:
    if name not in installed():
        _say_that_it_is_not_here(name)
    folder = models_folder() / name
    said = manifests.toml((folder / PAGE).read_text(encoding="utf8"))
    page = manifests.built(said, folder, remedy=_remedy(name, said.get("source")))
    if page.name != name:
        raise ModelError(f"the folder {folder} holds the model {page.name!r}; give the folder that name")
    if capability is not None and page.capability != capability:
        raise UnknownModelError(
            f"model {name!r} does not serve {capability!r} but {page.capability!r} (see: nearsight models list)"
        )
    return page


def _say_that_it_is_not_here(name: str) -> NoReturn:
    from nearsight_models import catalogue

    if name in catalogue.available():
        raise MissingFilesError(f"model {name!r} is not installed; {_remedy(name)}")
    raise UnknownModelError(
        f"no model is called {name!r}; there is: {', '.join(names())}; to be had: {', '.join(catalogue.available())} "
        "(see: nearsight models list)"
    )


def _remedy(name: str, source: object = None) -> str:
    """Say how a model is had: as it came before, else pulled where there are ready graphs, else exported."""
    from nearsight_models import catalogue

    if name not in catalogue.available():
        return f"put its folder below {models_folder()} again"
    way = source.get("how") if isinstance(source, dict) else None
    if way not in ("pull", "export"):
        way = "pull" if catalogue.entry(name).hub else "export"
    return f"get it: nearsight models {way} {name}"


@contextmanager
def in_the_making(name: str) -> Iterator[Path]:
    """Give the folder in which a model is put together; what an earlier try left in it is still there.

    Raises:
        ModelError: If another process is installing this model.
    """
    staging = models_folder() / f".{name}.part"
    staging.mkdir(parents=True, exist_ok=True)
    with (models_folder() / f".{name}.lock").open("w") as lock:
        if not _locked(lock.fileno()):
            raise ModelError(f"another process is installing {name!r}; wait until it has ended")
        yield staging


def _locked(handle: int) -> bool:
    """Take the lock of an open file; where the system has none, nothing stands in the way."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def put_in_place(name: str, staging: Path) -> None:
    """Let a whole model appear under its name; an earlier one gives way."""
    import shutil

    target = models_folder() / name
    gone = models_folder() / f".{name}.old"
    shutil.rmtree(gone, ignore_errors=True)
    if target.exists():
        target.rename(gone)
    staging.rename(target)
    shutil.rmtree(gone, ignore_errors=True)
