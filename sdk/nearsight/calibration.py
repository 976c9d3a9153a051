"""How likely a picture is what was asked for: a logistic curve over the best scores, fitted with the weights."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.errors import ModelError
from nearsight.names import HAN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# The curve was fitted among 20 to 1,000 pictures; fewer than 10 count as 10.
FEWEST, REFERENCE = 10, 1000
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_WORDS_OF_A_THING, _CHARACTERS_OF_A_THING = 2, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The curve of one model's text queries.

    A picture's evidence is its own score, mixed with the mean of the query's best few: among many pictures a right
    answer rarely stands alone, while a stray one does; among few it may, so there only its own score counts.

    Attributes:
        slope: Of the logit over the evidence.
        size_slope: What a tenfold of pictures adds to the logit; below 0, since the best of many unrelated ones scores
            higher.
        thing_shift: What the logit gains or loses where the query names one thing and says no more (`names_thing`):
            single nouns score on another level than sentences, whether they are there or not.
        intercept: The logit where the evidence is 0, among 1,000 pictures.
        support: How many of the best scores are averaged.
        support_share: The mean's share in the evidence among 1,000 pictures and more.
        support_slope: What that share loses with every tenth part of pictures, down to 0.
        min_relevance: Below it, a hit is not shown unless asked for.
    """

    slope: float
    size_slope: float
    thing_shift: float
    intercept: float
    support: int
    support_share: float
    support_slope: float
    min_relevance: float

    @classmethod
    def read(cls, page: Mapping[str, Any]) -> Calibration:
        """Read the `[relevance]` table of a manifest.

        Args:
            page: The table.

        Raises:
            ModelError: If the table lacks a number or has one that makes no rising curve.
        """
        try:
            found = cls(
                support=int(page["support"]),
                **{
                    name: float(page[name])
                    for name in (
                        "slope",
                        "size_slope",
                        "thing_shift",
                        "intercept",
                        "support_share",
                        "support_slope",
                        "min_relevance",
                    )
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"a manifest's [relevance] lacks a number: {error}") from error
        sound = (
            all(math.isfinite(value) for value in (found.slope, found.size_slope, found.thing_shift, found.intercept))
            and found.slope > 0
            and found.size_slope <= 0
            and found.support >= 1
            and 0 <= found.support_share <= 1
            and found.support_slope >= 0
            and 0 < found.min_relevance < 1
        )
        if not sound:
            raise ModelError(f"a manifest's [relevance] makes no rising curve: {found}")
        return found

    def relevance(self, scores: NDArray[np.float32], considered: int, *, thing: bool) -> NDArray[np.float32]:
        """Give the chance, 0 to 1, that each picture is what was asked for; it falls as the scores do.

        Args:
            scores: (n,), best first, of those that were considered, from the very best on.
            considered: How many pictures these are the best of.
            thing: Whether the query names one thing and says no more.

        Returns:
            float32 (n,).
        """
        tenfolds = math.log10(max(considered, FEWEST) / REFERENCE)
        share = min(max(self.support_share + self.support_slope * min(tenfolds, 0.0), 0.0), 1.0)
        own = scores.astype(np.float64)
        evidence = (1 - share) * own + share * float(own[: self.support].mean())
        logit = self.slope * evidence + self.size_slope * tenfolds + self.thing_shift * thing + self.intercept
        relevance: NDArray[np.float32] = (1 / (1 + np.exp(-np.clip(logit, -60, 60)))).astype(np.float32)
        return relevance


def names_thing(text: str) -> bool:
    """Whether a query names one thing and says no more: two English words at most, or four Chinese characters.

    Example:
        >>> [names_thing(text) for text in ("a traffic light", "a dog on the beach", "手风琴", "沙滩上的狗")]
        [True, False, True, False]
    """
    if HAN.search(text):
        return len(re.sub(r"\W", "", text)) <= _CHARACTERS_OF_A_THING
    return len(_ARTICLE.sub("", text.strip()).split()) <= _WORDS_OF_A_THING
