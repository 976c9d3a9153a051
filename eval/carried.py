"""Photographs that packages carry, captioned and boxed here by eye: none of them is in the data folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from eval import captions, detection, retrieval, sets
from eval.precision import Boxes
from PIL import Image

import nearsight as ns

PHOTOGRAPHS = Path(__file__).parent.parent / "demo" / "photographs"


def described() -> dict[str, dict[str, list[str]]]:
    """File name -> language -> two captions.

    Raises:
        MissingSetError: If `make demo` has not gathered the photographs yet.
    """
    rows: dict[str, dict[str, list[str]]] = json.loads((sets.NAMES / "carried.json").read_text(encoding="utf8"))
    missing = [name for name in rows if not (PHOTOGRAPHS / name).exists()]
    if missing:
        raise sets.MissingSetError(
            f"{len(missing)} of {len(rows)} carried photographs are absent from demo/photographs; run `make demo` first"
        )
    return rows


def measure(encoder: ns.Encoder) -> dict[str, object]:
    """Recall of the captions on the carried photographs; chance beside it."""
    rows = described()
    image = encoder.images([PHOTOGRAPHS / name for name in rows]).vectors
    found: dict[str, object] = {"pictures": len(rows), "chance_r1": round(1 / len(rows), 4)}
    for language in ("en", "zh"):
        texts = [text for row in rows.values() for text in row[language]]
        found[language] = retrieval.both_ways(encoder.texts(texts).vectors, image, 2)["text_to_image"]
    return found


def boxed(classes: list[str]) -> detection.Photographs:
    """Those whose every thing with a COCO class is boxed, most of them with none."""
    described()
    page: dict[str, list[tuple[str, float, float, float, float]]] = json.loads(
        (sets.NAMES / "carried_boxes.json").read_text(encoding="utf8")
    )
    true = [
        Boxes(
            xyxy=np.array([row[1:] for row in rows], np.float32).reshape(-1, 4),
            classes=np.array([classes.index(row[0]) for row in rows], int),
            scores=np.ones(len(rows)),
            crowd=np.zeros(len(rows), bool),
        )
        for rows in page.values()
    ]
    pictures = [Image.open(PHOTOGRAPHS / name).convert("RGB") for name in page]
    return detection.Photographs(pictures=pictures, true=true, classes=classes, labelled_only=False)


def captioned(captioner: ns.Captioner) -> dict[str, dict[str, float]]:
    """What is said about them against two captions each, rarity of words counted over them alone."""
    rows = described()
    return {
        language: captions.judged(
            [captioner.caption(PHOTOGRAPHS / name, language).text for name in rows],
            [row[language] for row in rows.values()],
            language,
        )
        for language in captions.LANGUAGES
    }
