"""Which things a caption names, in English and Chinese: the longest words of a list that are in it; pure."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any

CHINESE = "zh"
_TOKEN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_HISSING = ("s", "x", "z", "ch", "sh")


def nouns(text: str, language: str) -> list[tuple[str, str]]:
    """Find the concrete nouns of a caption, in their order.

    Args:
        text: A caption in lower case.
        language: "en" or "zh".

    Returns:
        For each thing that is named the word that named it first, and the thing.

    Example:
        >>> nouns("two dogs in a swimming pool", "en"), nouns("马路上的自行车", "zh")
        ([('dogs', 'dog'), ('swimming pool', 'pool')], [('马路', 'street'), ('自行车', 'bicycle')])
    """
    blank = "" if language == CHINESE else " "
    tokens = list(text) if language == CHINESE else _TOKEN.findall(text.lower())
    words, longest = _words(language)
    found: dict[str, str] = {}  # by thing
    at = 0
    while at < len(tokens):
        for length in range(min(longest, len(tokens) - at), 0, -1):
            word = blank.join(tokens[at : at + length])
            if word in words:
                if words[word]:
                    found.setdefault(words[word], word)
                at += length - 1
                break
        at += 1
    return [(word, thing) for thing, word in found.items()]


def things() -> tuple[str, ...]:
    """The names of all things that a caption's nouns may name."""
    return tuple(_page()["things"])


def wider(thing: str) -> tuple[str, ...]:
    """A thing and what it is one of, narrowest first: a boy, a child, a person."""
    found = [thing]
    while (of := _page()["things"][found[-1]].get("of")) is not None:
        found.append(of)
    return tuple(found)


def related(thing: str, other: str) -> bool:
    """Whether one thing is the other, or one of its kind."""
    return thing in wider(other) or other in wider(thing)


def class_of(thing: str) -> str | None:
    """The detector's class that shows a thing, or the narrowest thing that it is one of; None where there is none."""
    return next((row["class"] for one in wider(thing) if "class" in (row := _page()["things"][one])), None)


@cache
def _page() -> dict[str, dict[str, Any]]:
    return tomllib.loads((resources.files("nearsight.caption") / "nouns.toml").read_text(encoding="utf8"))


@cache
def _words(language: str) -> tuple[dict[str, str], int]:
    """Each word and the thing that it names, "" for nothing; and how many characters or words the longest has."""
    page = _page()
    found: dict[str, str] = dict.fromkeys(page["nothing"][language], "")
    for thing, row in page["things"].items():
        if language == CHINESE:
            found |= dict.fromkeys(row.get("zh", ()), thing)
        else:
            singular = (thing, *row.get("en", ()))
            found |= dict.fromkeys([*singular, *map(_plural, singular)], thing)
    longest = max(len(word) if language == CHINESE else word.count(" ") + 1 for word in found)
    return found, longest


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(_HISSING) else "s")
