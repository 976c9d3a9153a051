"""What the rules read out of a sentence, whichever language it is in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# A form that a sentence may have: what kind of question it is, how it is found, and what its language makes of it.
Form = tuple[str, Callable[[str], re.Match[str] | None], "str | tuple[str, ...]"]


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


def errand_in(
    plain: str,
    wish: re.Pattern[str],
    message: re.Pattern[str],
    conditional: re.Pattern[str],
    conditions: Sequence[re.Pattern[str]],
) -> Errand | None:
    """Read a wish to be told something by the patterns of one language; None where nobody wants to be told anything."""
    if not wish.search(plain):
        return None
    # "notify me: if there is a dog" is no message to be sent as it stands.
    if (found := message.match(plain)) is not None and not conditional.search(found["message"]):
        return Errand(message=found["message"].strip(" \"'“”「」"))
    found = next((found for pattern in conditions if (found := pattern.match(plain))), None)
    if found is None:
        return Errand()
    return Errand(condition=((found.groupdict().get("lead") or "") + found["condition"]).strip(" ，,"))


def form_of(plain: str, forms: Sequence[Form]) -> tuple[str, re.Match[str] | None, str | tuple[str, ...]]:
    """Give the first form that a sentence has, and where."""
    found = ((intent, found, how) for intent, find, how in forms if (found := find(plain)) is not None)
    return next(found, ("", None, ("",)))
