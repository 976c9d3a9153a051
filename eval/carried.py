"""Retrieval on photographs that packages carry, captioned here in both languages: none of it is in the data folder."""

from __future__ import annotations

import json
from pathlib import Path

from eval import retrieval, sets

import nearsight as ns

PHOTOGRAPHS = Path(__file__).parent.parent / "demo" / "photographs"


def measure(encoder: ns.Encoder) -> dict[str, object]:
    """Recall of the captions on the carried photographs; chance beside it.

    Raises:
        MissingSetError: If `make demo` has not gathered them yet.
    """
    rows = json.loads((sets.NAMES / "carried.json").read_text(encoding="utf8"))
    missing = [name for name in rows if not (PHOTOGRAPHS / name).exists()]
    if missing:
        raise sets.MissingSetError(
            f"{len(missing)} of {len(rows)} carried photographs are absent from demo/photographs; run `make demo` first"
        )
    image = encoder.images([PHOTOGRAPHS / name for name in rows]).vectors
    found: dict[str, object] = {"pictures": len(rows), "chance_r1": round(1 / len(rows), 4)}
    for language in ("en", "zh"):
        texts = [text for row in rows.values() for text in row[language]]
        found[language] = retrieval.both_ways(encoder.texts(texts).vectors, image, 2)["text_to_image"]
    return found
