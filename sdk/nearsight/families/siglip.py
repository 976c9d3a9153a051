"""SigLIP and SigLIP 2 of a fixed size: towers trained pair by pair, so that a sigmoid of the cosine is a chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.families.clip import Clip, curve, text_length, token_id
from nearsight.families.hubfiles import TOKENIZER_CONFIG, PictureRecipe, TextRecipe, optional, tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.families.family import Arrays
    from nearsight_models import Manifest

LONGEST = 64


def family(manifest: Manifest) -> Siglip:
    """Read a SigLIP: `preprocessor_config.json`, `tokenizer.json` and `tokenizer_config.json`.

    Raises:
        ModelError: If one of them is not there or cannot be followed.
    """
    longest = text_length(manifest, LONGEST)
    found, page = tokenizer(manifest, longest), optional(manifest, TOKENIZER_CONFIG)
    # The tower takes its vector from the last place and has no mask: each text is filled up, on the side, and in the
    # lower case, of training.
    text = TextRecipe(
        tokenizer=found,
        longest=longest,
        pad=token_id(found, page, "pad_token", 0),
        fixed=True,
        left=page.get("padding_side") == "left",
        lower=True,
        unknown=token_id(found, page, "unk_token", -1),
        languages=manifest.languages,
    )
    settings: dict[str, Any] = manifest.settings
    return Siglip(
        picture=PictureRecipe.read(manifest),
        text=text,
        curve=curve(manifest),
        image_output="pooler_output",
        text_output="pooler_output",
        scale=settings.get("logit_scale"),
        bias=settings.get("logit_bias"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Siglip(Clip):
    """A CLIP that judges each pair by itself.

    Attributes:
        scale: What a cosine is multiplied by; None where the files do not say.
        bias: What is added to that.
    """

    scale: float | None = None
    bias: float | None = None

    def text_arrays(self, texts: Sequence[str]) -> Arrays:
        """Give `input_ids` alone: the tower has no mask."""
        return {"input_ids": self.text.ids(texts)[0]}

    def relevance(self, scores: NDArray[np.float32], text: str, considered: int) -> NDArray[np.float32] | None:
        """Give the chance that each pair matches, as the model was trained to say it; None without scale and bias."""
        if self.curve:
            return Clip.relevance(self, scores, text, considered)
        if self.scale is None or self.bias is None:
            return None
        # Source: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training": sigmoid(scale x cosine + bias).
        chance: NDArray[np.float32] = 1 / (1 + np.exp(-np.clip(self.scale * scores + self.bias, -60, 60)))
        return chance.astype(np.float32)
