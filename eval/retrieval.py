"""Recall of sentences on photographs and back: Flickr8k dev in English and Chinese."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from eval import sets

import nearsight as ns


def recalls(ranks: np.ndarray) -> dict[str, float]:
    """Recall@1/5/10 and the median rank (1 is best) of zero-based ranks."""
    figures = {f"r{k}": round(float((ranks < k).mean()), 4) for k in (1, 5, 10)}
    return figures | {"median_rank": float(np.median(ranks) + 1)}


def both_ways(text: np.ndarray, image: np.ndarray, per_image: int) -> dict[str, dict[str, float]]:
    """Text i belongs to picture i // per_image; ties count against the model."""
    scores = text @ image.T
    truth = np.arange(len(text)) // per_image
    right = scores[np.arange(len(text)), truth]
    to_image = (scores >= right[:, None]).sum(1) - 1
    best = scores.reshape(len(image), per_image, -1)  # (pictures' texts, 5, pictures)
    to_text = np.empty(len(image), np.int64)
    for place in range(len(image)):
        top = best[place, :, place].max()
        to_text[place] = (
            np.delete(scores[:, place], np.arange(place * per_image, (place + 1) * per_image)) >= top
        ).sum()
    return {"text_to_image": recalls(to_image), "image_to_text": recalls(to_text)}


def measure(data: Path, encoder: ns.Encoder) -> dict[str, object]:
    """All retrieval figures of one encoder, with chance beside them."""
    captioned = sets.captions(data)
    image = sets.encoded(encoder, captioned.files, sets.pictures(data / "flickr8k_dev.tar"))
    found: dict[str, object] = {}
    for language, texts in (("en", captioned.en), ("zh", captioned.zh)):
        found[language] = both_ways(encoder.texts(texts).vectors, image, 5)
    count = len(captioned.files)
    found["chance"] = {"r1": 1 / count, "r5": 5 / count, "r10": 10 / count, "median_rank": (count + 1) / 2}
    return found
