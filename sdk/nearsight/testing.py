"""Doubles for tests of programs that use Nearsight; they need no model, and give the same answer every time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.values import Embeddings, EncoderIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (230, 25, 25),
    "green": (30, 160, 50),
    "blue": (30, 60, 220),
    "yellow": (250, 230, 40),
    "purple": (140, 40, 170),
    "orange": (250, 140, 20),
    "white": (250, 250, 250),
    "black": (5, 5, 5),
}
CHINESE = {
    "红": "red",
    "绿": "green",
    "蓝": "blue",
    "黄": "yellow",
    "紫": "purple",
    "橙": "orange",
    "白": "white",
    "黑": "black",
}
_SIDE = 16
_CELLS = 4


class FakeEncoder:
    """An encoder that sees colours: "a red square" finds red pictures, and nothing else matches anything.

    It has all that `Gallery.open(encoder=...)` needs. The first numbers of a vector say how much of each colour there
    is, the next ones how the brightness lies, so that two pictures of one colour differ a little.

    Args:
        space: name of the vector space.
        precision: precision to report.
        model: name of the model.
        spare: unused numbers at the end of a vector, to make spaces of different length.
    """

    def __init__(self, *, space: str = "colours", precision: str = "fp32", model: str = "fake", spare: int = 0) -> None:
        self._identity = EncoderIdentity(
            model=model,
            space=space,
            dimensions=len(COLOURS) + _CELLS * _CELLS + 1 + spare,
            precision=precision,
            preprocessing="fake-16",
            model_hash=hashlib.sha256(f"{model}/{precision}".encode()).hexdigest(),
        )
        self.encoded_pictures = 0

    @property
    def identity(self) -> EncoderIdentity:
        """Which encoder this is."""
        return self._identity

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the pixels."""
        return (_SIDE, _SIDE)

    @property
    def size_hint(self) -> tuple[int, int]:
        """The same: a JPEG may be decoded as small as that."""
        return self.input_size

    @property
    def default_min_relevance(self) -> float:
        """Relevance from which a text counts as matched."""
        return 0.5

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Shrink a picture to uint8 (16, 16, 3)."""
        from nearsight.preprocess import fit_picture

        return fit_picture(picture, self.input_size)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Embeddings:
        """Encode uint8 (n, 16, 16, 3)."""
        self.encoded_pictures += len(pixels)
        values = pixels.astype(np.float32)
        palette = np.array(list(COLOURS.values()), np.float32)
        nearest = np.linalg.norm(values[:, :, :, None, :] - palette, axis=-1).argmin(axis=-1)
        share = np.stack([(nearest == colour).mean(axis=(1, 2)) for colour in range(len(COLOURS))], axis=1)
        cell = _SIDE // _CELLS
        cells = values.mean(axis=-1).reshape(len(pixels), _CELLS, cell, _CELLS, cell).mean(axis=(2, 4)) / 255.0
        flat = cells.reshape(len(pixels), -1)
        return self._unit(np.concatenate([share, 0.2 * flat, np.zeros((len(pixels), 1))], axis=1))

    def images(self, sources: Sequence[Any]) -> Embeddings:
        """Encode anything that `read_image` takes."""
        from nearsight.pictures import read_image

        return self.encode_pixels(np.stack([self.pixels(read_image(source)) for source in sources]))

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Encode texts by the English or Chinese colours they name; a text without any is like nothing."""
        rows = np.zeros((len(texts), len(COLOURS) + _CELLS * _CELLS + 1))
        for row, text in zip(rows, texts, strict=True):
            for column, colour in enumerate(COLOURS):
                chinese = any(sign in text for sign, name in CHINESE.items() if name == colour)
                row[column] = float(chinese or colour in text.lower().split())
            row[-1] = 0.0 if row.any() else 1.0
        return self._unit(rows)

    def relevance(
        self, query: NDArray[np.float32], vectors: NDArray[np.float32], text: str | None, considered: int
    ) -> NDArray[np.float32] | None:
        """Give the share of the named colour as a probability; no calibration for pictures."""
        del considered
        if text is None:
            return None
        scores: NDArray[np.float32] = np.clip(vectors @ query, 0.0, 1.0).astype(np.float32)
        return scores

    def _unit(self, rows: NDArray[Any]) -> Embeddings:
        full = np.zeros((len(rows), self._identity.dimensions), np.float64)
        full[:, : rows.shape[1]] = rows
        full /= np.linalg.norm(full, axis=1, keepdims=True)
        return Embeddings(vectors=full.astype(np.float32), space=self._identity.space)
