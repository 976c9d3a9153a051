"""Whether "nothing matches" can be told: present queries against absent ones, measured two ways."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from eval import sets

import nearsight as ns

FALSE_MATCH = (0.02, 0.05, 0.1, 0.2)
# A name left out takes its kinds with it: a Windsor chair that is found for "chair" is no false match.
KINDS = {"chair": ("chair", "windsor chair", "wheelchair")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Best relevance of each query, and for present ones whether a right picture is among the first ten."""

    present: np.ndarray
    right: np.ndarray
    absent: np.ndarray

    def curve(self) -> list[tuple[float, float, float]]:
        """Rows (threshold, share of absent queries that match, share of right present queries kept)."""
        kept = self.present[self.right]
        steps = np.unique(np.concatenate([self.present, self.absent]))[::-1]
        return [(float(t), float((self.absent >= t).mean()), float((kept >= t).mean())) for t in steps]

    def figures(self, threshold: float) -> dict[str, object]:
        """At the default threshold, and the best that the same scores allow at given false-match rates."""
        kept, curve = self.present[self.right], self.curve()
        allowed = {
            f"kept_at_{rate:g}": round(max((keep for _, wrong, keep in curve if wrong <= rate), default=0.0), 4)
            for rate in FALSE_MATCH
        }
        return {
            "present": len(self.present),
            "right_in_ten": round(float(self.right.mean()), 4),
            "absent": len(self.absent),
            "threshold": threshold,
            "false_match": round(float((self.absent >= threshold).mean()), 4),
            "kept": round(float((kept >= threshold).mean()), 4),
            **allowed,
        }


def occurs(name: str, captions: list[str], language: str) -> bool:
    """Whether a name, or for English its plain plural, occurs in any caption."""
    if language == "zh":
        return any(name in caption for caption in captions)
    word = re.compile(rf"\b{re.escape(name.lower())}(s|es)?\b")
    return any(word.search(caption.lower()) for caption in captions)


def best(
    encoder: ns.Encoder, queries: np.ndarray, texts: list[str], images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Best relevance of each query over the pictures, and the first ten pictures (n, 10)."""
    scores = queries @ images.T
    order = np.argsort(-scores, axis=1)[:, :10]
    relevance = np.empty(len(texts), np.float32)
    for place, text in enumerate(texts):
        found = encoder.relevance(queries[place], images[order[place]], text, len(images))
        assert found is not None, "a text query is calibrated"
        relevance[place] = found[0]
    return relevance, order


def captions_against_names(data: Path, encoder: ns.Encoder) -> dict[str, object]:
    """Test 1: dev captions as present queries; objects51 and COCO names that no caption contains as absent ones."""
    return captions_against(data, encoder, lambda names, _: names)


def captions_against_sentences(data: Path, encoder: ns.Encoder) -> dict[str, object]:
    """The same against sentences that each speak of two of the absent names: a sentence need not be there, either."""
    return captions_against(data, encoder, sentences)


def sentences(names: list[str], language: str) -> list[str]:
    """A sentence about each name and the one before it."""
    form = "a {} beside a {}" if language == "en" else "一个{}，旁边有{}"
    return [form.format(one, two) for one, two in zip(names, [*names[-1:], *names[:-1]], strict=True)]


def captions_against(data: Path, encoder: ns.Encoder, said: Callable[[list[str], str], list[str]]) -> dict[str, object]:
    """Dev captions against what is `said` of the names that no caption contains."""
    captioned = sets.captions(data)
    images = sets.encoded(encoder, captioned.files, sets.pictures(data / "flickr8k_dev.tar"))
    names = sets.names("objects51") | sets.names("coco")
    found: dict[str, object] = {}
    for language, texts in (("en", captioned.en), ("zh", captioned.zh)):
        asked = list(dict.fromkeys(names.keys() if language == "en" else names.values()))
        absent = said([name for name in asked if not occurs(name, texts, language)], language)
        present, ten = best(encoder, encoder.texts(texts).vectors, texts, images)
        wrong, _ = best(encoder, encoder.texts(absent).vectors, absent, images)
        right = (ten == (np.arange(len(texts)) // 5)[:, None]).any(1)
        outcome = Outcome(present=present, right=right, absent=wrong)
        found[language] = outcome.figures(encoder.default_min_relevance) | {"curve": thin(outcome.curve())}
    return found


def one_left_out(data: Path, encoder: ns.Encoder) -> dict[str, object]:
    """Test 2: each objects51 name with and without its pictures, in a gallery of all others and Flickr8k dev."""
    captioned = sets.captions(data)
    rows = json.loads(sets.need(data / "objects51.json").read_text(encoding="utf8"))
    dev = sets.encoded(encoder, captioned.files, sets.pictures(data / "flickr8k_dev.tar"))
    objects = sets.encoded(encoder, [row["file"] for row in rows], sets.pictures(data / "objects51.tar"))
    labels = np.array([row["name"] for row in rows] + [""] * len(dev))
    images = np.concatenate([objects, dev])
    names = sets.names("objects51")
    found: dict[str, object] = {}
    for language, asked in (("en", list(names)), ("zh", list(names.values()))):
        queries = encoder.texts(asked).vectors
        present, ten = best(encoder, queries, asked, images)
        right = np.array([(labels[row] == name).any() for row, name in zip(ten, names, strict=True)])
        absent = np.array(
            [
                best(encoder, queries[i : i + 1], [asked[i]], images[~np.isin(labels, KINDS.get(name, (name,)))])[0][0]
                for i, name in enumerate(names)
            ]
        )
        outcome = Outcome(present=present, right=right, absent=absent)
        found[language] = outcome.figures(encoder.default_min_relevance) | {"curve": thin(outcome.curve())}
    return found


def thin(curve: list[tuple[float, float, float]], points: int = 60) -> list[list[float]]:
    """Keep at most `points` rows of a curve, rounded."""
    rows = curve[:: max(1, len(curve) // points)]
    return [[round(value, 4) for value in row] for row in rows]
