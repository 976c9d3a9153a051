"""The models there are: those in the wheel, and those in the models folder, each with its page."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nearsight_models import manifest as manifests
from nearsight_models.errors import ModelError, NotInstalledError, UnknownModelError, UsageError
from nearsight_models.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearsight_models.manifest import Manifest

FOLDER_VARIABLE = "NEARSIGHT_MODELS"


def models_folder() -> Path:
    """The folder of installed models: `$NEARSIGHT_MODELS`, else `models` in the user's data folder.

    Raises:
        UsageError: If something else than a folder is there.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        folder = Path(named).expanduser()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{FOLDER_VARIABLE} is {named!r}, which is no folder; name a folder, or unset it")
        return folder
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
    try:
        said = manifests.toml((folder / PAGE).read_bytes().decode())
    except (OSError, UnicodeDecodeError, ModelError) as error:
        raise ModelError(f"the page of {name!r} cannot be read ({error}); {_remedy(name)}") from error
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
        raise NotInstalledError(f"model {name!r} is not installed; {_remedy(name)}")
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


def mind(name: str, how: str, home: Path | None = None) -> None:
    """See that a model that came another way is not replaced.

    Args:
        name: What is to be installed.
        how: How it comes: `pull` or `export`.
        home: Where installed models lie; None is the models folder.

    Raises:
        UsageError: If one of that name is installed that came the other way.
    """
    try:
        said = manifests.toml(((home or models_folder()) / name / PAGE).read_bytes().decode()).get("source")
    except (OSError, UnicodeDecodeError, ModelError):
        return  # there is none, or it is damaged
    came = said.get("how") if isinstance(said, dict) else None
    if came in ("pull", "export") and came != how:
        raise UsageError(
            f"{name!r} is installed and came by {came}; give --replace to have it by {how} instead, or export under "
            "another name: --name"
        )


@contextmanager
def in_the_making(name: str, home: Path | None = None, kind: str = "part") -> Iterator[Path]:
    """Give the folder in which a model is put together; what an earlier try left in it is still there.

    Args:
        name: What is to be installed.
        home: Where installed models lie; None is the models folder.
        kind: What is made of another kind does not find what a try of this kind left.

    Raises:
        UsageError: If the folder of installed models cannot be made.
        ModelError: If another process is installing this model.
    """
    home = home or models_folder()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder {home} cannot be made ({error.strerror}); name another in {FOLDER_VARIABLE}"
        ) from error
    with (home / f".{name}.lock").open("w") as lock:
        if not _locked(lock.fileno()):
            raise ModelError(f"another process is installing {name!r}; wait until it has ended")
        _put_back(home / name)  # where an earlier process ended between the two renamings
        staging = home / f".{name}.{kind}"
        staging.mkdir(exist_ok=True)
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
    """Let a whole model appear under its name, beside where it was made; an earlier one gives way only then."""
    import shutil

    target, gone = staging.parent / name, staging.parent / f".{name}.old"
    shutil.rmtree(gone, ignore_errors=True)
    if target.exists():
        target.rename(gone)
    try:
        staging.rename(target)
    except OSError:
        _put_back(target)
        raise
    shutil.rmtree(gone, ignore_errors=True)


def _put_back(target: Path) -> None:
    gone = target.parent / f".{target.name}.old"
    if gone.exists() and not target.exists():
        gone.rename(target)
