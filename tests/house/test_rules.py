"""The rules of the house: who may import whom, how long a module may be, what no file may name."""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGES = (
    "sdk/nearsight",
    "npu_delegate/nearsight_npu",
    "models/nearsight_models",
    "apps/nearsight_apps",
    "demos/nearsight_demos",
)
LONGEST_MODULE = 400
# Modules of visitors that speak on the terminal: sub-commands, the tour with what it fetches, and the check of the hub.
COMMANDS = {"command.py", "tour.py", "photographs.py", "hubcheck.py"}
# Where torch and what stands on it may be imported; nothing of it is needed to run a model.
TORCH = {"torch", "torchvision", "transformers", "open_clip", "timm"}
HOMES_OF_TORCH = ("sdk/nearsight/exporting/", "tests/export/", "models/training/", "bench/models.py")
# Written in pieces, so that this file does not name them either.
MACHINE_PATHS = re.compile(
    "|".join((r"/ro" + r"ot/", r"/ho" + r"me/[a-z]", r"/wo" + r"rk/", r"/var/t" + r"mp/", r"/op" + r"t/py"))
)
REGISTRY_HOSTS = re.compile(
    "|".join((r"py" + r"pi\.org", r"python" + r"hosted", r"npm" + r"js\.(org|com)", r"deb" + r"ian\.org"))
)
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".cfg", ".ini", ".yml", ".yaml", ".sh", ".json", ".html", ""}


def modules(root: Path) -> list[Path]:
    return [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]


def tracked(root: Path) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("not a git work tree")
    return [root / name for name in listed.stdout.split("\0") if name and (root / name).is_file()]


def test_every_import_goes_down_and_every_effect_has_one_home(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(root / "demos"), os.environ["PYTHONPATH"]))}

    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_no_module_is_long(root: Path) -> None:
    lengths = {path.relative_to(root): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(root)}

    assert lengths
    assert {path: count for path, count in lengths.items() if count > LONGEST_MODULE} == {}


def test_no_module_bears_the_name_of_a_public_function_beside_it() -> None:
    import nearsight
    import nearsight_models
    import nearsight_npu

    both = {
        f"{package.__name__}.{module.name}"
        for package in (nearsight, nearsight_npu, nearsight_models)
        for module in pkgutil.iter_modules(package.__path__)
        if module.name in package.__all__
    }

    assert both == set()


def test_only_the_command_line_prints(root: Path) -> None:
    printing = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in modules(root)
        if "cli" not in path.parts and path.name not in COMMANDS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert printing == []


def test_nothing_is_swallowed_whole(root: Path) -> None:
    broad = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in modules(root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}))
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]

    assert broad == []


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_torch_is_where_models_are_made_and_nowhere_else(root: Path) -> None:
    users = [
        path.relative_to(root).as_posix() for path in tracked(root) if path.suffix == ".py" and imported(path) & TORCH
    ]

    assert [path for path in users if not path.startswith(HOMES_OF_TORCH)] == []
    assert any(path.startswith("sdk/nearsight/exporting/") for path in users)


def test_every_folder_of_tests_is_run_by_one_command(root: Path) -> None:
    folders = {f"tests/{path.parent.name}" for path in (root / "tests").glob("*/test_*.py")}
    with (root / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["pytest"]["ini_options"]["testpaths"]

    assert set(listed) == folders - {"tests/export"}
    assert "pytest -q tests/export" in (root / "Makefile").read_text(encoding="utf-8")
    assert "make test-export" in (root / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("forbidden", [MACHINE_PATHS, REGISTRY_HOSTS], ids=["machine paths", "registry hosts"])
def test_no_file_names_a_place_that_only_one_machine_knows(root: Path, forbidden: re.Pattern[str]) -> None:
    named = [
        f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
        for path in tracked(root)
        if path.suffix in TEXT_SUFFIXES
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if forbidden.search(line)
    ]

    assert named == []
