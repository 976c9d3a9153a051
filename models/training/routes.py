"""Fits what turns evidence into the chance that a box is right, on each route, and the thresholds of the detector.

`python -m training.routes --data DATA` (from models/) writes them, and the vectors of the classes' names, into
nano-detect's page. To be run again whenever the graph of the detector or a tower of nano changes; it takes a minute.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import nearsight as ns
import nearsight_models
from nearsight.detect.boxes import MATCH, matched, overlaps, suppressed
from nearsight.detect.chances import chance, logit
from nearsight.detect.crops import WINDOWS, Cropper, apart, around, surest
from nearsight.detect.lexicon import kinds
from nearsight.detect.nearness import Nearness, class_vectors, sureness
from nearsight.detect.words import Words
from nearsight.engine import Engine
from nearsight.sight import Sight
from nearsight_models import Manifest
from nearsight_npu.golden import save_arrays
from training import data
from training.curves import logistic
from training.files import row

log = logging.getLogger("training")
ROOT = Path(__file__).parent.parent / "nearsight_models"
WORDS = Path(__file__).parent.parent.parent / "eval" / "names" / "near_words.json"
HEAD = "# Written by models/training/routes.py.\n[settings.routes]"
LEAST = 0.1  # boxes of a class that score less are not looked at: one in a hundred is right, and they bend the curve
LEAST_CHANCE = 0.01  # the same for crops
CLASSES_ON = slice(200, 800)  # pictures of detection/train: others than those that set the ranges of INT8
FLAT = 0.01  # the curve of F1 is flat about its top; the highest score that loses no more than this is taken
PULL = 20.0  # how strongly a class's offset is held at the one of all classes: the weight of so many boxes
WRONG = 0.03  # the share of words that no class covers which may pass for one
LARGE = 32  # pixels of the shorter side of a box that serves as an example
NARROWER = 0.5  # not fitted: no set tells how often a person is a woman


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture, its true boxes (n, 6) with class and crowd, and what the detector saw in it."""

    sight: Sight
    true: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def shown(engine: Engine, tar: Path, which: slice) -> Iterator[Shown]:
    """Walk pictures of a set."""
    page = json.loads(tar.with_suffix(".json").read_text(encoding="utf8"))
    rows = {row["file"]: row for row in page["images"][which]}
    for name, picture in data.pictures(tar):
        if name in rows:
            sight = Sight(picture)
            outputs, _ = sight.seen(engine, "detect")
            true = np.array([[*box, 0][:6] for box in rows[name]["boxes"]], np.float32).reshape(-1, 6)
            boxes = outputs["boxes"][0] * np.array(picture.size * 2, np.float32)
            yield Shown(sight=sight, true=true, boxes=boxes, scores=outputs["scores"][0])


def classes(engine: Engine, tar: Path, which: slice, max_overlap: float) -> tuple[float, list[float], float]:
    """Fit the classes' curves: slope, offsets, and the chance from which on a box is shown."""
    count = len(engine.manifest.settings["classes"])
    judged: list[tuple[int, float, bool]] = []
    wanted = 0
    for one in shown(engine, tar, which):
        wanted += int((one.true[:, 5] == 0).sum())
        for column in np.flatnonzero(one.scores.max(axis=0) >= LEAST):
            places = np.flatnonzero(one.scores[:, column] >= LEAST)
            kept = places[suppressed(one.boxes[places], one.scores[places, column], max_overlap)]
            true, crowd = (one.true[(one.true[:, 4] == column) & (one.true[:, 5] == k), :4] for k in (0, 1))
            found = matched(one.boxes[kept], one.scores[kept, column], true, crowd)
            judged += [(int(column), score, right) for score, right in found]
    columns, scores, right = (np.array(part) for part in zip(*judged, strict=True))
    evidence = logit(scores)
    slope, shared = logistic(evidence[:, None], right)
    # A Gaussian prior on each class's departure: boxes near the middle of the curve weigh a quarter.
    own = np.zeros(count)
    for column in range(count):
        mine = columns == column
        if mine.any():
            own[column] = departure(slope * evidence[mine] + shared, right[mine])
    chances = chance(slope * evidence + shared + own[columns])
    return float(slope), (shared + own).tolist(), best_f1(chances, right, wanted)


def departure(evidence: np.ndarray, right: np.ndarray) -> float:
    """How far one class's curve lies from the shared one, in logits."""
    own = 0.0
    for _ in range(50):
        p = chance(evidence + own)
        step = float((p - right).sum() + PULL / 4 * own) / float((p * (1 - p)).sum() + PULL / 4)
        own -= step
        if abs(step) < 1e-6:
            break
    return own


def best_f1(chances: np.ndarray, right: np.ndarray, wanted: int) -> float:
    """The highest chance whose F1 over all classes together is within a hundredth of the best."""
    order = np.argsort(-chances, kind="stable")
    hits, kept, values = np.cumsum(right[order]), np.arange(1, len(order) + 1), chances[order]
    f1 = 2 * hits / (kept + wanted)
    at = int(np.flatnonzero(f1 >= f1.max() - FLAT)[0])
    log.info(
        "min_score %.3f: F1 %.3f, precision %.3f, recall %.3f",
        values[at], f1[at], hits[at] / kept[at], hits[at] / wanted,
    )  # fmt: skip
    return round(float(values[at]), 2)


def crops(engine: Engine, words: Words, cropper: Cropper, tar: Path) -> dict[str, list[float]]:
    """Fit the curves of crops for texts and for examples, as if the class that is asked for were not there."""
    names = engine.manifest.settings["classes"]
    pictures = list(shown(engine, tar, slice(None)))
    texts, examples = words.vectors(names), sampled(words, pictures)
    rows: dict[str, list[tuple[float, bool]]] = {"crop": [], "example": []}
    for number, one in enumerate(pictures):
        boxes, vectors, chosen = cut_out(cropper, one, len(names))
        for column in range(len(names)):
            true = one.true[(one.true[:, 4] == column) & (one.true[:, 5] == 0), :4]
            mine = boxes[chosen[column]]
            right = np.max([np.zeros(len(mine)), *(overlaps(box, mine) for box in true)], axis=0) >= MATCH
            foreign = [vector for at, vector in examples.get(column, ()) if at != number]
            labels = {"crop": texts[column], "example": foreign[number % len(foreign)] if foreign else None}
            for route, vector in labels.items():
                if vector is not None:
                    evidence = cropper.evidence(vectors[chosen[column]], vector[None], without=column)[:, 0]
                    kept = apart(mine, evidence)
                    rows[route] += zip(evidence[kept].tolist(), right[kept].tolist(), strict=True)
    found = {}
    for route, judged in rows.items():
        evidence, right = (np.array(part) for part in zip(*judged, strict=True))
        slope, intercept = logistic(evidence[:, None], right)
        # Once more without those that are almost surely wrong: nearly all are, and they bend the curve.
        likely = chance(slope * evidence + intercept) >= LEAST_CHANCE
        weights = logistic(evidence[likely, None], right[likely])
        log.info("%s: %d crops, %d right, %s", route, len(right), right.sum(), weights.round(3))
        found[route] = [round(float(weight), 4) for weight in weights]
    return found


def cut_out(cropper: Cropper, one: Shown, count: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Cut out of a picture what would be cut out if one of the classes were not there, for each of them.

    Returns:
        Boxes and vectors of all crops, and for each class which of them are its own.
    """
    usual = surest(one.boxes, one.scores)
    tops = set(one.scores[usual].argmax(axis=1).tolist())
    places = [
        surest(one.boxes, np.delete(one.scores, column, axis=1)) if column in tops else usual for column in range(count)
    ]
    every = np.unique(np.concatenate(places))
    whole = np.array([[0, 0, *one.sight.size_wh]], np.float32)
    windows = np.array(WINDOWS, np.float32) * whole[0, [2, 3, 2, 3]]
    boxes = np.concatenate([whole, windows, one.boxes[every]])
    always = np.arange(1 + len(windows))
    chosen = [np.concatenate([always, len(always) + np.searchsorted(every, mine)]) for mine in places]
    return boxes, cropper.encoded(one.sight, boxes).vectors, chosen


def sampled(words: Words, pictures: list[Shown]) -> dict[int, list[tuple[int, np.ndarray]]]:
    """One large true box of each class in each picture as an example: class -> picture's number and vector."""
    found: dict[int, list[tuple[int, np.ndarray]]] = {}
    for number, one in enumerate(pictures):
        picture = one.sight.picture()
        chosen: dict[int, Image.Image] = {}
        for *box, column, crowd in one.true.tolist():
            if not crowd and min(box[2] - box[0], box[3] - box[1]) >= LARGE:
                chosen.setdefault(int(column), picture.crop(around(np.array(box), picture.size)))
        if chosen:
            vectors = words.encoder.images(list(chosen.values())).vectors
            for column, vector in zip(chosen, vectors, strict=True):
                found.setdefault(column, []).append((number, vector))
    return found


def nearness(near: Nearness, names: list[str]) -> dict[str, float]:
    """Fit how near a word has to be to a class, on every second word of the list, and how often it then means it."""
    page = json.loads(WORDS.read_text(encoding="utf8"))
    covered = [(word, names.index(name)) for name, row in page["near"].items() for word in row]
    asked = [*covered, *((word, -1) for word in page["uncovered"])][::2] + [(w, -1) for w in page["compounds"][::2]]
    cosines = near.cosines([word for word, _ in asked])
    nearest, sure = cosines.argmax(axis=1), sureness(cosines)
    truth = np.array([number for _, number in asked])
    allowed = [kinds(word) for word, _ in asked]
    free = np.array([one is None for one in allowed])
    kind = np.array([bool(one) and names[at] in one for one, at in zip(allowed, nearest, strict=True)])
    wrong = np.sort(sure[free & (truth < 0)])[::-1]
    # Just above the first wrong word that may not pass. That a word ends in the class's name is evidence, too.
    least = {
        name: round(float(wrong[int(passing * len(wrong))]) + 1e-3, 3)
        for name, passing in (("near", WRONG), ("near_kind", 2 * WRONG))
    }
    passed = (free & (sure >= least["near"])) | (kind & (sure >= least["near_kind"]))
    right = passed & (nearest == truth)
    log.info("near: %s; %d words judged, %d rightly, of %d", least, passed.sum(), right.sum(), (truth >= 0).sum())
    return {**least, "near_share": round(float(right.sum() / passed.sum()), 2)}


def fit(folder: Path, manifest: Manifest) -> dict[str, object]:
    """Fit everything: the table of the page."""
    names, max_overlap = list(manifest.settings["classes"]), float(manifest.settings["max_overlap"])
    engine, words = Engine(manifest.name, capability="detect"), Words(manifest.family)
    near = Nearness(manifest, words)
    slope, offsets, least = classes(engine, folder / "detection" / "train.tar", CLASSES_ON, max_overlap)
    close = nearness(near, names)
    curves = crops(engine, words, Cropper(words, near), folder / "coco_train128.tar")
    return {
        "min_score": least,
        "slope": round(slope, 4),
        "offsets": [round(offset, 3) for offset in offsets],
        "narrower": NARROWER,
        **close,
        **curves,
    }


def write_words(target: Path, names: list[str]) -> None:
    """Where each class's names lie in the text space of the family's encoder, whose files have to be there."""
    encoder = ns.Encoder("nano")
    vectors = class_vectors(encoder, names).astype(np.float16)
    save_arrays(target, {"vectors": vectors, "space": np.array(encoder.space)})


def write(folder: Path, root: Path = ROOT) -> None:
    """Make the classes' vectors, fit, and write nano-detect's page under `root`, the folder of nearsight_models."""
    at, words = root / "manifests" / "nano-detect.toml", root / "embedded" / "nano" / "detect.words.npz"
    write_words(words, nearsight_models.load("nano", "detect").settings["classes"])
    before, mark, after = at.read_text(encoding="utf8").partition("[files.words]\n")
    page = "".join([before, mark, f"npz = {row(root, words)}\n", after.partition("\n")[2]])
    at.write_text(page, encoding="utf8")
    rows = [
        f"{key} = {json.dumps(value)}" for key, value in fit(folder, nearsight_models.load("nano", "detect")).items()
    ]
    at.write_text("\n".join([page.split(HEAD)[0].rstrip(), "", HEAD, *rows, ""]), encoding="utf8")


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(prog="training.routes", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder; detection/train and coco_train128")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write(args.data)


if __name__ == "__main__":
    main()
