"""What labels of every route are worth on photographs, and whether a score is the chance that its box is right."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from eval import detection, sets, words
from eval.detection import Photographs
from eval.precision import Judged, judged, numbers, precision_of

import nearsight as ns

BINS = np.linspace(0.1, 1, 10)
# Names of objects51 for things that are in no photograph of detection/dev, as far as the names of its classes tell.
ABSENT = (
    "accordion",
    "brontosaurus",
    "cannon",
    "crab",
    "crocodile",
    "euphonium",
    "gerenuk",
    "metronome",
    "nautilus",
    "okapi",
    "pyramid",
    "rhino",
    "sea horse",
    "starfish",
    "trilobite",
    "yin yang",
)


def measure(photographs: Photographs, detector: ns.Detector) -> dict[str, object]:
    """All figures of words on exhaustively boxed photographs; each picture is looked at once, for all words.

    Words of one meaning are answered alike and asked once (`words.labels`); what a higher threshold would give is the
    part of the answer that reaches it.
    """
    boxed = {photographs.classes[number] for number in numbers(photographs.true)}
    asked = [word for word in words.every() if word.means in boxed]
    label_of = words.labels(detector, asked)
    labels = list(dict.fromkeys([*detector.classes, *label_of.values()]))
    means = {label_of[word.text]: photographs.classes.index(word.means) for word in asked}
    means |= {name: photographs.classes.index(name) for name in detector.classes}
    low = [detector.detect(picture, labels, detection.LEAST_SCORE) for picture in photographs.pictures]
    default = [found[found.scores >= detector.default_min_score] for found in low]
    precision = precision_by_label(photographs, low, labels, {(label_of[w.text], w.means) for w in asked})
    routes = {label: route for found in low for label, route in zip(found.labels, found.routes, strict=True)}
    return {
        "words": words.summed(asked, {word.text: precision[label_of[word.text], word.means] for word in asked}),
        "routes": {
            route: {
                "labels": len(here),
                **rates_of(photographs, default, here),
                **calibration(judgements(photographs, low, here)),
            }
            for route in sorted(set(routes.values()))
            for here in [{label: means[label] for label in labels if routes.get(label) == route}]
        },
        "unjudged": sum(label in low[0].unjudged for label in labels),
        "each": {
            word.text: {
                "means": word.means,
                "unseen": word.unseen,
                "route": routes.get(label_of[word.text], words.UNJUDGED),
                "ap50": round(precision[label_of[word.text], word.means], 4),
            }
            for word in asked
        },
    }


def precision_by_label(
    photographs: Photographs, found: list[ns.Detections], labels: list[str], pairs: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], float]:
    """AP50 of each label held against the boxes of a class."""
    rows = [detection.numbered(one, labels) for one in found]
    result = {}
    for label, name in pairs:
        true = [one.of(photographs.classes.index(name)) for one in photographs.true]
        mine = [one.of(labels.index(label)) for one in rows]
        result[label, name] = float(precision_of(true, mine)[0])
    return result


def judgements(photographs: Photographs, found: list[ns.Detections], means: dict[str, int]) -> list[Judged]:
    """What was found of each label, picture by picture, held against the class it means."""
    labels = list(means)
    rows = []
    for true, one in zip(photographs.true, found, strict=True):
        boxes = detection.numbered(one[np.isin(one.labels, labels)], labels)
        rows += [judged(true.of(means[labels[at]]), boxes.of(at)) for at in set(boxes.classes.tolist())]
    return rows


def rates_of(photographs: Photographs, found: list[ns.Detections], means: dict[str, int]) -> dict[str, float]:
    """Precision and recall of these labels, all their boxes together."""
    wanted = sum(
        int(((true.classes == number) & ~true.crowd).sum()) for true in photographs.true for number in means.values()
    )
    return detection.rates(judgements(photographs, found, means), wanted)


def calibration(rows: list[Judged]) -> dict[str, object]:
    """Scores against the share of boxes that are right: by tenths from .1, and the mean gap weighed by boxes."""
    scores = np.concatenate([row.scores[row.counted[0]] for row in rows])
    right = np.concatenate([row.right[0][row.counted[0]] for row in rows])
    bins = np.digitize(scores, BINS[:-1])
    table = [
        (round(float(scores[bins == at].mean()), 3), round(float(right[bins == at].mean()), 3), int((bins == at).sum()))
        for at in range(1, len(BINS))
        if (bins == at).any()
    ]
    boxes = sum(count for _, _, count in table)
    return {
        "score_right_boxes": table,
        "calibration_gap": round(sum(abs(s - r) * n for s, r, n in table) / max(1, boxes), 4),
    }


def absent(photographs: Photographs, detector: ns.Detector) -> dict[str, dict[str, float]]:
    """Boxes at the default threshold for things that are in none of the pictures, named in both languages."""
    chinese = sets.names("objects51")
    labels = {"en": list(ABSENT), "zh": [chinese[name] for name in ABSENT]}
    found = [detector.detect(picture, [*labels["en"], *labels["zh"]]) for picture in photographs.pictures]
    return {
        language: detection.false_positives(
            [int(np.isin(one.labels, here).sum()) for one in found], [len(here)] * len(found)
        )
        for language, here in labels.items()
    }
