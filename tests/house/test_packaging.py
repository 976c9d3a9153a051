"""The wheel and the source archive hold what they must, and nothing else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

BASE = {"numpy", "onnxruntime", "faiss-cpu", "pillow", "sentencepiece", "platformdirs", "rich"}


@pytest.fixture(scope="module")
def archives(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("archives", root / "tests" / "house" / "archives.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(place)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(archives: ModuleType, built: Path) -> None:
    (wheel,) = built.glob("*.whl")

    assert archives.wheel_complaints(wheel) == []


def test_a_wheel_without_a_file_would_be_noticed(archives: ModuleType, built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    poorer = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(poorer, "w") as new:
        for name in old.namelist():
            if not name.endswith(("py.typed", ".onnx")):
                new.writestr(name, b"")
        new.writestr("tests/test_stray.py", b"")

    complaints = archives.wheel_complaints(poorer)

    assert f"{wheel.name} lacks nearsight/py.typed" in complaints
    assert f"{wheel.name} holds no weights" in complaints
    assert f"{wheel.name} holds tests/test_stray.py, which is no part of the packages" in complaints


def test_the_source_archive_holds_recipe_and_tests(archives: ModuleType, built: Path) -> None:
    (source,) = built.glob("*.tar.gz")

    assert archives.source_complaints(source) == []


def test_the_base_install_is_seven_packages(root: Path) -> None:
    with (root / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]

    assert {line.partition(">")[0] for line in project["dependencies"]} == BASE
    assert project["dynamic"] == ["version"]
