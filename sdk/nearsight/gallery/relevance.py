"""Turn raw scores into relevance, and decide what is too weak to show; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearsight.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearsight.gallery.encoder import GalleryEncoder

# Cosine at which two pictures count as having nothing in common, for encoders that calibrate no picture queries.
UNRELATED_COSINE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judgement:
    """Relevance of one query's best scores.

    Attributes:
        relevance: float32 (n,), 0 to 1, never rising.
        min_relevance: hits below it are left out.
        weak: whether even the best score is below what counts as a match.
    """

    relevance: NDArray[np.float32]
    min_relevance: float
    weak: bool

    @property
    def kept(self) -> int:
        """How many of the best scores are relevant enough."""
        return int(np.count_nonzero(self.relevance >= np.float32(self.min_relevance)))


def judged(
    encoder: GalleryEncoder,
    query: NDArray[np.float32],
    vectors: NDArray[np.float32],
    text: str | None,
    considered: int,
    min_relevance: float | None,
) -> Judgement:
    """Judge the best vectors of a query.

    Where the encoder does not calibrate such a query (it returns None, as it may for pictures), relevance is the
    cosine, stretched so that 0.2 and less is 0 and 1 is 1, and nothing is left out by default: the nearest pictures
    are an answer even where none is near. Of a text nothing more is said: what its cosine is worth differs by model.

    Args:
        encoder: the encoder that made the query's vector.
        query: float32 (d,), the query's vector.
        vectors: float32 (n, d), best first.
        text: the query's text; None when a picture takes part.
        considered: how many vectors these are the best of.
        min_relevance: the caller's threshold; None for the calibrated one.
    """
    if min_relevance is not None and not 0.0 <= min_relevance <= 1.0:
        raise InputError(f"min_relevance={min_relevance} is not a probability; give 0 (everything) to 1")
    calibrated = encoder.relevance(query, vectors, text, considered) if len(vectors) else np.empty(0, np.float32)
    if calibrated is None:
        relevance = (vectors @ query - np.float32(UNRELATED_COSINE)) / np.float32(1.0 - UNRELATED_COSINE)
        usual, shown = (0.5 if text is None else 0.0), 0.0
    else:
        relevance = np.asarray(calibrated, np.float32)
        usual = shown = float(encoder.default_min_relevance)
    # An encoder of one's own may weigh otherwise than the score does; the order of hits is the scores'.
    relevance = np.minimum.accumulate(np.clip(relevance, 0.0, 1.0)).astype(np.float32)
    threshold = min_relevance or usual
    return Judgement(
        relevance=relevance,
        min_relevance=shown if min_relevance is None else min_relevance,
        weak=bool(len(relevance) and relevance[0] < np.float32(threshold)),
    )
