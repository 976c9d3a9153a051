"""The tour beyond search: what detector, captioner, agent and a watched clip say about the same pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

import nearsight as ns
from nearsight_demos.subjects import CLASSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN = 6
LABELS = (
    "person",
    "cat",
    "dog",
    "bird",
    "horse",
    "car",
    "motorcycle",
    "bicycle",
    "bus",
    "boat",
    "cup",
    "椅子",
    "helmet",
)
# Of names of classes, those that do not just take an s.
PLURALS = {
    "person": "people",
    "bus": "buses",
    "sheep": "sheep",
    "bench": "benches",
    "sandwich": "sandwiches",
    "couch": "couches",
    "skis": "skis",
    "wine glass": "wine glasses",
}
NEARSIGHT = Path(sys.executable).parent / "nearsight"
# The clip: a window that slides over pictures laid side by side.
FRAME_WH = (480, 360)
STEP, FPS = 24, 5
LINE = "from = [0.5, 0.0]\nto = [0.5, 1.0]"
MADE = "a clip made of these pictures: a window slides over them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sense:
    """What one capability had to say.

    Attributes:
        lines: for the terminal.
        figures: for the report.
    """

    lines: tuple[str, ...]
    figures: tuple[ns.Figure, ...]


def detected(looks: Mapping[Path, ns.Look], labels: Sequence[str]) -> tuple[Sense, tuple[Path, ...]]:
    """Find things in pictures; also give the pictures in which something was found."""
    found = [(path, look.detect(labels)) for path, look in looks.items()]
    seen = [(path, one) for path, one in found if len(one)]
    lines = [f"{path.name}: {_counted(one)}" for path, one in seen]
    if len(seen) < len(found):
        lines.append(f"nothing of it in: {', '.join(path.name for path, one in found if not len(one))}")
    if found and found[0][1].unjudged:
        lines.append(f"cannot judge: {', '.join(found[0][1].unjudged)}")
    figures = [
        ns.Figure(
            heading=f"Found: {', '.join(labels)}",
            picture=ns.draw(path, one),
            title=path.name,
            lines=(_counted(one), _ran(one.decision)),
        )
        for path, one in seen[:SHOWN]
    ]
    return Sense(lines=tuple(lines), figures=tuple(figures)), tuple(path for path, _ in seen)


def captioned(looks: Mapping[Path, ns.Look]) -> Sense:
    """Say what the first few pictures show, in both languages."""
    said = [(path, look.caption(), look.caption("zh")) for path, look in list(looks.items())[:SHOWN]]
    figures = [
        ns.Figure(
            heading="Said, by a small model that mostly invents where pictures are unlike those it learned from",
            picture=ns.read_image(path, size_hint=(480, 480)),
            title=en.text,
            lines=(zh.text, f"confidence {en.confidence:.2f} / {zh.confidence:.2f}; {_ran(en.decision)}"),
        )
        for path, en, zh in said
    ]
    lines = [f"{path.name}: {en.text} ({en.confidence:.2f}) / {zh.text}" for path, en, zh in said]
    return Sense(lines=tuple(lines), figures=tuple(figures))


def asked(gallery: ns.Gallery, questions: Sequence[str]) -> Sense:
    """Let the agent answer questions about the gallery."""
    agent = ns.Agent(gallery=gallery)
    answers = [(question, agent.run(question)) for question in questions]
    figures = [
        ns.Figure(
            heading="Asked",
            picture=_shown(answer.items[0].path) if answer.items else None,
            title=question,
            lines=(
                answer.text,
                *(f"{step.tool} {_arguments(step.arguments)}" for step in answer.steps),
            ),
        )
        for question, answer in answers
    ]
    return Sense(lines=tuple(f"{question}  ->  {answer.text}" for question, answer in answers), figures=tuple(figures))


def _arguments(arguments: Mapping[str, object]) -> str:
    return ", ".join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items() if value != ""
    )


def _shown(path: Path) -> Image.Image | None:
    try:
        return ns.read_image(path, size_hint=(480, 480))
    except ns.InputError:
        return None


def _counted(found: ns.Detections) -> str:
    counts: dict[str, int] = {}
    for label in found.labels:
        counts[label] = counts.get(label, 0) + 1
    best = {label: float(found.scores[found.labels.index(label)]) for label in counts}
    return ", ".join(f"{count} {label} ({best[label]:.2f})" for label, count in counts.items()) or "nothing"


def _ran(decision: ns.Decision | None) -> str:
    if decision is None:
        return "-"
    spent = "" if decision.measured is None else f", {decision.measured.latency_ms:.0f} ms"
    return f"{decision.target} {decision.precision}{spent}"


def watched(pictures: Sequence[Path], labels: Sequence[str], home: Path) -> tuple[Sense, Path, str]:
    """Watch a clip made of a few pictures.

    Args:
        pictures: what the clip slides over; best those in which the detector finds something.
        labels: what to look for; only names of the detector's classes are taken.
        home: folder for the clip, the configuration and what comes of them.

    Returns:
        What is to be said, the gallery of the clip's events, and what appeared most; empty where nothing did.

    Raises:
        RuntimeError: if `nearsight watch` fails.
    """
    clip, count = _clip(pictures[:SHOWN], home / "clip")
    config = home / "watch.toml"
    classes = json.dumps([label for label in labels if label in CLASSES])
    config.write_text(
        f'[camera]\nname = "tour"\nsource = "{clip.name}"\nfps = {FPS}\nstart = 2026-01-01T12:00:00\n\n'
        f'[detect]\nlabels = {classes}\n\n[[line]]\nname = "middle"\n{LINE}\n\n'
        '[events]\nout = "events.jsonl"\nthumbnails = "thumbs"\ngallery = "events.nsg"\n',
        encoding="utf8",
    )
    command = [str(NEARSIGHT), "watch", str(config), "--fresh", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf8", check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    events, summary = [row for row in rows if "event" in row], rows[-1]["summary"]
    appeared = ", ".join(f"{number} {label}" for label, number in summary["appeared"].items()) or "nothing"
    crossed = sum(row["event"] == "crossing" for row in events)
    pace = f"{count} frames, {summary['frames_per_s']:.0f} a second; appeared: {appeared}; {crossed} crossed the middle"
    figures = [
        ns.Figure(
            heading=f"Watched: {MADE}",
            picture=_shown(home / row["thumbnail"]),
            title=f"{row['label']} {row['track']} {row['event']}" + (f" ({row['direction']})" if row["line"] else ""),
            lines=(f"{row['time']}, frame {row['frame']}, score {row['score']:.2f}",),
        )
        for row in events[: 2 * SHOWN]
        if row["thumbnail"]
    ]
    most = max(summary["appeared"], key=summary["appeared"].get, default="")
    return Sense(lines=(pace,), figures=tuple(figures)), home / "events.nsg", most


def counting(label: str) -> str:
    """Ask how many of one class there were in the clip."""
    return f"How many {PLURALS.get(label, f'{label}s')} were there at tour?"


def _clip(pictures: Sequence[Path], folder: Path) -> tuple[Path, int]:
    """Lay pictures side by side and slide a window over them; gives the folder of frames and how many there are."""
    width, height = FRAME_WH
    strips = []
    for path in pictures:
        picture = ns.read_image(path, size_hint=(2 * width, 2 * height))
        strips.append(picture.resize((max(1, round(picture.width * height / picture.height)), height)))
    band = Image.new("RGB", (sum(strip.width for strip in strips) + 2 * width, height), "#777")
    at = width
    for strip in strips:
        band.paste(strip, (at, 0))
        at += strip.width
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    places = range(0, band.width - width, STEP)
    for number, left in enumerate(places):
        band.crop((left, 0, left + width, height)).save(folder / f"{number:04d}.jpg", quality=90)
    return folder, len(places)
