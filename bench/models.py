"""`python -m bench.models`: full-size encoders through Nearsight against torch eager and plain onnxruntime.

Shapes are those of ViT-B/32 and MobileCLIP2-S0; weights are random, so that nothing is fetched: speed and memory do not
depend on them. All runs of one table take place in this process, in turn; a run is from files (or texts) to vectors of
unit length, and every side decodes every file in full. Each side takes its best batch of those tried. Memory and load
times come from a process each. With one thread, times are processor time, which other work on the machine hardly
lengthens; with more, they are the clock's.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from bench import measure
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
# The random models are those of the tests.
sys.path.insert(0, str(ROOT / "tests" / "export"))
SHAPES: dict[str, dict[str, Any]] = {
    "ViT-B-32": {"architecture": "clip", "preprocess": {}},
    "MobileCLIP2-S0": {
        "architecture": "mobileclip",
        "preprocess": {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear", "resize_mode": "shortest"},
    },
}
TEXTS = [
    "a dog on the beach",
    "two people ride bicycles through a park in the evening",
    "a red car in the snow",
    "a cup of coffee beside an open book",
    "the night sky over a city",
    "a man with a camera on a tripod",
    "three children play football on a wet field",
    "a cat",
]
SETTLED_S = 0.2
BATCHES, PHOTOS, CAMERA = (1, 4, 16), 16, (1600, 1200)

_LOAD = """
import json, re, sys, time
began = time.perf_counter()
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
"""
_LOADS = {
    "nearsight": """
import nearsight as ns
before = peak()
encoder = ns.Encoder(sys.argv[2], precision=sys.argv[3])
encoder.images([sys.argv[4]]); encoder.texts(["a dog"])
""",
    "torch": """
sys.path.insert(0, sys.argv[5])
import bench.models as bench
bench.importable()
import open_clip, torch
before = peak()
model, _, prepare = open_clip.create_model_and_transforms("local-dir:" + sys.argv[1])
model.eval()
from PIL import Image
with torch.no_grad():
    model.encode_image(prepare(Image.open(sys.argv[4]))[None])
    model.encode_text(open_clip.get_tokenizer("ViT-B-32")(["a dog"]))
""",
}


def importable() -> None:
    """Let torchvision be imported where it was built for another torch (tests/export/conftest.py says why)."""
    import torch

    if "_kept" in globals():
        return
    logging.disable(logging.WARNING)
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
    globals()["_kept"] = library


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """One shape, made: its source for torch, its installed name, and the files to encode."""

    name: str
    source: Path
    model: str
    files: list[bytes]


def made(name: str, home: Path) -> Ready:
    """Save a random model as the tests do, and export it with INT8."""
    from tiny_encoders import open_clip_folder

    from nearsight.exporting import export_model

    shape, source = SHAPES[name], home / "source" / name
    open_clip_folder(source, name, preprocess=shape["preprocess"])
    entry = SimpleNamespace(
        name=name.lower(), architecture=shape["architecture"], capability="search", summary="random weights",
        languages=("en",), licence="Apache-2.0", trained_on=("nothing",), research_only=False, parameters=1,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_model(entry, source, int8=True)
    return Ready(name=name, source=source, model=entry.name, files=photographs())


def photographs() -> list[bytes]:
    """The repository's photographs as JPEG files of a camera's size."""
    files = []
    for path in sorted((ROOT / "tests" / "photos").glob("*.jpg")):
        stream = io.BytesIO()
        Image.open(path).convert("RGB").resize(CAMERA, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return (files * PHOTOS)[:PHOTOS]


def sides(
    ready: Ready, threads: int
) -> tuple[dict[str, Callable[[int], np.ndarray]], dict[str, Callable[[int], np.ndarray]]]:
    """Who encodes all files, and who encodes all texts, in batches of a size."""
    import onnxruntime
    import open_clip
    import torch

    import nearsight as ns
    import nearsight_models
    from nearsight.families.lookup import leaf

    torch.set_num_threads(threads)
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{ready.source}")
    model.eval()
    words = open_clip.get_tokenizer(ready.name)
    page = nearsight_models.load(ready.model)
    family = leaf(page)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    plain = {
        role: onnxruntime.InferenceSession(
            str(page.files[role]["fp32"].path), options, providers=["CPUExecutionProvider"]
        )
        for role in ("image", "text")
    }

    def torch_images(batch: int) -> np.ndarray:
        with torch.no_grad():
            parts = []
            for some in _batches(ready.files, batch):
                pixels = torch.stack([prepare(Image.open(io.BytesIO(data))) for data in some])
                parts.append(model.encode_image(pixels, normalize=True).numpy())
        return np.concatenate(parts)

    def torch_texts(batch: int) -> np.ndarray:
        with torch.no_grad():
            return np.concatenate(
                [model.encode_text(words(some), normalize=True).numpy() for some in _batches(TEXTS, batch)]
            )

    def plain_images(batch: int) -> np.ndarray:
        parts = []
        for some in _batches(ready.files, batch):
            # Read as Nearsight reads, so that what is compared is what Nearsight adds around a session.
            pixels = np.stack([family.pixels(ns.read_image(data, size_hint=family.size_hint)) for data in some])
            (out,) = plain["image"].run(["image_embeds"], dict(family.image_arrays(pixels)))
            parts.append(family.vectors("image", {"image_embeds": out}))
        return np.concatenate(parts)

    def plain_texts(batch: int) -> np.ndarray:
        parts = []
        for some in _batches(TEXTS, batch):
            ids = family.text_arrays(some)["input_ids"]
            (out,) = plain["text"].run(["text_embeds"], {"input_ids": ids})
            parts.append(family.vectors("text", {"text_embeds": out}))
        return np.concatenate(parts)

    images: dict[str, Callable[[int], np.ndarray]] = {"torch eager": torch_images, "plain onnxruntime": plain_images}
    texts: dict[str, Callable[[int], np.ndarray]] = {"torch eager": torch_texts, "plain onnxruntime": plain_texts}
    for precision in ("fp32", "int8"):
        encoder = ns.Encoder(ready.model, precision=precision, threads=threads)
        images[f"nearsight {precision}"] = lambda batch, encoder=encoder: np.concatenate(
            [encoder.images(some).vectors for some in _batches(ready.files, batch)]
        )
        texts[f"nearsight {precision}"] = lambda batch, encoder=encoder: np.concatenate(
            [encoder.texts(some).vectors for some in _batches(TEXTS, batch)]
        )
    return images, texts


def _batches(items: list[Any], size: int) -> list[list[Any]]:
    return [items[at : at + size] for at in range(0, len(items), size)]


def spent(work: Callable[[], object], threads: int) -> float:
    """Seconds of one call: of the processor for one thread, of the clock for more."""
    clock = time.process_time if threads == 1 else time.perf_counter
    # The threads of torch and of a plain onnxruntime go on spinning for a while, and would take the next one's cores.
    time.sleep(SETTLED_S)
    began = clock()
    work()
    return clock() - began


def best(runs: dict[str, Callable[[int], np.ndarray]], count: int, threads: int) -> dict[str, int]:
    """For each side the batch that was fastest in two tries of each."""
    chosen = {}
    for name, run in runs.items():
        run(1)
        seconds = {
            size: min(spent(lambda s=size, r=run: r(s), threads) for _ in range(2)) for size in BATCHES if size <= count
        }
        chosen[name] = min(seconds, key=seconds.get)
    return chosen


def loads(ready: Ready, place: Path, threads: int) -> dict[str, dict[str, float]]:
    """Seconds to the first two answers, and megabytes at the peak, of a fresh process each."""
    photo = place / "photo.jpg"
    photo.write_bytes(ready.files[0])
    found = {}
    for name, code, precision in (
        ("torch eager", "torch", ""),
        *((f"nearsight {p}", "nearsight", p) for p in ("fp32", "int8")),
    ):
        end = "\nprint(json.dumps({'seconds': time.perf_counter() - began, 'peak_mb': peak(), 'libraries_mb': before}))"
        script = [sys.executable, "-c", _LOAD + _LOADS[code] + end]
        done = subprocess.run(
            [*script, str(ready.source), ready.model, precision, str(photo), str(ROOT)],
            check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(
    title: str, runs: dict[str, Callable[[int], np.ndarray]], count: int, rounds: int, threads: int
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Time one table: rows for people, figures for the file."""
    batches = best(runs, count, threads)
    vectors = {name: run(batches[name]) for name, run in runs.items()}
    times = measure.interleaved(
        {name: lambda n=name: spent(lambda: runs[n](batches[n]), threads) for name in runs}, rounds
    )
    rates = {name: [count / one for one in seconds] for name, seconds in times.items()}
    rows, figures = [], {}
    for name, values in rates.items():
        spread = measure.spread(values)
        milliseconds = 1000 / spread["median"]
        shown = measure.text(spread, "/s") if title == "images" else f"{milliseconds:.2f} ms a text"
        rows.append((f"{title}: {name}, batch {batches[name]}", shown))
        figures[name] = {"batch": batches[name], "per_s": spread, "ms": milliseconds}
    pairs = [(f"nearsight {p}", other) for p in ("fp32", "int8") for other in ("torch eager", "plain onnxruntime")]
    for one, other in pairs:
        ratio = measure.ratio(rates[one], rates[other])
        rows.append((f"{title}: {one} against {other}", measure.text(ratio, "x", 2)))
        figures[f"{one} against {other}"] = ratio
    for one, other in (("nearsight fp32", "torch eager"), ("nearsight int8", "nearsight fp32")):
        cosine = float((vectors[one] * vectors[other]).sum(1).min())
        rows.append((f"{title}: least cosine of {one} to {other}", f"{cosine:.4f}"))
        figures[f"cosine of {one} to {other}"] = cosine
    return rows, figures


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(prog="bench.models", description=__doc__)
    parser.add_argument("--shape", choices=tuple(SHAPES), action="append")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    args = parser.parse_args()
    importable()
    parallel = measure.parallelism()
    figures: dict[str, Any] = {"parallelism": parallel, "threads": args.threads}
    shown = [
        ("parallelism of the machine (2 is two free cores)", f"{parallel}"),
        ("pictures", f"{PHOTOS} JPEG files of {CAMERA[0]} x {CAMERA[1]}, decoded in full on both sides"),
    ]
    measure.show("Models", shown)
    with tempfile.TemporaryDirectory(prefix="nearsight-bench-") as home:
        os.environ["NEARSIGHT_MODELS"] = f"{home}/models"
        for name in args.shape or SHAPES:
            ready = made(name, Path(home))
            images, texts = sides(ready, args.threads)
            rows, of_images = compared("images", images, len(ready.files), args.rounds, args.threads)
            more, of_texts = compared("texts", texts, len(TEXTS), args.rounds, args.threads)
            fresh = loads(ready, Path(home), args.threads)
            rows += [
                *more,
                *(
                    (f"load, first answers: {who}", f"{one['seconds']:.1f} s, peak {one['peak_mb']:.0f} MB")
                    for who, one in fresh.items()
                ),
            ]
            measure.show(name, rows)
            figures[name] = {"images": of_images, "texts": of_texts, "fresh process": fresh}
    measure.append("models", figures)


if __name__ == "__main__":
    main()
