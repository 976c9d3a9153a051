"""Counting over lines on the clips, against what was read off them by eye (tests/apps/truth.toml)."""

from __future__ import annotations

import tempfile
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from eval import peers, sets
from PIL import Image

import nearsight as ns
from nearsight_apps.smart_city.config import read_config
from nearsight_apps.smart_city.events import CROSSING, Event
from nearsight_apps.smart_city.watch import Summary, Watcher

TRUTH = Path(__file__).parent.parent / "tests" / "apps" / "truth.toml"
# The truth is good to 2 frames, and a crossing is told when the band behind the line is left: up to 4 frames later.
TOLERANCE = 6
# What COCO detectors, ours and YOLOX-nano alike, take a car seen from straight above for.
MISTAKEN = {"car": "cell phone"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """As much of `Detections` as watching needs."""

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]
    decision: None = None


class Peer:
    """YOLOX-nano in the shape of a detector: what tracker and counter do with another one's boxes."""

    default_min_score = 0.4

    def __init__(self, graph: Path, classes: tuple[str, ...]) -> None:
        self._find = peers.Yolox(graph)
        self._classes = classes

    def meaning(self, label: str) -> tuple[tuple[str, ...], str]:
        """Take a label for the class of that name, and nothing else."""
        return ((label,) if label in self._classes else ()), "class"

    def detect(self, image: np.ndarray, labels: list[str], min_score: float | None = None) -> Found:
        """Give the boxes of the asked classes."""
        boxes = self._find(Image.fromarray(image))
        names = np.array([self._classes[number] for number in boxes.classes], object)
        kept = np.isin(names, labels) & (boxes.scores >= (min_score or self.default_min_score))
        return Found(boxes_xyxy=boxes.xyxy[kept], scores=boxes.scores[kept], labels=tuple(names[kept]))


def measure(data: Path) -> dict[str, Any]:
    """Watch every clip; for each way of asking the crossings found, missed and invented, appearances and speed.

    Raises:
        MissingSetError: If the clips are absent.
    """
    clips = tomllib.loads(TRUTH.read_text(encoding="utf8"))["clip"]
    for clip in clips:
        sets.need(data / "video" / clip["file"])
    nano, graph = ns.Detector(), data.parent / peers.FOLDER / peers.Yolox.FILE
    peer = Peer(graph, nano.classes) if graph.is_file() else None
    found: dict[str, Any] = {}
    for clip in clips:
        ways: dict[str, tuple[Any, list[str], float | None]] = {
            "nano": (nano, clip["labels"], None),
            "nano, 5 frames a second": (nano, clip["labels"], 5.0),
        }
        if clip["file"] == "cars.mp4":
            mistaken = [MISTAKEN[label] for label in clip["labels"]]
            ways[f"nano, asked for {mistaken[0]}"] = (nano, mistaken, None)
            if peer is not None:
                ways[f"YOLOX-nano (peer), asked for {mistaken[0]}"] = (peer, mistaken, None)
        if peer is not None:
            ways["YOLOX-nano (peer)"] = (peer, clip["labels"], None)
        found[clip["file"]] = {
            name: judged(clip, *watched(data, clip, detector, labels, fps)) | {"objects": clip["objects"]}
            for name, (detector, labels, fps) in ways.items()
        }
    return found


def watched(
    data: Path, clip: dict[str, Any], detector: Any, labels: list[str], fps: float | None = None
) -> tuple[list[Event], Summary]:
    """Watch one clip with the lines of the truth, in a folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(_config(data / "video" / clip["file"], clip, labels), encoding="utf8")
        with Watcher(replace(read_config(path), fps=fps), detector=detector) as watcher:
            events = list(watcher.events())
            return events, watcher.summary()


def judged(clip: dict[str, Any], events: list[Event], summary: Summary) -> dict[str, Any]:
    """Pair crossings with the truth: same line and direction, at most `TOLERANCE` frames apart, each once."""
    lines = {}
    for line in clip["line"]:
        told = [(e.frame, e.direction) for e in events if e.event == CROSSING and e.line == line["name"]]
        late = []
        for crossing in line["crossings"]:
            near = [
                pair
                for pair in told
                if pair[1] == crossing["direction"] and abs(pair[0] - crossing["frame"]) <= TOLERANCE
            ]
            if near:
                best = min(near, key=lambda pair: abs(pair[0] - crossing["frame"]))
                told.remove(best)
                late.append(best[0] - crossing["frame"])
        wanted = len(line["crossings"])
        lines[line["name"]] = {
            "true": wanted,
            "found": len(late),
            "missed": wanted - len(late),
            "invented": len(told),
            "frames_late": late,
        }
    return {
        "lines": lines,
        "appeared": sum(summary.appeared.values()),
        "frames": summary.frames,
        "frames_per_s": round(summary.frames_per_s, 1),
    }


def _config(source: Path, clip: dict[str, Any], labels: list[str]) -> str:
    rows = ["[camera]", f'source = "{source.resolve()}"', "[detect]", f"labels = {labels}".replace("'", '"')]
    for line in clip["line"]:
        rows += ["[[line]]", f'name = "{line["name"]}"', f"from = {line['from']}", f"to = {line['to']}"]
    return "\n".join(rows) + "\n"
