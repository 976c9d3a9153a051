"""Draws detections onto a picture: one colour a label, the label and its score on each box."""

from __future__ import annotations

import colorsys
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from nearsight.detect.boxes import SIMILAR, Detections
from nearsight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

HUES = 24
REACH = 6  # heights that the tag of a label's best box may be away from it
# Fonts with Chinese characters that systems carry; Pillow looks for the file names in the system's font folders.
HAN_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "PingFang.ttc",
    "STHeiti Light.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "simhei.ttf",
    "simsun.ttc",
)
_NO_GLYPH = "\U0010ffff"

Tag = tuple[float, float, float, float]
Named = tuple[str, str, str, float]  # label, class, route, score
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw(image: Any, found: Detections) -> Image.Image:
    """Draw boxes and labels onto a copy of a picture.

    A label is written as it was asked for. Where it needs characters (Chinese ones, mostly) that no font on this
    system has, the English name of the class stands instead. A box of the route "similar" is marked with a question
    mark and the class that was seen. A box that several labels share gets one tag with all of them. Where boxes crowd,
    the best box of every label is labelled first, then the better ones; a colour tells the others' label.

    Args:
        image: The picture that the boxes belong to; anything that `read_image` takes.
        found: Boxes, in pixels of that picture.

    Returns:
        A new RGB picture.

    Raises:
        PictureUnreadableError: If the picture cannot be read.
        InputError: If the boxes belong to a picture of another size, or are no `Detections`.
    """
    from nearsight.pictures import read_image

    if not isinstance(found, Detections):
        raise InputError(f"{type(found).__name__} was to be drawn; give the Detections that detect() gave")
    picture = read_image(image)
    if picture.size != found.size_wh:
        width, height = found.size_wh
        raise InputError(
            f"the boxes belong to a picture of {width} x {height} pixels, this one has {picture.width} x "
            f"{picture.height}; draw on the picture that was given to detect()"
        )
    pen = ImageDraw.Draw(picture)
    colours = colours_of(found.labels)
    size = max(11, min(picture.size) // 30)
    # The best box last, on top of the others; then what is written, each where there is room.
    rows = list(zip(found.boxes_xyxy.tolist(), (colours[label] for label in found.labels), strict=True))
    for (left, top, right, bottom), colour in reversed(rows):
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=max(2, size // 7))
    tags = _Tags(pen, picture.size, size)
    named = list(zip(found.labels, found.classes, found.routes, found.scores.tolist(), strict=True))
    for places, first in in_turn(found):
        (left, top, _, _), colour = rows[places[0]]
        tags.write((left, top), [named[place] for place in places], colour, REACH if first else 1)
    return picture


def in_turn(found: Detections) -> list[tuple[list[int], bool]]:
    """Say which boxes get a tag, and in which order: the best of each label first.

    Returns:
        Numbers of boxes that are the same and share a tag, the best first; and whether one is its label's best box.
    """
    heaps: dict[tuple[float, ...], dict[str, int]] = {}
    bests: dict[str, int] = {}
    for place, (box, label) in enumerate(zip(found.boxes_xyxy.tolist(), found.labels, strict=True)):
        heaps.setdefault(tuple(box), {}).setdefault(label, place)
        bests.setdefault(label, place)
    rows = [
        (list(heap.values()), any(bests[label] == place for label, place in heap.items())) for heap in heaps.values()
    ]
    return sorted(rows, key=lambda row: not row[1])


def colours_of(labels: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Choose a colour for each label: mostly the same from picture to picture, and distinct for up to 24 labels."""
    taken: dict[int, str] = {}
    chosen = {}
    for label in sorted(set(labels)):
        hue = zlib.crc32(label.encode("utf8", "surrogatepass")) % HUES
        while hue in taken and len(taken) < HUES:
            # Seven steps of fifteen degrees: far from the neighbour, and every hue is reached.
            hue = (hue + 7) % HUES
        taken[hue] = label
        red, green, blue = colorsys.hsv_to_rgb(hue / HUES, 0.85, 0.95)
        chosen[label] = (round(red * 255), round(green * 255), round(blue * 255))
    return chosen


class _Tags:
    """Writes labels and scores at boxes' upper left corners, each clear of the tags that are there."""

    def __init__(self, pen: ImageDraw.ImageDraw, picture_wh: tuple[int, int], size: int) -> None:
        self._pen, self._picture_wh, self._size = pen, picture_wh, size
        self._taken: list[Tag] = []
        self._captions: dict[tuple[str, str, str], tuple[str, Font]] = {}

    def write(
        self, corner: tuple[float, float], named: list[Named], colour: tuple[int, int, int], reach: int = 1
    ) -> None:
        """Write the tag of one box: a line for each label, with its class, its route and its score."""
        for label, seen, route, _ in named:
            if (label, seen, route) not in self._captions:
                self._captions[label, seen, route] = caption(label, seen, route, self._size)
        written = [(*self._captions[label, seen, route], score) for label, seen, route, score in named]
        # The font with Chinese characters has the others, too.
        own = _fonts(self._size)[0]
        font = next((font for _, font, _ in written if font is not own), own)
        text = "\n".join(f"{words} {score:.2f}".lstrip() for words, _, score in written)
        x0, y0, x1, y1 = self._pen.textbbox((0, 0), text, font=font)
        margin = max(2, self._size // 6)
        width, height = x1 - x0 + 2 * margin, y1 - y0 + 2 * margin
        place = place_tag(corner, (width, height), self._picture_wh, self._taken, reach)
        if place is None:
            return
        left, top = place
        self._taken.append((left, top, left + width, top + height))
        self._pen.rectangle(self._taken[-1], fill=colour)
        dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
        ink = (0, 0, 0) if dark else (255, 255, 255)
        self._pen.text((left + margin - x0, top + margin - y0), text, font=font, fill=ink)


def place_tag(
    corner: tuple[float, float],
    tag_wh: tuple[float, float],
    picture_wh: tuple[int, int],
    taken: list[Tag],
    reach: int = 1,
) -> tuple[float, float] | None:
    """Choose where a tag goes: above the corner where there is room, otherwise below it, as near as it can be.

    Args:
        corner: The box's left and top.
        tag_wh: Width and height of the tag.
        picture_wh: Width and height of the picture, which the tag shall not leave.
        taken: Tags that are there already.
        reach: How many heights of the tag it may be away.

    Returns:
        Left and top; None where the tags that are there leave no room.
    """
    width, height = tag_wh
    left = max(0.0, min(corner[0], picture_wh[0] - width))
    lowest = max(0.0, picture_wh[1] - height)
    for step in (-1, 0, *(side * far for far in range(1, reach + 1) for side in (1, -1) if side * far != -1)):
        top = min(max(0.0, corner[1] + step * height), lowest)
        free = all(
            left >= right or left + width <= other or top >= bottom or top + height <= upper
            for other, upper, right, bottom in taken
        )
        if free:
            return left, top
    return None


def caption(label: str, seen: str, route: str, size: int) -> tuple[str, Font]:
    """Give what is written on a box beside its score, and a font that has the characters for it."""
    label = " ".join(label.split())
    shown = f"{label}? {seen}" if route == SIMILAR else label
    for text in (shown, f"{seen}?" if route == SIMILAR else seen):
        font = next((font for font in _fonts(size) if _has(font, text)), None)
        if font is not None:
            return text, font
    return "", _fonts(size)[0]


@cache
def _fonts(size: int) -> tuple[Font, ...]:
    """Pillow's own font, then the first one with Chinese characters that this system has, if any."""
    own = ImageFont.load_default(size)
    for name in HAN_FONTS:
        try:
            return own, ImageFont.truetype(name, size)
        except (OSError, ImportError):
            # Not on this system, or a Pillow without FreeType.
            continue
    return (own,)


def _has(font: Font, text: str) -> bool:
    """Whether a font has every character of a text, found by comparing with the box it draws for what it lacks."""
    try:
        missing = bytes(font.getmask(_NO_GLYPH))
        return all(bytes(font.getmask(letter)) != missing for letter in set(text) if not letter.isspace())
    except (OSError, UnicodeEncodeError):
        # A bitmap font, or half a surrogate pair.
        return text.isascii() and text.isprintable()
