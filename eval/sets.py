"""Reads the development sets: pictures out of tars, captions and names beside them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import nearsight as ns

NAMES = Path(__file__).parent / "names"


class MissingSetError(Exception):
    """A set that a part needs is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """Pictures in order with five captions each, flattened: caption i belongs to picture i // 5."""

    files: list[str]
    en: list[str]
    zh: list[str]


def need(path: Path) -> Path:
    """Return the path, or say which set is absent."""
    if not path.exists():
        raise MissingSetError(f"{path.name} is absent from {path.parent}; give the folder with DATA=")
    return path


def captions(data: Path) -> Captioned:
    """Flickr8k dev."""
    rows = [
        json.loads(line) for line in need(data / "flickr8k_dev_captions.jsonl").read_text(encoding="utf8").splitlines()
    ]
    en, zh = ([text for row in rows for text in row[language]] for language in ("en", "zh"))
    return Captioned(files=[row["image"] for row in rows], en=en, zh=zh)


def pictures(tar: Path) -> dict[str, Image.Image]:
    """File name -> picture."""
    found = {}
    with tarfile.open(need(tar)) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                found[Path(member.name).name] = Image.open(io.BytesIO(stream.read())).convert("RGB")
    return found


def names(which: str) -> dict[str, str]:
    """English -> Chinese names of `coco` or `objects51`."""
    pairs: dict[str, str] = json.loads((NAMES / f"{which}.json").read_text(encoding="utf8"))
    return pairs


def encoded(encoder: ns.Encoder, files: list[str], shown: dict[str, Image.Image]) -> np.ndarray:
    """Vectors (n, d) of these files."""
    return encoder.images([shown[name] for name in files]).vectors


def photo_of(name: str) -> str:
    """The English template that names are asked with."""
    return f"a photo of a {name}"


def share(true: Iterable[bool]) -> float:
    """The share of what is true, to four decimals."""
    return round(float(np.mean(list(true))), 4)
