"""YOLOX, as its authors export it: boxes coded by the cells of three grids, a score for each class."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nearsight.colours import to_rgb
from nearsight.errors import ModelError
from nearsight.families.canvas import corners, sampled
from nearsight.families.classes import class_names

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.families.family import Arrays
    from nearsight_models import Manifest


def family(manifest: Manifest) -> Yolox:
    """Give the leaf of a model."""
    return Yolox(manifest)


class Yolox:
    """YOLOX: the picture in the left upper corner of a grey square, boxes coded by the cells of three grids.

    Source: the ONNX demo of Megvii-BaseDetection/YOLOX: BGR of 0 to 255, bilinear, the rest 114.

    Args:
        manifest: The model's page; its setting `canvas` is width and height of the graph's input.

    Raises:
        ModelError: If the page states no canvas, or class names neither in `config.json` nor in its settings.
    """

    role: ClassVar = "detect"
    strides: ClassVar = (8, 16, 32)
    grey: ClassVar = 114

    def __init__(self, manifest: Manifest) -> None:
        if "canvas" not in manifest.settings:
            raise ModelError(f"the page of {manifest.name!r} states no canvas; get it again: nearsight models pull")
        self._canvas_wh: tuple[int, int] = tuple(manifest.settings["canvas"])
        self._names = (str(manifest.settings.get("input", "images")), str(manifest.settings.get("output", "output")))
        self.classes = class_names(manifest)
        # Source: the defaults of the ONNX demo.
        self.min_score = float(manifest.settings.get("min_score", 0.3))
        self.max_overlap = float(manifest.settings.get("max_overlap", 0.45))

    def picture_arrays(self, picture: Image.Image) -> Arrays:
        """Lay a picture on the canvas: (1, 3, h, w)."""
        scale = self._scale(picture.size)
        width, height = (max(1, int(side * scale)) for side in picture.size)
        canvas = np.full((self._canvas_wh[1], self._canvas_wh[0], 3), self.grey, np.float32)
        pixels = np.asarray(to_rgb(picture), np.uint8)
        canvas[:height, :width] = np.rint(sampled(pixels, picture.size, (width, height), blurred=False))
        return {self._names[0]: np.ascontiguousarray(canvas.transpose(2, 0, 1)[None, ::-1])}

    def boxes(self, outputs: Arrays, size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Give the boxes (a, 4) in pixels of the picture."""
        rows = outputs[self._names[1]][0]
        places, strides = self._cells
        centred = np.concatenate([(rows[:, :2] + places) * strides, np.exp(rows[:, 2:4]) * strides], axis=1)
        return corners(centred) / np.float32(self._scale(size_wh))

    def scores(self, outputs: Arrays) -> NDArray[np.float32]:
        """Give the scores (a, classes), 0 to 1: that of the class, times that of there being anything."""
        rows = outputs[self._names[1]][0]
        scores: NDArray[np.float32] = rows[:, 4:5] * rows[:, 5:]
        return scores

    def _scale(self, size_wh: tuple[int, int]) -> float:
        return min(wanted / side for wanted, side in zip(self._canvas_wh, size_wh, strict=True))

    @cached_property
    def _cells(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Place (a, 2) and stride (a, 1) of every cell, grid by grid, row by row."""
        places, strides = [], []
        for stride in self.strides:
            width, height = self._canvas_wh[0] // stride, self._canvas_wh[1] // stride
            rows, columns = np.mgrid[:height, :width]
            places.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
            strides.append(np.full((width * height, 1), stride))
        return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)
