"""Words for the classes, in English and Chinese: which half may enter the lexicon, and how each half is judged."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from eval import sets

import nearsight as ns
from nearsight.detect import lexicon
from nearsight.detect.lexicon import meaning, normalised
from nearsight.detect.nearness import class_vectors

LANGUAGES = ("en", "zh")
CLASS = "class"
UNJUDGED = "unjudged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word that people use for a class; an `unseen` one stays out of the lexicon and only tests."""

    text: str
    means: str
    language: str
    unseen: bool


def unseen(word: str) -> bool:
    """Whether a word belongs to the half that only tests: where the last hex digit of its SHA-256 is odd.

    Example:
        >>> unseen("car"), unseen("lorry")
        (True, False)
    """
    return int(hashlib.sha256(word.encode("utf8")).hexdigest()[-1], 16) % 2 == 1


def every() -> list[Word]:
    """All words of `names/coco_words.json`, class by class, without the names that classes bear."""
    page = json.loads((sets.NAMES / "coco_words.json").read_text(encoding="utf8"))
    return [
        Word(text=text, means=means, language=language, unseen=unseen(text))
        for means, row in page.items()
        for language in LANGUAGES
        for text in row[language]
    ]


@contextmanager
def hidden() -> Iterator[ns.Detector]:
    """A detector whose lexicon has never heard of the unseen half: what it would do with words that nobody listed.

    The product keeps them, since people use them; only this measure goes without.
    """
    gone = {normalised(word.text) for word in every() if word.unseen}
    rows = [row for part in ("classes", "groups") for row in lexicon.page()[part].values()]
    whole = [{key: row[key] for key in ("same", "narrower") if key in row} for row in rows]
    try:
        for row, kept in zip(rows, whole, strict=True):
            row.update({key: [word for word in kept[key] if normalised(word) not in gone] for key in kept})
        lexicon.forget()
        detector = ns.Detector("nano")
        detector.near.__dict__["classes"] = class_vectors(ns.Encoder("nano"), detector.classes)
        yield detector
    finally:
        for row, kept in zip(rows, whole, strict=True):
            row.update(kept)
        lexicon.forget()


def judged(detector: ns.Detector, words: list[Word]) -> dict[str, dict[str, object]]:
    """How each half of the words is judged before any picture is looked at: route, and whether by the right class."""
    told = {word: detector.meaning(word.text) for word in words}
    found: dict[str, dict[str, object]] = {}
    for language in LANGUAGES:
        for half in (False, True):
            here = [word for word in words if word.language == language and word.unseen == half]
            routes = Counter(told[word][1] or UNJUDGED for word in here)
            found[f"{language} {'unseen' if half else 'seen'}"] = {
                "words": len(here),
                "in_lexicon": sets.share(meaning(word.text) is not None for word in here),
                "right_class": sets.share(told[word][0] == (word.means,) for word in here),
                "wrong_class": sets.share(bool(told[word][0]) and word.means not in told[word][0] for word in here),
                "routes": dict(sorted(routes.items())),
            }
    return found


def near(detector: ns.Detector) -> dict[str, dict[str, float]]:
    """Words outside the lexicon: near a class, covered by none, and compounds that hold a class's name by chance.

    Of near words the share is given that is judged rightly and wrongly, of the others the share that is judged at all.
    Every second word could choose a threshold or stand among the idioms; the figures named `held_out` are of the
    others. One hand wrote words and rules, which flatters both.
    """
    page = json.loads((sets.NAMES / "near_words.json").read_text(encoding="utf8"))
    covered = [(word, name) for name, row in page["near"].items() for word in row]
    asked = [*covered, *((word, None) for word in page["uncovered"])]
    told = [detector.meaning(word)[0] for word, _ in asked]
    compounds = [bool(detector.meaning(word)[0]) for word in page["compounds"]]
    result = {}
    for name, part in (("chosen_on", 0), ("held_out", 1)):
        here = [(truth, classes) for (_, truth), classes in zip(asked[part::2], told[part::2], strict=True)]
        right = [(truth, classes) for truth, classes in here if truth is not None]
        others = [bool(classes) for truth, classes in here if truth is None]
        result[name] = {
            "near": len(right),
            "near_judged_right": sets.share(truth in classes for truth, classes in right),
            "near_judged_wrong": sets.share(bool(classes) and truth not in classes for truth, classes in right),
            "uncovered": len(others),
            "uncovered_judged": sets.share(others),
            "compounds": len(compounds[part::2]),
            "compounds_judged": sets.share(compounds[part::2]),
        }
    return result


def labels(detector: ns.Detector, words: Iterable[Word]) -> dict[str, str]:
    """Word -> the label that is asked for it: names of one class are answered alike, and so asked once."""
    known = {(name,): name for name in detector.classes}
    asked = {}
    for word in words:
        classes, route = detector.meaning(word.text)
        asked[word.text] = known.setdefault(classes, word.text) if route == CLASS else word.text
    return asked


def summed(words: list[Word], precisions: dict[str, float], languages: Iterable[str] = LANGUAGES) -> dict[str, object]:
    """The mean AP50 over words, all and unseen, and over classes of the mean of their words.

    Args:
        words: Those whose class has a box in the pictures.
        precisions: AP50 of each word; one that was not judged has 0.
        languages: Which of them.
    """
    found: dict[str, object] = {}
    for language in languages:
        for half, kept in (("all", (True, False)), ("unseen", (True,)), ("seen", (False,))):
            here = [word for word in words if word.language == language and word.unseen in kept]
            by_class: dict[str, list[float]] = {}
            for word in here:
                by_class.setdefault(word.means, []).append(precisions[word.text])
            found[f"{language} {half}"] = {
                "words": len(here),
                "ap50": round(float(np.mean([precisions[word.text] for word in here])), 4),
                "classes": len(by_class),
                "ap50_by_class": round(float(np.mean([np.mean(row) for row in by_class.values()])), 4),
            }
    return found
