"""`ns.look` against the same questions asked of encoder, detector and captioner apart, picture by picture.

Processor time of one thread, which other work on the machine hardly lengthens.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench import measure
from PIL import Image

import nearsight as ns

TEXTS = ("a dog on the beach", "two people ride bicycles", "a red car in the snow", "海滩上的狗", "夜晚的城市")
LABELS = ("person", "car", "dog", "杯子", "椅子")
FULL_HD, ROUNDS, THREADS = (1920, 1080), 5, 1


def photographs() -> dict[str, list[bytes]]:
    """The repository's eight photographs as JPEG files: small as they are, and enlarged to full HD."""
    folder = Path(__file__).parent.parent / "tests" / "photos"
    files = sorted(folder.glob("*.jpg"))

    def enlarged(path: Path) -> bytes:
        stream = io.BytesIO()
        with Image.open(path) as picture:
            picture.convert("RGB").resize(FULL_HD, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        return stream.getvalue()

    return {"small": [path.read_bytes() for path in files], "full HD": [enlarged(path) for path in files]}


class Apart:
    """The three models, each asked for itself; the texts' vectors are kept, as `look` keeps them."""

    def __init__(self) -> None:
        self.encoder, self.detector = ns.Encoder(threads=THREADS), ns.Detector(threads=THREADS)
        self.captioner = ns.Captioner(threads=THREADS)
        self.words = self.encoder.texts(list(TEXTS)).vectors

    def match(self, picture: bytes) -> None:
        """Encode the picture and judge it."""
        vectors = self.encoder.images([picture]).vectors
        for text, word in zip(TEXTS, self.words, strict=True):
            self.encoder.relevance(word, vectors, text, 1)

    def ask(self, picture: bytes, languages: tuple[str, ...]) -> None:
        """Ask all."""
        self.match(picture)
        self.detector.detect(picture, list(LABELS))
        for language in languages:
            self.captioner.caption(picture, language)


def look(picture: bytes, languages: tuple[str, ...]) -> None:
    """Ask all of one look."""
    seen = ns.look(picture, threads=THREADS)
    seen.matches(TEXTS)
    seen.detect(list(LABELS))
    for language in languages:
        seen.caption(language)


def main(rounds: int = ROUNDS) -> None:
    """Measure, print, append."""
    parallel, apart = measure.parallelism(), Apart()
    rows, figures = [("parallelism of the machine (2 is two free cores)", f"{parallel}")], {"parallelism": parallel}
    asked = {"no caption": (), "one caption": ("en",), "captions in both languages": ("en", "zh")}
    for size, pictures in photographs().items():
        for title, languages in asked.items():
            runs = {
                "look": lambda p=pictures, s=languages: _median(lambda one: look(one, s), p),
                "apart": lambda p=pictures, s=languages: _median(lambda one: apart.ask(one, s), p),
            }
            for run in runs.values():
                run()  # loaded and warm
            found = measure.interleaved(runs, rounds)
            against = measure.ratio(found["look"], found["apart"])
            spreads = {name: measure.spread(values) for name, values in found.items()}
            rows += [
                (f"{size}, matches, detect, {title}: look", measure.text(spreads["look"], "ms")),
                (f"{size}, matches, detect, {title}: apart", measure.text(spreads["apart"], "ms")),
                (f"{size}, matches, detect, {title}: look against apart", measure.text(against, "x", 2)),
            ]
            figures[f"{size}, {title}"] = {**spreads, "against": against}
    measure.show("Look", rows)
    measure.append("look", figures)


def _median(ask: Callable[[bytes], None], pictures: list[bytes]) -> float:
    """Milliseconds of processor time a picture."""
    spent = []
    for picture in pictures:
        began = time.process_time()
        ask(picture)
        spent.append(1000 * (time.process_time() - began))
    return statistics.median(spent)
