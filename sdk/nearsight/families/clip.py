"""CLIP and what is built like it: two towers trained to tell matching pairs apart, graphs named as on the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.calibration import Calibration, names_thing
from nearsight.families.hubfiles import PictureRecipe, TextRecipe, optional, tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.families.family import Arrays
    from nearsight_models import Manifest

LONGEST = 77
# Source: Hessel et al. 2021, "CLIPScore", w = 2.5: it spreads CLIP's cosines, which lie below .4, over 0 to 1.
_CLIPSCORE_WEIGHT = 2.5
# What the lowest cosine is worth where nothing is calibrated, and the threshold there: only a text in a script that the
# model does not read has 0, and is below. SigLIP's sigmoid, too, is above.
_LEAST = float(np.finfo(np.float32).tiny)


def family(manifest: Manifest) -> Clip:
    """Read a CLIP: `preprocessor_config.json` or `open_clip_config.json`, and `tokenizer.json`.

    Raises:
        ModelError: If one of them is not there or cannot be followed.
    """
    longest = text_length(manifest, LONGEST)
    # What follows the end token is not seen by what stands before it: any filling will do, and none is best.
    text = TextRecipe(
        tokenizer=tokenizer(manifest, longest),
        longest=longest,
        pad=0,
        fixed=bool(manifest.settings.get("fixed_text", False)),
        languages=manifest.languages,
    )
    return Clip(picture=PictureRecipe.read(manifest), text=text, curve=curve(manifest))


def text_length(manifest: Manifest, usual: int) -> int:
    """Give the most tokens of a text: what `config.json` says of the text tower's positions, at most the usual."""
    stated = optional(manifest, "config.json").get("text_config", {}).get("max_position_embeddings", usual)
    return min(int(stated), usual)


def curve(manifest: Manifest) -> Calibration | None:
    """Give the calibrated relevance that the model's page has, if it has one."""
    return Calibration.read(manifest.relevance) if manifest.relevance else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """An `EncoderFamily` of two towers around the hub's files.

    Attributes:
        picture: How a picture becomes pixels.
        text: How a text becomes ids.
        curve: What a cosine is worth, where somebody measured it; None for CLIPScore, which is not calibrated.
        image_output: Name of the picture graph's output.
        text_output: Name of the text graph's output.
    """

    picture: PictureRecipe
    text: TextRecipe
    curve: Calibration | None = None
    image_output: str = "image_embeds"
    text_output: str = "text_embeds"

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the picture tower's input, in pixels."""
        return self.picture.size_wh

    @property
    def size_hint(self) -> None:
        """None: the model's own processor resizes the whole picture, and so is it read."""

    @property
    def preprocessing(self) -> str:
        """The whole recipe, so that another crop or another mean is another preprocessing."""
        return self.picture.key

    def outputs(self, role: str) -> tuple[str, ...]:
        """The one output that is a vector."""
        return (self.image_output if role == "image" else self.text_output,)

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Fit one picture: uint8 (h, w, 3)."""
        return self.picture.fitted(picture)

    def image_arrays(self, pixels: NDArray[np.uint8]) -> Arrays:
        """Normalise: `pixel_values`, float32 (n, 3, h, w)."""
        return {"pixel_values": self.picture.normalised(pixels)}

    def text_arrays(self, texts: Sequence[str]) -> Arrays:
        """Give `input_ids` and `attention_mask`, int64 (n, t)."""
        ids, mask = self.text.ids(texts)
        return {"input_ids": ids, "attention_mask": mask}

    def vectors(self, role: str, outputs: Arrays) -> NDArray[np.float32]:
        """Bring the tower's output to unit length."""
        (name,) = self.outputs(role)
        raw = outputs[name].astype(np.float32, copy=False)
        lengths = np.linalg.norm(raw, axis=1, keepdims=True)
        unit: NDArray[np.float32] = raw / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit

    def reads(self, text: str) -> bool:
        """Whether the text is in a script that the model learned."""
        return self.text.reads(text)

    @property
    def default_min_relevance(self) -> float:
        """The calibrated threshold; else next to nothing: only what is ruled out, as by another script, is left out."""
        return self.curve.min_relevance if self.curve else _LEAST

    def relevance(self, scores: NDArray[np.float32], text: str, considered: int) -> NDArray[np.float32] | None:
        """Give the calibrated chance, or else CLIPScore: in the same order, and not a chance."""
        if self.curve:
            return self.curve.relevance(scores, considered, thing=names_thing(text))
        score: NDArray[np.float32] = np.clip(_CLIPSCORE_WEIGHT * scores, _LEAST, 1.0).astype(np.float32)
        return score


def token_id(found: Any, page: Mapping[str, Any], name: str, usual: int) -> int:
    """Give the id of a special token that `tokenizer_config.json` names, such as `pad_token`.

    Args:
        found: The model's tokenizer.
        page: The file's content.
        name: Which token.
        usual: Its id where the file does not say.
    """
    stated = page.get(name)
    text = stated.get("content") if isinstance(stated, dict) else stated
    number = found.token_to_id(text) if isinstance(text, str) else None
    return usual if number is None else int(number)
