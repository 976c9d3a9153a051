"""What it costs to say again what was said of a picture that looks the same: frames of videos, by threshold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from eval import agreement, sets

import nearsight as ns
from nearsight.caption import Memory
from nearsight.caption.memory import TARGET
from nearsight.caption.nouns import nouns
from nearsight.engine import Engine
from nearsight.sight import Sight

VIDEOS = ("cars.mp4", "people_one_by_one.mp4", "dashboard.mp4")
THRESHOLDS = (0.9, 0.93, 0.95, 0.97, 0.98, 0.99)
FPS = 5.0
SPLITS = {"en": agreement.words, "zh": agreement.characters}


def shared(said: str, fresh: str, language: str) -> float:
    """How much of two captions is the same: F1 of their words (English) or characters (Chinese), with their counts."""
    one, other = (agreement.grams(SPLITS[language](text), 1) for text in (said, fresh))
    return 2 * (one & other).total() / (one.total() + other.total())


def judged(pairs: Sequence[tuple[ns.Caption, ns.Caption]], language: str) -> dict[str, float]:
    """Of captions that were said again beside fresh ones: same sentence, same words, same things named."""
    if not pairs:
        return {}
    things = [[{thing for _, thing in nouns(one.text, language)} for one in pair] for pair in pairs]
    return {
        "same_sentence": sets.share(one.text == other.text for one, other in pairs),
        "same_words": round(float(np.mean([shared(one.text, other.text, language) for one, other in pairs])), 4),
        "same_things": sets.share(one == other for one, other in things),
    }


def supported(captioner: ns.Captioner, captions: Sequence[ns.Caption], sights: Sequence[Sight]) -> float:
    """The share of the captions' nouns that are seen in these very frames."""
    rows = zip(captions, sights, strict=True)
    return sets.share(
        seen for caption, sight in rows for _, seen in captioner.grounded(sight, caption.text, caption.language)
    )


def replayed(fresh: Sequence[ns.Caption], vectors: np.ndarray, threshold: float) -> list[ns.Caption]:
    """What a captioner with a memory of this threshold says, given what it would say afresh of every frame."""
    memory, said = Memory(threshold), []
    for caption, vector in zip(fresh, vectors, strict=True):
        known = memory.recall(caption.language, vector, caption.decision)
        if known is None:
            memory.keep(caption.language, vector, caption)
        said.append(known or caption)
    return said


def measure(data: Path, fps: float = FPS) -> dict[str, dict[str, dict[str, float]]]:
    """Every video in both languages at every threshold: the share of frames saved, and whether it did harm.

    A caption that was said again is held against what would have been said afresh, and all captions against what is
    seen in their frames. Beside it each frame's fresh caption and the one of the frame before: captions waver while
    nothing happens.
    """
    captioner, tower = ns.Captioner("nano"), Engine.shared("nano", capability="search")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in VIDEOS:
        sights = [Sight(frame.pixels) for frame in ns.Camera(str(sets.need(data / "video" / name)), fps=fps)]
        vectors = np.concatenate([sight.seen(tower, "image")[0]["embedding"] for sight in sights])
        for language in SPLITS:
            fresh = list(captioner.caption_many(sights, language))
            rows = found[f"{name}, {language}"] = {}
            for threshold in THRESHOLDS:
                said = replayed(fresh, vectors, threshold)
                again = [at for at, one in enumerate(said) if one.decision.rungs[-1].target == TARGET]
                rows[f"{threshold:g}"] = {
                    "frames": len(said),
                    "saved": round(len(again) / len(said), 4),
                    **judged([(said[at], fresh[at]) for at in again], language),
                    "nouns_seen": supported(captioner, said, sights),
                }
            rows["the frame before"] = judged(list(pairwise(fresh)), language)
            rows["all afresh"] = {"frames": len(fresh), "nouns_seen": supported(captioner, fresh, sights)}
    return found
