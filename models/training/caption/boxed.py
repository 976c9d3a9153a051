"""Plain captions from human boxes: what Flickr8k never shows (a laptop, a bus, a pizza) gets its words from here.

They say no more than the boxes do: which things there are, how many, and "on" or "with" where boxes of a person and a
thing overlap. Nobody wrote them; the card says so.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LEAST_AREA = 0.01  # of the picture; smaller things are not what a caption is about
MOST_KINDS = 2
CAPTIONS = 5
OVERLAP = 0.3  # of a thing's box within a person's, to say that they have to do with each other
LINKED = 0.7  # how often people are named with what they hold or ride
ALONE = 0.4  # how often the second kind of thing is left out
VERBS = (
    ({"bicycle", "motorcycle", "horse", "elephant"}, ("riding", "骑着")),
    ({"skateboard", "surfboard", "snowboard", "skis"}, ("on", "踩着")),
    ({"tie"}, ("wearing", "戴着")),
    (
        {
            "umbrella", "handbag", "tennis racket", "baseball bat", "cell phone", "frisbee", "wine glass", "cup",
            "bottle", "toothbrush", "remote", "hot dog", "sandwich", "banana", "donut", "book", "baseball glove",
            "teddy bear", "suitcase", "backpack", "knife", "fork", "spoon", "scissors", "kite", "pizza", "apple",
        },
        ("with", "拿着"),
    ),
)  # fmt: skip
PLURALS = {
    "person": "people", "knife": "knives", "mouse": "mice", "sheep": "sheep", "skis": "skis", "scissors": "scissors",
    "broccoli": "broccoli",
}  # fmt: skip
PAIRED = {"skis", "scissors"}
MASS = {"broccoli"}
NUMBERS = ("", "a", "two", "three")
NUMBERS_ZH = ("", "一", "两", "三")
MEASURES = {
    "辆": {"bicycle", "car", "motorcycle", "bus", "truck", "train"}, "架": {"airplane"}, "艘": {"boat"},
    "只": {"bird", "cat", "dog", "sheep", "bear", "zebra"}, "匹": {"horse"}, "头": {"cow", "elephant"},
    "把": {"umbrella", "chair", "knife", "fork", "spoon", "scissors", "toothbrush"}, "本": {"book"},
    "张": {"bed", "dining table", "couch", "bench"}, "条": {"tie"}, "台": {"tv", "laptop", "oven", "refrigerator"},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One box: its class, and its corners as shares of the picture."""

    name: str
    box: np.ndarray

    @property
    def area(self) -> float:
        """Share of the picture."""
        return float(np.prod(self.box[2:] - self.box[:2]))

    def holds(self, other: Thing) -> float:
        """Which share of the other's box lies within this one."""
        low, high = np.maximum(self.box[:2], other.box[:2]), np.minimum(self.box[2:], other.box[2:])
        return float(np.prod(np.clip(high - low, 0, None))) / max(other.area, 1e-9)


def english(name: str, count: int) -> str:
    """`a dog`, `two dogs`, `several dogs`."""
    if name in MASS:
        return name
    if name == "person" and count > 3:
        return "a group of people"
    if count == 1:
        return f"a pair of {name}" if name in PAIRED else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    ending = "es" if name.endswith(("s", "ch", "sh")) else "s"
    return f"{NUMBERS[count] if count < len(NUMBERS) else 'several'} {PLURALS.get(name, name + ending)}"


def chinese(name: str, word: str, count: int) -> str:
    """`一只狗`, `两只狗`, `几只狗`."""
    if name == "person" and count > 3:
        return "一群人"
    measure = next((measure for measure, names in MEASURES.items() if name in names), "个")
    return f"{NUMBERS_ZH[count] if count < len(NUMBERS_ZH) else '几'}{measure}{word}"


def link(people: list[Thing], things: list[Thing]) -> tuple[str, str] | None:
    """How the people have to do with a kind of thing, where their boxes show it: in English and Chinese."""
    name = things[0].name
    if name == "person" or not people or max(one.holds(thing) for one in people for thing in things) < OVERLAP:
        return None
    return next((verb for names, verb in VERBS if name in names), None)


def said(things: list[Thing], words: dict[str, str], random: np.random.Generator) -> tuple[str, str | None] | None:
    """One caption in both languages; None in Chinese where a thing has no word, none at all of people alone.

    People are named only with what they ride, stand on, wear or hold: they are on nearly every one of these pictures,
    and named beside any chair they would be seen beside every chair.
    """
    sizes, by_kind = Counter[str](), defaultdict[str, list[Thing]](list)
    for thing in things:
        sizes[thing.name] += thing.area
        by_kind[thing.name].append(thing)
    people = by_kind.pop("person", [])
    kinds = [name for name, _ in sizes.most_common() if name != "person"][:MOST_KINDS]
    if not kinds:
        return None
    name = kinds[int(random.integers(len(kinds)))]
    verb = link(people, by_kind[name])
    if verb and random.uniform() < LINKED:
        text = f"{english('person', len(people))} {verb[0]} {english(name, 1)}"
        return (
            text,
            f"{chinese('person', words['person'], len(people))}{verb[1]}{words[name]}" if name in words else None,
        )
    if random.uniform() < ALONE:
        kinds = kinds[:1]
    counts = [len(by_kind[name]) for name in kinds]
    text = " and ".join(english(name, count) for name, count in zip(kinds, counts, strict=True))
    if not all(name in words for name in kinds):
        return text, None
    return text, "和".join(chinese(name, words[name], count) for name, count in zip(kinds, counts, strict=True))


def captions(folder: Path, names: list[str], words: dict[str, str]) -> tuple[list[list[str]], list[list[str]]]:
    """Five captions of every picture in English, and as many in Chinese as can be said with these words."""
    read = json.loads((folder / "detection" / "train.json").read_text(encoding="utf8"))
    by_file = {image["file"]: image for image in read["images"]}
    random = np.random.default_rng(1)
    en: list[list[str]] = []
    zh: list[list[str]] = []
    for name in names:
        image = by_file[name]
        size = np.array([image["width"], image["height"]] * 2, float)
        boxes = [
            Thing(name=read["classes"][label], box=np.array(box) / size)
            for *box, label, crowd in image["boxes"]
            if not crowd
        ]
        large = [thing for thing in boxes if thing.area >= LEAST_AREA]
        pairs = [pair for _ in range(CAPTIONS) if large and (pair := said(large, words, random))]
        en.append([text for text, _ in pairs])
        zh.append([text for _, text in pairs if text])
    return en, zh
