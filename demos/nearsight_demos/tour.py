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
from nearsight_demos.programme import Programme, Question, fitted, known
from nearsight_demos.subjects import things_in

if TYPE_CHECKING:
    from collections.abc import Sequence

# Eight photographs in the public domain, for where no package index can be reached.
OURS = Path(__file__).resolve().parent.parent.parent / "tests" / "photos"
HOME = Path("demo")
WHEELS = Path(".cache/wheels")
INTERRUPTED = 130
WIDTH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A question with its answer.

    Attributes:
        question: what was asked.
        hits: what is said: hits above the default threshold.
        nearest: the nearest pictures where nothing is above it, however weak; else the hits.
        latency_ms: time of the search, end to end.
        agrees: whether the detector sees what was asked for in the nearest picture; None where it was not asked.
    """

    question: Question
    hits: ns.Hits
    nearest: ns.Hits
    latency_ms: float
    agrees: bool | None = None

    @property
    def verdict(self) -> str:
        """How the answer compares with what is in the pictures; empty where nobody knows."""
        if self.agrees is not None:
            return "the detector sees it, too" if self.agrees else "the detector sees none there"
        right = self.question.right
        if right is None:
            return ""
        if not right:
            return "right: not there" if not self.hits else "wrong: not there"
        if self.nearest[0].path.name not in right:
            return "wrong picture"
        return "right" if self.hits else "right, but unsure"


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
        detector = ns.Detector()
        programme = known(folder) if own is None else fitted(gallery, detector)
        answers = [_asked(gallery, detector, question) for question in programme.questions]
        screen.print(_table(answers))
        figures = _senses(screen, gallery, programme)

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


def _senses(screen: Console, gallery: ns.Gallery, programme: Programme) -> tuple[ns.Figure, ...]:
    """Let the other capabilities speak, on the terminal and for the report."""
    looks = {path: ns.look(path) for path in programme.scenes}
    found, seen = senses.detected(looks, programme.labels)
    said = senses.captioned({path: looks[path] for path in seen or looks})
    parts = [
        ("Detector", found),
        ("Captions (a small model: often wrong on pictures unlike those it learned from)", said),
        ("Agent", senses.asked(gallery, programme.to_ask)),
    ]
    if seen:
        clip, place, most = senses.watched(seen, programme.labels, HOME / "watch")
        parts.append((f"Watch ({senses.MADE})", clip))
        if most:
            with ns.Gallery.open(place) as events:
                parts.append(("Agent, about the clip's events", senses.asked(events, (senses.counting(most),))))
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


def _asked(gallery: ns.Gallery, detector: ns.Detector, question: Question) -> Answered:
    start = time.perf_counter()
    hits = gallery.search(question.text, k=6)
    latency_ms = 1000 * (time.perf_counter() - start)
    nearest = hits or gallery.search(question.text, k=3, min_relevance=0)
    agrees = question.thing in things_in(detector, [nearest[0].path]) if question.thing else None
    return Answered(question=question, hits=hits, nearest=nearest, latency_ms=latency_ms, agrees=agrees)


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
            Text(answer.verdict, _colour(answer)),
        )
    return table


def _colour(answer: Answered) -> str:
    if answer.agrees is not None:
        return "green" if answer.agrees else "yellow"
    return "red" if answer.verdict.startswith("wrong") else "green"


if __name__ == "__main__":
    sys.exit(main())
