"""A gallery of the eight photographs, made once by the command line itself, and a way to call it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nearsight.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Path(sys.executable).parent / "nearsight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one command line gave back."""

    code: int
    out: str
    err: str


@pytest.fixture
def nearsight(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Return a function that runs one command line in this process."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Said(code=code, out=out, err=err)

    return run


def process(*words: object, **environment: str) -> Said:
    """Run the installed `nearsight` as a process of its own."""
    done = subprocess.run(
        [COMMAND, *map(str, words)], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return Said(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture(name="process", scope="session")
def _process() -> Callable[..., Said]:
    """Return a function that runs the installed command as a process of its own."""
    return process


@pytest.fixture
def on_a_terminal() -> Callable[..., tuple[int, str]]:
    """Return a function that runs the installed command with one stream on a terminal, and gives code and what showed.

    The function takes the command's words, then `stream` ("stdout" or "stderr"), `columns`, and what is `typed`.
    """
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")

    def run(*words: object, stream: str = "stdout", columns: int = 200, typed: bytes = b"") -> tuple[int, str]:
        mine, theirs = pty.openpty()
        streams = {"stdout": subprocess.PIPE, stream: theirs} | ({"stdin": theirs} if typed else {})
        os.write(mine, typed)
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
        with subprocess.Popen([COMMAND, *map(str, words)], env=environment, **streams) as running:
            os.close(theirs)
            shown = b""
            try:
                while piece := os.read(mine, 1 << 16):
                    shown += piece
            except OSError:
                pass  # a terminal whose other end is closed says so in this way on Linux
        os.close(mine)
        return running.returncode, shown.decode()

    return run


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Return a folder of the eight photographs, free to be changed by no test."""
    folder = tmp_path_factory.mktemp("album") / "照片 photos"
    shutil.copytree(photos, folder, ignore=shutil.ignore_patterns("*.md"))
    return folder


@pytest.fixture(scope="session")
def gallery(album: Path) -> Path:
    """Return a gallery that holds the album."""
    place = album.parent / "g.nsg"
    said = process("index", album, "--gallery", place, "--camera", "gate-3")
    assert said.code == 0, said.err
    return place
