"""How likely a score means a right picture: a logistic curve over the score, fitted where the weights were made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The curve of one model's text queries.

    Attributes:
        slope: Of the logit over the score.
        intercept: The logit at a score of 0.
        min_relevance: Below it, a hit is not shown unless asked for.
    """

    slope: float
    intercept: float
    min_relevance: float

    @classmethod
    def read(cls, page: Mapping[str, Any]) -> Calibration:
        """Read the `[relevance]` table of a manifest.

        Raises:
            ModelError: If the table lacks a number or has one that makes no curve.
        """
        try:
            found = cls(**{name: float(page[name]) for name in ("slope", "intercept", "min_relevance")})
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"a manifest's [relevance] lacks a number: {error}") from error
        if not (found.slope > 0 and 0 < found.min_relevance < 1 and np.isfinite(found.intercept)):
            raise ModelError(f"a manifest's [relevance] makes no rising curve: {found}")
        return found

    def relevance(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the chance, 0 to 1, that pictures of these scores are what was asked for.

        Args:
            scores: float32 (n,), inner products of unit vectors.

        Returns:
            float32 (n,), rising with the score.
        """
        logit = self.slope * scores.astype(np.float64) + self.intercept
        return (1 / (1 + np.exp(-np.clip(logit, -60, 60)))).astype(np.float32)
