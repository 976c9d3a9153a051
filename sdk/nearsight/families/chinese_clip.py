"""Chinese-CLIP: CLIP's picture tower with a Chinese BERT as its text tower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearsight.families.clip import Clip, curve, text_length, token_id
from nearsight.families.hubfiles import TOKENIZER_CONFIG, PictureRecipe, TextRecipe, optional, tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.families.family import Arrays
    from nearsight_models import Manifest

# Source: cn_clip's `tokenize`, context_length=52: no text was longer in training.
LONGEST = 52


def family(manifest: Manifest) -> Clip:
    """Read a Chinese-CLIP: `preprocessor_config.json` and `tokenizer.json`.

    Raises:
        ModelError: If one of them is not there or cannot be followed.
    """
    longest = text_length(manifest, LONGEST)
    found, page = tokenizer(manifest, longest), optional(manifest, TOKENIZER_CONFIG)
    text = TextRecipe(
        tokenizer=found,
        longest=longest,
        pad=token_id(found, page, "pad_token", 0),
        fixed=bool(manifest.settings.get("fixed_text", False)),
        unknown=token_id(found, page, "unk_token", -1),
        languages=manifest.languages,
    )
    made = OneGraph if manifest.files.get("image") == manifest.files.get("text") else Clip
    return made(picture=PictureRecipe.read(manifest), text=text, curve=curve(manifest))


@dataclass(frozen=True, slots=True, kw_only=True)
class OneGraph(Clip):
    """Both towers in one graph, as the hub has it: a run wants a picture and a text, and one of them is blank."""

    def image_arrays(self, pixels: NDArray[np.uint8]) -> Arrays:
        """Add the shortest text to the pictures."""
        blank = np.full((1, 1), self.text.pad, np.int64)
        return {**Clip.image_arrays(self, pixels), "input_ids": blank, "attention_mask": np.ones_like(blank)}

    def text_arrays(self, texts: Sequence[str]) -> Arrays:
        """Add one grey picture to the texts."""
        width, height = self.input_size
        return {**Clip.text_arrays(self, texts), "pixel_values": np.zeros((1, 3, height, width), np.float32)}
