"""What happens in front of a camera, and its picture; pure."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

APPEARED, CROSSING = "appeared", "crossing"
# Share of the box's sides that a picture shows around it.
_MARGIN = 0.25
# Tag numbers. Source: CIPA DC-008 (Exif 3.0), tables 4 to 8.
_MODEL, _EXIF_FOLDER = 0x0110, 0x8769
_TIME_ORIGINAL, _SUBSECONDS_ORIGINAL, _OFFSET_ORIGINAL = 0x9003, 0x9291, 0x9011


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in front of a camera.

    Attributes:
        time: capture time of the frame.
        camera: name of the camera.
        run: which watch saw it: one run over a source, however often it was stopped and resumed.
        event: "appeared" (a thing is seen for certain) or "crossing".
        label: what it is.
        track: number of the thing, its own within one run.
        score: of the detection in this frame.
        box_xyxy: in pixels of the frame.
        frame: index of the frame in the source.
        line, direction: of a crossing, else None.
        thumbnail: path of its picture, from the folder of the events file.
    """

    time: datetime
    camera: str
    event: str
    label: str
    track: int
    score: float
    box_xyxy: tuple[float, ...]
    frame: int
    line: str | None = None
    direction: str | None = None
    thumbnail: str = ""
    run: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it this event: the same frames, looked at again, give the same keys."""
        return self.frame, self.event, self.label, self.track, self.line, self.direction

    def to_dict(self) -> dict[str, Any]:
        """Give the event in the form of the events file."""
        return {
            "time": self.time.isoformat(),
            "camera": self.camera,
            "run": self.run,
            "event": self.event,
            "label": self.label,
            "track": self.track,
            "score": round(self.score, 4),
            "box_xyxy": [round(side, 1) for side in self.box_xyxy],
            "frame": self.frame,
            "line": self.line,
            "direction": self.direction,
            "thumbnail": self.thumbnail,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Event:
        """Read one line of the events file."""
        return cls(**{**values, "time": datetime.fromisoformat(values["time"]), "box_xyxy": tuple(values["box_xyxy"])})

    def metadata(self) -> dict[str, Any]:
        """Give what the gallery keeps beside the picture; names without a value are left out."""
        told = {name: getattr(self, name) for name in ("run", "event", "label", "track", "line", "direction")}
        return {"kind": "event", **{name: value for name, value in told.items() if value not in (None, "")}}

    def file_name(self) -> str:
        """Name its picture; no two events share a name, whatever watch they are of."""
        parts = [self.camera, self.run, f"{self.frame:06}", self.event, str(self.track), self.line]
        return "-".join(escaped(part) for part in parts if part) + ".jpg"


def thumbnail(pixels: NDArray[np.uint8], event: Event) -> bytes:
    """Cut an event's picture out of its frame, with EXIF time and camera.

    Args:
        pixels: uint8 (h, w, 3), RGB.
        event: what it shows.

    Returns:
        A JPEG file.
    """
    x1, y1, x2, y2 = event.box_xyxy
    wide, high = _MARGIN * (x2 - x1), _MARGIN * (y2 - y1)
    frame = Image.fromarray(pixels)
    left, top = max(int(x1 - wide), 0), max(int(y1 - high), 0)
    right, bottom = min(int(x2 + wide) + 1, frame.width), min(int(y2 + high) + 1, frame.height)
    file = io.BytesIO()
    cut = frame.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    cut.save(file, "JPEG", quality=90, exif=_exif(event))
    return file.getvalue()


def _exif(event: Event) -> Image.Exif:
    exif = Image.Exif()
    # As bytes: text goes through ASCII.
    exif[_MODEL] = event.camera.encode()
    details = exif.get_ifd(_EXIF_FOLDER)
    details[_TIME_ORIGINAL] = event.time.strftime("%Y:%m:%d %H:%M:%S")
    details[_SUBSECONDS_ORIGINAL] = f"{event.time.microsecond:06}"
    offset = event.time.strftime("%z")
    if offset:
        details[_OFFSET_ORIGINAL] = f"{offset[:3]}:{offset[3:5]}"
    return exif


def escaped(part: str) -> str:
    """Escape what a file name may not hold; different texts stay different."""
    return re.sub(r"[^\w.-]", lambda found: f"%{ord(found[0]):x}", part)
