"""Grounding DINO: a picture and one sentence of phrases in; boxes, and for each how much it means each token, out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nearsight.colours import to_rgb
from nearsight.errors import ModelError
from nearsight.families import hubfiles
from nearsight.families.canvas import (
    BILINEAR,
    IMAGENET_MEAN,
    IMAGENET_STD,
    corners,
    kept_ratio,
    logistic,
    normalisation,
    sides,
)
from nearsight.families.family import Prompt
from nearsight.tokens import cleaned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.families.family import Arrays
    from nearsight_models import Manifest

# Source: `max_text_len` of the published configurations.
LONGEST = 256
# Source: the default thresholds of GroundingDinoProcessor.post_process_grounded_object_detection of transformers.
MIN_SCORE = 0.25
# Queries seldom answer twice for one thing, and the model's own processor leaves none out; not measured here.
MAX_OVERLAP = 0.8
# Source: GroundingDinoImageProcessor of transformers.
SHORTEST, LONGEST_SIDE = 800, 1333
# A full stop parts phrases, and so does a question mark: the graph looks for their ids.
PARTING = re.compile(r"[.?。？]+")
BEGIN, END, STOP, UNKNOWN = "[CLS]", "[SEP]", ".", "[UNK]"
# What our export takes for a canvas unless told; a landscape canvas of 1333 x 800 sees more and takes twice as long.
CANVAS_WH = (800, 800)


def family(manifest: Manifest) -> GroundingDino:
    """Give the leaf of a model."""
    return GroundingDino(manifest)


class GroundingDino:
    """Grounding DINO as one graph with one canvas; pictures keep their shape, and a mask says where there is one.

    Args:
        manifest: The model's page; its setting `canvas` is width and height of the graph's input, and
            `phrases` the most labels that may be asked at once.

    Raises:
        ModelError: If one of the model's own files is missing or cannot be followed.
    """

    role: ClassVar = "detect"

    def __init__(self, manifest: Manifest) -> None:
        page = hubfiles.config(manifest, hubfiles.PREPROCESSOR)
        size = sides(page)
        self._shortest = size.get("shortest_edge", SHORTEST)
        self._longest = size.get("longest_edge", LONGEST_SIDE)
        self._normal = normalisation(page, IMAGENET_MEAN, IMAGENET_STD)
        self._resample = int(page.get("resample", BILINEAR))
        self._canvas_wh: tuple[int, int] = tuple(manifest.settings.get("canvas", CANVAS_WH))
        self._tokenizer = hubfiles.tokenizer(manifest)
        self._begin, self._end, self._stop = (self._id(token) for token in (BEGIN, END, STOP))
        self._texts = hubfiles.TextRecipe(
            tokenizer=self._tokenizer,
            longest=int(hubfiles.config(manifest, "config.json").get("max_text_len", LONGEST)),
            pad=0,
            unknown=self._id(UNKNOWN),
            languages=manifest.languages,
        )
        self._phrases = int(manifest.settings.get("phrases", self._texts.longest))
        self.min_score = float(manifest.settings.get("min_score", MIN_SCORE))
        self.max_overlap = float(manifest.settings.get("max_overlap", MAX_OVERLAP))

    def picture_arrays(self, picture: Image.Image) -> Arrays:
        """Bring a picture to the canvas, its shape kept: pixels (1, 3, h, w), 0 beside it, and a mask (1, h, w)."""
        width, height = self._fitted_wh(picture.size)
        pixels = np.asarray(to_rgb(picture).resize((width, height), self._resample), np.uint8)
        canvas = np.zeros((1, 3, self._canvas_wh[1], self._canvas_wh[0]), np.float32)
        canvas[0, :, :height, :width] = self._normal.of(pixels)
        mask = np.zeros((1, *canvas.shape[2:]), np.int64)
        mask[:, :height, :width] = 1
        return {"pixel_values": canvas, "pixel_mask": mask}

    def _fitted_wh(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        along, across = self._canvas_wh if size_wh[0] >= size_wh[1] else self._canvas_wh[::-1]
        width, height = kept_ratio(size_wh, min(self._shortest, across), min(self._longest, along))
        return min(width, self._canvas_wh[0]), min(height, self._canvas_wh[1])

    def reads(self, text: str) -> bool:
        """Whether the model learned the script of a text."""
        return self._texts.reads(text)

    def prompts(self, texts: Sequence[str]) -> list[Prompt]:
        """Put texts into as few sentences as hold them, in their order; a text that is too long loses its end."""
        room = self._texts.longest - 2
        prompts, held = [], list[list[int]]()
        for text in texts:
            ids = self._phrase(text)[: room - 1]
            if held and (len(held) >= self._phrases or sum(map(len, held)) + len(held) + len(ids) + 1 > room):
                prompts.append(self._prompt(held))
                held = []
            held.append(ids)
        return [*prompts, self._prompt(held)]

    def _phrase(self, text: str) -> list[int]:
        words = " ".join(PARTING.sub(" ", cleaned(text)).lower().split())
        return list(self._tokenizer.encode(words, add_special_tokens=False).ids)

    def _prompt(self, phrases: Sequence[Sequence[int]]) -> Prompt:
        ids, places = [self._begin], []
        for phrase in phrases:
            places.append(np.arange(len(ids), len(ids) + len(phrase)))
            ids += [*phrase, self._stop]
        row = np.array([[*ids, self._end]], np.int64)
        arrays = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        return Prompt(arrays=arrays, count=len(phrases), places=tuple(places))

    def boxes(self, outputs: Arrays, size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Give the boxes (a, 4) in pixels of the picture."""
        return corners(outputs["pred_boxes"][0]) * np.array(size_wh * 2, np.float32)

    def answers(self, outputs: Arrays, prompt: Prompt) -> NDArray[np.float32]:
        """Give the scores of the prompt's phrases, float32 (a, n): that of the phrase's likeliest token."""
        tokens = logistic(outputs["logits"][0])
        phrases = [tokens[:, places].max(axis=1, initial=0.0) for places in prompt.places]
        return np.stack(phrases, axis=1)

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ModelError(f"{hubfiles.TOKENIZER} has no token {token!r}, which Grounding DINO needs; get it again")
        return int(found)
