"""Documentation that runs: every ```python and ```console block of README and docs, and every docstring example.

The blocks of one page share a folder and, in Python, their names. `photos/` and `~/Pictures` hold the eight
photographs of tests/photos. In a ```console block the lines after `$ ` are run; what follows them is for the reader.
A block that sets a machine up (clone, install, make) is marked ```sh and not run.
"""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PACKAGES = ("nearsight", "nearsight_npu", "nearsight_models")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One piece of a page that runs."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("models/nearsight_models/cards/*.md")]
    return sorted(path for path in found if blocks(path))


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(language=found[1], text=found[2], line=text.count("\n", 0, found.start()) + 2)
        for found in FENCE.finditer(text)
    ]


def run(command: list[str | Path], cwd: Path) -> str:
    environment = {
        **os.environ,
        "HOME": str(cwd / "home"),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONWARNINGS": "error",
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def desk(tmp_path: Path, photos: Path) -> Path:
    for place in (tmp_path / "photos", tmp_path / "home" / "Pictures"):
        shutil.copytree(photos, place, ignore=shutil.ignore_patterns("*.md"))
    return tmp_path


def python_file(page: Path) -> str:
    """Put a page's Python blocks where they stand on the page, so that a traceback names the page's lines."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python":
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


def commands(block: Block) -> str:
    return "\n".join(line[2:] for line in block.text.splitlines() if line.startswith(("$ ", "> "))) + "\n"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_example_of_a_page_runs(page: Path, desk: Path) -> None:
    for block in blocks(page):
        if block.language == "console":
            run(["bash", "-euo", "pipefail", "-c", commands(block)], desk)
    script = desk / f"{page.stem}.py"
    script.write_text(python_file(page), encoding="utf-8")

    run([sys.executable, script], desk)


def test_an_example_that_fails_is_noticed(desk: Path) -> None:
    page = desk / "page.md"
    page.write_text("text\n\n```python\nimport nearsight\nnearsight.no_such_name\n```\n", encoding="utf-8")
    script = desk / "page.py"
    script.write_text(python_file(page), encoding="utf-8")

    with pytest.raises(AssertionError, match=r"line 5[\s\S]*no_such_name"):
        run([sys.executable, script], desk)


def test_there_are_examples_to_run() -> None:
    assert ROOT / "README.md" in pages()


def test_every_docstring_example_holds(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    names = []
    for package in PACKAGES:
        top = importlib.import_module(package)
        names += [package, *(found.name for found in pkgutil.walk_packages(top.__path__, f"{package}."))]
    # Leaves of the exporters import torch, which is not here; they have no examples.
    names = [name for name in names if not name.startswith("nearsight.exporting.")]

    outcomes = {name: doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS) for name in names}

    assert {name: outcome for name, outcome in outcomes.items() if outcome.failed} == {}
    assert sum(outcome.attempted for outcome in outcomes.values()) > 0
