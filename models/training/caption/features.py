"""Caches what the shipped picture tower says of every training view: its grid and its embedding."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from training import data

log = logging.getLogger("training")
CELLS, WIDTH, EMBEDDING = 49, 1280, 512
BATCH = 32
LEAST_AREA = 0.6  # a smaller crop would often cut off what the caption is about
TOWERS = ("int8", "fp16")
# (file of the tower, cropped, mirrored): users run the INT8 file; both are seen, so that neither is a surprise.
VIEWS = {
    "train": (
        ("int8", False, False),
        ("fp16", False, True),
        ("int8", True, False),
        ("fp16", True, True),
        ("int8", False, True),
        ("fp16", True, False),
    ),
    "dev": (("int8", False, False),),
    # No crops: the captions of these name what the boxes of the whole picture hold.
    "boxed": (("int8", False, False), ("fp16", False, True), ("fp16", False, False), ("int8", False, True)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Grids (n, views, 49, 1280) and embeddings (n, views, 512), both float16, and the pictures' file names."""

    grid: np.ndarray
    embedding: np.ndarray
    names: list[str]


def load(folder: Path, work: Path, part: str) -> Features:
    """Read the cache of a part (Flickr8k's `train` or `dev`, or `boxed`), making it first if it is not there."""
    target = work / f"features-{part}"
    if not (target / "keys.json").exists():
        _make(folder, part, target)
    keys = json.loads((target / "keys.json").read_text(encoding="utf8"))
    shape = (len(keys), len(VIEWS[part]))
    grid = np.memmap(target / "grid.f16", np.float16, "r", shape=(*shape, CELLS, WIDTH))
    embedding = np.fromfile(target / "embedding.f16", np.float16).reshape(*shape, EMBEDDING)
    return Features(grid=grid, embedding=embedding, names=keys)


def tar_of(folder: Path, part: str) -> Path:
    """Where the pictures of a part lie."""
    return folder / "detection" / "train.tar" if part == "boxed" else folder / f"flickr8k_{part}.tar"


def _seen(folder: Path, part: str) -> Iterator[list[np.ndarray]]:
    """Walk the pictures as uint8 (224, 224, 3), one for each view."""
    random = np.random.default_rng(0)
    for _, picture in data.pictures(tar_of(folder, part)):
        found = []
        for _, cropped, mirrored in VIEWS[part]:
            view = data.squared(picture, _crop(picture.size, random) if cropped else None)
            found.append(np.ascontiguousarray(view[:, ::-1]) if mirrored else view)
        yield found


def _crop(size_wh: tuple[int, int], random: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a box of most of the picture, of nearly its own shape."""
    area, ratio = random.uniform(LEAST_AREA, 1.0), np.exp(random.uniform(-0.15, 0.15))
    width, height = size_wh
    w, h = min(1.0, np.sqrt(area * ratio)) * width, min(1.0, np.sqrt(area / ratio)) * height
    x, y = random.uniform(0, width - w), random.uniform(0, height - h)
    return x, y, x + w, y + h


def sessions() -> dict[str, ort.InferenceSession]:
    """Open the picture tower's shipped files, by precision."""
    at = Path(__file__).parents[2] / "nearsight_models" / "embedded" / "nano"
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return {
        name: ort.InferenceSession(at / f"image.{name}.onnx", options, providers=["CPUExecutionProvider"])
        for name in TOWERS
    }


def _make(folder: Path, part: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    names = [name for name, _ in data.pictures(tar_of(folder, part))]
    order = names if part == "boxed" else data.read_captions(folder / f"flickr8k_{part}_captions.jsonl").images
    towers, views = sessions(), VIEWS[part]
    place = {name: row for row, name in enumerate(order)}
    if sorted(place) != sorted(names):
        raise SystemExit(f"flickr8k_{part}: the tar and its captions name different pictures; fetch both again")
    shape = (len(names), len(views))
    grid = np.memmap(target / "grid.f16", np.float16, "w+", shape=(*shape, CELLS, WIDTH))
    embedding = np.memmap(target / "embedding.f16", np.float16, "w+", shape=(*shape, EMBEDDING))
    waiting: list[list[np.ndarray]] = []
    rows: list[int] = []
    for done, seen in enumerate(_seen(folder, part), 1):
        waiting.append(seen), rows.append(place[names[done - 1]])
        if len(rows) == BATCH or done == len(names):
            for view, (tower, _, _) in enumerate(views):
                pixels = np.stack([row[view] for row in waiting])
                cells, vectors = towers[tower].run(["grid", "embedding"], {"pixels": pixels})
                grid[rows, view], embedding[rows, view] = cells, vectors
            waiting.clear(), rows.clear()
            if done % 640 == 0:
                log.info("%s: features of %d pictures", part, done)
    grid.flush(), embedding.flush()
    (target / "keys.json").write_text(json.dumps(order), encoding="utf8")
