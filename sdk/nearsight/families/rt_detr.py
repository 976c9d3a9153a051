"""RT-DETR, first and second version: a squashed picture in, queries with a score for each class out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nearsight.families import hubfiles
from nearsight.families.canvas import corners, logistic
from nearsight.families.classes import class_names

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.families.family import Arrays
    from nearsight_models import Manifest


def family(manifest: Manifest) -> RtDetr:
    """Give the leaf of a model."""
    return RtDetr(manifest)


class RtDetr:
    """RT-DETR, first and second version: a squashed picture in, queries with a score for each class out.

    Args:
        manifest: The model's page.

    Raises:
        ModelError: If one of the model's own files is missing or cannot be followed.
    """

    role: ClassVar = "detect"

    def __init__(self, manifest: Manifest) -> None:
        self._recipe = hubfiles.PictureRecipe.read(manifest)
        self.classes = class_names(manifest)
        # Source: the default threshold of RTDetrImageProcessor.post_process_object_detection of transformers.
        self.min_score = float(manifest.settings.get("min_score", 0.5))
        # Queries seldom answer twice for one thing, and the model's own processor leaves none out; not measured here.
        self.max_overlap = float(manifest.settings.get("max_overlap", 0.8))

    def picture_arrays(self, picture: Image.Image) -> Arrays:
        """Squash a picture, and scale it: (1, 3, h, w)."""
        return {"pixel_values": self._recipe.normalised(self._recipe.fitted(picture)[None])}

    def boxes(self, outputs: Arrays, size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Give the boxes (a, 4) in pixels of the picture."""
        return corners(outputs["pred_boxes"][0]) * np.array(size_wh * 2, np.float32)

    def scores(self, outputs: Arrays) -> NDArray[np.float32]:
        """Give the scores (a, classes), 0 to 1."""
        return logistic(outputs["logits"][0])
