"""What the tests of the SDK share: small pictures made on the spot, and a gallery with an encoder that sees colours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from nearsight.gallery import Gallery
from nearsight.testing import COLOURS, FakeEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Models made for tests stand beside them (hub_models.py); tests are imported by path, so their folder has to be named.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    return folder


@pytest.fixture
def paint(album: Path) -> Callable[..., Path]:
    """Paint one colour, with a little noise, so that no two files are alike; gives the path."""
    made = 0

    def painted(name: str, colour: str = "red", *, seed: int | None = None, exif: Image.Exif | None = None) -> Path:
        nonlocal made
        made += 1
        rng = np.random.default_rng(made if seed is None else seed)
        pixels = np.array(COLOURS[colour]) + rng.integers(-5, 6, (24, 32, 3))
        path = album / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".jpg": "JPEG", ".png": "PNG"}.get(path.suffix.lower(), "PNG")
        extra = {} if exif is None else {"exif": exif}
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, kind, **extra)
        return path

    return painted


@pytest.fixture
def gallery(tmp_path: Path, encoder: FakeEncoder) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "photos.nsg", encoder, wait_s=0.2) as opened:
        yield opened
