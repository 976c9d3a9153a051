"""Caches what a caption looks at, for every training view: two trunks that never saw these captions, and boxes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

import nearsight_models
from nearsight.caption.findings import MOST, listed
from nearsight.preprocess import fit_picture
from training import data, lite0
from training.caption import graphs
from training.caption.model import CELLS, FINDING, SCENE, WIDTH

log = logging.getLogger("training")
BATCH = 16
LEAST_AREA = 0.6  # a smaller crop would often cut off what the caption is about
# (cropped, mirrored). No crops of the boxed pictures: their captions name what the boxes of the whole hold.
VIEWS = {
    "train": ((False, False), (False, True), (True, False), (True, True)),
    "dev": ((False, False),),
    "boxed": ((False, False), (False, True)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What is seen in n pictures by view, and the pictures' file names.

    Attributes:
        cells: (n, views, 49, 1280) float16, the untouched trunk's grid, over the shipped tower's lower half.
        scene: (n, views, 25, 1280) float16, the detector's last map, two by two cells together.
        findings: (n, views, MOST, 6) float32, as `nearsight.caption.findings` lists them.
        names: File names.
    """

    cells: np.ndarray
    scene: np.ndarray
    findings: np.ndarray
    names: list[str]


def load(folder: Path, work: Path, part: str) -> Features:
    """Read the cache of a part (Flickr8k's `train` or `dev`, or `boxed`), making it first if it is not there."""
    target = work / f"seen-{part}"
    if not (target / "keys.json").exists():
        _make(folder, work, part, target)
    keys = json.loads((target / "keys.json").read_text(encoding="utf8"))
    shape = (len(keys), len(VIEWS[part]))
    return Features(
        cells=np.memmap(target / "cells.f16", np.float16, "r", shape=(*shape, CELLS, WIDTH)),
        scene=np.memmap(target / "scene.f16", np.float16, "r", shape=(*shape, SCENE, WIDTH)),
        findings=np.fromfile(target / "findings.f32", np.float32).reshape(*shape, MOST, FINDING),
        names=keys,
    )


def tar_of(folder: Path, part: str) -> Path:
    """Where the pictures of a part lie."""
    return folder / "detection" / "train.tar" if part == "boxed" else folder / f"flickr8k_{part}.tar"


class Eyes:
    """The graphs that every caption looks through, as a user's machine runs them, and the untouched trunk's top."""

    def __init__(self, work: Path, threads: int = 2) -> None:
        search, detect = nearsight_models.load("nano", "search"), nearsight_models.load("nano", "detect")
        self.page = detect
        self.size, self.detector_size = search.preprocessing.size_wh, detect.preprocessing.size_wh
        top = work / "top.onnx"
        graphs.write_top(top, lite0.load_trunk())
        self.tower = _opened(search.files["image"]["int8"].path, threads)
        self.detector = _opened(detect.files["detect"]["int8"].path, threads)
        self.top = _opened(top, threads)

    def see(self, pictures: list[Image.Image]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells (n, 49, 1280), scene (n, 25, 1280) and findings (n, MOST, 6) of n pictures."""
        lower = self.lower(np.stack([fit_picture(p, self.size) for p in pictures]))
        (cells,) = self.top.run(None, {"lower": lower})
        pixels = np.stack([fit_picture(p, self.detector_size) for p in pictures])
        boxes, scores, scene = self.detector.run(["boxes", "scores", "scene"], {"pixels": pixels})
        findings = [listed(b, s, self.page.settings["max_overlap"]) for b, s in zip(boxes, scores, strict=True)]
        return cells, scene, np.stack(findings)

    def lower(self, pixels: np.ndarray) -> np.ndarray:
        """The grid (n, 112, 14, 14) below which the tower was never trained, of fitted pictures."""
        (lower,) = self.tower.run(["lower"], {"pixels": pixels})
        return np.asarray(lower)


def _opened(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _seen(folder: Path, part: str) -> Iterator[list[Image.Image]]:
    """Walk the pictures, one for each view."""
    random = np.random.default_rng(0)
    for _, picture in data.pictures(tar_of(folder, part)):
        found = []
        for cropped, mirrored in VIEWS[part]:
            view = picture.crop(_crop(picture.size, random)) if cropped else picture
            found.append(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else view)
        yield found


def _crop(size_wh: tuple[int, int], random: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a box of most of the picture, of nearly its own shape."""
    area, ratio = random.uniform(LEAST_AREA, 1.0), np.exp(random.uniform(-0.15, 0.15))
    width, height = size_wh
    w, h = min(1.0, np.sqrt(area * ratio)) * width, min(1.0, np.sqrt(area / ratio)) * height
    x, y = random.uniform(0, width - w), random.uniform(0, height - h)
    return round(x), round(y), round(x + w), round(y + h)


def _make(folder: Path, work: Path, part: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    names = [name for name, _ in data.pictures(tar_of(folder, part))]
    order = names if part == "boxed" else data.read_captions(folder / f"flickr8k_{part}_captions.jsonl").images
    place = {name: row for row, name in enumerate(order)}
    if sorted(place) != sorted(names):
        raise SystemExit(f"flickr8k_{part}: the tar and its captions name different pictures; fetch both again")
    eyes, shape = Eyes(work), (len(names), len(VIEWS[part]))
    cells = np.memmap(target / "cells.f16", np.float16, "w+", shape=(*shape, CELLS, WIDTH))
    scene = np.memmap(target / "scene.f16", np.float16, "w+", shape=(*shape, SCENE, WIDTH))
    findings = np.memmap(target / "findings.f32", np.float32, "w+", shape=(*shape, MOST, FINDING))
    waiting: list[list[Image.Image]] = []
    rows: list[int] = []
    for done, views in enumerate(_seen(folder, part), 1):
        waiting.append(views), rows.append(place[names[done - 1]])
        if len(rows) == BATCH or done == len(names):
            for view in range(shape[1]):
                cells[rows, view], scene[rows, view], findings[rows, view] = eyes.see([row[view] for row in waiting])
            waiting.clear(), rows.clear()
            if done % 640 == 0:
                log.info("%s: features of %d pictures", part, done)
    cells.flush(), scene.flush(), findings.flush()
    (target / "keys.json").write_text(json.dumps(order), encoding="utf8")
