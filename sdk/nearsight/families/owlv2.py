"""OWLv2: boxes with a vector each, compared with the vectors of any words, or of a picture of the thing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nearsight.colours import to_rgb
from nearsight.families import hubfiles
from nearsight.families.canvas import corners, logistic, normalisation, sampled, sides
from nearsight.families.family import Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.families.family import Arrays
    from nearsight_models import Manifest

# Source: Owlv2ImageProcessor of transformers.
SIDE = 960
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# Source: `text_config.max_position_embeddings` of the published configurations.
LONGEST = 16
# Source: the usage of google/owlv2-base-patch16-ensemble on its hub page and in transformers' documentation.
PROMPT, MIN_SCORE = "a photo of a {}", 0.1
# Source: what post_process_image_guided_detection of transformers suppresses by; it does not for words.
MAX_OVERLAP = 0.3
ARTICLE = re.compile(r"^\s*(?:a|an|the)\s+", re.IGNORECASE)
_TINY = 1e-6  # what the class head adds to a length before it divides by it


def family(manifest: Manifest) -> Owlv2:
    """Give the leaf of a model: our export has the words outside its graph, the hub's inside."""
    return (Owlv2 if Owlv2.role in manifest.files else WholeOwlv2)(manifest)


class Owlv2:
    """OWLv2 as our export cuts it: words stay outside the graph that looks at the picture.

    Args:
        manifest: The model's page.

    Raises:
        ModelError: If one of the model's own files is missing or cannot be followed.
    """

    role: ClassVar = "image"

    def __init__(self, manifest: Manifest) -> None:
        page = hubfiles.config(manifest, hubfiles.PREPROCESSOR)
        size = sides(page)
        own = (size.get("width", SIDE), size.get("height", SIDE))
        self._canvas_wh: tuple[int, int] = tuple(manifest.settings.get("canvas", own))
        self._normal = normalisation(page, CLIP_MEAN, CLIP_STD)
        text = hubfiles.config(manifest, "config.json").get("text_config", {})
        longest = int(text.get("max_position_embeddings", LONGEST))
        self._texts = hubfiles.TextRecipe(
            tokenizer=hubfiles.tokenizer(manifest, longest),
            longest=longest,
            pad=int(text.get("pad_token_id") or 0),
            fixed=True,
            languages=manifest.languages,
        )
        self._prompt = str(manifest.settings.get("prompt", PROMPT))
        self.min_score = float(manifest.settings.get("min_score", MIN_SCORE))
        self.max_overlap = float(manifest.settings.get("max_overlap", MAX_OVERLAP))

    def picture_arrays(self, picture: Image.Image) -> Arrays:
        """Make the picture square with black at the right or below, shrink it, and normalise it: (1, 3, h, w)."""
        pixels = np.asarray(to_rgb(picture), np.uint8)
        side = max(picture.size)
        return {"pixel_values": self._normal.of(sampled(pixels, (side, side), self._canvas_wh, blurred=True))[None]}

    def text_arrays(self, texts: Sequence[str]) -> Arrays:
        """Give the text graph's inputs for n texts, each said as the prompt has it: ids and mask, (n, t)."""
        ids, mask = self._texts.ids([self._prompt.format(ARTICLE.sub("", text)) for text in texts])
        return {"input_ids": ids, "attention_mask": mask}

    def reads(self, text: str) -> bool:
        """Whether the model learned the script of a text."""
        return self._texts.reads(text)

    def vectors(self, outputs: Arrays) -> NDArray[np.float32]:
        """Give what the text graph made of n texts: float32 (n, d), of unit length."""
        return _unit(outputs["text_embeds"])

    def example(self, outputs: Arrays) -> NDArray[np.float32]:
        """Give the vector of the thing that a picture shows: of its box that is likeliest to hold one; float32 (d,).

        Source: Owlv2ForObjectDetection.embed_image_query of transformers.
        """
        best = outputs["objectness_logits"][0].argmax()
        vector: NDArray[np.float32] = _unit(outputs["class_embeds"][0, best])
        return vector

    def boxes(self, outputs: Arrays, size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Give the boxes (a, 4) in pixels of the picture; they count from its corner in the square around it."""
        return corners(outputs["pred_boxes"][0]) * np.float32(max(size_wh))

    def scores(self, outputs: Arrays, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compare the boxes with n vectors: float32 (a, n), 0 to 1.

        Source: Owlv2ClassPredictionHead of transformers.
        """
        cosines = _unit(outputs["class_embeds"][0]) @ vectors.T
        return logistic((cosines + outputs["logit_shift"][0][:, None]) * outputs["logit_scale"][0][:, None])


class WholeOwlv2(Owlv2):
    """OWLv2 as one graph that takes words and picture, as the hub's ready exports are; it takes no examples."""

    role: ClassVar = "detect"

    def prompts(self, texts: Sequence[str]) -> list[Prompt]:
        """Put all texts into one question."""
        return [Prompt(arrays=self.text_arrays(texts), count=len(texts))]

    def answers(self, outputs: Arrays, prompt: Prompt) -> NDArray[np.float32]:
        """Give the scores of the prompt's texts, float32 (a, n), 0 to 1."""
        return logistic(outputs["logits"][0, :, : prompt.count])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + np.float32(_TINY))
    return unit
