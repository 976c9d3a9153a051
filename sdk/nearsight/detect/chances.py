"""How likely a box is right: one logistic curve a route, so that a score means the same on each of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SURE = 1e-6  # scores nearer to 0 or 1 than this have no finite logit


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """The curves of one detector.

    Attributes:
        slope: of the logit of the chance over the logit of a class score; one for all classes, so that the order
            within a class stays.
        offsets: the logit of the chance where a class score is one half, one a class.
        narrower: share of the class's chance that a label gets which says more than the class; what more it says is
            not judged.
        near: the same for a label that is near to the class's names.
        least: the chance below which a box is left out unless asked for.
        crop: slope and intercept over the evidence of a crop for a text.
        example: slope and intercept over the evidence of a crop for a picture.
    """

    slope: float
    offsets: tuple[float, ...]
    narrower: float
    near: float
    least: float
    crop: tuple[float, float]
    example: tuple[float, float]

    @classmethod
    def read(cls, page: Mapping[str, Any], classes: int) -> Chances:
        """Read the table `routes` of a detector's settings.

        Args:
            page: The table.
            classes: How many classes the detector has.

        Raises:
            ModelError: If a number is missing or makes no rising curve.
        """
        try:
            found = cls(
                slope=float(page["slope"]),
                offsets=tuple(map(float, page["offsets"])),
                narrower=float(page["narrower"]),
                near=float(page["near_share"]),
                least=float(page["min_score"]),
                crop=(float(page["crop"][0]), float(page["crop"][1])),
                example=(float(page["example"][0]), float(page["example"][1])),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"a detector's [settings.routes] lacks a number: {error}") from error
        slopes = (found.slope, found.crop[0], found.example[0], found.narrower, found.near)
        numbers = (*slopes, *found.offsets, found.crop[1], found.example[1])
        if len(found.offsets) != classes or min(slopes) <= 0 or not all(map(math.isfinite, numbers)):
            raise ModelError(f"a detector's [settings.routes] makes no rising curve for {classes} classes: {found}")
        return found

    def of_class(self, scores: NDArray[np.float32], columns: Sequence[int]) -> NDArray[np.float64]:
        """Give the chance that boxes of these classes are right.

        Args:
            scores: (n, k), class scores.
            columns: k numbers of classes.

        Returns:
            (n, k), 0 to 1.
        """
        return chance(self.slope * logit(scores) + np.array(self.offsets)[list(columns)])

    def score(self, column: int, least: float) -> float:
        """Give the class score from which on the chance is at least so high; infinite where none is."""
        if least <= 0:
            return 0.0
        if least >= 1:
            return math.inf
        return 1 / (1 + math.exp((self.offsets[column] - math.log(least / (1 - least))) / self.slope))


def logit(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Give the logarithm of the odds of scores from 0 to 1."""
    sure = np.clip(scores.astype(np.float64), SURE, 1 - SURE)
    odds: NDArray[np.float64] = np.log(sure / (1 - sure))
    return odds


def chance(evidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the chance, 0 to 1, of which the evidence is the logit."""
    found: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(evidence, -60, 60)))
    return found
