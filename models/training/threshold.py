"""Chooses the score below which the detector leaves a box out: the F1 on training photographs.

`python -m training.threshold --data DATA` (from models/) says what it is for the file that ships, and changes nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import onnxruntime as ort

import nearsight_models
from nearsight.detect.boxes import matched, suppressed
from nearsight.preprocess import fit_picture
from training import data

log = logging.getLogger("training")
LEAST = 0.1
JUDGING = slice(200, 800)  # pictures of detection/train: others than those that set the ranges of INT8
FLAT = 0.01  # the curve is flat about its top; the highest score that loses no more than this is taken


def best(graph: Path, folder: Path, size: int, max_overlap: float) -> float:
    """The highest score whose F1 over all classes together is within a hundredth of the best, to two decimals."""
    page = json.loads((folder / "detection" / "train.json").read_text(encoding="utf8"))
    rows = {row["file"]: row for row in page["images"][JUDGING]}
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found: list[tuple[float, bool]] = []
    wanted = 0
    for name, picture in data.pictures(folder / "detection" / "train.tar"):
        if name not in rows:
            continue
        pixels = fit_picture(picture, (size, size))[None]
        boxes, scores = (array[0] for array in session.run(["boxes", "scores"], {"pixels": pixels}))
        boxes = boxes * np.array(picture.size * 2, np.float32)
        truth = np.array(rows[name]["boxes"], np.float32).reshape(-1, 6)
        wanted += int((truth[:, 5] == 0).sum())
        for column in range(scores.shape[1]):
            places = np.flatnonzero(scores[:, column] >= LEAST)
            kept = places[suppressed(boxes[places], scores[places, column], max_overlap)]
            true, crowd = truth[truth[:, 4] == column, :4], truth[truth[:, 4] == column, 5] == 1
            found += matched(boxes[kept], scores[kept, column], true[~crowd], true[crowd])
    values, right = (np.array(part) for part in zip(*sorted(found, reverse=True), strict=True))
    # A threshold lies between two scores: of equal ones, which INT8 gives many, all pass or none.
    ends = np.flatnonzero(np.append(values[1:] < values[:-1], True))
    hits, kept, values = np.cumsum(right)[ends], ends + 1, values[ends]
    f1 = 2 * hits / (kept + wanted)
    at = int(np.flatnonzero(f1 >= f1.max() - FLAT)[0])
    log.info(
        "min_score %.3f: F1 %.3f, precision %.3f, recall %.3f on %d pictures",
        values[at], f1[at], hits[at] / kept[at], hits[at] / wanted, len(rows),
    )  # fmt: skip
    return round(float(values[at]), 2)


def main() -> None:
    """Say what the threshold of the detector that ships is."""
    parser = argparse.ArgumentParser(prog="training.threshold", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder; detection/train.tar is read")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    page = nearsight_models.load("nano", "detect")
    best(page.files["detect"]["int8"].path, args.data, page.preprocessing.size_wh[0], page.settings["max_overlap"])


if __name__ == "__main__":
    main()
