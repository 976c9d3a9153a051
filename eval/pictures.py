"""Successes and failures as pictures: a contact sheet for each model card, of all free photographs that packages carry.

Nothing is chosen: every photograph of `FREE` is on each sheet, and a rule says what is right.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from eval import carried, detection, sets
from eval.precision import Boxes
from PIL import Image, ImageDraw, ImageFont

import nearsight as ns
from nearsight.caption.nouns import nouns, related
from nearsight.detect import draw

CARDS = Path(__file__).parent.parent / "docs" / "cards"
MOST_BYTES = 150_000
# Of the carried photographs those that may be handed on: in the public domain, CC0, or (the last two) CC BY 2.0.
FREE = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "retina.jpg", "rocket.jpg", "text.png", "china.jpg", "flower.jpg",
)  # fmt: skip
RIGHT, PARTLY, WRONG = (0, 140, 60), (230, 140, 0), (200, 30, 30)
LANGUAGES = ("en", "zh")
Texts = dict[str, dict[str, list[str]]]  # by file name and language
EDGE, LINE, SIZE = 6, 15, 12
FRAME_WH = (1920, 1080)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One picture of a sheet, what is written below it, and the colour of its verdict."""

    picture: Image.Image
    lines: Sequence[str]
    verdict: tuple[int, int, int]


def photographs(folder: Path = carried.PHOTOGRAPHS) -> dict[str, Image.Image]:
    """All of `FREE` by file name.

    Raises:
        MissingSetError: If `make demo` has not gathered them yet.
    """
    carried.described()
    return {name: Image.open(folder / name).convert("RGB") for name in FREE}


def searches(shown: dict[str, Image.Image], texts: Texts, encoder: ns.Encoder) -> list[Cell]:
    """Ask for every photograph by its first caption in each language: right where it is the best of them."""
    names = list(shown)
    vectors = encoder.images(list(shown.values())).vectors
    cells = []
    for name in names:
        for language in LANGUAGES:
            text = texts[name][language][0]
            query = encoder.texts([text]).vectors[0]
            order = np.argsort(-(vectors @ query), kind="stable")
            best, place = names[order[0]], int(np.flatnonzero(order == names.index(name))[0]) + 1
            sure = encoder.relevance(query, vectors[order], text, len(names))
            told = f"{Path(best).stem}, relevance {0 if sure is None else sure[0]:.2f}"
            lines = [text, told if best == name else f"{told} (wanted: {Path(name).stem}, it is number {place})"]
            cells.append(Cell(picture=shown[best], lines=lines, verdict=RIGHT if best == name else WRONG))
    return cells


def boxed(classes: Sequence[str]) -> dict[str, Boxes]:
    """What is boxed by eye in each photograph where every thing with a COCO class is."""
    page = json.loads((sets.NAMES / "carried_boxes.json").read_text(encoding="utf8"))
    return {
        name: Boxes(
            xyxy=np.array([row[1:] for row in rows], np.float32).reshape(-1, 4),
            classes=np.array([classes.index(row[0]) for row in rows], int),
            scores=np.ones(len(rows)),
            crowd=np.zeros(len(rows), bool),
        )
        for name, rows in page.items()
    }


def finds(shown: dict[str, Image.Image], true: dict[str, Boxes], detector: ns.Detector) -> list[Cell]:
    """Ask every photograph that is boxed, and a frame full of them, for the 80 names at the default threshold."""
    cells = [found(name, shown[name], true[name], detector) for name in shown if name in true]
    frame, boxes = together({name: shown[name] for name in shown if name in true}, true)
    return [*cells, found("all in one frame", frame, boxes, detector), found("with tiles=3", frame, boxes, detector, 3)]


def found(name: str, picture: Image.Image, true: Boxes, detector: ns.Detector, tiles: int | None = None) -> Cell:
    """Draw what is right, wrong, and missed; right as COCO has it: the same class, and half of both boxes shared."""
    seen = detection.numbered(detector.detect(picture, detector.classes, tiles=tiles), detector.classes)
    right, missed = np.zeros(len(seen.classes), bool), np.ones(len(true.classes), bool)
    for number in set(true.classes.tolist()):
        theirs, mine = np.flatnonzero(seen.classes == number), np.flatnonzero(true.classes == number)
        missed[mine] = ~np.array(detection.seen(true.xyxy[mine], seen.of(number)), bool)
        for place in theirs:
            right[place] = max(detection.seen(true.xyxy[mine], of(seen, place)), default=False)
    pen = ImageDraw.Draw(drawn := picture.copy())
    width = max(2, max(picture.size) // 120)
    for boxes, which, colour in ((true, missed, PARTLY), (seen, ~right, WRONG), (seen, right, RIGHT)):
        for box in boxes.xyxy[which]:
            pen.rectangle(tuple(box.tolist()), outline=colour, width=width)
    counts = {"right": int(right.sum()), "wrong": int((~right).sum()), "missed": int(missed.sum())}
    named = [f"{detector.classes[c]} {s:.2f}" for c, s in zip(seen.classes, seen.scores, strict=True)]
    lost = [f"no {detector.classes[c]}" for c in true.classes[missed]]
    lines = [f"{Path(name).stem}: {', '.join(f'{n} {what}' for what, n in counts.items() if n) or 'nothing there'}"]
    verdict = RIGHT if not counts["wrong"] + counts["missed"] else PARTLY if counts["right"] else WRONG
    return Cell(picture=drawn, lines=[*lines, ", ".join([*named, *lost])], verdict=verdict)


def of(boxes: Boxes, place: int) -> Boxes:
    """One box of several."""
    one = slice(place, place + 1)
    return Boxes(xyxy=boxes.xyxy[one], classes=boxes.classes[one], scores=boxes.scores[one], crowd=boxes.crowd[one])


def together(shown: dict[str, Image.Image], true: dict[str, Boxes]) -> tuple[Image.Image, Boxes]:
    """Put photographs side by side into one full-HD frame, with their boxes."""
    columns = int(np.ceil(np.sqrt(len(shown))))
    cell = (FRAME_WH[0] // columns, FRAME_WH[1] // int(np.ceil(len(shown) / columns)))
    frame, boxes = Image.new("RGB", FRAME_WH), []
    for number, (name, picture) in enumerate(shown.items()):
        share = min(cell[0] / picture.width, cell[1] / picture.height)
        corner = (number % columns * cell[0], number // columns * cell[1])
        frame.paste(picture.resize((round(picture.width * share), round(picture.height * share))), corner)
        boxes.append(true[name].xyxy * share + np.array(corner * 2, np.float32))
    classes = np.concatenate([true[name].classes for name in shown])
    blank = np.zeros(len(classes), bool)
    return frame, Boxes(xyxy=np.concatenate(boxes), classes=classes, scores=np.ones(len(classes)), crowd=blank)


def sayings(
    shown: dict[str, Image.Image], texts: dict[str, dict[str, list[str]]], captioner: ns.Captioner
) -> list[Cell]:
    """Caption every photograph in each language: right where people's captions name every thing that it names."""
    cells = []
    for name, picture in shown.items():
        there = {lang: [thing for text in texts[name][lang] for _, thing in nouns(text, lang)] for lang in LANGUAGES}
        people = [thing for things in there.values() for thing in things]
        for language in LANGUAGES:
            said = captioner.caption(picture, language)
            named = [any(related(thing, one) for one in people) for _, thing in nouns(said.text, language)]
            verdict = WRONG if not any(named) else RIGHT if all(named) else PARTLY
            doubted = ", ".join(noun for noun, seen in said.grounding if not seen)
            lines = [said.text, f"confidence {said.confidence:.2f}" + (f"; not seen: {doubted}" if doubted else "")]
            cells.append(Cell(picture=picture, lines=lines, verdict=verdict))
    return cells


def sheet(title: str, cells: Sequence[Cell], columns: int, thumb_wh: tuple[int, int]) -> Image.Image:
    """Lay cells out below a title."""
    width = (thumb_wh[0] + 2 * EDGE) * columns
    written = [[part for line in cell.lines for part in wrapped(line, thumb_wh[0])] for cell in cells]
    heading = wrapped(title, width - 2 * EDGE)
    rows = [range(at, min(at + columns, len(cells))) for at in range(0, len(cells), columns)]
    heights = [thumb_wh[1] + 3 * EDGE + LINE * max(len(written[at]) for at in row) for row in rows]
    page = Image.new("RGB", (width, sum(heights) + LINE * len(heading) + 2 * EDGE), (255, 255, 255))
    pen = ImageDraw.Draw(page)
    write(pen, (EDGE, EDGE), heading)
    top = LINE * len(heading) + 2 * EDGE
    for row, height in zip(rows, heights, strict=True):
        for column, at in enumerate(row):
            left = column * (thumb_wh[0] + 2 * EDGE) + EDGE
            small = cells[at].picture.copy()
            small.thumbnail(thumb_wh, Image.Resampling.LANCZOS)
            pen.rectangle(
                (left - 4, top - 4, left + small.width + 3, top + small.height + 3), outline=cells[at].verdict, width=4
            )
            page.paste(small, (left, top))
            write(pen, (left, top + thumb_wh[1] + EDGE), written[at])
        top += height
    return page


def wrapped(line: str, width: int) -> list[str]:
    """Break a line where it grows wider than so many pixels: between words, or Chinese characters."""
    rows, row = [], ""
    for part in (word for piece in line.split(" ") for word in ([f"{piece} "] if piece.isascii() else [*piece, " "])):
        whole = row + part
        if row and font(whole).getlength(whole.rstrip()) > width:
            rows.append(row.rstrip())
            whole = part
        row = whole
    return [*rows, row.rstrip()]


def font(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, or one with Chinese characters where they are needed and the system has one."""
    fonts = draw._fonts(SIZE)  # noqa: SLF001
    return fonts[0] if text.isascii() else fonts[-1]


def write(pen: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Iterable[str]) -> None:
    """Write lines one below the other."""
    for number, line in enumerate(lines):
        pen.text((corner[0], corner[1] + number * LINE), line, fill=(0, 0, 0), font=font(line))


def saved(page: Image.Image, path: Path) -> int:
    """Write a JPEG file that is small enough, as finely as that allows; its bytes."""
    for quality in range(88, 20, -4):
        page.save(data := io.BytesIO(), "JPEG", quality=quality, optimize=True)
        if data.tell() <= MOST_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.getvalue())
    return data.tell()


def tally(cells: Sequence[Cell]) -> dict[str, int]:
    """How many are right, right in part, and wrong."""
    kinds = (("right", RIGHT), ("partly", PARTLY), ("wrong", WRONG))
    return {name: sum(cell.verdict == colour for cell in cells) for name, colour in kinds}


TITLES = {
    "nano": "nano: the best picture for a query, which is the first caption of each photograph. Green: it is that one; "
    "red: another.",
    "nano-detect": "nano-detect: the 80 names at the default threshold. Green boxes are right, red ones wrong, orange "
    "ones missed. Edges: green, all right; orange, in part; red, nothing right.",
    "nano-caption": "nano-caption: green, every thing that the caption names is named by people, too; orange, some; "
    "red, none.",
}


def measure() -> dict[str, dict[str, int]]:
    """Draw the three sheets into docs/cards, and count."""
    shown, texts = photographs(), carried.described()
    detector = ns.Detector("nano")
    pages = {
        "nano": (searches(shown, texts, ns.Encoder("nano")), 5, (176, 132)),
        "nano-detect": (finds(shown, boxed(detector.classes), detector), 4, (236, 170)),
        "nano-caption": (sayings(shown, texts, ns.Captioner("nano")), 5, (176, 132)),
    }
    counts = {}
    for name, (cells, columns, thumb_wh) in pages.items():
        size = saved(sheet(TITLES[name], cells, columns, thumb_wh), CARDS / f"{name}.jpg")
        counts[name] = {"cells": len(cells), **tally(cells), "bytes": size}
    return counts
