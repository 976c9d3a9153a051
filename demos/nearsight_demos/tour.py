"""The offline tour: index real photographs, search, detect, caption, ask and watch, and write a page worth looking at.

Run by `make demo`, or `make demo PHOTOS=~/Pictures` for your own. Works in demo/ of the current folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# Run as a file, so that its neighbour is found without being installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

import nearsight as ns
from nearsight_demos import senses
from nearsight_demos.photographs import CARRIED, gather

if TYPE_CHECKING:
    from collections.abc import Sequence

# Eight photographs in the public domain, for where no package index can be reached.
OURS = Path(__file__).resolve().parent.parent.parent / "tests" / "photos"
HOME = Path("demo")
WHEELS = Path(".cache/wheels")
INTERRUPTED = 130
WIDTH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query of the tour.

    Attributes:
        text: what is asked.
        right: names of the pictures that answer it; empty where nothing should match; None where nobody knows.
    """

    text: str
    right: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A question with its answer.

    Attributes:
        question: what was asked.
        hits: what is said: hits above the default threshold.
        nearest: the nearest pictures where nothing is above it, however weak; else the hits.
        latency_ms: time of the search, end to end.
    """

    question: Question
    hits: ns.Hits
    nearest: ns.Hits
    latency_ms: float

    @property
    def verdict(self) -> str:
        """How the answer compares with what is in the pictures; empty where nobody knows."""
        right = self.question.right
        if right is None:
            return ""
        if not right:
            return "right: not there" if not self.hits else "wrong: not there"
        if self.nearest[0].path.name not in right:
            return "wrong picture"
        return "right" if self.hits else "right, but unsure"


CARRIED_QUESTIONS: tuple[Question, ...] = (
    Question(text="an astronaut in an orange suit", right=("astronaut.png", "astronaut.jpg")),
    Question(text="a cup of coffee", right=("coffee.png", "coffee.jpg")),
    Question(text="a red motorcycle", right=("motorcycle_left.png",)),
    Question(text="a man with a camera on a tripod", right=("camera.png", "photographer.jpg")),
    Question(text="a rocket before launch", right=("rocket.jpg",)),
    Question(text="a wall of bricks", right=("brick.png", "brick-wall.jpg")),
    Question(text="一只猫", right=("chelsea.png", "cat.jpg")),
    Question(text="狮子", right=("lion.jpg",)),
    Question(text="一朵花", right=("flower.jpg",)),
    Question(text="奔跑的猎豹", right=("cheetah.jpg",)),
    Question(text="铁塔", right=("tower.jpg",)),
    Question(text="湖边的中国古塔", right=("china.jpg",)),
    Question(text="a plate of sushi", right=()),
    Question(text="two children playing football on a beach", right=()),
    Question(text="在雪山上滑雪的人", right=()),
)
OWN_QUESTIONS = tuple(
    Question(text=text)
    for text in (
        "a dog",
        "the sea and a beach",
        "people around a table with food",
        "a child playing",
        "a city street at night",
        "flowers",
        "snow on mountains",
        "a car",
        "一只猫",
        "海边的日落",
        "一群人的合影",
        "湖上的小船",
        "an astronaut in space",
        "一台老式打字机",
    )
)


# In these, things of the detector's classes are seen; the first are captioned.
CARRIED_SCENES = (
    "chelsea.png",
    "coffee.png",
    "astronaut.png",
    "motorcycle_left.png",
    "camera.png",
    "lion.jpg",
    "china.jpg",
)
OUR_SCENES = ("cat.jpg", "coffee.jpg", "astronaut.jpg", "photographer.jpg", "rocket.jpg")
TO_ASK = ("How many pictures of a cat are there?", "有没有咖啡的照片？")
TO_ASK_OWN = ("How many pictures of a dog are there?", "有没有海边的照片？")
TO_ASK_EVENTS = "How many cats were there at tour?"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tour.

    Args:
        argv: `--photos DIR`; by default what the environment variable PHOTOS says.

    Returns:
        0; 1 if there are no photographs to be had; 2 if the folder named is not there; 130 when interrupted.
    """
    parser = argparse.ArgumentParser(description="Index photographs and ask for them in English and Chinese, offline.")
    parser.add_argument("--photos", default=os.environ.get("PHOTOS"), help="a folder of your own photographs")
    own = parser.parse_args(argv).photos
    try:
        return _tour(Path(own).expanduser() if own else None)
    except KeyboardInterrupt:
        print(
            "\ntour: interrupted; what was indexed is stored, and the same command goes on from there", file=sys.stderr
        )
        return INTERRUPTED
    except ns.NearsightError as error:
        print(f"tour: {error}", file=sys.stderr)
        return error.exit_code


def _tour(own: Path | None) -> int:
    screen = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    if own is None:
        screen.print("Your own photographs: make demo PHOTOS=~/Pictures", style="bold")
        photographs, trouble = gather(HOME / "photographs", WHEELS)
        for line in trouble:
            screen.print(f"  {line}")
        if photographs:
            packages = ", ".join(package.partition("==")[0] for package in CARRIED)
            screen.print(f"Without it: the {len(photographs)} real photographs that {packages} carry, nothing drawn.")
            folder, place = HOME / "photographs", HOME / "photos.nsg"
        else:
            screen.print("Without it, and without a package index: the eight photographs of this repository.")
            folder, place = OURS, HOME / "ours.nsg"
            HOME.mkdir(exist_ok=True)
    else:
        if not own.is_dir():
            print(f"tour: no folder {own}; give one that is there: make demo PHOTOS=~/Pictures", file=sys.stderr)
            return 2
        screen.print(f"Your photographs in {own}; they are read where they are, and nothing leaves this machine.")
        HOME.mkdir(exist_ok=True)
        mark = hashlib.sha256(str(own.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:6]
        folder, place = own, HOME / f"{own.resolve().name or 'photos'}-{mark}.nsg"
    questions = OWN_QUESTIONS
    if own is None:
        # What could not be fetched is not asked for.
        questions = tuple(q for q in CARRIED_QUESTIONS if not q.right or any((folder / n).exists() for n in q.right))

    with _opened(place, screen) as gallery:
        report = _indexed(gallery, folder)
        items = gallery.stats().items
        speed = f", {report.rate_per_s:.0f} pictures/s" if report.encoded else ""
        screen.print(
            f"Indexed into {place}: {report.added + report.changed} new, {report.unchanged} unchanged, "
            f"{len(report.failed)} failed, in {report.seconds:.1f} s{speed}; {items} pictures in all."
        )
        for failure in report.failed[:5]:
            screen.print(f"  skipped {failure.path}: {failure.reason}")
        if report.skipped_heif:
            screen.print(f"  skipped {report.skipped_heif} HEIC pictures; to read them: pip install 'nearsight[heif]'")
        if not items:
            print(f"tour: no pictures in {folder}; name another folder: make demo PHOTOS=...", file=sys.stderr)
            return 1
        start = time.perf_counter()
        gallery.search("warming up", k=1)
        screen.print(f"Text encoder loaded in {time.perf_counter() - start:.2f} s.\n")
        answers = [_asked(gallery, question) for question in questions]
        screen.print(_table(answers))
        scenes = _scenes(folder, gallery, own=own is not None)
        figures = _senses(screen, gallery, scenes, TO_ASK if own is None else TO_ASK_OWN)

    notes = [f"{items} photographs, {len(answers)} questions in English and Chinese; nothing left this machine."]
    if own is None:
        notes.append(_score(answers))
        screen.print(f"\n{notes[-1]}")
    page = HOME / "report.html"
    ns.contact_sheet(
        [(answer.question.text, answer.nearest) for answer in answers],
        page,
        title="Nearsight: the offline tour",
        notes=notes,
        figures=figures,
    )
    screen.print(
        f"\nReport: {page}    Ask yourself: .venv/bin/nearsight search 'your words' --gallery {shlex.quote(str(place))}"
    )
    return 0


def _scenes(folder: Path, gallery: ns.Gallery, *, own: bool) -> tuple[Path, ...]:
    """Choose pictures to look into: known ones, or of the user's own those nearest to everyday words."""
    if not own:
        return tuple(folder / name for name in (*CARRIED_SCENES, *OUR_SCENES) if (folder / name).exists())
    words = (
        "a person",
        "a dog",
        "a cat",
        "a car in a street",
        "people around a table",
        "a boat",
        "a bicycle",
        "a bird",
    )
    nearest = [hit.path for word in words for hit in gallery.search(word, k=1, min_relevance=0)]
    return tuple(dict.fromkeys(path for path in nearest if path.exists()))


def _senses(
    screen: Console, gallery: ns.Gallery, scenes: tuple[Path, ...], questions: tuple[str, ...]
) -> tuple[ns.Figure, ...]:
    """Let the other capabilities speak, on the terminal and for the report."""
    found, seen = senses.detected(scenes)
    said = senses.captioned(seen or scenes)
    answers = [senses.asked(gallery, questions)]
    parts = [
        ("Detector", found),
        ("Captions (a first version: mostly wrong on pictures unlike Flickr8k)", said),
        ("Agent", answers[0]),
    ]
    if seen:
        clip, events = senses.watched(seen, HOME / "watch")
        with ns.Gallery.open(events) as kept:
            answers.append(senses.asked(kept, (TO_ASK_EVENTS,)))
        parts += [(f"Watch ({senses.MADE})", clip), ("Agent, about the clip's events", answers[1])]
    for title, part in parts:
        screen.print(f"\n{title}", style="bold")
        for line in part.lines:
            screen.print(f"  {line}")
    return tuple(figure for _, part in parts for figure in part.figures)


def _opened(place: Path, screen: Console) -> ns.Gallery:
    """Open the tour's gallery; one that an earlier version made in another space is encoded anew."""
    try:
        return ns.Gallery.open(place)
    except ns.SpaceMismatchError:
        screen.print(f"{place} was made by another encoder; encoding its pictures anew ...")
        with ns.Gallery.open(place, encoder=None) as old:
            old.reindex(encoder="nano")
        return ns.Gallery.open(place)


def _indexed(gallery: ns.Gallery, folder: Path) -> ns.AddReport:
    columns = (TextColumn("indexing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("indexing", total=None, pace="")

        def advance(progress: ns.Progress) -> None:
            left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
            bars.update(task, completed=progress.done, total=progress.total, pace=f"{progress.rate_per_s:.0f}/s{left}")

        return gallery.add(folder, progress=advance)


def _asked(gallery: ns.Gallery, question: Question) -> Answered:
    start = time.perf_counter()
    hits = gallery.search(question.text, k=6)
    latency_ms = 1000 * (time.perf_counter() - start)
    nearest = hits or gallery.search(question.text, k=3, min_relevance=0)
    return Answered(question=question, hits=hits, nearest=nearest, latency_ms=latency_ms)


def _score(answers: Sequence[Answered]) -> str:
    there = [answer for answer in answers if answer.question.right]
    absent = [answer for answer in answers if answer.question.right == ()]
    nearest = sum(answer.verdict.startswith("right") for answer in there)
    sure = sum(answer.verdict == "right" for answer in there)
    none = sum(answer.verdict.startswith("right") for answer in absent)
    return (
        f"The right picture is the nearest in {nearest} of {len(there)} questions, and sure enough to be shown "
        f"in {sure}; {none} of {len(absent)} questions about what is not there are answered by nothing."
    )


def _table(answers: Sequence[Answered]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("query", "nearest picture", "says"):
        table.add_column(title, overflow="fold")
    table.add_column("relevance", justify="right")
    table.add_column("ran on")
    table.add_column("ms", justify="right")
    table.add_column("")
    for answer in answers:
        hits, decision = answer.hits, answer.hits.decision
        says = ns.relevance_words(hits[0].relevance) if hits else "nothing matches"
        relevance = hits.best_relevance if hits.best_relevance is not None else 0.0
        table.add_row(
            Text(answer.question.text),
            Text(answer.nearest[0].path.name, "" if hits else "dim"),
            Text(says, "bold" if hits else "dim"),
            f"{relevance:.2f}",
            "-" if decision is None else f"{decision.target} {decision.precision}",
            f"{answer.latency_ms:.1f}",
            Text(answer.verdict, "red" if answer.verdict.startswith("wrong") else "green"),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
