"""How likely a picture is what was asked for: a logistic curve over the parts of a space, fitted with the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# The curve was fitted among 20 to 1,000 pictures; fewer than 10 count as 10.
FEWEST, REFERENCE = 10, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The curve of one model's text queries.

    A vector consists of parts one after the other; the inner product of query and picture over each part has its own
    slope, since the parts deserve different trust.

    Attributes:
        widths: Of the parts; together the width of a vector.
        slopes: Of the logit over each part's inner product.
        size_slope: What the logit loses with every tenfold of pictures: the best of many unrelated ones scores higher.
        intercept: The logit where all products are 0, among 1,000 pictures.
        min_relevance: Below it, a hit is not shown unless asked for.
    """

    widths: tuple[int, ...]
    slopes: tuple[float, ...]
    size_slope: float
    intercept: float
    min_relevance: float

    @classmethod
    def read(cls, page: Mapping[str, Any], dimensions: int) -> Calibration:
        """Read the `[relevance]` table of a manifest.

        Args:
            page: The table.
            dimensions: Width of a vector of the model.

        Raises:
            ModelError: If the table lacks a number or has one that makes no curve.
        """
        try:
            found = cls(
                widths=tuple(int(width) for width in page["widths"]),
                slopes=tuple(float(slope) for slope in page["slopes"]),
                size_slope=float(page["size_slope"]),
                intercept=float(page["intercept"]),
                min_relevance=float(page["min_relevance"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"a manifest's [relevance] lacks a number: {error}") from error
        sound = (
            sum(found.widths) == dimensions
            and len(found.widths) == len(found.slopes)
            and all(math.isfinite(slope) and slope >= 0 for slope in found.slopes)
            and any(found.slopes)
            and math.isfinite(found.intercept)
            and math.isfinite(found.size_slope)
            and found.size_slope >= 0
            and 0 < found.min_relevance < 1
        )
        if not sound:
            raise ModelError(f"a manifest's [relevance] makes no rising curve over {dimensions} dimensions: {found}")
        return found

    def relevance(
        self, query: NDArray[np.float32], vectors: NDArray[np.float32], considered: int
    ) -> NDArray[np.float32]:
        """Give the chance, 0 to 1, that each picture is what was asked for.

        Args:
            query: float32 (d,).
            vectors: float32 (n, d), the best of those that were considered.
            considered: How many pictures these are the best of.

        Returns:
            float32 (n,).
        """
        weights = np.repeat(np.array(self.slopes, np.float64), self.widths)
        tenfolds = math.log10(max(considered, FEWEST) / REFERENCE)
        logit = vectors.astype(np.float64) @ (weights * query) + self.intercept - self.size_slope * tenfolds
        return (1 / (1 + np.exp(-np.clip(logit, -60, 60)))).astype(np.float32)
