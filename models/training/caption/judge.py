"""Judges a decoder on training pictures that it was not trained on; the dev set is left alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from training.caption import features, model, texts

BATCH = 100


def agreement() -> ModuleType:
    """The repository's own measure of captions, `eval/agreement.py`; training does not ship without the rest."""
    if "agreement" not in sys.modules:
        spec = importlib.util.spec_from_file_location("agreement", Path(__file__).parents[3] / "eval" / "agreement.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["agreement"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["agreement"]


@torch.inference_mode()
def said(decoder: model.Decoder, seen: features.Features, pictures: np.ndarray, start: int) -> list[list[int]]:
    """Ids of greedy captions of the first view of these pictures, the whole one."""
    found: list[list[int]] = []
    for at in range(0, len(pictures), BATCH):
        given = (part.to(decoder.bias.device) for part in first_view(seen, pictures[at : at + BATCH]))
        found += decoder.greedy(decoder.see(*given), start)
    return found


def first_view(seen: features.Features, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lower grids, scene and findings of the whole of these pictures."""
    parts = (seen.lower, seen.scene, seen.findings)
    lower, scene, findings = (torch.from_numpy(part[rows, 0].astype(np.float32)) for part in parts)
    return lower, scene, findings


def spare(
    decoder: model.Decoder, captions: texts.Captions, seen: features.Features, pictures: np.ndarray
) -> dict[str, float]:
    """CIDEr in both languages and how many captions differ."""
    measure = agreement()
    figures: dict[str, float] = {}
    for name, start, split in (("en", texts.EN, measure.words), ("zh", texts.ZH, measure.characters)):
        spoken = [captions.text(ids) for ids in said(decoder, seen, pictures, start)]
        asked = [[split(captions.text(row)) for row in captions.rows(start, picture)] for picture in pictures]
        figures[f"cider_{name}"] = float(np.mean(measure.cider([split(text) for text in spoken], asked)))
        figures[f"kinds_{name}"] = len(set(spoken)) / len(spoken)
    return figures
