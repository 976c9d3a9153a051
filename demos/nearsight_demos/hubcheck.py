"""The check for who has a network: published weights from the hub, the tour's photographs, twenty questions, a report.

Run by `make verify-hub`. Works in demo/ of the current folder.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

# Run as a file, so that its neighbour is found without being installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nearsight as ns
import nearsight_models
from nearsight_demos.photographs import CARRIED, gather

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = Path(__file__).resolve().parent.parent.parent / "tests" / "photos"
HOME = Path("demo")
WHEELS = Path(".cache/wheels")
MODEL = "clip-vit-b32"
# What the photographs show, as one sees it; every name that a picture has in either set.
QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("an astronaut in an orange suit", ("astronaut.png", "astronaut.jpg")),
    ("a cup of coffee", ("coffee.png", "coffee.jpg")),
    ("a cat looking at the camera", ("chelsea.png", "cat.jpg")),
    ("a man with a camera on a tripod", ("camera.png", "photographer.jpg")),
    ("a rocket on its launch pad", ("rocket.jpg",)),
    ("a wall of bricks", ("brick.png", "brick-wall.jpg")),
    ("old coins", ("coins.png", "coins.jpg")),
    ("many galaxies in the night sky", ("hubble_deep_field.jpg", "galaxies.jpg")),
    ("a red motorcycle in a garage", ("motorcycle_left.png",)),
    ("the moon", ("moon.png",)),
    ("a page of printed text", ("page.png", "text.png")),
    ("handwriting", ("text.png",)),
    ("the retina of an eye", ("retina.jpg",)),
    ("grass", ("grass.png",)),
    ("gravel", ("gravel.png",)),
    ("a Chinese temple by a lake", ("china.jpg",)),
    ("a flower", ("flower.jpg",)),
    ("a cheetah", ("cheetah.jpg", "cheetah1.jpg")),
    ("a lion", ("lion.jpg",)),
    ("the Eiffel Tower", ("tower.jpg",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one question went.

    Attributes:
        question: what was asked.
        right: the pictures that answer it and are there.
        nearest: the names of the nearest pictures, nearest first.
        rank: place of the first right one, from 1.
        latency_ms: time of the search, end to end.
    """

    question: str
    right: tuple[str, ...]
    nearest: tuple[str, ...]
    rank: int
    latency_ms: float


def main(argv: Sequence[str] | None = None) -> int:
    """Pull a model, index the photographs with it, ask, and write the report.

    Args:
        argv: `--model NAME`, `--photos DIR` and `--from DIR`; the words of the process by default.

    Returns:
        0; 1 if the model or the photographs are not to be had, or fewer than half of the questions went right.
    """
    parser = argparse.ArgumentParser(description="Check the published weights of a model on real photographs.")
    parser.add_argument("--model", default=MODEL, help=f"a model of the catalogue that serves search ({MODEL})")
    parser.add_argument("--photos", type=Path, help="a folder with the tour's photographs; fetched by default")
    parser.add_argument("--from", dest="source", help="a folder laid out as on the hub, instead of the hub")
    args = parser.parse_args(argv)
    try:
        manifest = nearsight_models.pull(args.model, folder=args.source, told=_tell)
        return _checked(manifest, args.photos or _photographs())
    except (ns.NearsightError, nearsight_models.ModelError) as error:
        print(f"hub check: {error}", file=sys.stderr)
        return 1


def _tell(progress: nearsight_models.Progress) -> None:
    print(f"  {progress.state} {progress.file}", flush=True)


def _photographs() -> Path:
    photographs, trouble = gather(HOME / "photographs", WHEELS)
    for line in trouble:
        print(f"  {line}")
    if photographs:
        print(f"{len(photographs)} real photographs that {', '.join(CARRIED)} carry.")
        return HOME / "photographs"
    print("The eight photographs of this repository.")
    return OURS


def _checked(manifest: nearsight_models.Manifest, photos: Path) -> int:
    indexed = {name: _indexed(name, photos) for name in (manifest.name, "nano")}
    given = {path.name for path in photos.iterdir()}
    there = given.intersection(*indexed.values())
    left_out = sorted(given - there)
    for name in left_out:
        print(f"  {name} is not in the galleries, and no question counts on it.")
    known = [(text, tuple(name for name in right if name in there)) for text, right in QUESTIONS]
    questions = [(text, right) for text, right in known if right]
    if not questions:
        raise ns.InputError(f"{photos} has no picture that answers one of the questions; leave --photos out")
    figures = {name: _asked(name, questions) for name in indexed}
    report: dict[str, Any] = {
        "model": manifest.name,
        "source": {"repo": manifest.source.repo, "revision": manifest.source.revision} if manifest.source else None,
        "files": {file.path.name: file.sha256 for file in manifest.every_file()},
        "machine": f"{platform.platform()}, Python {platform.python_version()}",
        "photographs": len(there),
        "left_out": left_out,
        "questions": len(questions),
        "not_asked": [text for text, right in known if not right],
        **{name: _figures(answers) for name, answers in figures.items()},
    }
    page = HOME / f"hub-{manifest.name}.json"
    page.parent.mkdir(exist_ok=True)
    page.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for answer in figures[manifest.name]:
        print(f"{answer.rank:4d}  {answer.question:40s}  {answer.nearest[0]}  {answer.latency_ms:.0f} ms")
    mine = report[manifest.name]
    print(
        f"{manifest.name}: the right picture is the nearest in {mine['first']} of {len(questions)} questions, among "
        f"the first three in {mine['among_three']}; nano: {report['nano']['first']}, {report['nano']['among_three']}."
    )
    print(f"Report: {page}")
    return 0 if mine["first"] * 2 >= len(questions) else 1


def _indexed(model: str, photos: Path) -> list[str]:
    """Put the photographs into the model's gallery; give the names of those that are in it now."""
    place = HOME / f"hub-{model}.nsg"
    place.parent.mkdir(exist_ok=True)
    with ns.Gallery.open(place, encoder=model) as gallery:
        report = gallery.add(photos)
        print(f"{model}: {report.encoded} photographs encoded in {report.seconds:.1f} s.")
        for failure in report.failed:
            print(f"  {failure.path.name}: {failure.reason}")
        if len(gallery) == 0:
            raise ns.InputError(f"{photos} has no picture that can be read; leave --photos out")
        hits = gallery.search(QUESTIONS[0][0], k=len(gallery), min_relevance=0)
    return [hit.path.name for hit in hits]


def _asked(model: str, questions: list[tuple[str, tuple[str, ...]]]) -> list[Answer]:
    answers = []
    with ns.Gallery.open(HOME / f"hub-{model}.nsg", encoder=model) as gallery:
        for text, right in questions:
            start = time.perf_counter()
            hits = gallery.search(text, k=len(gallery), min_relevance=0)
            latency_ms = 1000 * (time.perf_counter() - start)
            names = [hit.path.name for hit in hits]
            rank = 1 + next(place for place, name in enumerate(names) if name in right)
            answer = Answer(question=text, right=right, nearest=tuple(names[:3]), rank=rank, latency_ms=latency_ms)
            answers.append(answer)
    return answers


def _figures(answers: list[Answer]) -> dict[str, Any]:
    return {
        "first": sum(answer.rank == 1 for answer in answers),
        "among_three": sum(answer.rank <= 3 for answer in answers),
        "median_ms": round(median(answer.latency_ms for answer in answers), 1),
        "answers": {answer.question: {"rank": answer.rank, "nearest": list(answer.nearest)} for answer in answers},
    }


if __name__ == "__main__":
    sys.exit(main())
