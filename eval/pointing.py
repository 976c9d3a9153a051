"""Pointing at things that COCO has no class for: objects51 against distractors, and boxes on pasted pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from eval import detection, sets
from eval.precision import shared
from PIL import Image

import nearsight as ns

DISTRACTORS = 10
SEED = 0
# Names of objects51 that one of COCO's 80 classes covers, by its own name or by a wider one.
COVERED = {
    "bonsai",
    "chair",
    "cup",
    "elephant",
    "faces",
    "ferry",
    "flamingo head",
    "pizza",
    "scissors",
    "soccer ball",
    "stop sign",
    "windsor chair",
}
# Names of one another's kind or part: neither is a distractor for the other.
ALIKE = ({"cougar body", "leopards"}, {"dragonfly", "mayfly", "butterfly"}, {"okapi", "gerenuk", "llama"})
SIDES = (0.4, 0.7)  # of the pasted picture, in parts of the background's shorter side
NO_BOX = -1.0
THINNED = 3  # every third picture is pasted


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A picture, the name of what it shows, and the names of ten things that it does not show."""

    picture: Image.Image
    name: str
    known: bool
    distractors: tuple[str, ...]


def read(data: Path, most: int | None = None) -> list[Asked]:
    """The pictures of names outside COCO's 80, each with its seeded distractors; `most` a name."""
    rows = json.loads(sets.need(data / "objects51.json").read_text(encoding="utf8"))
    shown = sets.pictures(data / "objects51.tar")
    names = sorted({row["name"] for row in rows} - COVERED)
    random, taken, found = np.random.default_rng(SEED), dict.fromkeys(names, 0), []
    for row in rows:
        name = row["name"]
        if name not in taken or (most is not None and taken[name] >= most):
            continue
        taken[name] += 1
        alike = {name}.union(*(kin for kin in ALIKE if name in kin))
        others = [other for other in names if other not in alike]
        picked = random.choice(len(others), DISTRACTORS, replace=False)
        found.append(
            Asked(
                picture=shown[row["file"]],
                name=name,
                known=row["named"],
                distractors=tuple(others[at] for at in picked),
            )
        )
    return found


def best(found: ns.Detections, label: str) -> tuple[float, np.ndarray]:
    """Score and box of the best box of a label."""
    places = [at for at, other in enumerate(found.labels) if other == label]
    if not places:
        return NO_BOX, np.zeros(4, np.float32)
    first = max(places, key=lambda at: float(found.scores[at]))
    return float(found.scores[first]), found.boxes_xyxy[first]


def outranks(found: ns.Detections, name: str, distractors: Sequence[str]) -> float:
    """One where the named thing's best box scores above all distractors'; a tie is shared; none where it has no box."""
    mine, others = best(found, name)[0], [best(found, other)[0] for other in distractors]
    if mine == NO_BOX or mine < max(others):
        return 0.0
    return 1 / (1 + others.count(mine))


def pointed(rows: Sequence[Asked], detector: ns.Detector) -> dict[str, object]:
    """How often the named thing outranks ten distractors, in both languages; names that the tower's trunk knows apart.

    All scores of a label count, however low. Labels are judged apart from each other, so both languages are asked at
    once.
    """
    chinese = sets.names("objects51")
    hits: dict[str, list[float]] = {"en": [], "zh": []}
    given: dict[str, list[tuple[bool, float]]] = {"en": [], "zh": []}
    routes: dict[str, str] = {}
    for row in rows:
        labels = {"en": [row.name, *row.distractors]}
        labels["zh"] = [chinese[name] for name in labels["en"]]
        found = detector.detect(row.picture, [*labels["en"], *labels["zh"]], 0.0)
        for language, (name, *distractors) in labels.items():
            hits[language].append(outranks(found, name, distractors))
            answered = [best(found, label)[0] >= detector.default_min_score for label in (name, *distractors)]
            given[language].append((answered[0], sum(answered[1:]) / len(distractors)))
        routes |= dict(zip(found.labels, found.routes, strict=True))
    known = np.array([row.known for row in rows])
    result: dict[str, object] = {"pictures": len(rows), "chance": round(1 / (1 + DISTRACTORS), 4)}
    for language, values in hits.items():
        names = [row.name if language == "en" else chinese[row.name] for row in rows]
        each = np.array(values)
        result[language] = {
            "right": round(float(each.mean()), 4),
            "times_chance": round(float(each.mean()) * (1 + DISTRACTORS), 2),
            "named_at_default": sets.share(named for named, _ in given[language]),
            "others_at_default": round(float(np.mean([others for _, others in given[language]])), 4),
            "known": round(float(each[known].mean()), 4),
            "new": round(float(each[~known].mean()), 4),
            "routes": dict(Counter(routes.get(name, "no box") for name in set(names))),
            "by_name": {
                name: round(float(np.mean([v for n, v in zip(names, values, strict=True) if n == name])), 2)
                for name in sorted(set(names))
            },
        }
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Pasted:
    """A photograph with another picture pasted into it, where that lies (4,), what it shows, and a name of neither."""

    picture: Image.Image
    box: np.ndarray
    name: str
    another: str


def pasted(rows: Sequence[Asked], backgrounds: Sequence[Image.Image]) -> list[Pasted]:
    """Paste every picture into a photograph, at a seeded size and place; a side ratio is kept."""
    random, found = np.random.default_rng(SEED), []
    for number, row in enumerate(rows):
        board = backgrounds[number % len(backgrounds)].copy()
        scale = random.uniform(*SIDES) * min(board.size) / max(row.picture.size)
        small = row.picture.resize([max(1, round(side * scale)) for side in row.picture.size], Image.Resampling.BICUBIC)
        left, top = (
            int(random.integers(0, whole - part + 1)) for whole, part in zip(board.size, small.size, strict=True)
        )
        board.paste(small, (left, top))
        box = np.array([left, top, left + small.width, top + small.height], np.float32)
        found.append(Pasted(picture=board, box=box, name=row.name, another=row.distractors[0]))
    return found


def boxed(composites: Sequence[Pasted], detector: ns.Detector) -> dict[str, object]:
    """How well the best box of the name lies on what was pasted; beside it the best box of a name that is not there.

    A box of the whole picture shares `whole_picture_overlap` with it, which is also the chance of its centre.
    """
    found: dict[str, list[tuple[float, bool]]] = {"named": [], "another": []}
    for one in composites:
        answer = detector.detect(one.picture, [one.name, one.another], 0.0)
        for which, label in zip(found, (one.name, one.another), strict=True):
            score, box = best(answer, label)
            centre = (box[:2] + box[2:]) / 2
            there = score != NO_BOX
            found[which].append(
                (
                    float(shared(box[None], one.box[None])[0, 0]) if there else 0.0,
                    there and bool((centre >= one.box[:2]).all() and (centre <= one.box[2:]).all()),
                )
            )
    areas = [np.prod(one.box[2:] - one.box[:2]) / np.prod(one.picture.size) for one in composites]
    result: dict[str, object] = {
        "pictures": len(composites),
        "whole_picture_overlap": round(float(np.mean(areas)), 4),
    }
    for which, rows in found.items():
        overlaps = np.array([overlap for overlap, _ in rows])
        result[which] = {
            "mean_overlap": round(float(overlaps.mean()), 4),
            "overlap_of_half": sets.share(overlaps >= 0.5),
            "overlap_of_0.3": sets.share(overlaps >= 0.3),
            "centre_inside": sets.share(inside for _, inside in rows),
        }
    return result


def measure(data: Path, detector: ns.Detector, most: int | None = None) -> dict[str, object]:
    """Pointing and boxes; `most` pictures a name."""
    rows = read(data, most)
    backgrounds = detection.read(data, "dev").pictures
    composites = pasted([row for number, row in enumerate(rows) if number % THINNED == 0], backgrounds)
    return {"pointing": pointed(rows, detector), "boxes": boxed(composites, detector)}
