"""Which nouns of captions are marked as unsupported, and how well that agrees with people and with boxes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from eval import sets
from PIL import Image

import nearsight as ns
from nearsight.caption.nouns import class_of, nouns, related

LANGUAGES = ("en", "zh")
Shown = dict[str, Image.Image]
# (file, thing) -> whether it is there; None where nobody can tell.
Truth = Callable[[str, str], bool | None]


def people(data: Path, language: str) -> tuple[list[str], Truth]:
    """Flickr8k dev: a thing is there if one of a picture's five captions of this language names it, or a kind of it."""
    path = sets.need(data / "flickr8k_dev_captions.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    named = {row["image"]: {thing for text in row[language] for _, thing in nouns(text, language)} for row in rows}
    return list(named), lambda file, thing: any(related(thing, other) for other in named[file])


def boxes(data: Path) -> tuple[list[str], Truth]:
    """COCO photographs with all boxes: a thing is there if its class is boxed; one without a class is not judged."""
    page = json.loads(sets.need(data / "detection" / "dev.json").read_text(encoding="utf8"))
    there = {image["file"]: {page["classes"][box[4]] for box in image["boxes"]} for image in page["images"]}
    return list(there), lambda file, thing: None if class_of(thing) is None else class_of(thing) in there[file]


def judged(captions: Sequence[ns.Caption], files: Sequence[str], truth: Truth) -> dict[str, float]:
    """Count the nouns of captions by verdict and truth.

    Returns:
        How many nouns were said and judged; the share marked as unsupported; the share that is not there; of the marked
        ones the share that is not there (precision), of those that are not there the share marked (recall), and the
        share of verdicts that are right, beside that of calling every noun seen.
    """
    rows: list[tuple[bool, bool]] = []
    for file, caption in zip(files, captions, strict=True):
        meant = dict(nouns(caption.text, caption.language))
        for noun, seen in caption.grounding:
            there = truth(file, meant[noun])
            if there is not None:
                rows.append((not seen, there))
    marked, real = np.array(rows, bool).T
    return {
        "nouns": len(rows),
        "a_caption": round(float(np.mean([len(caption.grounding) for caption in captions])), 2),
        "unsupported": sets.share(marked),
        "not_there": sets.share(~real),
        "precision": sets.share((~real)[marked]),
        "recall": sets.share(marked[~real]),
        "right": sets.share(marked != real),
        "right_if_all_were_seen": sets.share(real),
    }


def swapped(captioner: ns.Captioner, captions: Sequence[ns.Caption], files: list[str], shown: Shown) -> float:
    """The share of nouns marked as unsupported when every caption is held against the next picture."""
    marked: list[bool] = []
    for caption, file in zip(captions, files[1:] + files[:1], strict=True):
        marked += [not seen for _, seen in captioner.grounded(shown[file], caption.text, caption.language)]
    return sets.share(marked)


def measure(data: Path) -> dict[str, dict[str, float]]:
    """All figures: Flickr8k dev against people in both languages, detection/dev against boxes."""
    captioner, found = ns.Captioner("nano"), {}
    for place in ("flickr8k_dev.tar", "detection/dev.tar"):
        shown = sets.pictures(data / place)
        for language in LANGUAGES:
            files, truth = boxes(data) if "detection" in place else people(data, language)
            said = [captioner.caption(shown[file], language) for file in files]
            found[f"{'detection' if 'detection' in place else 'flickr8k'} dev, {language}"] = {
                **judged(said, files, truth),
                "unsupported_beside_another_picture": swapped(captioner, said, files, shown),
            }
    return found
