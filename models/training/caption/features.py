"""Caches what a caption looks at in every training view: the trunk's lower half, the detector's map, and boxes."""

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
from training import data
from training.caption.model import FINDING, SCENE, WIDTH

log = logging.getLogger("training")
BATCH = 16
LEAST_AREA = 0.6  # a smaller crop would often cut off what the caption is about
LOWER = (112, 14, 14)
# (cropped, mirrored). No crops of the boxed pictures: their captions name what the boxes of the whole hold.
VIEWS = {
    "train": ((False, False), (False, True), *((True, mirrored) for _ in range(3) for mirrored in (False, True))),
    "dev": ((False, False),),
    "boxed": ((False, False), (False, True)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What is seen in n pictures by view, and the pictures' file names.

    Attributes:
        lower: (n, views, 112, 14, 14) float16, the grid of the shipped tower below which it was never trained.
        scene: (n, views, 25, 1280) float16, the detector's last map, two by two cells together.
        findings: (n, views, MOST, 6) float32, as `nearsight.caption.findings` lists them.
        names: File names.
    """

    lower: np.ndarray
    scene: np.ndarray
    findings: np.ndarray
    names: list[str]


def load(folder: Path, work: Path, part: str) -> Features:
    """Read the cache of a part (Flickr8k's `train` or `dev`, or `boxed`), making it first if it is not there."""
    target = work / f"lower-{part}"
    if not (target / "keys.json").exists():
        _make(folder, part, target)
    keys = json.loads((target / "keys.json").read_text(encoding="utf8"))
    shape = (len(keys), len(VIEWS[part]))
    return Features(
        lower=np.memmap(target / "lower.f16", np.float16, "c", shape=(*shape, *LOWER)),
        scene=np.memmap(target / "scene.f16", np.float16, "c", shape=(*shape, SCENE, WIDTH)),
        findings=np.fromfile(target / "findings.f32", np.float32).reshape(*shape, MOST, FINDING),
        names=keys,
    )


def tar_of(folder: Path, part: str) -> Path:
    """Where the pictures of a part lie."""
    return folder / "detection" / "train.tar" if part == "boxed" else folder / f"flickr8k_{part}.tar"


class Eyes:
    """The graphs that every caption looks through, as a user's machine runs them.

    Args:
        threads: Threads of one run.
    """

    def __init__(self, threads: int = 2) -> None:
        search, detect = nearsight_models.load("nano", "search"), nearsight_models.load("nano", "detect")
        self.max_overlap = float(detect.settings["max_overlap"])
        self.size, self.detector_size = search.preprocessing.size_wh, detect.preprocessing.size_wh
        self.tower = _opened(search.files["image"]["int8"].path, threads)
        self.detector = _opened(detect.files["detect"]["int8"].path, threads)

    def see(self, pictures: list[Image.Image]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lower grids (n, 112, 14, 14), scene (n, 25, 1280) and findings (n, MOST, 6) of n pictures."""
        lower = self.lower(np.stack([fit_picture(p, self.size) for p in pictures]))
        pixels = np.stack([fit_picture(p, self.detector_size) for p in pictures])
        boxes, scores, scene = self.detector.run(["boxes", "scores", "scene"], {"pixels": pixels})
        findings = [listed(b, s, self.max_overlap) for b, s in zip(boxes, scores, strict=True)]
        return lower, scene, np.stack(findings)

    def lower(self, pixels: np.ndarray) -> np.ndarray:
        """The grid (n, 112, 14, 14) below which the tower was never trained, of fitted pictures."""
        (lower,) = self.tower.run(["lower"], {"pixels": pixels})
        return np.asarray(lower)


def _opened(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def views(picture: Image.Image, part: str, place: int) -> list[Image.Image]:
    """Give a picture's views; the crops of the picture at this place are the same in every run."""
    random = np.random.default_rng(place)
    found = []
    for cropped, mirrored in VIEWS[part]:
        view = picture.crop(_crop(picture.size, random)) if cropped else picture
        found.append(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else view)
    return found


def _crop(size_wh: tuple[int, int], random: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a box of most of the picture, of nearly its own shape."""
    area, ratio = random.uniform(LEAST_AREA, 1.0), np.exp(random.uniform(-0.15, 0.15))
    width, height = size_wh
    w, h = min(1.0, np.sqrt(area * ratio)) * width, min(1.0, np.sqrt(area / ratio)) * height
    x, y = random.uniform(0, width - w), random.uniform(0, height - h)
    return round(x), round(y), round(x + w), round(y + h)


def ordered(folder: Path, part: str) -> list[str]:
    """The file names of a part, in the order of its captions, or of its tar where it has none."""
    names = [name for name, _ in data.pictures(tar_of(folder, part))]
    order = names if part == "boxed" else data.read_captions(folder / f"flickr8k_{part}_captions.jsonl").images
    if sorted(order) != sorted(names):
        raise SystemExit(f"flickr8k_{part}: the tar and its captions name different pictures; fetch both again")
    return order


def _make(folder: Path, part: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    order = ordered(folder, part)
    place = {name: row for row, name in enumerate(order)}
    shape = (len(order), len(VIEWS[part]))
    lower = np.memmap(target / "lower.f16", np.float16, "w+", shape=(*shape, *LOWER))
    scene = np.memmap(target / "scene.f16", np.float16, "w+", shape=(*shape, SCENE, WIDTH))
    findings = np.memmap(target / "findings.f32", np.float32, "w+", shape=(*shape, MOST, FINDING))
    eyes = Eyes()
    for done, rows in enumerate(_batches(data.pictures(tar_of(folder, part)), place), 1):
        seen = [views(picture, part, row) for row, picture in rows]
        at = [row for row, _ in rows]
        for view in range(shape[1]):
            lower[at, view], scene[at, view], findings[at, view] = eyes.see([one[view] for one in seen])
        if done % 40 == 0:
            log.info("%s: features of %d pictures", part, done * BATCH)
    lower.flush(), scene.flush(), findings.flush()
    (target / "keys.json").write_text(json.dumps(order), encoding="utf8")


def _batches(
    pictures: Iterator[tuple[str, Image.Image]], place: dict[str, int]
) -> Iterator[list[tuple[int, Image.Image]]]:
    waiting: list[tuple[int, Image.Image]] = []
    for name, picture in pictures:
        waiting.append((place[name], picture))
        if len(waiting) == BATCH:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
