"""One 1080p frame: COCO names against the detector's graph alone, other labels, peers, captions; at 1 and 2 threads."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench import measure
from eval import peers
from PIL import Image

import nearsight as ns
from nearsight.sight import Sight
from nearsight_npu import Delegate

ROOT = Path(__file__).parent.parent
FRAME_WH = (1920, 1080)
THREADS = (1, 2)
ROUNDS = 15
FEW = ["person", "car", "dog", "红绿灯"]
CROP = ["helmet"]
BARE = "graph alone"
NAMES = "80 COCO names"
PICTURE = "80 COCO names, the frame as a Pillow picture"


def frame() -> np.ndarray:
    """Eight photographs side by side as one frame: uint8 (1080, 1920, 3)."""
    board, (width, height) = Image.new("RGB", FRAME_WH), (FRAME_WH[0] // 4, FRAME_WH[1] // 2)
    for number, path in enumerate(sorted((ROOT / "tests" / "photos").glob("*.jpg"))):
        with Image.open(path) as photo:
            board.paste(photo.convert("RGB").resize((width, height)), (number % 4 * width, number // 4 * height))
    return np.asarray(board)


def peak_mb() -> float:
    """The most memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def detecting(threads: int, weights: Path, fp32: Path | None) -> dict[str, Callable[[], object]]:
    """What is timed of detection; each call looks at a frame that is decoded already."""
    shown, detector = frame(), ns.Detector("nano", threads=threads)
    picture = Image.fromarray(shown)
    engine = detector._engine  # noqa: SLF001
    pixels = Sight(shown).pixels(engine)
    runs: dict[str, Callable[[], object]] = {
        BARE: lambda: engine.run("detect", {"pixels": pixels}, ("boxes", "scores")),
        NAMES: lambda: detector.detect(shown, detector.classes),
        PICTURE: lambda: detector.detect(picture, detector.classes),
        "4 labels": lambda: detector.detect(shown, FEW),
        "a label that crops answer": lambda: detector.detect(shown, CROP),
    }
    if fp32 is not None:
        session = Delegate(threads=threads).load({"fp32": fp32})
        runs["graph alone in FP32"] = lambda: session.run({"pixels": pixels}, ("boxes", "scores"))
    for name, kind in peers.PEERS.items():
        if kind is not peers.NanoDet and (weights / kind.FILE).is_file():
            peer = kind(weights / kind.FILE, threads)
            runs[f"{name} with its suppression (peer)"] = lambda peer=peer: peer(picture)
    return runs


def captioning(threads: int) -> dict[str, Callable[[], object]]:
    """What is timed of captioning."""
    shown, captioner = frame(), ns.Captioner("nano", threads=threads)
    return {
        f"caption, {language}": lambda language=language: captioner.caption(shown, language)
        for language in captioner.languages
    }


def child(what: str, threads: int, weights: Path, fp32: Path | None) -> dict[str, Any]:
    """Time everything in this process: milliseconds, interleaved; memory above the imports."""
    before = peak_mb()
    runs = captioning(threads) if what == "caption" else detecting(threads, weights, fp32)
    first = NAMES if what == "detect" else next(iter(runs))
    runs[first]()
    held = peak_mb()
    for work in runs.values():
        work()
    rows = measure.interleaved({name: lambda w=work: 1000 * measure.timed(w) for name, work in runs.items()}, ROUNDS)
    found: dict[str, Any] = {"ms": {name: measure.spread(row) for name, row in rows.items()}}
    found["memory_mb"] = {"imports": round(before, 1), "loaded": round(held - before, 1)}
    if what == "detect":
        found["against_graph"] = {name: measure.ratio(rows[name], rows[BARE]) for name in (NAMES, PICTURE)}
    if what == "detect" and threads == 1:
        few = {name: lambda w=runs[name]: measure.worked(w) for name in (BARE, NAMES, PICTURE)}
        rows = measure.interleaved(few, 2 * ROUNDS)
        found["work_against_graph"] = {name: measure.ratio(rows[name], rows[BARE]) for name in (NAMES, PICTURE)}
    return found


def main(data: Path, fp32: Path | None = None) -> None:
    """Measure in a process for each number of threads, print, append."""
    parallel = measure.parallelism()
    weights = data.resolve().parent / peers.FOLDER
    graph = fp32.resolve().with_name("detect") / "detect.fp32.onnx" if fp32 else None
    graph = graph if graph is not None and graph.is_file() else None
    rows, figures = [("parallelism of the machine (2 is two free cores)", f"{parallel}")], {"parallelism": parallel}
    for what in ("detect", "caption"):
        for threads in THREADS:
            command = [sys.executable, "-m", "bench.detect", what, str(threads), str(weights), str(graph or "")]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            found = json.loads(done.stdout)
            figures[f"{what}_{threads}"] = found
            many = f"{threads} thread{'s' if threads > 1 else ''}"
            rows += [(f"{name}, {many}", measure.text(row, "ms")) for name, row in found["ms"].items()]
            for name, row in found.get("against_graph", {}).items():
                rows.append((f"{name}, against the graph alone, {many}", measure.text(row, "x", 2)))
            for name, row in found.get("work_against_graph", {}).items():
                rows.append((f"{name}, against the graph alone, {many}, processor time", measure.text(row, "x", 2)))
            rows.append((f"memory of {what}ing above the imports, {many}", f"{found['memory_mb']['loaded']} MB"))
    measure.show("See and say: one 1080p frame, decode excluded", rows)
    measure.append("detect", figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One process of the measurement; prints JSON.")
    parser.add_argument("what", choices=("detect", "caption"))
    parser.add_argument("threads", type=int)
    parser.add_argument("weights", type=Path)
    parser.add_argument("fp32", nargs="?", default="")
    asked = parser.parse_args()
    print(json.dumps(child(asked.what, asked.threads, asked.weights, Path(asked.fp32) if asked.fp32 else None)))
