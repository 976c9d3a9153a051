"""Small detectors of others on the same pictures: YOLOX-nano, FastestDet and NanoDet-m, all trained on COCO.

Each has the least score below which its average precision gains no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from eval.precision import MOST, Boxes, found_boxes, shared
from PIL import Image

MAX_OVERLAP = 0.6
FOLDER = "weights/detectors"

Finder = Callable[[Image.Image], Boxes]


def classwise(boxes: np.ndarray, scores: np.ndarray, least: float) -> Boxes:
    """Suppress non-maxima class by class: boxes (n, 4), scores (n, classes), of which lower ones are left out."""
    kept = [
        (place, column)
        for column in range(scores.shape[1])
        for places in [np.flatnonzero(scores[:, column] >= least)]
        for place in places[suppressed(boxes[places], scores[places, column])]
    ]
    places, columns = (np.array(part, int) for part in zip(*kept, strict=True)) if kept else (np.zeros(0, int),) * 2
    return found_boxes(boxes[places], columns, scores[places, columns])


def suppressed(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Keep the best of every heap of boxes: their numbers, best first, at most as many as count."""
    order = np.argsort(-scores, kind="stable")[: 2 * MOST]
    heaped = shared(boxes[order], boxes[order]) > MAX_OVERLAP
    kept = np.ones(len(order), bool)
    for place in range(len(order)):
        if kept[place]:
            kept[place + 1 :] &= ~heaped[place, place + 1 :]
    return order[kept][:MOST]


def cells(size: int, strides: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Column and row (n, 2) and stride (n, 1) of every cell of square grids, row by row."""
    grids = [np.stack(np.mgrid[: -(-size // s), : -(-size // s)][::-1], -1).reshape(-1, 2) for s in strides]
    return np.concatenate(grids), np.concatenate(
        [np.full((len(grid), 1), stride) for grid, stride in zip(grids, strides, strict=True)]
    )


def bgr(picture: Image.Image) -> np.ndarray:
    """Planes of blue, green and red: float32 (3, h, w)."""
    return np.ascontiguousarray(np.asarray(picture, np.float32)[:, :, ::-1].transpose(2, 0, 1))


def padded(picture: Image.Image, size: int, grey: int) -> tuple[Image.Image, float]:
    """Scale a picture into the upper left of a square, and give the scale."""
    scale = size / max(picture.size)
    small = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)
    board = Image.new("RGB", (size, size), (grey,) * 3)
    board.paste(small, (0, 0))
    return board, scale


def logistic(values: np.ndarray) -> np.ndarray:
    """The logistic function."""
    return 1 / (1 + np.exp(-values))


class Yolox:
    """YOLOX-nano at 416 x 416, Apache-2.0. Source of the coding: the ONNX demo of Megvii-BaseDetection/YOLOX."""

    FILE, SIZE, GREY, LEAST = "yolox_nano.onnx", 416, 114, 0.001

    def __init__(self, graph: Path, threads: int = 0) -> None:
        self.session = session(graph, threads)
        self.grid, self.stride = cells(self.SIZE, (8, 16, 32))

    def __call__(self, picture: Image.Image) -> Boxes:
        small, scale = padded(picture, self.SIZE, self.GREY)
        (rows,) = self.session.run(None, {self.session.get_inputs()[0].name: bgr(small)[None]})
        centre, half = (rows[0, :, :2] + self.grid) * self.stride, np.exp(rows[0, :, 2:4]) * self.stride / 2
        boxes = (np.concatenate([centre - half, centre + half], 1) / scale).astype(np.float32)
        return classwise(boxes, rows[0, :, 4:5] * rows[0, :, 5:], self.LEAST)


class FastestDet:
    """FastestDet at 352 x 352, BSD-3. Source of the coding: the ONNX example of dog-qiuqiu/FastestDet."""

    FILE, SIZE, STRIDE, LEAST = "FastestDet.onnx", 352, 16, 0.02

    def __init__(self, graph: Path, threads: int = 0) -> None:
        self.session = session(graph, threads)
        self.grid, _ = cells(self.SIZE, (self.STRIDE,))

    def __call__(self, picture: Image.Image) -> Boxes:
        small = picture.resize((self.SIZE, self.SIZE), Image.Resampling.BOX)
        (rows,) = self.session.run(None, {self.session.get_inputs()[0].name: bgr(small)[None] / 255})
        rows = rows[0].reshape(rows.shape[1], -1).T
        side = self.SIZE // self.STRIDE
        centre, half = (np.tanh(rows[:, 1:3]) + self.grid) / side, logistic(rows[:, 3:5]) / 2
        boxes = np.concatenate([centre - half, centre + half], 1) * (picture.size * 2)
        return classwise(boxes.astype(np.float32), rows[:, :1] ** 0.6 * rows[:, 5:] ** 0.4, self.LEAST)


class NanoDet:
    """NanoDet-m at 416 x 416 in ncnn, Apache-2.0. Source of the coding: the ncnn demo of RangiLyu/nanodet."""

    FILE, SIZE, STRIDES, BINS, LEAST = "nanodet-m-416.param", 416, (8, 16, 32), 8, 0.02
    MEAN, SPREAD = (103.53, 116.28, 123.675), (0.017429, 0.017507, 0.017125)

    def __init__(self, graph: Path, threads: int = 0) -> None:
        import ncnn

        self.ncnn, self.net = ncnn, ncnn.Net()
        self.net.opt.num_threads = threads or 1
        self.net.load_param(str(graph))
        self.net.load_model(str(graph.with_suffix(".bin")))
        self.grid, self.stride = cells(self.SIZE, self.STRIDES)

    def __call__(self, picture: Image.Image) -> Boxes:
        small, scale = padded(picture, self.SIZE, 0)
        mean, spread = (np.array(values, np.float32)[:, None, None] for values in (self.MEAN, self.SPREAD))
        run = self.net.create_extractor()
        pixels = np.ascontiguousarray((bgr(small) - mean) * spread)  # ncnn looks at it without owning it
        run.input("input.1", self.ncnn.Mat(pixels))
        scores, edges = (
            np.concatenate([np.array(run.extract(f"{head}_pred_stride_{s}")[1]) for s in self.STRIDES])
            for head in ("cls", "dis")
        )
        edges = edges.reshape(-1, 4, self.BINS)
        likely = np.exp(edges - edges.max(2, keepdims=True))
        far = (likely / likely.sum(2, keepdims=True)) @ np.arange(self.BINS, dtype=np.float32) * self.stride
        centre = (self.grid + 0.5) * self.stride
        boxes = np.concatenate([centre - far[:, :2], centre + far[:, 2:]], 1) / scale
        return classwise(boxes.astype(np.float32), scores, self.LEAST)


PEERS = {"YOLOX-nano": Yolox, "FastestDet": FastestDet, "NanoDet-m": NanoDet}


def session(graph: Path, threads: int) -> ort.InferenceSession:
    """Load one on onnxruntime; 0 threads leaves their number to it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def there(data: Path) -> Iterator[tuple[str, Finder | str]]:
    """Give each peer, or why it is left out."""
    for name, kind in PEERS.items():
        graph = data.parent / FOLDER / kind.FILE
        if not graph.is_file():
            yield name, f"{graph.name} is absent from {graph.parent}"
            continue
        try:
            yield name, kind(graph)
        except ModuleNotFoundError as error:
            yield name, f"{error.name} is not installed; pip install {error.name}"
