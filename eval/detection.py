"""AP50 of the detector on three sets, beside FP32 and a peer, and which words it judges and which it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from eval import sets
from PIL import Image

import nearsight as ns
from nearsight.detect.boxes import matched, overlaps, suppressed
from nearsight_npu import Delegate

# name -> (path without ending, whether only the classes boxed in a picture are labelled there)
SETS = {
    "dev": ("detection/dev", False),
    "open_dev": ("detection/open_dev", True),
    "coco_val64": ("coco_val64", False),
}
SIZES = (0.05, 0.1, 0.2, 0.4)
LEAST_SCORE = 0.02
MOST = 100  # boxes a picture, as COCO counts them
RECALLS = np.linspace(0, 1, 101)
PEER = "weights/detectors/yolox_nano.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Boxes of one picture: (n, 4) in pixels, classes (n,); scores (n,) of found ones, crowds (n,) of true ones."""

    xyxy: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray


Finder = Callable[[Image.Image], Boxes]


def found_boxes(xyxy: np.ndarray, classes: np.ndarray, scores: np.ndarray) -> Boxes:
    """The best of what was found in one picture."""
    best = np.argsort(-scores, kind="stable")[:MOST]
    return Boxes(xyxy=xyxy[best], classes=classes[best], scores=scores[best], crowd=np.zeros(len(best), bool))


class FullDetector(ns.Detector):
    """nano's detector in FP32, from the file that its conversion leaves in the work folder."""

    def __init__(self, graph: Path) -> None:
        super().__init__("nano")
        self._session = Delegate().load({"fp32": graph})

    def _run(self, picture: Image.Image) -> tuple[np.ndarray, np.ndarray, ns.Decision]:
        outputs, decision = self._session.run({"pixels": self._pixels(picture)}, ("boxes", "scores"))
        return outputs["boxes"][0].copy(), outputs["scores"][0], decision


def by_name(detector: ns.Detector) -> Finder:
    """Ask for every class by its name, as a user would."""

    def find(picture: Image.Image) -> Boxes:
        found = detector.detect(picture, detector.classes, LEAST_SCORE)
        numbers = np.array([detector.classes.index(label) for label in found.labels], int)
        return found_boxes(found.boxes_xyxy, numbers, found.scores)

    return find


class Yolox:
    """The peer: YOLOX-nano at 416 x 416. Source of the coding: the ONNX demo of Megvii-BaseDetection/YOLOX."""

    SIZE, GREY, MAX_OVERLAP = 416, 114, 0.6

    def __init__(self, graph: Path) -> None:
        self.session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        cells = [(self.SIZE // stride, stride) for stride in (8, 16, 32)]
        self.grid = np.concatenate([np.stack(np.mgrid[:n, :n][::-1], -1).reshape(-1, 2) for n, _ in cells])
        self.stride = np.concatenate([np.full((n * n, 1), stride) for n, stride in cells])

    def __call__(self, picture: Image.Image) -> Boxes:
        scale = self.SIZE / max(picture.size)
        small = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)
        board = Image.new("RGB", (self.SIZE, self.SIZE), (self.GREY,) * 3)
        board.paste(small, (0, 0))
        pixels = np.asarray(board, np.float32)[None, :, :, ::-1].transpose(0, 3, 1, 2)
        (rows,) = self.session.run(None, {self.session.get_inputs()[0].name: np.ascontiguousarray(pixels)})
        centre, half = (rows[0, :, :2] + self.grid) * self.stride, np.exp(rows[0, :, 2:4]) * self.stride / 2
        boxes = (np.concatenate([centre - half, centre + half], 1) / scale).astype(np.float32)
        scores = rows[0, :, 4:5] * rows[0, :, 5:]
        kept = [
            (place, column)
            for column in range(scores.shape[1])
            for places in [np.flatnonzero(scores[:, column] >= LEAST_SCORE)]
            for place in places[suppressed(boxes[places], scores[places, column], self.MAX_OVERLAP)]
        ]
        places, columns = (np.array(part, int) for part in zip(*kept, strict=True)) if kept else (np.zeros(0, int),) * 2
        return found_boxes(boxes[places], columns, scores[places, columns])


def truths(page: dict[str, list[dict[str, object]]]) -> list[Boxes]:
    """The true boxes of every picture of a set."""
    rows = [np.array([[*box, 0][:6] for box in image["boxes"]], float).reshape(-1, 6) for image in page["images"]]
    return [
        Boxes(xyxy=r[:, :4].astype(np.float32), classes=r[:, 4].astype(int), scores=np.ones(len(r)), crowd=r[:, 5] == 1)
        for r in rows
    ]


def ap50(true: list[Boxes], found: list[Boxes], *, labelled_only: bool = False) -> dict[int, float]:
    """Average precision at an overlap of one half, as COCO computes it, for every class that has a true box.

    Args:
        true: The true boxes of each picture. What lies on a crowd counts neither way.
        found: The found ones, picture by picture.
        labelled_only: Leave out what was found of classes that a picture has no box of.
    """
    result = {}
    for number in sorted({int(c) for boxes in true for c in boxes.classes[~boxes.crowd]}):
        judged, wanted = [], 0
        for one, other in zip(true, found, strict=True):
            truth, mine = one.classes == number, other.classes == number
            wanted += int((truth & ~one.crowd).sum())
            if truth.any() or not labelled_only:
                free, crowd = one.xyxy[truth & ~one.crowd], one.xyxy[truth & one.crowd]
                judged += matched(other.xyxy[mine], other.scores[mine], free, crowd)
        result[number] = interpolated(judged, wanted)
    return result


def interpolated(judged: list[tuple[float, bool]], wanted: int) -> float:
    """The mean over 101 recalls of the best precision at that recall or beyond."""
    judged = sorted(judged, key=lambda pair: -pair[0])
    hits = np.cumsum([right for _, right in judged]) if judged else np.zeros(0)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / wanted, RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())


def measure(data: Path, finders: dict[str, Finder], which: str) -> dict[str, dict[str, float]]:
    """AP50 of each finder on one set: the mean over classes, and of person and car."""
    place, labelled_only = SETS[which]
    page = json.loads(sets.need(data / f"{place}.json").read_text(encoding="utf8"))
    shown, true = sets.pictures(data / f"{place}.tar"), truths(page)
    result = {}
    for name, find in finders.items():
        precisions = ap50(true, [find(shown[image["file"]]) for image in page["images"]], labelled_only=labelled_only)
        result[name] = {
            "ap50": round(float(np.mean(list(precisions.values()))), 4),
            **{page["classes"][c]: round(precisions[c], 4) for c in (0, 2) if c in precisions},
            "classes": len(precisions),
            "pictures": len(true),
        }
    return result


def recall_by_size(data: Path, detector: ns.Detector, which: str = "dev") -> dict[str, dict[str, float]]:
    """The share of things that are found at the default threshold, by their longer side in parts of the picture's."""
    page = json.loads(sets.need(data / f"{SETS[which][0]}.json").read_text(encoding="utf8"))
    shown = sets.pictures(data / f"{SETS[which][0]}.tar")
    sizes, hits = [], []
    for image, true in zip(page["images"], truths(page), strict=True):
        found = detector.detect(shown[image["file"]], detector.classes)
        for number in set(true.classes[~true.crowd].tolist()):
            things = true.xyxy[(true.classes == number) & ~true.crowd]
            mine = np.array([label == detector.classes[number] for label in found.labels], bool)
            seen = np.zeros(len(things), bool)
            for box in found.boxes_xyxy[mine]:
                shares = overlaps(box, things) * ~seen
                seen[shares.argmax()] |= shares.max() >= 0.5
            sizes += ((things[:, 2:] - things[:, :2]) / (image["width"], image["height"])).max(1).tolist()
            hits += seen.tolist()
    bands = np.digitize(sizes, SIZES)
    return {
        f"{low:g} to {high:g}": {
            "things": int((bands == at).sum()),
            "found": round(float(np.array(hits)[bands == at].mean()), 4),
        }
        for at, (low, high) in enumerate(zip((0, *SIZES), (*SIZES, 1), strict=True))
    }


def words(detector: ns.Detector) -> dict[str, dict[str, float]]:
    """Words outside the lexicon: near a class, covered by none, and compounds that hold a class's name by chance.

    Of near words the share is given that is judged rightly and wrongly, of the others the share that is judged at all.
    Every second word could choose a threshold or stand among the idioms; the figures named `held_out` are of the
    others. One hand wrote words and rules, which flatters both.
    """
    page = json.loads((sets.NAMES / "near_words.json").read_text(encoding="utf8"))
    near = [(word, detector.classes.index(name)) for name, row in page["near"].items() for word in row]
    asked = [*near, *((word, None) for word in page["uncovered"])]
    found = detector.near.nearest([word for word, _ in asked])
    compounds = [number is not None for number in detector.near.nearest(page["compounds"])]
    result = {}
    for name, part in (("chosen_on", 0), ("held_out", 1)):
        here = [(truth, number) for (_, truth), number in zip(asked[part::2], found[part::2], strict=True)]
        covered = [(truth, number) for truth, number in here if truth is not None]
        others = [number is not None for truth, number in here if truth is None]
        result[name] = {
            "near": len(covered),
            "near_judged_right": share(number == truth for truth, number in covered),
            "near_judged_wrong": share(number not in {None, truth} for truth, number in covered),
            "uncovered": len(others),
            "uncovered_judged": share(others),
            "compounds": len(compounds[part::2]),
            "compounds_judged": share(compounds[part::2]),
        }
    return result


def share(true: Iterable[bool]) -> float:
    """The share of what is true, to four decimals."""
    return round(float(np.mean(list(true))), 4)
