"""What every test can count on: no network, caches and models of its own, the same random trials, named data."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = ROOT / "tests" / "house" / "offline"
TENTH = 10

settings.register_profile(
    "nearsight", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("nearsight")


def pytest_configure(config: pytest.Config) -> None:
    """Forbid the network, here and in every process that a test starts; keep the user's cache out; let Ctrl-C work."""
    spec = importlib.util.spec_from_file_location("offline", OFFLINE / "sitecustomize.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(OFFLINE), os.environ.get("PYTHONPATH"))))
    # A suite that runs in the background is started with Ctrl-C ignored, and so would be all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cache = tempfile.TemporaryDirectory(prefix="nearsight-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(cache.cleanup)
    os.environ["XDG_CACHE_HOME"] = cache.name
    os.environ["NEARSIGHT_MODELS"] = os.path.join(cache.name, "models")
    # "auto" is the processor alone, whatever else is installed; tests of choosing take this away.
    os.environ["NEARSIGHT_TARGETS"] = "cpu"
    os.environ.pop("NEARSIGHT_GALLERY", None)


def shared_data() -> Path:
    """Return the folder of the shared data sets, which may not be there."""
    return Path(os.environ.get("NEARSIGHT_DATA", ROOT.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip a test marked `data("name")` where that file is absent, and say which."""
    for item in items:
        for mark in item.iter_markers("data"):
            missing = [name for name in mark.args if not (shared_data() / name).exists()]
            if missing or not shared_data().is_dir():
                what = ", ".join(missing) or "../shared/data"
                item.add_marker(pytest.mark.skip(reason=f"needs {what} in {os.path.relpath(shared_data(), ROOT)}"))


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of the shared data sets; for tests marked `data`."""
    return shared_data()


@pytest.fixture(scope="session")
def photos() -> Path:
    """Return the folder of eight small real photographs; copy it before changing anything."""
    return ROOT / "tests" / "photos"


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def trials() -> Callable[[int], int]:
    """Return how many trials to run: all of them with NEARSIGHT_TRIALS=full, otherwise a tenth, at least one."""
    full = os.environ.get("NEARSIGHT_TRIALS") == "full"
    return lambda count: count if full else max(1, count // TENTH)


@pytest.fixture(scope="session")
def soak_record() -> Callable[[str, dict[str, Any]], None]:
    """Return a function that keeps a long trial's outcome as JSON where NEARSIGHT_SOAK_JSON says so."""
    folder = os.environ.get("NEARSIGHT_SOAK_JSON")

    def keep(name: str, outcome: dict[str, Any]) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            target = Path(folder) / f"soak_{name}.json"
            target.write_text(
                json.dumps(outcome, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
            )

    return keep


@pytest.fixture
def installed() -> Iterator[Callable[[str, str], Path]]:
    """Return a function that installs a model of the wheel under another name, and gives its folder; it ends with the test."""
    wheel, made = ROOT / "models" / "nearsight_models", []

    def install(page: str, name: str) -> Path:
        folder = Path(os.environ["NEARSIGHT_MODELS"], name)
        folder.mkdir(parents=True)
        made.append(folder)
        (folder / "embedded").symlink_to(wheel / "embedded")
        said = (wheel / "manifests" / f"{page}.toml").read_text(encoding="utf-8")
        said = said.replace(f'name = "{page}"', f'name = "{name}"', 1)
        if page == "nano":
            said = said.replace('space = "nano', f'family = "nano"\nspace = "{name}')
        source = f'\n[source]\nrepo = "tests/{page}"\nrevision = ""\nhow = "export"\n'
        (folder / "manifest.toml").write_text(said + source, encoding="utf-8")
        return folder

    yield install
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
