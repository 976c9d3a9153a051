"""Reads the data folder: tars of photographs, captions, class names and boxes (its layout is in README.md here)."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 224


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """Pictures in order, and five captions for each in every language column."""

    images: list[str]
    en: list[list[str]]
    zh: list[list[str]]
    zh_of_en: list[list[str]]
    zh_of_en_2: list[list[str]]


def read_captions(path: Path) -> Captions:
    """Read one JSON object a line: image, en, zh and, in training files, two machine translations."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines() if line]
    return Captions(
        images=[row["image"] for row in rows],
        en=[row["en"] for row in rows],
        zh=[row["zh"] for row in rows],
        zh_of_en=[row.get("zh_of_en", []) for row in rows],
        zh_of_en_2=[row.get("zh_of_en_2", []) for row in rows],
    )


def pictures(tar: Path) -> Iterator[tuple[str, Image.Image]]:
    """Walk the pictures of a tar as (file name, RGB picture)."""
    with tarfile.open(tar) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None and member.isfile():
                yield Path(member.name).name, Image.open(io.BytesIO(stream.read())).convert("RGB")


def squared(picture: Image.Image, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """Stretch a picture, or a part of it, to uint8 (224, 224, 3), as `nearsight` does at run time."""
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))


def views(picture: Image.Image, random: np.random.Generator, count: int) -> np.ndarray:
    """The whole picture, then random crops of half to all of its area, mirrored every other time."""
    found = [squared(picture)]
    width, height = picture.size
    for index in range(1, count):
        area, ratio = random.uniform(0.5, 1.0), np.exp(random.uniform(-0.2, 0.2))
        w, h = min(1.0, np.sqrt(area * ratio)) * width, min(1.0, np.sqrt(area / ratio)) * height
        x, y = random.uniform(0, width - w), random.uniform(0, height - h)
        view = squared(picture, (x, y, x + w, y + h))
        found.append(view[:, ::-1] if index % 2 else view)
    return np.stack(found)
