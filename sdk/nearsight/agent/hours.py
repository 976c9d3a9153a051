"""The time of day that a text names: which of two readings an hour without am or pm has; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearsight.agent import timewords as words

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

_NAMED = {"noon": 12.0, "midnight": 24.0}
# Up to this hour, one without am or pm is in the afternoon.
WAKING_PM = 6
SIGNS = {
    "以后": "after", "之后": "after", "后": "after", "过后": "after", "以来": "since", "开始": "since", "自": "since",
    "自从": "since", "到现在": "since", "一直到现在": "since", "到目前": "since", "至今": "since",
    "以前": "before", "之前": "before", "前": "before", "左右": "around", "前后": "around",
    "about": "around", "till": "until", "by": "until", "up to": "until", "from": "since",
}  # fmt: skip


class Text:
    """A text out of which phrases are taken."""

    def __init__(self, text: str) -> None:
        self.left = text

    def take(self, start: int, end: int) -> None:
        """Take out what stands between two places."""
        # One gap for neighbouring phrases, and no blank between a day and its part.
        self.left = self.left[:start] + words.GAP + self.left[end:].lstrip(" ")

    def first(self, patterns: Iterable[re.Pattern[str]]) -> re.Match[str] | None:
        """Take out the first match of the first pattern that has one."""
        for pattern in patterns:
            found = pattern.search(self.left)
            if found is not None:
                self.take(*found.span())
                return found
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """An hour as written: all hours of a day (or two) that it may mean."""

    choices: tuple[float, ...]
    exact: bool

    @property
    def usual(self) -> float:
        """The reading where nothing else decides."""
        if len(self.choices) == 1:
            return self.choices[0]
        low = self.choices[0]
        return low + 12 if low < WAKING_PM + 1 else low

    def within(self, window: tuple[float, float], *, end: bool = False) -> float:
        """Choose the reading inside a part of the day, or the nearest to it."""

        def away(hour: float) -> float:
            inside = window[0] <= hour < window[1] or (end and hour == window[1])
            return 0.0 if inside else min(abs(hour - window[0]), abs(hour - window[1]))

        return min((hour + more for more in (0, 24) for hour in self.choices), key=away)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A time of day: `after`, `before`, `since`, `until`, `at`, `around` one hour, or `between` two."""

    sign: str
    first: Hour
    second: Hour | None = None
    late: float = 24.0


def hours_of(clock: Clock | None, part: tuple[float, float] | None) -> tuple[float, float]:
    """Give the first and the last hour of a day, from 24 on of the next, that a clock and a part of the day mean."""
    if clock is None:
        assert part is not None
        return part
    low, high = part or (0.0, clock.late)
    if clock.second is not None:
        return _pair(clock.first, clock.second, part)
    hour = clock.first.within(part, end=clock.sign in {"before", "until"}) if part else clock.first.usual
    return {
        "after": (hour, max(high, hour + 1)),
        "since": (hour, max(high, hour + 1)),
        "before": (min(low, hour - 1), hour),
        "until": (min(low, hour - 1), hour),
        "around": (hour - 0.5, hour + 0.5),
    }.get(clock.sign, (hour, hour + (0.5 if clock.first.exact else 1.0)))


def _pair(first: Hour, second: Hour, part: tuple[float, float] | None) -> tuple[float, float]:
    """Choose both ends of "between 2 and 4": what is fixed (4 pm, a part of the day) decides for the other."""
    if part is not None:
        low = first.within(part)
    elif len(second.choices) == 1 and len(first.choices) > 1:
        earlier = [hour for hour in first.choices if hour < second.choices[0]]
        low = max(earlier) if earlier else first.usual
    else:
        low = first.usual
    return low, min(hour + more for more in (0, 24) for hour in second.choices if hour + more > low)


def put_back(clock: Clock | None, part: tuple[float, float] | None, low: float, now: float, *, today: bool) -> int:
    """Say by how many hours a time of today that is still to come is put back: to its other reading, or by a day.

    Args:
        clock: as written.
        part: the part of the day that is named.
        low: the first hour as it was read.
        now: the hour of now.
        today: whether "today" was said; else yesterday will do.
    """
    twofold = clock is not None and part is None and len(clock.first.choices) > 1
    if low <= now:
        return 0
    if twofold and low - 12 <= now and (low >= 12 or not today):
        return 12
    return 0 if today else 24


def take_clock(source: Text) -> Clock | None:
    """Take the time of day out of a text; a bare number that nothing makes an hour stays."""
    for found in words.CLOCK_RANGE.finditer(source.left):
        bare = _is_bare(found, "1") and _is_bare(found, "2")
        # "gates 3 and 4" and "从3到5号" name no hours.
        if bare and (not found["lead"] or words.is_chinese(source.left[found.end() :].lstrip()[:1])):
            continue
        if bare is False and found["link"] in {"and", "和"} and not found["lead"]:
            continue
        if _in_day(found, "1") and _in_day(found, "2"):
            source.take(*found.span())
            return Clock(sign="between", first=_hour(found, "1"), second=_hour(found, "2"))
    for found in words.CLOCK.finditer(source.left):
        sign = (found["after"] or found["sign"] or "").lower()
        named = bool(sign) or words.PART_FOLLOWS.match(source.left, found.end())
        if (named or not _is_bare(found, "1")) and _in_day(found, "1"):
            source.take(*found.span())
            late = float(words.PARTS.get(found["pre1"] or "", (0, 24))[1])
            return Clock(sign=SIGNS.get(sign, sign) or "at", first=_hour(found, "1"), late=max(24.0, late))
    return None


def _is_bare(found: re.Match[str], which: str) -> bool:
    return not any(found[name + which] for name in ("zh", "ap", "min", "half")) and found["h" + which] not in _NAMED


def _in_day(found: re.Match[str], which: str) -> bool:
    text = (found["zh" + which] or found["h" + which]).lower()
    return text in _NAMED or words.number(text) <= 24


def _hour(found: re.Match[str], which: str) -> Hour:
    han, text = found["zh" + which], (found["h" + which] or "").lower()
    text_minutes = found["min" + which] or found["zmin" + which]
    minutes = 30 if found["half" + which] or found["zhalf" + which] else 15 if found["zquarter" + which] else 0
    minutes = int(words.number(text_minutes)) if text_minutes else minutes
    hour = _NAMED.get(text) or words.number(han or text)
    part, half_day, share = found["pre" + which], (found["ap" + which] or "").lower(), minutes / 60
    if half_day:
        choices: tuple[float, ...] = (hour % 12 + (12 if half_day == "p" else 0) + share,)
    elif text in _NAMED or hour > 12 or hour == 0 or (text.startswith("0") and len(text) == 2):
        choices = (hour + share,)
    else:
        choices = (hour % 12 + share, hour % 12 + 12 + share)
        if hour == 12:
            choices = (12 + share, 24 + share)
    made = Hour(choices=choices, exact=minutes > 0)
    if part is None:
        return made
    return Hour(choices=(made.within(words.PARTS[part]),), exact=made.exact)


def take_part(source: Text, *, given: bool) -> tuple[float, float] | None:
    """Read a part of the day; alone, "晚上的城市" and "at night" belong to the picture, not to the time."""
    found = words.PART.search(source.left)
    if found is None or (not given and source.left[found.end() : found.end() + 1] == "的"):
        return None
    source.take(*found.span())
    low, high = words.PARTS[" ".join((found["en"] or found["zh"] or found["one"]).lower().split())]
    return float(low), float(high)
