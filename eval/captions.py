"""Captions against what people wrote about Flickr8k dev, and against boxes; beside peers that only remember."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from eval import agreement, sets
from PIL import Image

import nearsight as ns
from nearsight.detect.lexicon import meaning

LANGUAGES = ("en", "zh")
SPLITS: dict[str, Callable[[str], list[str]]] = {"en": agreement.words, "zh": agreement.characters}
TRIALS = 1000
Tokens = list[str]
Shown = dict[str, Image.Image]


def references(data: Path, part: str) -> tuple[list[str], dict[str, list[list[str]]]]:
    """Files, and in each language five captions for each of them."""
    path = sets.need(data / f"flickr8k_{part}_captions.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    return [row["image"] for row in rows], {language: [row[language] for row in rows] for language in LANGUAGES}


def cut(said: Sequence[str], asked: Sequence[Sequence[str]], language: str) -> tuple[list[Tokens], list[list[Tokens]]]:
    """Captions and references as words (English) or characters (Chinese)."""
    split = SPLITS[language]
    return [split(text) for text in said], [[split(text) for text in row] for row in asked]


def interval(figures: Mapping[str, float]) -> str:
    """The interval of CIDEr-D in words."""
    return f"{figures['cider_low']:.3f} to {figures['cider_high']:.3f}"


def agreeing(said: Sequence[str], asked: Sequence[Sequence[str]], language: str) -> np.ndarray:
    """CIDEr-D of every caption."""
    return np.array(agreement.cider(*cut(said, asked, language)))


def judged(said: Sequence[str], asked: Sequence[Sequence[str]], language: str) -> dict[str, float]:
    """CIDEr-D with a 95 % interval over pictures, BLEU-4, and how many captions differ from all others."""
    tokens, wanted = cut(said, asked, language)
    each = agreeing(said, asked, language)
    random = np.random.default_rng(0)
    means = each[random.integers(len(each), size=(TRIALS, len(each)))].mean(1)
    return {
        "cider": round(float(each.mean()), 4),
        "cider_low": round(float(np.quantile(means, 0.025)), 4),
        "cider_high": round(float(np.quantile(means, 0.975)), 4),
        "bleu4": round(agreement.bleu(tokens, wanted), 4),
        "kinds": len(set(said)),
        "words": round(float(np.mean([len(one) for one in tokens])), 2),
    }


def spoken(captioner: ns.Captioner, files: list[str], shown: Shown, language: str) -> list[ns.Caption]:
    """One caption for each picture."""
    return [captioner.caption(shown[name], language) for name in files]


class Remembered:
    """Two peers that cannot describe: they say again what people wrote about training pictures."""

    def __init__(self, data: Path) -> None:
        files, self.captions = references(data, "train")
        self.encoder = ns.Encoder("nano")
        self.vectors = sets.encoded(self.encoder, files, sets.pictures(data / "flickr8k_train.tar"))

    def constant(self, language: str) -> str:
        """The caption that training pictures bear most often."""
        counts = Counter(tuple(SPLITS[language](text)) for row in self.captions[language] for text in row)
        return ("" if language == "zh" else " ").join(counts.most_common(1)[0][0])

    def copied(self, files: list[str], shown: Shown, language: str) -> list[str]:
        """Of the nearest training picture's five captions, the one that the other four agree with most."""
        nearest = (sets.encoded(self.encoder, files, shown) @ self.vectors.T).argmax(1)
        rows = [self.captions[language][at] for at in nearest]
        return [row[best] for row, best in zip(rows, typical(rows, SPLITS[language]), strict=True)]


def typical(rows: list[list[str]], split: Callable[[str], list[str]]) -> list[int]:
    """Which caption of each row agrees most with the others of its row."""
    tokens = [[split(text) for text in row] for row in rows]
    count = min(map(len, tokens))
    figures = np.array(
        [
            agreement.cider([row[at] for row in tokens], [row[:at] + row[at + 1 :] for row in tokens])
            for at in range(count)
        ]
    )
    return [int(best) for best in figures.argmax(0)]


def people(asked: list[list[str]], language: str) -> dict[str, float]:
    """What a person reaches: each picture's first caption against its other four (so one reference less)."""
    return judged([row[0] for row in asked], [row[1:] for row in asked], language)


def measure(data: Path, peers: Remembered) -> dict[str, dict[str, object]]:
    """All figures of Flickr8k dev, in both languages."""
    files, asked = references(data, "dev")
    shown = sets.pictures(data / "flickr8k_dev.tar")
    captioner = ns.Captioner("nano")
    found: dict[str, dict[str, object]] = {}
    for language in LANGUAGES:
        said = spoken(captioner, files, shown, language)
        texts, wanted = [one.text for one in said], asked[language]
        times = [one.decision.measured.latency_ms for one in said if one.decision.measured]
        found[language] = {
            "nano": judged(texts, wanted, language),
            "nearest training picture's caption": judged(peers.copied(files, shown, language), wanted, language),
            "most frequent training caption": judged([peers.constant(language)] * len(files), wanted, language),
            "a person, on the other four captions": people(wanted, language),
            "confidence": confidence(np.array([one.confidence for one in said]), agreeing(texts, wanted, language)),
            "median_ms": round(float(np.median(times)), 2),
        }
    return found


def confidence(sure: np.ndarray, each: np.ndarray) -> dict[str, float]:
    """Does a surer caption agree more: rank correlation, and CIDEr-D by quarter of confidence, lowest first."""
    ranks = [np.argsort(np.argsort(values)) for values in (sure, each)]
    quarters = np.array_split(each[np.argsort(sure)], 4)
    return {
        "rank_correlation": round(float(np.corrcoef(*ranks)[0, 1]), 4),
        **{f"quarter_{place}": round(float(part.mean()), 4) for place, part in enumerate(quarters, 1)},
        "above_half": round(float((sure > 0.5).mean()), 4),
        "better_than_median_above_half": round(float((each > np.median(each))[sure > 0.5].mean()), 4),
    }


def named(caption: str) -> set[str]:
    """The COCO classes that an English caption names, by the detector's lexicon, longest names first."""
    words, found, at = agreement.words(caption), set[str](), 0
    while at < len(words):
        for length in (3, 2, 1):
            meant = meaning(" ".join(words[at : at + length])) if at + length <= len(words) else None
            if meant is not None:
                found.update(meant.classes)
                at += length - 1
                break
        at += 1
    return found


def inventions(data: Path, peers: Remembered) -> dict[str, dict[str, float]]:
    """COCO photographs with all boxes: of what English captions name, how much is there; people counted apart."""
    read = json.loads(sets.need(data / "detection" / "dev.json").read_text(encoding="utf8"))
    shown = sets.pictures(data / "detection" / "dev.tar")
    files = [image["file"] for image in read["images"]]
    there = [{read["classes"][box[4]] for box in image["boxes"]} for image in read["images"]]
    captioner = ns.Captioner("nano")
    said = {
        "nano": [caption.text for caption in spoken(captioner, files, shown, "en")],
        "nearest training picture's caption": peers.copied(files, shown, "en"),
    }
    found = {}
    for name, texts in said.items():
        rows = [(named(text), true) for text, true in zip(texts, there, strict=True)]
        things = [(thing, true) for names, true in rows for thing in names - {"person"}]
        people = [true for names, true in rows if "person" in names]
        kinds = [true - {"person"} for _, true in rows]
        found[name] = {
            "captions": len(texts),
            "with_people": len(people),
            "people_there": round(sum("person" in true for true in people) / max(1, len(people)), 4),
            "things": len(things),
            "things_there": round(sum(thing in true for thing, true in things) / max(1, len(things)), 4),
            "pictures_rightly_named": round(
                sum(bool(names & true) for (names, _), true in zip(rows, kinds, strict=True)) / len(rows), 4
            ),
        }
    return found
