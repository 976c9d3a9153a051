"""What the rules read out of a sentence, whichever language it is in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A sentence without its camera, times and files, as understood.

    Attributes:
        intent: "find", "exists", "count", "what" (anything at all), or "" when no rule knew the sentence.
        query: what is left: the thing asked for.
        k: how many pictures are wanted; None where that is not said.
        doubts: words in the query that no rule knows what to do with.
    """

    intent: str
    query: str
    k: int | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A wish to be told something: a message as it is, or a condition for one; neither where it was not understood."""

    message: str = ""
    condition: str = ""
