"""Zero-shot naming of objects51 in both languages, and Chinese nouns against their English names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from eval import sets

import nearsight as ns


def measure(data: Path, encoder: ns.Encoder) -> dict[str, object]:
    """Top-1 and top-5 over all categories, and over covered and new names apart (out of all 51 names)."""
    rows = json.loads(sets.need(data / "objects51.json").read_text(encoding="utf8"))
    names = sets.names("objects51")
    image = sets.encoded(encoder, [row["file"] for row in rows], sets.pictures(data / "objects51.tar"))
    truth = np.array([list(names).index(row["name"]) for row in rows])
    named = np.array([row["named"] for row in rows])
    found: dict[str, object] = {}
    for language, asked in (("en", [sets.photo_of(name) for name in names]), ("zh", list(names.values()))):
        order = np.argsort(-(image @ encoder.texts(asked).vectors.T), axis=1, kind="stable")
        place = (order == truth[:, None]).argmax(1)
        parts = (("all", np.ones(len(rows), bool)), ("named", named), ("new", ~named))
        found[language] = {
            part: {f"top{k}": round(float((place[keep] < k).mean()), 4) for k in (1, 5)} for part, keep in parts
        }
    found["chance"] = {"top1": 1 / len(names), "top5": 5 / len(names)}
    return found


def nouns(encoder: ns.Encoder) -> dict[str, float]:
    """Share of Chinese words whose nearest English name, among all of the list, is their own."""
    held = json.loads((sets.NAMES / "held_out_nouns.json").read_text(encoding="utf8"))
    coco = sets.names("coco")
    found = {}
    for key, pairs in (("coco80", [(zh, en) for en, zh in coco.items()]), ("held_out_500", held)):
        zh, en = (encoder.texts([pair[side] for pair in pairs]).vectors for side in (0, 1))
        found[key] = round(float(((zh @ en.T).argmax(1) == np.arange(len(pairs))).mean()), 4)
    return found
