"""Fits what a captioner says about its captions: how likely one is a good one, and which of its nouns were seen.

`python -m training.caption.calibrate --data DATA` (from models/) fits both for the files that ship, and writes the
probes and the settings of their page; run it after every change of the captioner, the search model or the detector.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import nearsight as ns
import nearsight_models
from nearsight.caption.captioner import Evidence
from nearsight.caption.grounding import Grounding
from nearsight.caption.nouns import class_of, nouns, related, things, wider
from nearsight.engine import Engine
from nearsight.sight import Sight
from training import data
from training.caption import judge
from training.curves import logistic
from training.files import row
from training.train import spared

log = logging.getLogger("training")
ROOT = Path(__file__).parents[2] / "nearsight_models"
RIDGE = 1.0
SCENES = 600  # photographs of detection/train


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One picture: what was said of it in each language, and what speaks for the things named in it and before it."""

    name: str
    said: dict[str, Evidence]
    things: list[str]
    found: np.ndarray


def named(captions: data.Captions) -> dict[str, set[str]]:
    """Which things the ten captions of each picture name."""
    rows = zip(captions.images, captions.en, captions.zh, strict=True)
    return {
        image: {
            thing for language, row in (("en", en), ("zh", zh)) for text in row for _, thing in nouns(text, language)
        }
        for image, en, zh in rows
    }


def probes(folder: Path, told: dict[str, set[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Weights (t, d) and offsets (t,) of ridge regressions from a picture's vector to whether each thing is named."""
    names, shown = zip(
        *(row for row in data.pictures(folder / "flickr8k_train.tar") if not spared(row[0])), strict=True
    )
    x = ns.Encoder("nano").images(shown).vectors.astype(np.float64)
    there = [{one for thing in told[name] for one in wider(thing)} for name in names]
    y = np.array([[thing in row for thing in things()] for row in there], float)
    mean, share = x.mean(0), y.mean(0)
    weights = np.linalg.solve((x - mean).T @ (x - mean) + RIDGE * np.eye(x.shape[1]), (x - mean).T @ (y - share)).T
    return weights, share - weights @ mean


def write_probes(folder: Path, target: Path, told: dict[str, set[str]]) -> None:
    """Fit the probes and write them beside the names of their things and of their space."""
    weights, offsets = probes(folder, told)
    np.savez_compressed(
        target,
        space=np.array(nearsight_models.load("nano", "search").space),
        things=np.array(things()),
        weights=weights.astype(np.float16),
        offsets=offsets.astype(np.float32),
    )


def looked(pictures: Iterable[tuple[str, Image.Image]]) -> list[Looked]:
    """Caption pictures, and look in each for what was named in it and, since little is named wrongly, before it."""
    captioner = ns.Captioner("nano")
    tower, detector = (Engine.shared("nano", capability=what) for what in ("search", "detect"))
    grounding, found = Grounding(nearsight_models.load("nano", "caption"), tower, detector), list[Looked]()
    before: list[str] = []
    for name, picture in pictures:
        sight = Sight(picture)
        said = {language: captioner.evidence(sight, language) for language in captioner.languages}
        named = [thing for language, one in said.items() for _, thing in nouns(one.text, language)]
        asked = named + before
        found.append(Looked(name=name, said=said, things=asked, found=grounding.evidence(sight, asked, [])))
        before = named
    return found


def rising(x: np.ndarray, y: np.ndarray) -> list[float]:
    """As `logistic`, with no slope downwards: a part that would have one is left out, its slope is 0."""
    used = list(range(x.shape[1]))
    while min((weights := rounded(logistic(x[:, used], y)))[:-1], default=1.0) <= 0:
        del used[int(np.argmin(weights[:-1]))]
    slopes = dict(zip(used, weights, strict=False))
    return [*(slopes.get(part, 0.0) for part in range(x.shape[1])), weights[-1]]


def rounded(weights: np.ndarray) -> list[float]:
    """As a page states them."""
    return [round(float(weight), 3) for weight in weights]


def confidence(pictures: list[Looked], captions: data.Captions) -> dict[str, list[float]]:
    """From mean log probability and agreement to the chance that a caption is better than half.

    After self-critical training the probabilities tell little: where their slope is not upwards, agreement is left
    alone. The decoder learned from these pictures and the encoder did not: it is the agreement that has to be honest.
    """
    agreement, place = judge.agreement(), {name: at for at, name in enumerate(captions.images)}
    found = {}
    for language, split, column in (("en", agreement.words, captions.en), ("zh", agreement.characters, captions.zh)):
        rows = [picture.said[language] for picture in pictures]
        asked = [[split(text) for text in column[place[picture.name]]] for picture in pictures]
        figures = np.array(agreement.cider([split(one.text) for one in rows], asked))
        x = np.array([[np.log(one.sureness), one.agreement] for one in rows])
        found[language] = rising(x, (figures > np.median(figures)).astype(float))
        if found[language][1] <= 0:
            raise SystemExit(f"{language}: a caption that agrees more is no better; the confidence would mislead")
        log.info("%s: CIDEr %.3f on %d pictures; confidence %s", language, figures.mean(), len(rows), found[language])
    return found


def grounding(
    pictures: list[Looked], told: dict[str, set[str]], scenes: list[Looked], boxed: dict[str, set[str]]
) -> dict[str, list[float]]:
    """From probe and detector to the chance that people name a thing, or box it; apart where no class shows it."""
    rows = [
        (found, any(related(thing, other) for other in told[picture.name]))
        for picture in pictures
        for thing, found in zip(picture.things, picture.found, strict=True)
    ] + [
        (found, class_of(thing) in boxed[scene.name])
        for scene in scenes
        for thing, found in zip(scene.things, scene.found, strict=True)
        if class_of(thing)
    ]
    x, y = np.array([found for found, _ in rows]), np.array([there for _, there in rows], float)
    other = np.isnan(x[:, 1])
    log.info("%d things looked for, %.3f of them there; %d without a class", len(y), y.mean(), other.sum())
    return {"class": rounded(logistic(x[~other], y[~other])), "other": rounded(logistic(x[other, :1], y[other]))}


def boxes(folder: Path) -> dict[str, set[str]]:
    """Which classes are boxed in each of the first photographs of detection/train."""
    page = json.loads((folder / "detection" / "train.json").read_text(encoding="utf8"))
    rows = page["images"][:SCENES]
    return {image["file"]: {page["classes"][box[4]] for box in image["boxes"]} for image in rows}


def put(page: Path, sections: dict[str, list[str]]) -> None:
    """Write sections of a page, in place of those of the same names."""
    blocks = page.read_text(encoding="utf8").strip().split("\n\n")
    kept = [block for block in blocks if not any(f"[{name}]" in block.splitlines() for name in sections)]
    written = ["\n".join([f"[{name}]", *lines]) for name, lines in sections.items()]
    page.write_text("\n\n".join([*kept, *written]) + "\n", encoding="utf8")


def write(folder: Path, root: Path = ROOT) -> None:
    """Fit and write the probes first, since evidence goes through them, then the settings."""
    page, target = root / "manifests" / "nano-caption.toml", root / "embedded" / "nano" / "caption.nouns.npz"
    captions = data.read_captions(folder / "flickr8k_train_captions.jsonl")
    told, boxed = named(captions), boxes(folder)
    write_probes(folder, target, told)
    put(page, {"files.nouns": [f"npz = {row(root, target)}"]})
    train, detect = folder / "flickr8k_train.tar", folder / "detection" / "train.tar"
    pictures = looked(row for row in data.pictures(train) if spared(row[0]))
    scenes = looked(row for row in data.pictures(detect) if row[0] in boxed)
    settings = {
        "settings.confidence": [
            "# Slopes of mean log probability and of agreement, intercept of the logistic.",
            *(f"{name} = {values}" for name, values in confidence(pictures, captions).items()),
        ],
        "settings.grounding": [
            "# Slopes of the probe and of the class's log odds, intercept of the logistic; the same without a class.",
            *(f"{name} = {values}" for name, values in grounding(pictures, told, scenes, boxed).items()),
        ],
    }
    put(page, settings)


def main() -> None:
    """Fit for the files that ship."""
    parser = argparse.ArgumentParser(prog="training.caption.calibrate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    write(args.data)


if __name__ == "__main__":
    main()
