"""Names of the detector's classes in English and Chinese, and the rules by which a label is one of them."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from nearsight.names import COUNTED, HAN, PLURALS
from nearsight.tokens import cleaned

if TYPE_CHECKING:
    from collections.abc import Iterator

_ARTICLES = re.compile(
    r"^(?:(?:a|an|the|some|any|all|many|several|one|two|three|four|five|six|seven|eight|nine|ten|[0-9]+) )+"
)
_COUNTING = re.compile(
    r"[0-9]+|(?:a|an|the|some|any|all|many|several|one|two|three|four|five|six|seven|eight|nine|ten)"
)
_NOT_EN = re.compile(r"\b(?:no|not|non|without|never|neither|nor|except|\w+n't)\b")
_NOT_ZH = re.compile(r"不是|没有|并非|除了|不含|不带")
_NOT_ZH_BEFORE = re.compile(r"^(?:非|没|无|不)")  # in front of a name; 非洲 and 无线 are none
_PREPOSITION = re.compile(r" (?:with|of|for|in|on|at|from|by|under|behind) ")
_POSSESSIVE = re.compile(r"'s?(?= |$)")
_DOER = re.compile(r"ers?$")  # a boater, bikers: a person, whatever is done with the thing
_LONGEST = 4  # words of a name
_SHORTEST = 3  # letters of a name, or of what follows it, within one English word
_IRREGULAR = {"men": "man", "women": "woman", "mice": "mouse", "people": "person"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a label means to a detector.

    Attributes:
        classes: English names of the classes whose boxes answer it.
        exact: whether each such box is what the label says; False where the label says more than its class.
    """

    classes: tuple[str, ...]
    exact: bool


def normalised(label: str) -> str:
    """Write a label as the lexicon does: lower case, half width, no article, hyphen, number or measure word.

    Example:
        >>> normalised(" The  Traffic-Lights "), normalised("3 辆汽车"), normalised("ＴＶ")
        ('traffic lights', '汽车', 'tv')
    """
    text = unicodedata.normalize("NFKC", cleaned(label)).casefold().replace("’", "'")
    text = " ".join(re.sub(r"[-_/·.,;:!?。，！？\"]+", " ", text).split())
    if HAN.search(text):
        text = text.replace(" ", "")
        return COUNTED.sub("", text) or text
    return _ARTICLES.sub("", text) or text


def meaning(label: str) -> Meaning | None:
    """Look a label up.

    Args:
        label: one thing, in English or Chinese; singular or plural.

    Returns:
        What it means; None where the lexicon does not know it.

    Example:
        >>> meaning("buses"), meaning("红色的卡车")
        (Meaning(classes=('bus',), exact=True), Meaning(classes=('truck',), exact=False))
        >>> meaning("helmet") is None
        True
    """
    text = normalised(label)
    if (found := _known(text)) is not None:
        return found
    if _idiom(text):
        return None
    bare = _without_qualities(text)
    if bare != text and (found := _known(bare)) is not None:
        return Meaning(classes=found.classes, exact=False)
    above = next((name for form in forms(bare) if (name := taxonomy().get(form)) is not None), None)
    return Meaning(classes=(above,), exact=False) if above else None


def kinds(label: str) -> frozenset[str] | None:
    """Say which classes a label that `meaning` does not know may be compared with by nearness.

    A word that ends in a name is a kind of that class or nothing (an electric car, 流浪猫), one that holds a name
    elsewhere is something else (a phone booth, 斑马线); so are idioms (a sea horse, 河马), and two characters of which
    the second is a name (犀牛).

    Args:
        label: one thing, in English or Chinese.

    Returns:
        English names of classes; empty where no class may answer, None where any may.

    Example:
        >>> kinds("electric car"), kinds("phone booth"), kinds("ultralight")
        (frozenset({'car'}), frozenset(), None)
    """
    text = normalised(label)
    if names_nothing(label) or _idiom(text):
        return frozenset()
    return _chinese_kinds(text) if HAN.search(text) else _english_kinds(text)


def names_nothing(label: str) -> bool:
    """Whether a label is a negation, or holds no more than numbers, measure words, qualities and signs.

    Example:
        >>> [names_nothing(label) for label in ("no cat", "3只", "red", "???", "helmet")]
        [True, True, True, True, False]
    """
    text = normalised(label)
    return _negated(text) or not any(map(str.isalnum, _bare(text)))


def negates(label: str) -> bool:
    """Whether a label says that something is not there, or names nothing by any letter.

    Example:
        >>> [negates(label) for label in ("no cat", "不是猫", "???", "red")]
        [True, True, True, False]
    """
    text = normalised(label)
    return _negated(text) or not any(map(str.isalpha, text))


def _negated(text: str) -> bool:
    rest = _NOT_ZH_BEFORE.sub("", text)
    return bool(_NOT_EN.search(text) or _NOT_ZH.search(text) or (rest != text and _known(_without_qualities(rest))))


def _idiom(text: str) -> bool:
    """Whether a text ends in a word that only sounds like a class."""
    english, chinese = (tuple(page()["idioms"][language]) for language in ("en", "zh"))
    if HAN.search(text):
        return text.endswith(chinese)
    words = _PREPOSITION.split(text)[0].split(" ")[-_LONGEST:]
    return any(form in english for at in range(len(words)) for form in forms("".join(words[at:])))


def _bare(text: str) -> str:
    """What is left of a text without numbers, measure words and qualities."""
    if HAN.search(text):
        return _qualities()[1].sub("", COUNTED.sub("", text))
    return "".join(word for word in text.split(" ") if not _COUNTING.fullmatch(word) and word not in _qualities()[0])


def _chinese_kinds(text: str) -> frozenset[str] | None:
    chinese, _ = _by_language()
    ends = [name for name in chinese if text.endswith(name)]
    if ends:
        longest = max(ends, key=len)
        return frozenset(names()[longest].classes if len(text) > max(2, len(longest)) else ())
    return frozenset() if any(name in text for name in chinese) else None


def _english_kinds(text: str) -> frozenset[str] | None:
    words = text.split(" ")
    head = _PREPOSITION.split(text)[0].split(" ")[-_LONGEST:]
    for at in range(len(head)):
        if (found := _known(" ".join(head[at:]))) is not None:
            return frozenset(found.classes)
    _, singles = _by_language()
    within = [name for form in forms(head[-1]) for name in singles if form.endswith(name)]
    if within:
        return frozenset(names()[max(within, key=len)].classes)
    stem = _DOER.sub("", head[-1])
    if stem != head[-1] and (_known(stem) or _known(f"{stem}e")):
        return frozenset({"person"})
    words = _POSSESSIVE.sub("", text).split(" ")  # a cat's tail is no cat
    runs = (" ".join(words[at : at + count]) for at in range(len(words)) for count in range(1, _LONGEST + 1))
    holds = any(_known(run) is not None for run in runs) or any(
        word.startswith(name) and len(word) >= len(name) + _SHORTEST for word in words for name in singles
    )
    return frozenset() if holds else None


def _known(text: str) -> Meaning | None:
    return next((found for form in forms(text) if (found := names().get(form)) is not None), None)


def forms(text: str) -> Iterator[str]:
    """Give a normalised text itself, then what it could be the plural of."""
    yield text
    head, space, last = text.rpartition(" ")
    if last in _IRREGULAR:
        yield f"{head}{space}{_IRREGULAR[last]}"
    for ending, singular in PLURALS:
        if last.endswith(ending) and len(last) > len(ending) + 1:
            yield f"{head}{space}{last.removesuffix(ending)}{singular}"


def _without_qualities(text: str) -> str:
    english, chinese = _qualities()
    if HAN.search(text):
        return chinese.sub("", text) or text
    words = text.split(" ")
    while len(words) > 1 and words[0] in english:
        words = words[1:]
    return " ".join(words)


def words_of(name: str) -> tuple[str, ...]:
    """Every word that the lexicon has for a class, its own name first, narrower ones included."""
    row = page()["classes"][name]
    return (name, *row["same"], *row.get("narrower", ()))


@cache
def page() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Read lexicon.toml: `classes` and `groups` by name, with the words that are the same or narrower."""
    text = (resources.files("nearsight.detect") / "lexicon.toml").read_text(encoding="utf8")
    return tomllib.loads(text)


@cache
def names() -> dict[str, Meaning]:
    """List every word of the lexicon, as `normalised` writes it, with its meaning."""
    listed = page()
    found: dict[str, Meaning] = {}
    for name, row in listed["classes"].items():
        found |= {normalised(word): Meaning(classes=(name,), exact=True) for word in (name, *row["same"])}
        found |= {normalised(word): Meaning(classes=(name,), exact=False) for word in row.get("narrower", ())}
    for name, row in listed["groups"].items():
        found |= {normalised(word): Meaning(classes=tuple(row["of"]), exact=True) for word in (name, *row["same"])}
    return found


def forget() -> None:
    """Read the page anew from the next word on; for measures that change it."""
    names.cache_clear()
    _by_language.cache_clear()


@cache
def _by_language() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The Chinese words of the lexicon; and the English ones that are one word and not too short to be told within."""
    singles = (name for name in names() if name.isascii() and len(name) >= _SHORTEST and " " not in name)
    return tuple(name for name in names() if HAN.search(name)), tuple(singles)


@cache
def taxonomy() -> dict[str, str]:
    """Read taxonomy.tsv: kinds of the classes that the lexicon does not have, each with its class."""
    text = (resources.files("nearsight.detect") / "taxonomy.tsv").read_text(encoding="utf8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {kind: name for name, kinds in rows for kind in kinds.split("|")}


@cache
def _qualities() -> tuple[frozenset[str], re.Pattern[str]]:
    words: dict[str, list[str]] = page()["qualities"]  # type: ignore[assignment]
    chinese = "|".join(sorted(words["zh"], key=len, reverse=True))
    return frozenset(words["en"]), re.compile(f"^(?:(?:{chinese})色?的?)+")
