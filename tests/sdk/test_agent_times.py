"""Words for times, in English and Chinese, as spans; the rules for what they leave open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight.agent.times import Reading, read_times

# A Wednesday.
NOW = datetime(2026, 11, 25, 15)
MOMENTS = st.datetimes(min_value=datetime(2001, 1, 1), max_value=datetime(2098, 12, 31))

DAYS = {
    "yesterday": ("2026-11-24", "2026-11-25"),
    "the day before yesterday": ("2026-11-23", "2026-11-24"),
    "today": ("2026-11-25", "2026-11-26"),
    "on Monday": ("2026-11-23", "2026-11-24"),
    "on Wednesday": ("2026-11-25", "2026-11-26"),
    "last Wednesday": ("2026-11-18", "2026-11-19"),
    "last week": ("2026-11-16", "2026-11-23"),
    "this month": ("2026-11-01", "2026-12-01"),
    "in May": ("2026-05-01", "2026-06-01"),
    "in December": ("2025-12-01", "2026-01-01"),
    "May 2025": ("2025-05-01", "2025-06-01"),
    "on 20 November": ("2026-11-20", "2026-11-21"),
    "Nov 26th": ("2025-11-26", "2025-11-27"),
    "2026-11-20": ("2026-11-20", "2026-11-21"),
    "3 days ago": ("2026-11-22", "2026-11-23"),
    "from Monday to Wednesday": ("2026-11-23", "2026-11-26"),
    "last weekend": ("2026-11-21", "2026-11-23"),
    "in 2025": ("2025-01-01", "2026-01-01"),
    "on Feb 29": ("2024-02-29", "2024-03-01"),
    "昨天": ("2026-11-24", "2026-11-25"),
    "前天": ("2026-11-23", "2026-11-24"),
    "周一": ("2026-11-23", "2026-11-24"),
    "上周一": ("2026-11-16", "2026-11-17"),
    "上周": ("2026-11-16", "2026-11-23"),
    "上个月": ("2026-10-01", "2026-11-01"),
    "去年五月": ("2025-05-01", "2025-06-01"),
    "11月20日": ("2026-11-20", "2026-11-21"),
    "2025年11月20号": ("2025-11-20", "2025-11-21"),
    "11月1日到11月5日": ("2026-11-01", "2026-11-06"),
    "三天前": ("2026-11-22", "2026-11-23"),
    "上上周五": ("2026-11-13", "2026-11-14"),
    "上上周": ("2026-11-09", "2026-11-16"),
    "上上周末": ("2026-11-14", "2026-11-16"),
    "上上个月": ("2026-09-01", "2026-10-01"),
    "上周一共": ("2026-11-16", "2026-11-23"),
}
HOURS = {
    "yesterday after six": ("2026-11-24T18:00", "2026-11-25T00:00"),
    "after six yesterday": ("2026-11-24T18:00", "2026-11-25T00:00"),
    "yesterday before nine": ("2026-11-24T00:00", "2026-11-24T09:00"),
    "yesterday morning": ("2026-11-24T05:00", "2026-11-24T12:00"),
    "this morning": ("2026-11-25T05:00", "2026-11-25T12:00"),
    "this afternoon": ("2026-11-25T12:00", "2026-11-25T18:00"),
    "last night": ("2026-11-24T18:00", "2026-11-25T06:00"),
    "last night after ten": ("2026-11-24T22:00", "2026-11-25T06:00"),
    "last night after two": ("2026-11-25T02:00", "2026-11-25T06:00"),
    "between 2 and 4 yesterday": ("2026-11-24T14:00", "2026-11-24T16:00"),
    "between 11 and 2 yesterday": ("2026-11-24T11:00", "2026-11-24T14:00"),
    "between 11pm and 2 yesterday": ("2026-11-24T23:00", "2026-11-25T02:00"),
    "yesterday from 10:30 to 12": ("2026-11-24T10:30", "2026-11-24T12:00"),
    "around six yesterday": ("2026-11-24T17:30", "2026-11-24T18:30"),
    "half past six yesterday": ("2026-11-24T18:30", "2026-11-24T19:00"),
    "yesterday at six in the morning": ("2026-11-24T06:00", "2026-11-24T07:00"),
    "2026-11-20T18:00": ("2026-11-20T18:00", "2026-11-20T19:00"),
    "2 hours ago": ("2026-11-25T12:30", "2026-11-25T13:30"),
    "half an hour ago": ("2026-11-25T14:15", "2026-11-25T14:45"),
    "in the last 2 hours": ("2026-11-25T13:00", "2026-11-25T15:00"),
    "the past week": ("2026-11-18T15:00", "2026-11-25T15:00"),
    "今早": ("2026-11-25T05:00", "2026-11-25T12:00"),
    "昨晚": ("2026-11-24T18:00", "2026-11-25T06:00"),
    "昨晚十点以后": ("2026-11-24T22:00", "2026-11-25T06:00"),
    "昨天下午六点以后": ("2026-11-24T18:00", "2026-11-25T00:00"),
    "昨天六点以后": ("2026-11-24T18:00", "2026-11-25T00:00"),
    "昨天下午三点到五点之间": ("2026-11-24T15:00", "2026-11-24T17:00"),
    "昨天上午十点到下午两点半": ("2026-11-24T10:00", "2026-11-24T14:30"),
    "昨天18:00以后": ("2026-11-24T18:00", "2026-11-25T00:00"),
    "昨天凌晨两点": ("2026-11-24T02:00", "2026-11-24T03:00"),
    "昨天六点半左右": ("2026-11-24T18:00", "2026-11-24T19:00"),
    "两个小时前": ("2026-11-25T12:30", "2026-11-25T13:30"),
    "一个半小时前": ("2026-11-25T13:00", "2026-11-25T14:00"),
    "one and a half hours ago": ("2026-11-25T13:00", "2026-11-25T14:00"),
    "过去两小时": ("2026-11-25T13:00", "2026-11-25T15:00"),
}
PAST = (
    "yesterday", "yesterday after six", "yesterday before nine", "last week", "last month", "last year", "2 hours ago",
    "30 minutes ago", "3 days ago", "2 weeks ago", "in the last 10 minutes", "between 2 and 4 yesterday", "last weekend",
    "昨天", "前天", "昨天六点以后", "上周", "上个月", "去年", "两小时前", "半小时前", "三天前", "过去两小时", "最近三天", "上周一",
)  # fmt: skip
CURRENT = (
    "today", "this morning", "on Monday", "on Friday", "in May", "in December", "last night", "after six", "before nine",
    "between 2 and 4", "at noon", "on 3 March", "今天", "周五", "五月", "六点以后", "昨晚", "11月20日", "this week",
)  # fmt: skip


def span(text: str, now: datetime = NOW) -> tuple[str, str]:
    reading = read_times(text, now)
    assert reading.span is not None, text
    return reading.span.iso()


def at(text: str) -> str:
    return datetime.fromisoformat(text).isoformat()


@pytest.mark.parametrize("text", DAYS)
def test_a_day_or_longer_is_read_from_its_first_moment_to_the_next_one(text: str) -> None:
    assert span(text) == tuple(map(at, DAYS[text]))


@pytest.mark.parametrize("text", HOURS)
def test_hours_and_parts_of_the_day_are_put_together(text: str) -> None:
    assert span(text) == tuple(map(at, HOURS[text]))


@pytest.mark.parametrize(
    ("text", "after", "before"),
    [
        ("since Monday", "2026-11-23T00:00:00", ""),
        ("before yesterday", "", "2026-11-24T00:00:00"),
        ("until yesterday", "", "2026-11-25T00:00:00"),
        ("since 6 yesterday", "2026-11-24T18:00:00", ""),
        ("周一以来", "2026-11-23T00:00:00", ""),
        ("周一之前", "", "2026-11-23T00:00:00"),
    ],
)
def test_since_and_before_leave_a_side_open(text: str, after: str, before: str) -> None:
    assert span(text) == (after, before)


def test_an_hour_of_today_that_is_still_to_come_is_taken_for_the_morning() -> None:
    reading = read_times("today after six", NOW)

    assert reading.span.iso() == ("2026-11-25T06:00:00", "2026-11-26T00:00:00")
    assert reading.notes == ("that is still to come, so 2026-11-25 06:00 is meant",)


def test_an_hour_without_a_day_is_the_latest_that_has_begun() -> None:
    assert span("after six") == ("2026-11-25T06:00:00", "")
    assert span("after six", NOW.replace(hour=19)) == ("2026-11-25T18:00:00", "")
    assert span("cat after 11", NOW.replace(hour=2)) == ("2026-11-24T23:00:00", "")
    assert span("after midnight") == ("2026-11-25T00:00:00", "")
    assert span("between 11pm and 2") == ("2026-11-24T23:00:00", "2026-11-25T02:00:00")
    assert read_times("六点以后", NOW).notes == ("这个时间还没到，按2026-11-25 06:00理解",)


@pytest.mark.parametrize(
    "text",
    ["a dog right now", "is a dog there now", "a dog just now", "a dog at the moment", "现在有狗吗", "刚才有没有狗"],
)
def test_now_is_the_last_ten_minutes_and_said_to_be(text: str) -> None:
    reading = read_times(text, NOW)

    assert reading.span.iso() == ("2026-11-25T14:50:00", "2026-11-25T15:00:00")
    assert "10" in reading.notes[0]
    assert not set(reading.rest.split()) & {"now", "right", "just", "moment"}
    assert not set(reading.rest) & set("现刚")


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("a dog next Monday", "next Monday"),
        ("next week", "next week"),
        ("下周五有狗吗", "下周五"),
        ("the weekend before last", "the weekend before last"),
        ("the week before last", "the week before last"),
        ("from Monday to Friday last week", "from Monday to Friday last week"),
        ("Friday last week", "Friday last week"),
        ("on 11/20/2026", "11/20/2026"),
        ("20.11.2026", "20.11.2026"),
        ("at quarter past six", "quarter past six"),
        ("a quarter to six", "a quarter to six"),
        ("ten past six", "ten past six"),
        ("last summer", "last summer"),
        ("去年春节", "去年春节"),
    ],
)
def test_a_time_that_cannot_be_read_is_named_and_never_another_one(text: str, unread: str) -> None:
    reading = read_times(text, NOW)

    assert reading.span is None
    assert reading.unread == (unread,)


def test_hours_ago_are_hours_that_passed_when_the_clocks_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    found = read_times("2 hours ago", datetime(2026, 3, 29, 4, 30, tzinfo=berlin)).span
    recent = read_times("in the last 2 hours", datetime(2026, 3, 29, 4, 30, tzinfo=berlin)).span

    assert [end.astimezone(UTC).hour for end in (found.after, found.before)] == [0, 1]
    assert recent.before.astimezone(UTC) - recent.after.astimezone(UTC) == timedelta(hours=2)


def test_a_range_of_weekdays_ends_on_the_next_such_day_after_its_first() -> None:
    saturday = datetime(2026, 11, 28, 12)

    assert span("上周一到周五", saturday) == ("2026-11-16T00:00:00", "2026-11-21T00:00:00")
    assert span("from Friday to Monday", saturday) == ("2026-11-27T00:00:00", "2026-12-01T00:00:00")


@pytest.mark.parametrize(
    "text",
    ["may I see it", "after six cars", "gates 3 and 4", "从3到5号", "有3只狗", "three photos of a dog", "a street at night", "晚上的城市", "march of the penguins", "the afternoon tea", "show the last 3 pictures"],
)  # fmt: skip
def test_what_only_looks_like_a_time_stays(text: str) -> None:
    assert read_times(text, NOW) == Reading(span=None, rest=text)


def test_the_words_of_a_time_are_taken_out_of_the_text() -> None:
    assert read_times("a dog yesterday after six on grass", NOW).rest.split() == ["a", "dog", "on", "grass"]
    assert read_times("昨天下午六点以后有狗吗", NOW).rest.strip() == "有狗吗"


def test_a_date_of_no_calendar_is_named_as_unread() -> None:
    assert read_times("on 2026-02-30", NOW).span is None
    assert read_times("on 2026-02-30", NOW).unread == ("2026-02-30",)
    assert read_times("a dog 999999 years ago", NOW).span is None


def test_a_time_to_come_is_said_to_be() -> None:
    assert "this time lies in the future" in read_times("tomorrow", NOW).notes


@given(now=MOMENTS, text=st.sampled_from(PAST))
def test_words_for_the_past_never_reach_beyond_now(now: datetime, text: str) -> None:
    found = read_times(text, now).span

    assert found.after < found.before <= now


@given(now=MOMENTS, text=st.sampled_from(CURRENT))
def test_every_time_that_is_no_future_one_has_begun(now: datetime, text: str) -> None:
    found = read_times(text, now).span

    assert found.before is None or found.after < found.before
    assert found.after <= now or text == "this morning"


@given(now=MOMENTS, text=st.sampled_from([*DAYS, *HOURS]), other=st.sampled_from(["a red truck", "红色卡车"]))
def test_a_time_is_found_whatever_stands_before_it(now: datetime, text: str, other: str) -> None:
    assert read_times(f"{other} {text}", now).span == read_times(text, now).span


@given(now=MOMENTS, text=st.sampled_from([*DAYS, *HOURS]))
def test_the_zone_of_now_is_kept(now: datetime, text: str) -> None:
    zoned = now.replace(tzinfo=timezone(timedelta(hours=8)))
    plain, found = read_times(text, now).span, read_times(text, zoned).span

    assert found.after.utcoffset() == timedelta(hours=8)
    assert found.after.replace(tzinfo=None) == plain.after


@given(now=MOMENTS, day=st.dates(min_value=datetime(1990, 1, 1).date(), max_value=datetime(2099, 12, 31).date()))
def test_a_written_date_is_that_day_in_both_languages(now: datetime, day: object) -> None:
    english, chinese = span(f"on {day:%Y-%m-%d}", now), span(f"{day:%Y}年{day.month}月{day.day}日", now)

    assert english == chinese == (f"{day}T00:00:00", f"{day + timedelta(days=1)}T00:00:00")


@given(
    text=st.lists(
        st.sampled_from(
            [
                "yesterday",
                "after",
                "before",
                "between",
                "and",
                "2",
                "4",
                "six",
                "pm",
                "last",
                "night",
                "on",
                "Monday",
                "in",
                "May",
                "since",
                "until",
                "昨天",
                "下午",
                "三点",
                "到",
                "五点",
                "以后",
                "周一",
                "上个",
                "月",
                "前",
                "两小时",
                "dog",
                "99",
                "2026-13-45",
                ":",
                "半",
                "号",
                "ago",
                "weeks",
                "十",
            ]
        ),
        max_size=9,
    ).map(" ".join),
    now=MOMENTS,
)
def test_any_muddle_of_words_is_read_without_an_error_and_never_backwards(text: str, now: datetime) -> None:
    found = read_times(text, now).span

    assert found is None or found.after is None or found.before is None or found.after < found.before


@given(text=st.text(max_size=60), now=st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))
def test_any_text_at_any_time_is_read_without_an_error(text: str, now: datetime) -> None:
    assert isinstance(read_times(text, now), Reading)
