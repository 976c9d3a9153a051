"""What is asked of a picture in one look, and how the scores are read that answer it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from nearsight.detect.labels import Asked
    from nearsight.families.family import Arrays
    from nearsight_npu import Decision


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Labels that one run of the graph answers.

    Attributes:
        rows: labels with columns of the scores, and the least score of each.
        scores: Gives float32 (a, columns), 0 to 1, for the outputs of a run.
        words: What the graph takes besides the picture; empty where it needs no words, so that one look at a picture
            serves every question.
    """

    rows: Sequence[tuple[Asked, float]]
    scores: Callable[[Arrays], NDArray[np.float32]]
    words: Arrays = field(default_factory=dict)

    def hopeful(self, best: NDArray[np.float64]) -> list[tuple[Asked, float]]:
        """The labels of which one column at least has a box with chance enough; best (columns,) are the best boxes'."""
        if not self.rows or not best.size:
            return []
        columns, starts, limits = self._limits
        return [self.rows[at] for at in np.flatnonzero(np.maximum.reduceat(best[columns], starts) >= limits).tolist()]

    @cached_property
    def _limits(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """The columns of all labels one after another, where each label's begin, and the chance that one must have."""
        columns = np.array([column for one, _ in self.rows for column in one.columns])
        starts = np.cumsum([0, *(len(one.columns) for one, _ in self.rows[:-1])])
        return columns, starts, np.array([least / one.share for one, least in self.rows])


class Curves(Protocol):
    """What a score is worth: the chance that the box is right."""

    @property
    def least(self) -> float:
        """The chance below which a box is left out unless asked for."""

    def of_class(self, scores: NDArray[np.float32], columns: Sequence[int], /) -> NDArray[np.float64]:
        """Give the chances (n, k) for scores (n, k) of these columns."""

    def score(self, column: int, least: float, /) -> float:
        """Give the score from which on the chance is at least so high; infinite where none is."""


class Asking(Protocol):
    """What labels mean to one detector."""

    @property
    def classes(self) -> tuple[str, ...]:
        """English names of its classes; empty where any words may be asked."""

    @property
    def chances(self) -> Curves:
        """What its scores are worth."""

    def resolve(self, labels: Sequence[Any], /) -> tuple[list[Asked], list[Decision]]:
        """Say for every label, each text once, what answers it; and what runs that took.

        Raises:
            InputError: If there is no label, or one that is neither text nor picture, or blank.
            PictureUnreadableError: If an example cannot be read.
            DelegateError: If a graph is needed for words and cannot be placed, proven or run.
        """

    def parts(self, rows: Sequence[tuple[Asked, float]], /) -> list[Part]:
        """Put labels, each with its least score, into as few looks as answer them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """Scores that stand for themselves, as a model gives them.

    Attributes:
        least: the score below which a box is left out unless asked for.
    """

    least: float

    def of_class(self, scores: NDArray[np.float32], columns: Sequence[int]) -> NDArray[np.float64]:  # noqa: ARG002
        """Give the scores."""
        return scores.astype(np.float64)

    def score(self, column: int, least: float) -> float:  # noqa: ARG002
        """Give the score itself."""
        return least
