"""Query latency end to end against bare FAISS and the encoder, at 1,000 and 100,000 vectors."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
from bench import measure
from bench.fill import fill

import nearsight as ns

QUERIES = (
    "a dog on the beach",
    "two people ride bicycles",
    "a red car in the snow",
    "海滩上的狗",
    "两个孩子在踢足球",
    "夜晚的城市",
)
SIZES = (1_000, 100_000)
ROUNDS = 15


def filled(place: Path, vectors: np.ndarray, encoder: ns.Encoder) -> ns.Gallery:
    """A gallery with these vectors (no pictures behind them)."""
    fill(place, vectors, encoder)
    return ns.Gallery.open(place, encoder=encoder)


def main(sizes: tuple[int, ...] = SIZES) -> None:
    """Measure, print, append."""
    parallel, encoder = measure.parallelism(), ns.Encoder("nano")
    rows, figures = [("parallelism of the machine (2 is two free cores)", f"{parallel}")], {"parallelism": parallel}
    random = np.random.default_rng(0)
    texts = encoder.texts(list(QUERIES)).vectors
    for size in sizes:
        noise = random.normal(size=(size, encoder.dimensions)).astype(np.float32)
        vectors = (
            noise / np.linalg.norm(noise, axis=1, keepdims=True) + 0.3 * texts[random.integers(len(texts), size=size)]
        )
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        bare = faiss.IndexFlatIP(encoder.dimensions)
        bare.add(vectors)
        with tempfile.TemporaryDirectory() as place, filled(Path(place) / "g.nsg", vectors, encoder) as gallery:
            gallery.search(QUERIES[0])

            def ours(gallery: ns.Gallery = gallery) -> float:
                return statistics.median(
                    1000 * measure.timed(lambda q=q: gallery.search(q, k=5, min_relevance=0)) for q in QUERIES
                )

            def plain(bare: faiss.IndexFlatIP = bare) -> float:
                def ask(query: str) -> None:
                    bare.search(encoder.texts([query]).vectors, 5)

                return statistics.median(1000 * measure.timed(lambda q=q: ask(q)) for q in QUERIES)

            def encode() -> float:
                return statistics.median(1000 * measure.timed(lambda q=q: encoder.texts([q])) for q in QUERIES)

            found = measure.interleaved({"nearsight": ours, "bare": plain, "encoder": encode}, ROUNDS)
        against = measure.ratio(found["nearsight"], found["bare"])
        rows += [
            (f"{size:,} vectors: Gallery.search", measure.text(measure.spread(found["nearsight"]), "ms")),
            (f"{size:,} vectors: bare FAISS flat + encoder", measure.text(measure.spread(found["bare"]), "ms")),
            (f"{size:,} vectors: of that the text encoder", measure.text(measure.spread(found["encoder"]), "ms")),
            (f"{size:,} vectors: Gallery.search against bare", measure.text(against, "x", 2)),
        ]
        figures[str(size)] = {**{k: measure.spread(v) for k, v in found.items()}, "against_bare": against}
        time.sleep(0.1)
    measure.show("Query", rows)
    measure.append("query", figures)
