"""MobileCLIP and MobileCLIP2: small towers whose text tower looks at the filling as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight.families.clip import LONGEST, Clip, curve
from nearsight.families.hubfiles import PictureRecipe, TextRecipe, tokenizer

if TYPE_CHECKING:
    from nearsight_models import Manifest


def family(manifest: Manifest) -> Clip:
    """Read a MobileCLIP: `open_clip_config.json` or `preprocessor_config.json`, and `tokenizer.json`.

    Raises:
        ModelError: If one of them is not there or cannot be followed.
    """
    # Source: open_clip's model_configs/MobileCLIP2-S0.json, "no_causal_mask", and its tokenizer, which fills up with
    # zeros to 77: every text has to be filled up as in training.
    text = TextRecipe(
        tokenizer=tokenizer(manifest, LONGEST),
        longest=LONGEST,
        pad=0,
        fixed=True,
        languages=manifest.languages,
    )
    return Clip(picture=PictureRecipe.read(manifest), text=text, curve=curve(manifest))
