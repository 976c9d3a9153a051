"""Caches what is frozen: the lower trunk's grids and pooled features of every training view."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from training import data, graphs, lite0

log = logging.getLogger("training")
VIEWS = {"flickr8k_train": 4, "imagenet_names": 4, "crops": 1, "flickr8k_dev": 1, "objects51": 1, "imagenet_dev": 1}
BATCH = 32
CROP_PIXELS = 32  # boxes with a shorter side are left out: they show next to nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Grids (n, views, 112, 14, 14) float16, pooled features (n, views, 1280) float32 and the pictures' keys."""

    lower: np.ndarray
    pooled: np.ndarray
    keys: list[str]


def sources(folder: Path, name: str, random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Walk one set as (key, uint8 views (v, 224, 224, 3)); the key is a file name or a class name."""
    count = VIEWS[name]
    if name.startswith("flickr8k"):
        for key, picture in data.pictures(folder / f"{name}.tar"):
            yield key, data.views(picture, random, count)
    elif name == "objects51":
        for key, picture in data.pictures(folder / "objects51.tar"):
            yield key, data.views(picture, random, count)
    elif name.startswith("imagenet"):
        rows = {
            row["file"]: row for row in json.loads((folder / "imagenet_sample_dev.json").read_text(encoding="utf8"))
        }
        wanted = 0 if name == "imagenet_names" else 2
        for key, picture in data.pictures(folder / "imagenet_sample_dev.tar"):
            if rows[key]["index"] % 4 == wanted:
                yield str(rows[key]["index"]), data.views(picture, random, count)
    else:
        boxes = json.loads((folder / "detection" / "train.json").read_text(encoding="utf8"))
        by_file = {image["file"]: image for image in boxes["images"]}
        for key, picture in data.pictures(folder / "detection" / "train.tar"):
            for x1, y1, x2, y2, label, crowd in by_file[key]["boxes"]:
                if not crowd and min(x2 - x1, y2 - y1) >= CROP_PIXELS and (label != 0 or random.uniform() < 0.2):
                    mx, my = 0.1 * (x2 - x1), 0.1 * (y2 - y1)
                    w, h = picture.size
                    box = (max(0, x1 - mx), max(0, y1 - my), min(w, x2 + mx), min(h, y2 + my))
                    yield boxes["classes"][label], data.squared(picture, box)[None]


def load(folder: Path, work: Path, name: str) -> Features:
    """Read the cache of one set, making it first if it is not there."""
    target = work / f"features-{name}"
    if not (target / "keys.json").exists():
        _make(folder, work, name, target)
    keys = json.loads((target / "keys.json").read_text(encoding="utf8"))
    shape = (len(keys), VIEWS[name])
    lower = np.memmap(target / "lower.f16", np.float16, "r", shape=(*shape, 112, 14, 14))
    pooled = np.fromfile(target / "pooled.f32", np.float32).reshape(*shape, lite0.WIDTH)
    return Features(lower=lower, pooled=pooled, keys=keys)


def _make(folder: Path, work: Path, name: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    graph = work / "features.onnx"
    trunk = lite0.load_trunk()
    layers = lite0.layers_of(trunk)
    graphs.write_features(graph, layers, lower=lite0.LOWER)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    keys, batch, done = [], [], 0
    with (target / "lower.f16").open("wb") as lower, (target / "pooled.f32").open("wb") as pooled:

        def flush() -> None:
            a, b = session.run(["lower", "features"], {"pixels": np.concatenate(batch)})
            a.astype(np.float16).tofile(lower), b.tofile(pooled)
            batch.clear()

        for key, views in sources(folder, name, np.random.default_rng(0)):
            keys.append(key), batch.append(views)
            if sum(map(len, batch)) >= BATCH:
                done += sum(map(len, batch))
                flush()
                if done % 1024 < BATCH:
                    log.info("%s: %d views", name, done)
        if batch:
            flush()
    (target / "keys.json").write_text(json.dumps(keys), encoding="utf8")
    log.info("%s: %d pictures", name, len(keys))
