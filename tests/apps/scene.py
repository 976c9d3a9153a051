"""A rendered street for tests: coloured squares that move over grey, and a detector that finds them by their colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

SIZE_WH = (160, 120)
COLOURS = {"red thing": (220, 30, 30), "green thing": (30, 200, 30)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """A square of `side` pixels whose centre moves evenly; in sight from frame `first` to `last`."""

    label: str
    start: tuple[float, float]
    velocity: tuple[float, float]
    first: int = 0
    last: int = 10_000
    side: int = 20

    def box(self, frame: int) -> tuple[float, float, float, float]:
        x, y = (place + (frame - self.first) * speed for place, speed in zip(self.start, self.velocity, strict=True))
        return x - self.side / 2, y - self.side / 2, x + self.side / 2, y + self.side / 2


# One down through the middle, one up beside it, one that stays.
STREET = (
    Mover(label="red thing", start=(50, -10), velocity=(0, 4)),
    Mover(label="green thing", start=(110, 130), velocity=(0, -4), first=8),
    Mover(label="red thing", start=(140, 20), velocity=(0, 0), first=4, last=30),
)


def rendered(movers: tuple[Mover, ...], frame: int) -> np.ndarray:
    pixels = np.full((SIZE_WH[1], SIZE_WH[0], 3), 90, np.uint8)
    for mover in movers:
        if mover.first <= frame <= mover.last:
            x1, y1, x2, y2 = (max(0, round(side)) for side in mover.box(frame))
            pixels[y1:y2, x1:x2] = COLOURS[mover.label]
    return pixels


def draw_folder(folder: Path, frames: int, movers: tuple[Mover, ...] = STREET) -> Path:
    folder.mkdir(parents=True)
    for frame in range(frames):
        Image.fromarray(rendered(movers, frame)).save(folder / f"{frame:04}.png")
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]
    decision: None = None


class ColourDetector:
    """Finds each label's colour; patches that do not touch (seen from the side) are things of their own."""

    default_min_score = 0.4

    def __init__(self) -> None:
        self.frames = 0

    def meaning(self, label):
        return ((label,) if label in COLOURS else ()), "class"

    def detect(self, image, labels, min_score=None):
        self.frames += 1
        boxes = [(label, box) for label in labels if label in COLOURS for box in _patches(image, COLOURS[label])]
        return Seen(
            boxes_xyxy=np.array([box for _, box in boxes], np.float32).reshape(-1, 4),
            scores=np.full(len(boxes), 0.9, np.float32),
            labels=tuple(label for label, _ in boxes),
        )


def _patches(pixels: np.ndarray, colour: tuple[int, int, int]) -> list[tuple[float, ...]]:
    mask = np.abs(pixels.astype(int) - colour).sum(-1) < 90
    found = []
    for columns in _runs(mask.any(0)):
        rows = np.flatnonzero(mask[:, columns].any(1))
        found.append((float(columns.start), float(rows[0]), float(columns.stop), float(rows[-1] + 1)))
    return found


def _runs(flags: np.ndarray) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
