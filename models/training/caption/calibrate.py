"""Fits the confidence: how likely a caption is better than half of them, from how sure the decoder was of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import sentencepiece

from nearsight.caption.decode import Rules, Spoken, greedy
from training.caption import judge, train

log = logging.getLogger("training")
MAX_WORDS = 20


class Shipped:
    """The written files, run and decoded as a user's machine does."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.see, self.step = (
            ort.InferenceSession(out / f"caption.{role}.int8.onnx", providers=["CPUExecutionProvider"])
            for role in ("see", "step")
        )
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(out / "caption.spm"))
        self.settings = settings

    def say(self, grid: np.ndarray, embedding: np.ndarray, language: str) -> Spoken:
        """Caption one grid (49, 1280) and embedding (512,)."""
        (seen,) = self.see.run(["seen"], {"grid": grid[None], "embedding": embedding[None]})
        settings = self.settings
        rules = Rules(
            start=settings["starts"][language],
            end=settings["end"],
            silent=tuple(settings["silent"]),
            longest=settings["longest"],
            by_characters=language == "zh",
        )
        return greedy(self._scorer(seen), self.pieces, rules, MAX_WORDS)

    def _scorer(self, seen: np.ndarray) -> Callable[[int], np.ndarray]:
        count, rows, heads, _, deep = seen.shape
        kept = {"past": np.zeros((count, rows, heads, 0, deep), np.float32)}

        def scorer(latest: int) -> np.ndarray:
            given = {"ids": np.array([[latest]], np.int64), "seen": seen, **kept}
            logits, kept["past"] = self.step.run(["logits", "present"], given)
            return logits[0]

        return scorer


def logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the likeliest logistic function from x (n,) to y (n,) of 0 and 1, by Newton's method."""
    columns = np.stack([x, np.ones_like(x)], 1)
    weights = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-columns @ weights))
        slope = columns.T @ (p - y) + 1e-3 * weights
        curvature = (columns * (p * (1 - p))[:, None]).T @ columns + 1e-3 * np.eye(2)
        weights -= np.linalg.solve(curvature, slope)
    return float(weights[0]), float(weights[1])


def fitted(out: Path, settings: Mapping[str, Any], trainer: train.Trainer) -> dict[str, list[float]]:
    """Fit on the spare training pictures, in each language; the slope must be upwards."""
    shipped, agreement = Shipped(out, settings), judge.agreement()
    found: dict[str, list[float]] = {}
    for language, start in settings["starts"].items():
        split = agreement.characters if language == "zh" else agreement.words
        grid, embedding = trainer.features.grid, trainer.features.embedding
        spoken = [
            shipped.say(grid[i, 0].astype(np.float32), embedding[i, 0].astype(np.float32), language)
            for i in trainer.spare
        ]
        said = [split(shipped.pieces.decode(list(one.ids))) for one in spoken]
        asked = [[split(trainer.captions.text(ids)) for ids in trainer.captions.rows(start, i)] for i in trainer.spare]
        figures = np.array(agreement.cider(said, asked))
        sure = np.log([one.sureness for one in spoken])
        slope, intercept = logistic(sure, (figures > np.median(figures)).astype(float))
        if slope <= 0:
            raise SystemExit(f"{language}: a surer caption is not a better one here; the confidence would mislead")
        found[language] = [round(slope, 3), round(intercept, 3)]
        ranks = [np.argsort(np.argsort(values)) for values in (sure, figures)]
        log.info(
            "%s: CIDEr %.3f on the spare pictures in INT8; confidence %s, rank correlation %.3f",
            language,
            figures.mean(),
            found[language],
            np.corrcoef(*ranks)[0, 1],
        )
    return found
