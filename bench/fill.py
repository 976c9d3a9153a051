"""Fills a gallery with vectors that have no pictures behind them, through its own store."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import nearsight as ns
from nearsight.gallery.reader import Content
from nearsight.gallery.writer import Writer


def fill(place: Path, vectors: np.ndarray, encoder: ns.Encoder) -> None:
    """Store the vectors (n, d) in a new gallery at `place`."""
    ns.Gallery.open(place, encoder=encoder).close()
    store = Writer.open(place)
    with store.writing():
        number = store.encoder_id(encoder.identity)
        for row, vector in enumerate(vectors):
            content = Content(digest=row.to_bytes(20, "big"), size=row, mtime_ns=row)
            store.put(
                Path(f"/nowhere/{row}.jpg"),
                content,
                camera=None,
                metadata="{}",
                encoder=number,
                vector=vector.tobytes(),
            )
    store.close()
