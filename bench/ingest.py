"""Indexing 500 full-HD JPEGs: images/s end to end, the share of the two-core ideal, and a plain loop beside it."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from bench import measure
from PIL import Image

import nearsight as ns

COUNT, WIDTH, HEIGHT = 500, 1920, 1080
KB = (300, 800)


def photographs(data: Path) -> list[Image.Image]:
    """Real pictures to enlarge: Flickr8k dev if it is at hand, else the repository's own."""
    tar = data / "flickr8k_dev.tar"
    if tar.exists():
        with tarfile.open(tar) as archive:
            members = archive.getmembers()[:COUNT]
            return [
                Image.open(io.BytesIO(stream.read())).convert("RGB")
                for m in members
                if (stream := archive.extractfile(m))
            ]
    folder = Path(__file__).parent.parent / "tests" / "photos"
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))]


def write(folder: Path, data: Path, count: int) -> None:
    """Enlarge real pictures to full HD, add sensor noise, and save each between 300 and 800 KB."""
    random, sources = np.random.default_rng(0), photographs(data)
    for index in range(count):
        large = np.asarray(sources[index % len(sources)].resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
        noisy = large + random.normal(0, 4, large.shape).astype(np.float32)
        picture, quality = Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), 80
        while True:
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=quality)
            size = stream.tell() / 1000
            if KB[0] <= size <= KB[1] or not 20 < quality < 96:
                break
            quality += 5 if size < KB[0] else -5
        (folder / f"{index:04}.jpg").write_bytes(stream.getvalue())


def plain_loop(files: list[Path], graph: Path) -> float:
    """What a script does: Pillow decodes in full, resizes, and onnxruntime runs FP32 one by one. Images/s."""
    options = ort.SessionOptions()
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def work() -> None:
        for path in files:
            picture = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
            session.run(["embedding"], {"pixels": np.asarray(picture)[None]})

    return len(files) / measure.timed(work)


def indexed(folder: Path, count: int) -> float:
    """A fresh gallery, end to end and durable. Images/s."""
    with tempfile.TemporaryDirectory() as place, ns.Gallery.open(Path(place) / "g.nsg") as gallery:
        seconds = measure.timed(lambda: gallery.add(folder))
        assert len(gallery) == count
    return count / seconds


def ideal(files: list[Path], encoder: ns.Encoder) -> float:
    """Images/s if decoding and encoding, each measured alone on one core, filled two cores without waiting."""
    some = files[:100]
    pixels: list[np.ndarray] = []
    decode = measure.timed(
        lambda: pixels.extend(encoder.pixels(ns.read_image(path, size_hint=encoder.input_size)) for path in some)
    )
    batches = [np.stack(pixels[at : at + 16]) for at in range(0, len(pixels), 16)]
    encode = measure.timed(lambda: [encoder.encode_pixels(batch) for batch in batches])
    return 2 * len(some) / (decode + encode)


def main(data: Path, fp32: Path | None, count: int = COUNT, repetitions: int = 3) -> None:
    """Measure, print, append."""
    parallel = measure.parallelism()
    encoder = ns.Encoder("nano", threads=1)
    graph = fp32 or encoder._manifest.files["image"]["fp16"].path  # noqa: SLF001  (FP16 weights, computed in FP32)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder, data, count)
        files = sorted(folder.glob("*.jpg"))
        sizes = [path.stat().st_size / 1000 for path in files]
        encoder.encode_pixels(np.zeros((1, 224, 224, 3), np.uint8))
        runs = {
            "nearsight": lambda: indexed(folder, count),
            "ideal": lambda: ideal(files, encoder),
            "loop": lambda: plain_loop(files[: count // 4], graph),
        }
        found = measure.interleaved(runs, repetitions)
    share, against = measure.ratio(found["nearsight"], found["ideal"]), measure.ratio(found["nearsight"], found["loop"])
    rows = [
        ("parallelism of the machine (2 is two free cores)", f"{parallel}"),
        ("JPEGs, 1920 x 1080", f"{count}, {min(sizes):.0f} to {max(sizes):.0f} KB"),
        ("Gallery.add, end to end, durable", measure.text(measure.spread(found["nearsight"]), "images/s")),
        (
            "two-core ideal (decode + encode alone, nothing waiting)",
            measure.text(measure.spread(found["ideal"]), "images/s"),
        ),
        ("share of the ideal", measure.text(share, "", 2)),
        (
            "plain loop: Pillow + onnxruntime FP32, batch 1, its own threads",
            measure.text(measure.spread(found["loop"]), "images/s"),
        ),
        ("Gallery.add against the plain loop", measure.text(against, "x", 2)),
    ]
    measure.show("Ingest", rows)
    measure.append(
        "ingest",
        {
            "parallelism": parallel,
            "count": count,
            "kb": [min(sizes), max(sizes)],
            "fp32": bool(fp32),
            "pid": os.getpid(),
            **{k: measure.spread(v) for k, v in found.items()},
            "share_of_ideal": share,
            "against_loop": against,
        },
    )
