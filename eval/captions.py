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
from nearsight.caption.nouns import class_of, nouns

LANGUAGES = ("en", "zh")
SPLITS: dict[str, Callable[[str], list[str]]] = {"en": agreement.words, "zh": agreement.characters}
TOKENS = {
    "en": "lower-case words without punctuation, 's apart (eval/agreement.py)",
    "zh": "characters without punctuation and blanks",
}
TRIALS = 1000
PERSON = "a person, on the other four captions"
SAYING = 2  # people who must have named a thing, for it to be asked for
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


def agreeing(said: Sequence[str], asked: Sequence[Sequence[str]], language: str) -> np.ndarray:
    """CIDEr-D of every caption."""
    return np.array(agreement.cider(*cut(said, asked, language)))


def judged(said: Sequence[str], asked: Sequence[Sequence[str]], language: str) -> dict[str, float]:
    """CIDEr-D with a 95 % interval over pictures, BLEU-4, nouns, repetitions, and how many different captions."""
    tokens, wanted = cut(said, asked, language)
    each = agreeing(said, asked, language)
    random = np.random.default_rng(0)
    means = each[random.integers(len(each), size=(TRIALS, len(each)))].mean(1)
    return {
        "cider": round(float(each.mean()), 4),
        "cider_low": round(float(np.quantile(means, 0.025)), 4),
        "cider_high": round(float(np.quantile(means, 0.975)), 4),
        "bleu4": round(agreement.bleu(tokens, wanted), 4),
        **named_as(said, asked, language),
        "repeat_no_3gram": sets.share(max(agreement.grams(one, 3).values(), default=0) < 2 for one in tokens),
        "kinds": len(set(said)),
        "words": round(float(np.mean([len(one) for one in tokens])), 2),
    }


def named_as(said: Sequence[str], asked: Sequence[Sequence[str]], language: str) -> dict[str, float]:
    """Of the things that two people or more name, how many are said; of what is said, how much one of them names."""
    there = wanted = given = backed = 0
    for text, row in zip(said, asked, strict=True):
        mine = {thing for _, thing in nouns(text, language)}
        counts = Counter(thing for one in row for thing in {thing for _, thing in nouns(one, language)})
        shared = {thing for thing, count in counts.items() if count >= SAYING}
        there, wanted = there + len(mine & shared), wanted + len(shared)
        backed, given = backed + len(mine & counts.keys()), given + len(mine)
    return {
        "noun_recall": round(there / max(1, wanted), 4),
        "noun_precision": round(backed / max(1, given), 4),
    }


def fitting(texts: Sequence[str], views: np.ndarray, encoder: ns.Encoder) -> dict[str, float]:
    """How well captions fit their own picture by the search model: cosine, and rank of it among all pictures."""
    cosines = encoder.texts(list(texts)).vectors @ views.T
    own = cosines.diagonal()
    ranks = (cosines > own[:, None]).sum(1)
    return {
        "cosine": round(float(own.mean()), 4),
        **{f"own_picture_in_{k}": sets.share(ranks < k) for k in (1, 10)},
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
        self._seen: tuple[list[str], np.ndarray] = ([], np.zeros((0, 0)))

    def seen(self, files: list[str], shown: Shown) -> np.ndarray:
        """Vectors (n, d) of the pictures asked about; the last ones are remembered."""
        if self._seen[0] != files:
            self._seen = (files, sets.encoded(self.encoder, files, shown))
        return self._seen[1]

    def constant(self, language: str) -> str:
        """The caption that training pictures bear most often."""
        counts = Counter(tuple(SPLITS[language](text)) for row in self.captions[language] for text in row)
        return ("" if language == "zh" else " ").join(counts.most_common(1)[0][0])

    def copied(self, files: list[str], shown: Shown, language: str) -> list[str]:
        """Of the nearest training picture's five captions, the one that the other four agree with most."""
        nearest = (self.seen(files, shown) @ self.vectors.T).argmax(1)
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


def measure(
    data: Path, peers: Remembered, captioners: Mapping[str, ns.Captioner], most: int | None = None
) -> dict[str, dict[str, object]]:
    """All figures of Flickr8k dev, or of its first `most` pictures, in both languages.

    Args:
        data: the folder of the sets.
        peers: what only remembers.
        captioners: who speaks; the first one's confidence and time are told of.
        most: how many pictures.
    """
    files, asked = references(data, "dev")
    files, asked = files[:most], {language: rows[:most] for language, rows in asked.items()}
    shown = sets.pictures(data / "flickr8k_dev.tar")
    found: dict[str, dict[str, object]] = {}
    for language in LANGUAGES:
        wanted = asked[language]
        said = {name: spoken(captioner, files, shown, language) for name, captioner in captioners.items()}
        texts = {name: [one.text for one in rows] for name, rows in said.items()}
        texts["nearest training picture's caption"] = peers.copied(files, shown, language)
        texts["most frequent training caption"] = [peers.constant(language)] * len(files)
        # A person's reference is one less: the first caption is held against the other four.
        texts[PERSON] = [row[0] for row in wanted]
        first = next(iter(said.values()))
        times = [one.decision.measured.latency_ms for one in first if one.decision.measured]
        sure, each = (
            np.array([one.confidence for one in first]),
            agreeing([one.text for one in first], wanted, language),
        )
        found[language] = {
            "tokens": TOKENS[language],
            **{
                name: {
                    **judged(rows, [row[1:] for row in wanted] if name == PERSON else wanted, language),
                    **fitting(rows, peers.seen(files, shown), peers.encoder),
                }
                for name, rows in texts.items()
            },
            "confidence": confidence(sure, each),
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
    """The COCO classes that an English caption names."""
    return {seen for _, thing in nouns(caption, "en") if (seen := class_of(thing)) is not None}


def inventions(
    data: Path, peers: Remembered, captioner: ns.Captioner, most: int | None = None
) -> dict[str, dict[str, float]]:
    """COCO photographs with all boxes: of what English captions name, how much is there; people counted apart."""
    read = json.loads(sets.need(data / "detection" / "dev.json").read_text(encoding="utf8"))
    read["images"] = read["images"][:most]
    shown = sets.pictures(data / "detection" / "dev.tar")
    files = [image["file"] for image in read["images"]]
    there = [{read["classes"][box[4]] for box in image["boxes"]} for image in read["images"]]
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
