"""The day, week, month or year that a matched phrase names; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from nearsight.agent import timewords as words

UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_PERIODS = {**words.UNITS_ZH, "week": "week", "month": "month", "year": "year"}
# How far back a date without a year is looked for; 29 February needs eight at most.
_YEARS_BACK = 8


def is_a_day(found: re.Match[str], text: str) -> bool:
    """Tell a month from the words "may" and "march"."""
    name = (found["m3"] or "").lower()
    if name not in words.DOUBTFUL_MONTHS or found["y3"] or found["mod"]:
        return True
    return words.BEFORE_A_MONTH.search(text[: found.start()]) is not None


def day_span(found: re.Match[str], now: datetime) -> tuple[datetime, datetime] | None:
    """Turn one match of `DAY` into its first moment and the first moment after it; None where there is no such day."""
    part, today = found.groupdict(), midnight(now)
    if part["word"]:
        word = " ".join(part["word"].lower().split()).removeprefix("the ")
        start = today - timedelta(days=words.DAYS_BACK[word])
        return start, start + timedelta(days=1)
    if part["wd"] or part["zw"] or part["weekend"]:
        return _weekday(part, today)
    if part["period"] or part["zh_period"]:
        return _named_period((part["period"] or part["zh_period"]).lower(), now)
    if part["year"]:
        return period(today.replace(year=int(part["year"][:4]), month=1, day=1), "year")
    return _calendar(part, today)


def _calendar(part: dict[str, str | None], today: datetime) -> tuple[datetime, datetime] | None:
    if part["iso"]:
        return _date(today, *(int(value) for value in re.split("[-/]", part["iso"])))
    if part["zh_month"]:
        said = {"去年": today.year - 1, "前年": today.year - 2, "今年": today.year}.get(part["zh_rel"] or "")
        year = int(part["zh_year"]) if part["zh_year"] else said
        month = int(words.number(part["zh_month"]))
        return _date(today, year, month, int(words.number(part["zh_day"])) if part["zh_day"] else None)
    name = part["m1"] or part["m2"] or part["m3"]
    assert name is not None
    month = words.MONTHS.index(name[:3].lower()) + 1
    written, day = part["y1"] or part["y2"] or part["y3"], part["d1"] or part["d2"]
    return _date(today, int(written) if written else None, month, int(day) if day else None)


def _date(today: datetime, year: int | None, month: int, day: int | None) -> tuple[datetime, datetime] | None:
    """Give a date or month; without a year the latest that has begun."""
    years = range(today.year, today.year - _YEARS_BACK - 1, -1) if year is None else (year,)
    for candidate in years:
        try:
            start = today.replace(year=candidate, month=month, day=day or 1)
        except ValueError:
            continue
        if year is not None or start <= today:
            return period(start, "month" if day is None else "day")
    return None


def _weekday(part: dict[str, str | None], today: datetime) -> tuple[datetime, datetime]:
    monday = today - timedelta(days=today.weekday())
    modifier = (part["wd_mod"] or part["zw_mod"] or part["weekend"] or "").lower()
    if part["weekend"]:
        saturday = monday + timedelta(days=5)
        weeks = modifier.count("上") or int(saturday > today or modifier.startswith("last"))
        saturday -= timedelta(days=7 * weeks)
        return saturday, saturday + timedelta(days=2)
    if part["zw"]:
        number = words.WEEKDAYS_ZH[part["zw"]]
    else:
        assert part["wd"] is not None
        number = words.WEEKDAYS.index(part["wd"][:3].lower())
    if modifier.startswith("上"):
        start = monday + timedelta(days=number - 7 * modifier.count("上"))
    elif modifier.startswith(("这", "本", "this")):
        start = monday + timedelta(days=number)
    else:
        strictly = 1 if modifier in {"last", "past"} else 0
        start = today - timedelta(days=(today.weekday() - number - strictly) % 7 + strictly)
    return start, start + timedelta(days=1)


def _named_period(text: str, now: datetime) -> tuple[datetime, datetime]:
    unit = next(unit for sign, unit in _PERIODS.items() if sign in text)
    ago = text.count("上") or (2 if text == "前年" else 1 if text.startswith(("last", "去")) else 0)
    return period(back(midnight(now), ago, unit), unit)


def period(moment: datetime, unit: str) -> tuple[datetime, datetime]:
    """Give the calendar day, week (from Monday), month or year that a moment lies in."""
    start = midnight(moment)
    if unit == "week":
        start -= timedelta(days=start.weekday())
        return start, start + timedelta(days=7)
    if unit == "month":
        start = start.replace(day=1)
        return start, (start + timedelta(days=32)).replace(day=1)
    if unit == "year":
        start = start.replace(month=1, day=1)
        return start, start.replace(year=start.year + 1)
    return start, start + timedelta(days=1)


def back(moment: datetime, count: float, unit: str) -> datetime:
    """Go back by a number of minutes, hours, days, weeks, months or years."""
    if unit in {"minute", "hour"} and moment.tzinfo is not None:
        # Hours that passed, not hours on the clock: on the day the clocks change these differ.
        return (moment.astimezone(UTC) - count * UNITS[unit]).astimezone(moment.tzinfo)
    if unit in UNITS:
        return moment - count * UNITS[unit]
    if unit == "week":
        return moment - timedelta(days=7 * count)
    months = moment.year * 12 + moment.month - 1 - round(count * (12 if unit == "year" else 1))
    year, month = divmod(months, 12)
    last = (midnight(moment).replace(year=year, month=month + 1, day=28) + timedelta(days=4)).replace(day=1)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, (last - timedelta(days=1)).day))


def midnight(moment: datetime) -> datetime:
    """Give the first moment of a day."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
