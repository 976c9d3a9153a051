"""A detector of a fixed set of classes, asked by any words: which of its scores answer a label, and for how much."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import nearsight_models
from nearsight.detect.chances import Chances
from nearsight.detect.crops import Cropper
from nearsight.detect.labels import Labels
from nearsight.detect.lexicon import meaning
from nearsight.detect.nearness import Nearness
from nearsight.detect.parts import Part
from nearsight.detect.words import Words
from nearsight.errors import translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.detect.labels import Asked
    from nearsight.families.family import Arrays, ClosedSetFamily
    from nearsight_models import Manifest
    from nearsight_npu import Decision

NANO = "nano"
# Source: data/coco.names of pjreddie/darknet, whose spelling the published RT-DETR has (its usage prints "sofa").
_TOGETHER = {"tvmonitor": "tv", "pottedplant": "potted plant", "diningtable": "dining table"}


class NanoBoxes:
    """The leaf of embedded detectors, whose graphs normalise pixels and decode boxes themselves.

    Args:
        manifest: A page that serves detection.
    """

    role: ClassVar = "detect"

    def __init__(self, manifest: Manifest) -> None:
        self.classes: tuple[str, ...] = tuple(manifest.settings["classes"])
        self.min_score = float(manifest.settings["routes"]["min_score"])
        self.max_overlap = float(manifest.settings["max_overlap"])

    def boxes(self, outputs: Arrays, size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Give the boxes (a, 4) in pixels of the picture."""
        boxes: NDArray[np.float32] = outputs["boxes"][0] * np.array(size_wh * 2, np.float32)
        return boxes

    def scores(self, outputs: Arrays) -> NDArray[np.float32]:
        """Give the scores (a, classes), 0 to 1."""
        scores: NDArray[np.float32] = outputs["scores"][0]
        return scores


class ClosedSet:
    """What labels mean to a detector of a fixed set of classes.

    Words are compared by the encoder of the detector's family; a detector that comes alone borrows nano's, with what
    was calibrated there for words, and its own scores stand as they are.

    Args:
        manifest: The detector's page.
        leaf: Its leaf.
        wishes: Target, policy and threads, as `Encoder` takes them.
    """

    def __init__(self, manifest: Manifest, leaf: NanoBoxes | ClosedSetFamily, **wishes: Any) -> None:
        own = isinstance(leaf, NanoBoxes)
        with translated():
            page = manifest if own else nearsight_models.load(NANO, "detect")
        self.classes = leaf.classes if own else listed(leaf.classes)
        chances = Chances.read(page.settings["routes"], len(page.settings["classes"]))
        if not own:
            chances = replace(chances, slope=1.0, offsets=(0.0,) * len(self.classes), least=leaf.min_score)
        self.chances = chances
        words = Words(page.family, **wishes)
        self.near = Nearness(page, words, self.classes)
        self.cropper = Cropper(words, self.near)
        self._labels = Labels(self.classes, self.near, words, chances)
        self._leaf = leaf

    def resolve(self, labels: Sequence[Any]) -> tuple[list[Asked], list[Decision]]:
        """Say for every label, each text once, what answers it; and what runs that took."""
        return self._labels.resolve(labels)

    def parts(self, rows: Sequence[tuple[Asked, float]]) -> list[Part]:
        """Put all labels into one look at the picture: its scores are there whatever is asked."""
        return [Part(rows=[row for row in rows if row[0].columns], scores=self._leaf.scores)]


def listed(names: Sequence[str]) -> tuple[str, ...]:
    """Give classes the names that the lexicon has for them, so that its words find them.

    Example:
        >>> listed(["motorbike", "tvmonitor", "forklift"])
        ('motorcycle', 'tv', 'forklift')
    """
    found: list[str] = []
    for name in names:
        known = meaning(_TOGETHER.get(name, name))
        better = known.classes[0] if known and known.exact and len(known.classes) == 1 else name
        found.append(name if better in found else better)
    return tuple(found)
