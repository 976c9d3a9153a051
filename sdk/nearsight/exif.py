"""What a picture's EXIF block says about its orientation, its time and its camera; pure."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

# Tag numbers. Source: CIPA DC-008 (Exif 3.0), tables 4 to 8.
_ORIENTATION, _MODEL, _EXIF_FOLDER = 0x0112, 0x0110, 0x8769
_TIME_ORIGINAL, _SUBSECONDS_ORIGINAL, _OFFSET_ORIGINAL = 0x9003, 0x9291, 0x9011

# What Pillow raises on a damaged block; a picture with one is still a picture. (UserWarning: where the caller has made
# warnings errors.)
_BLOCK_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    UserWarning,
    struct.error,
)

_TIME = re.compile(r"\s*(\d{4})[:/.-](\d{1,2})[:/.-](\d{1,2})[ T]+(\d{1,2}):(\d{2})(?::(\d{2}))?")
_OFFSET = re.compile(r"\s*([+-])(\d{2}):?(\d{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What a picture's EXIF says about where it came from.

    Attributes:
        captured_at: time of exposure; without a zone where the camera wrote none.
        camera: the camera's model.
        size_wh: width and height of the upright picture in full, however small a part of its pixels was decoded; None
            where nothing was decoded.
    """

    captured_at: datetime | None = None
    camera: str | None = None
    size_wh: tuple[int, int] | None = None


def orientation(picture: Image.Image) -> int:
    """Give the EXIF orientation, 1 (upright) to 8; 1 where there is none or it makes no sense."""
    value = _block(picture).get(_ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def facts(picture: Image.Image) -> PictureFacts:
    """Read time and camera from an opened picture's EXIF block.

    Args:
        picture: a picture as Pillow opened it, before any conversion.
    """
    block = _block(picture)
    try:
        details: dict[int, Any] = dict(block.get_ifd(_EXIF_FOLDER)) if hasattr(block, "get_ifd") else {}
    except _BLOCK_ERRORS:
        details = {}
    return PictureFacts(
        captured_at=_time(
            _text(details.get(_TIME_ORIGINAL)),
            _text(details.get(_SUBSECONDS_ORIGINAL)),
            _text(details.get(_OFFSET_ORIGINAL)),
        ),
        camera=_text(block.get(_MODEL)) or None,
    )


def _block(picture: Image.Image) -> Any:
    try:
        block = picture.getexif()
        # The block is parsed lazily; a damaged one shows here.
        block.get(_ORIENTATION)
    except _BLOCK_ERRORS:
        return {}
    return block


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    with suppress(UnicodeError):
        # Pillow reads bytes as Latin-1; what is UTF-8 as well was meant as that.
        value = value.encode("latin-1").decode("utf-8")
    printable = "".join(character if character.isprintable() else " " for character in value.split("\0")[0])
    return " ".join(printable.split())


def _time(time: str, subseconds: str, offset: str) -> datetime | None:
    found = _TIME.match(time)
    if found is None:
        return None
    digits = re.match(r"\d+", subseconds)
    microsecond = int((digits[0] + "000000")[:6]) if digits else 0
    zone: timezone | None = None
    shift = _OFFSET.match(offset)
    try:
        if shift is not None:
            minutes = int(shift[2]) * 60 + int(shift[3])
            zone = timezone(timedelta(minutes=-minutes if shift[1] == "-" else minutes))
        elif offset.upper() == "Z":
            zone = UTC
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
        return datetime(year, month, day, hour, minute, second, microsecond, zone)
    except ValueError:
        # Cameras without a clock write zeros.
        return None
