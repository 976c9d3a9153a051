"""How often `look(...).matches` says yes: to a picture's own captions, and to those of other pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from eval import sets

import nearsight as ns

OTHERS = 10


def measure(data: Path) -> dict[str, dict[str, float]]:
    """Ask each picture of Flickr8k dev for its first caption and for those of ten others, drawn with a seed."""
    captions, pictures = sets.captions(data), sets.pictures(data / "flickr8k_dev.tar")
    looks = [ns.look(pictures[name]) for name in captions.files]
    return {language: _rates(looks, getattr(captions, language)[::5]) for language in ("en", "zh")}


def _rates(looks: list[ns.Look], texts: list[str]) -> dict[str, float]:
    random, own, others = np.random.default_rng(0), [], []
    for place, look in enumerate(looks):
        # As far from its own place as drawn, so that it is never drawn itself.
        away = 1 + random.choice(len(texts) - 1, OTHERS, replace=False)
        first, *rest = look.matches([texts[place], *(texts[(place + far) % len(texts)] for far in away)])
        own.append(first.matches)
        others += [row.matches for row in rest]
    return {"own": float(np.mean(own)), "others": float(np.mean(others)), "pictures": len(looks)}
