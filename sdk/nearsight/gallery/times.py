"""Turn what people write for a time into bounds that a database can compare; pure.

A camera that writes no zone means its own wall clock. Such pictures are compared with the wall clock of the filter, and
pictures with a zone by the instant. A filter without a zone is local time, so both readings of it are known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

from nearsight.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One point in time, as an instant and as a local clock shows it.

    Attributes:
        instant_s: seconds since 1970 in UTC.
        wall_s: seconds from 1970-01-01 00:00 to the local wall clock's reading.
    """

    instant_s: float
    wall_s: float


def stamp(time: datetime | None) -> tuple[str | None, float | None, bool]:
    """Give what the database keeps of a capture time: ISO text, seconds, and whether they are an instant."""
    if time is None:
        return None, None, False
    zoned = time.utcoffset() is not None
    seconds = time.timestamp() if zoned else time.replace(tzinfo=UTC).timestamp()
    return time.isoformat(), seconds, zoned


def moment(value: str | date, name: str) -> Moment:
    """Read a bound of a time filter.

    Args:
        value: ISO 8601 text ("2026-05-01T18:00", "2026-05-01", "2026-05", "2026", with or without zone), `datetime` or
            `date`. A date means its first moment; without a zone it is local time.
        name: name of the argument, for the message.

    Raises:
        InputError: when the text is not ISO 8601, or the value is of another type.
    """
    if isinstance(value, datetime):
        time = value
    elif isinstance(value, date):
        time = datetime(value.year, value.month, value.day)
    elif isinstance(value, str):
        time = _parsed(value, name)
    else:
        raise InputError(
            f'{name}={value!r} is not a time; give ISO 8601 text such as "2026-05-01T18:00", or a datetime'
        )
    try:
        if time.utcoffset() is None:
            return Moment(instant_s=time.astimezone().timestamp(), wall_s=time.replace(tzinfo=UTC).timestamp())
        return Moment(instant_s=time.timestamp(), wall_s=time.astimezone().replace(tzinfo=UTC).timestamp())
    except (OverflowError, ValueError, OSError):
        # At the ends of the calendar a zone cannot be applied, and does not matter.
        seconds = time.replace(tzinfo=UTC).timestamp()
        return Moment(instant_s=seconds, wall_s=seconds)


def _parsed(text: str, name: str) -> datetime:
    short = re.fullmatch(r"\s*(\d{4})(?:-(\d{2}))?\s*", text)
    try:
        if short is not None:
            return datetime(int(short[1]), int(short[2] or 1), 1)
        return datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InputError(
            f'{name}="{text}" is not ISO 8601; write it as 2026-05-01 or 2026-05-01T18:00+08:00'
        ) from error
