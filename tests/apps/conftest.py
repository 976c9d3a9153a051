"""What the tests of the apps share: a rendered street as a folder of pictures, and its configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nearsight.gallery import Gallery
from nearsight.testing import FakeEncoder

sys.path.insert(0, str(Path(__file__).parent))

from scene import draw_folder

FRAMES = 40
CONFIG = """
[camera]
name = "gate-3"
source = "street"
fps = 10
start = 2026-11-26T18:00:00

[detect]
labels = ["red thing", "green thing"]

[[line]]
name = "middle"
from = [0.0, 0.5]
to = [1.0, 0.5]
"""


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 40 pictures of the street; to be changed by no test."""
    return draw_folder(tmp_path_factory.mktemp("source") / "street", FRAMES)


@pytest.fixture
def config_file(tmp_path: Path, street: Path) -> Path:
    """Return a configuration that watches the street, in a folder of its own."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.replace('"street"', f'"{street}"'), encoding="utf-8")
    return path


@pytest.fixture
def gallery(tmp_path: Path):
    with Gallery.open(tmp_path / "events.nsg", FakeEncoder()) as opened:
        yield opened
