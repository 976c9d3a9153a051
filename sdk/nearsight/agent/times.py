"""Read the time in a question ("yesterday after six", "昨天下午三点到五点") as a span from one moment to another; pure.

The rules, where words leave it open: an hour from 1 to 6 without am or pm is in the afternoon, from 7 to 11 in the
morning, 12 is noon, unless a part of the day is named, or that would be later than now. Morning is 5 to 12, afternoon
12 to 18, evening 18 to 24, night 18 to 6. A day or month without a year is the latest that has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from nearsight.agent import timewords as words
from nearsight.agent.days import back, day_span, is_a_day, midnight, period
from nearsight.agent.hours import SIGNS, Clock, Text, hours_of, put_back, take_clock, take_part

if TYPE_CHECKING:
    import re


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From one moment (inclusive) to another (exclusive); None leaves a side open."""

    after: datetime | None = None
    before: datetime | None = None

    def iso(self) -> tuple[str, str]:
        """Give both ends as ISO 8601 text, an open one as ""."""
        after, before = ("" if end is None else end.isoformat(timespec="seconds") for end in (self.after, self.before))
        return after, before


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a text says about time.

    Attributes:
        span: the time meant; None where none is named.
        rest: the text without the words that named it; a line break stands where they were.
        notes: how an open wording was taken.
        unread: further words for a time that were not understood.
    """

    span: Span | None
    rest: str
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def read_times(text: str, now: datetime) -> Reading:
    """Find the time that a text names.

    Args:
        text: a question in English or Chinese.
        now: what "today" and "ago" count from; its zone, or none, is kept.

    Returns:
        Span, remaining text, and how open wordings were taken.
    """
    source, notes = Text(text), list[tuple[str, str]]()
    # Taken out first, or "next Monday" would be a Monday, and "a quarter past six" would be six.
    unread = []
    while (found := source.first((words.UNREAD,))) is not None:
        unread.append(found[0].strip())
    try:
        span = _recent(source, now, notes) or _ago(source, now) or _dated(source, now, notes)
    except (ValueError, OverflowError):
        # "999999 years ago" lies outside the calendar.
        return Reading(span=None, rest=text, unread=(text,))
    # Dates of no calendar, and a second date that belongs to nothing.
    unread += [found[0].strip() for found in words.DAY.finditer(source.left) if is_a_day(found, source.left)]
    if span is not None and span.after is not None and span.after > now:
        notes.append(("this time lies in the future", "这个时间还没到"))
    said = tuple(note[words.is_chinese(text)] for note in notes)
    return Reading(span=span, rest=source.left, notes=said, unread=tuple(unread))


def _recent(source: Text, now: datetime, notes: list[tuple[str, str]]) -> Span | None:
    found = source.first(words.RECENT)
    if found is None:
        return None
    groups = found.groupdict()
    if "unit" not in groups:
        count, unit = (7, "day") if groups.get("lately") else (10, "minute")
        notes.append(
            (
                f'"{found[0]}" was taken for the last {count} {unit}s',
                f"“{found[0]}”按最近{count}{'天' if unit == 'day' else '分钟'}理解",
            )
        )
        return Span(after=back(now, count, unit), before=now)
    return Span(after=back(now, *_amount(found)), before=now)


def _ago(source: Text, now: datetime) -> Span | None:
    """Read "2 hours ago" as half a unit to either side of it; days, weeks and so on go with a time of day."""
    for pattern in words.AGO:
        found = pattern.search(source.left)
        if found is None:
            continue
        count, unit = _amount(found)
        if unit in {"minute", "hour"}:
            source.take(*found.span())
            half = min(1.0, count or 1.0) / 2
            return Span(after=back(now, count + half, unit), before=back(now, max(0.0, count - half), unit))
    return None


def _dated(source: Text, now: datetime, notes: list[tuple[str, str]]) -> Span | None:
    """Put a day, a part of the day and a time of day together."""
    days, sign = _days(source, now)
    clock = take_clock(source)
    part = take_part(source, given=days is not None or clock is not None)
    if days is None and clock is None and part is None:
        return None
    if days is not None and clock is None and part is None:
        return _signed(days, sign)
    today = midnight(now)
    start, end = days or (today, today + timedelta(days=1))
    if end - start > timedelta(days=1):
        several = "a time of day within several days cannot be asked at once; all hours of these days are searched"
        notes.append((several, "暂不支持在多天里限定钟点，按这些天的全部时间查找"))
        return _signed((start, end), sign)
    low, high = hours_of(clock, part)
    if start == today and (less := put_back(clock, part, low, _hour_of(now), today=days is not None)):
        low, high = low - less, high - less if high < 24 or days is None else high
        moment = f"{_at(start, low):%Y-%m-%d %H:%M}"
        notes.append((f"that is still to come, so {moment} is meant", f"这个时间还没到，按{moment}理解"))
    opened = "since" if days is None and clock is not None and clock.sign == "after" else sign
    return _signed((_at(start, low), _at(start, high)), opened if clock is None else _open(clock, opened))


def _open(clock: Clock, sign: str) -> str:
    """Tell which side stays open: "since six yesterday" and "since Monday at six" have no end."""
    if "since" in {clock.sign, sign}:
        return "since"
    return sign if sign in {"before", "until"} and clock.sign == "at" else ""


def _signed(days: tuple[datetime, datetime], sign: str) -> Span:
    start, end = days
    if sign == "since":
        return Span(after=start)
    if sign == "after":
        return Span(after=end)
    if sign in {"before", "until"}:
        return Span(before=start if sign == "before" else end)
    return Span(after=start, before=end)


def _days(source: Text, now: datetime) -> tuple[tuple[datetime, datetime] | None, str]:
    """Read a day, a longer period, or a range of them, and the word that opens one side."""
    ago = source.first(words.AGO)
    if ago is not None:
        count, unit = _amount(ago)
        return period(back(now, count, unit), unit), ""
    for found in words.DAY.finditer(source.left):
        if not is_a_day(found, source.left):
            continue
        days = day_span(found, now)
        if days is None:
            continue
        lead = words.BEFORE_A_DAY.search(source.left[: found.start()])
        assert lead is not None
        sign, start, end = (lead["sign"] or "").lower(), lead.start(), found.end()
        link = words.TO_A_DAY.match(source.left, end)
        other = link and words.DAY.match(source.left, link.end())
        if link and other and (link["to"] != "and" or sign == "between"):
            last = day_span(other, now)
            if last is not None and (other["wd"] or other["zw"]) and not (other["wd_mod"] or other["zw_mod"]):
                # The next such day after the first one, in whichever week that is.
                last = days[0], days[0] + timedelta(days=(last[0].weekday() - days[0].weekday()) % 7 + 1)
            if last is not None and last[1] > days[0]:
                trail = words.AFTER_A_DAY.match(source.left, other.end())
                assert trail is not None
                source.take(start, trail.end())
                return (days[0], last[1]), ""
        trail = words.AFTER_A_DAY.match(source.left, end)
        assert trail is not None
        source.take(start, trail.end())
        sign = trail["sign"] or (sign if sign in {"since", "after", "before", "until", "up to", "自", "自从"} else "")
        return days, SIGNS.get(sign, sign)
    return None, ""


def _at(day: datetime, hour: float) -> datetime:
    return day + timedelta(minutes=round(hour * 60))


def _hour_of(moment: datetime) -> float:
    return moment.hour + moment.minute / 60


def _amount(found: re.Match[str]) -> tuple[float, str]:
    """Read a number and its unit: "2 hours", "一个半小时"; one where no number stands."""
    groups = found.groupdict()
    number = words.number(groups.get("n") or "1") + (0.5 if groups.get("more") else 0.0)
    return number, words.UNITS_ZH.get(groups["unit"], groups["unit"].lower())
