"""Time filters mean what a person means: a camera's clock without a zone is a wall clock."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from PIL import Image

from nearsight.errors import InputError
from nearsight.gallery.times import moment


@pytest.fixture
def zone(monkeypatch):
    """Set the machine's local zone."""

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def shot(paint, name: str, when: str | None, offset: str | None = None) -> None:
    exif = Image.Exif()
    details = exif.get_ifd(0x8769)
    if when is not None:
        details[0x9003] = when
    if offset is not None:
        details[0x9011] = offset
    paint(name, "red", exif=exif)


@pytest.fixture
def taken(gallery, album, paint, zone):
    """Three pictures by a wall clock, two by an instant, one without a time; indexed in Berlin."""
    zone("Europe/Berlin")
    shot(paint, "1200.jpg", "2026:05:01 12:00:00")
    shot(paint, "1830.jpg", "2026:05:01 18:30:00")
    shot(paint, "next.jpg", "2026:05:02 00:00:00")
    shot(paint, "tokyo1830.jpg", "2026:05:01 18:30:00", "+09:00")  # 11:30 in Berlin
    shot(paint, "utc1700.jpg", "2026:05:01 17:00:00", "Z")  # 19:00 in Berlin
    shot(paint, "never.jpg", None)
    gallery.add(album)
    return lambda **bounds: {hit.path.stem for hit in gallery.search("red", k=50, **bounds)}


def test_after_is_inclusive_and_before_is_exclusive(taken) -> None:
    assert taken(after="2026-05-01T12:00") == {"1200", "1830", "next", "utc1700"}
    assert taken(before="2026-05-01T12:00") == {"tokyo1830"}
    assert taken(after="2026-05-01T12:00", before="2026-05-01T18:30") == {"1200"}


def test_a_date_is_its_first_moment(taken) -> None:
    assert taken(after="2026-05-02") == {"next"}
    assert taken(after=date(2026, 5, 2)) == {"next"}
    assert taken(before="2026-05-02") == {"1200", "1830", "tokyo1830", "utc1700"}
    assert taken(after="2026", before="2026-05") == set()
    assert taken(after="2026-05", before="2027") == {"1200", "1830", "next", "tokyo1830", "utc1700"}


def test_pictures_without_a_time_pass_only_without_bounds(taken) -> None:
    assert "never" in taken()
    assert "never" not in taken(after="1900")
    assert "never" not in taken(before="9999-12-31")
    assert taken(after=datetime(1, 1, 1), before=datetime(9999, 12, 31)) == taken(after="1900")


def test_a_bound_with_a_zone_is_an_instant(taken) -> None:
    assert taken(after="2026-05-01T11:30+02:00", before="2026-05-01T11:31+02:00") == {"tokyo1830"}
    assert taken(after=datetime(2026, 5, 1, 10, 0, tzinfo=UTC)) == {"1200", "1830", "next", "utc1700"}
    assert taken(after=datetime(2026, 5, 1, 18, 29, tzinfo=timezone(timedelta(hours=9)))) == {
        "1200",
        "1830",
        "next",
        "tokyo1830",
        "utc1700",
    }


def test_a_wall_clock_stays_a_wall_clock_when_the_machine_moves(taken, zone) -> None:
    zone("America/New_York")

    assert taken(after="2026-05-01T18:00", before="2026-05-01T19:00") == {"1830"}
    assert taken(after="2026-05-01T13:00", before="2026-05-01T13:01") == {"utc1700"}


def test_a_capture_time_comes_back_as_the_camera_wrote_it(gallery, paint) -> None:
    shot(paint, "a.jpg", "2026:05:01 18:30:00", "+09:00")
    shot(paint, "b.jpg", "2026:05:01 18:30:00")
    gallery.add(*(hit for hit in (paint("x.png").parent,)))

    times = {hit.path.name: hit.captured_at for hit in gallery.search("red")}

    assert times["a.jpg"] == datetime(2026, 5, 1, 18, 30, tzinfo=timezone(timedelta(hours=9)))
    assert times["a.jpg"].utcoffset() == timedelta(hours=9)
    assert times["b.jpg"] == datetime(2026, 5, 1, 18, 30)
    assert times["x.png"] is None


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13", "2026-02-30", "18:00", "26-05-01"])
def test_what_is_not_iso_8601_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="2026-05-01"):
        moment(text, "after")
