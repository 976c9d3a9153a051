"""The events file, its pictures and rows: two watches never touch each other's, and nothing of anybody else's is touched."""

from __future__ import annotations

import errno
import json
import os

import pytest
from PIL import Image
from scene import STREET, ColourDetector, draw_folder

import nearsight as ns
from nearsight.agent.events import counted_once, recorded
from nearsight.gallery import Gallery
from nearsight.pictures import picture_facts
from nearsight.testing import FakeEncoder
from nearsight_apps.smart_city.config import read_config
from nearsight_apps.smart_city.journal import read_events
from nearsight_apps.smart_city.watch import Watcher


def watched(config, gallery, **choices):
    with Watcher(config, detector=ColourDetector(), gallery=gallery, **choices) as watcher:
        events = list(watcher.events())
        return events, watcher.summary()


def changed(config_file, *pairs):
    """Write the configuration once more, with other words in it, and read it."""
    text = config_file.read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    other = config_file.with_name("changed.toml")
    other.write_text(text, encoding="utf-8")
    return read_config(other)


@pytest.fixture
def two_clips(config_file, gallery):
    """Watch the street twice as two clips of one camera, an hour apart, each with its own events file."""
    configs = [
        changed(config_file, ("18:00:00", f"{hour}:00:00"), ("[camera]", f'events.out = "{hour}.jsonl"\n[camera]'))
        for hour in (18, 19)
    ]
    return configs, [watched(config, gallery)[0] for config in configs]


def test_two_clips_of_one_camera_keep_their_pictures_and_rows_apart(two_clips, gallery) -> None:
    configs, (early, late) = two_clips

    assert len({event.run for event in early + late}) == 2
    assert len(list(configs[0].thumbnails.iterdir())) == len(gallery) == len(early) + len(late) == 10
    for config, events in zip(configs, (early, late), strict=True):
        times = [picture_facts(config.out.parent / event.thumbnail).captured_at for event in events]
        assert times == [event.time for event in events]


def test_fresh_takes_out_the_pictures_of_its_own_run_alone(two_clips, gallery) -> None:
    configs, (_, late) = two_clips

    again, _ = watched(configs[0], gallery, fresh=True)

    assert again
    assert all((configs[1].out.parent / event.thumbnail).exists() for event in late)
    assert len(gallery) == len(again) + len(late)


def test_fresh_does_not_delete_what_another_camera_recorded(config_file, gallery) -> None:
    first, events = watched(read_config(config_file), gallery)[0], read_events(read_config(config_file).out)
    other = changed(config_file, ('name = "gate-3"', 'name = "gate-7"'))

    with pytest.raises(ns.InputError, match="holds events of gate-3, not of gate-7"):
        watched(other, gallery, fresh=True)

    assert first
    assert read_events(other.out) == events


def test_a_thing_of_each_clip_is_counted_though_both_have_the_same_number(two_clips, gallery) -> None:
    kinds, _ = counted_once(recorded(gallery, "red thing", {"camera": "gate-3", "after": None, "before": None}))

    assert kinds == {"crossing": {"gate-3": 2}}


def test_a_thing_that_is_there_over_midnight_is_one(config_file, gallery) -> None:
    line = '[[line]]\nname = "later"\nfrom = [0.0, 0.7]\nto = [1.0, 0.7]\n'
    config = changed(config_file, ("26T18:00:00", "26T23:59:57.700"), ("[[line]]", line + "[[line]]"))
    events, _ = watched(config, gallery)
    red = [event for event in events if event.event == "crossing" and event.label == "red thing"]
    assert {event.time.day for event in red} == {26, 27}

    kinds, _ = counted_once(recorded(gallery, "red thing", {"camera": "gate-3", "after": None, "before": None}))

    assert kinds == {"crossing": {"gate-3": 1}}


def test_resuming_keeps_the_run_also_when_the_state_is_lost(config_file, gallery) -> None:
    config = read_config(config_file)
    with Watcher(config, detector=ColourDetector(), gallery=gallery) as watcher:
        list(watcher.events(max_frames=20))
    config.out.with_name("events.jsonl.state").unlink()

    watched(config, gallery, resume=True)

    assert len({event.run for event in read_events(config.out)}) == 1
    assert len(gallery) == len(read_events(config.out)) == 5


def test_fresh_takes_the_pictures_out_of_the_folder_where_they_were(config_file, gallery) -> None:
    before = read_config(config_file)
    old, _ = watched(before, gallery)
    after = changed(config_file, ("[camera]", 'events.thumbnails = "elsewhere"\n[camera]'))

    events, _ = watched(after, gallery, fresh=True)

    assert list(before.thumbnails.iterdir()) == []
    assert len(list(after.thumbnails.iterdir())) == len(gallery) == len(events) == len(old)


@pytest.mark.parametrize("choice", [{}, {"resume": True}, {"fresh": True}])
@pytest.mark.parametrize(
    "text", ['{"my": "precious notes"}', "notes\n", '{"time": "2026-11-26", "note": "mine"}', "7\n"]
)
def test_a_file_that_is_not_ours_is_never_touched(config_file, gallery, choice, text) -> None:
    config = read_config(config_file)
    config.out.write_text(text, encoding="utf-8")

    with pytest.raises(ns.InputError, match="line 1 is no event of nearsight watch"):
        watched(config, gallery, **choice)
    assert config.out.read_text(encoding="utf-8") == text


def test_a_lost_or_damaged_picture_of_an_event_is_told_and_stops_nothing(config_file, tmp_path) -> None:
    config = read_config(config_file)
    with Gallery.open(tmp_path / "one.nsg", FakeEncoder()) as gallery:
        events, _ = watched(config, gallery)
    (config.out.parent / events[0].thumbnail).unlink()
    (config.out.parent / events[1].thumbnail).write_bytes(b"no picture")

    with Gallery.open(tmp_path / "two.nsg", FakeEncoder()) as gallery:
        with pytest.warns(ns.NearsightWarning) as told:
            watched(config, gallery, resume=True)
        assert len(gallery) == len(events) - 2

    assert [warning.message.args[0].partition(" of an event cannot be indexed: ")[0] for warning in told] == [
        f"the picture {config.out.parent / event.thumbnail}" for event in events[:2]
    ]
    assert "it is gone" in str(told[0].message)


def test_rows_that_another_watch_of_the_camera_has_do_not_hide_that_ours_are_lost(two_clips, gallery, tmp_path) -> None:
    configs, (early, late) = two_clips

    with Gallery.open(tmp_path / "two.nsg", FakeEncoder()) as other:
        watched(configs[0], other, resume=True)
        assert len(other) == len(early)
        watched(configs[1], other, resume=True)
        assert len(other) == len(early) + len(late)


def test_an_unreadable_picture_is_left_out_and_the_watch_goes_on(config_file, gallery, tmp_path) -> None:
    folder = draw_folder(tmp_path / "broken", 40, STREET)
    (folder / "0030.png").write_bytes((folder / "0030.png").read_bytes()[:100])
    source = next(row for row in config_file.read_text("utf-8").splitlines() if row.startswith("source"))
    config = changed(config_file, (source, f'source = "{folder}"'))

    with pytest.warns(ns.NearsightWarning, match=r"0030\.png.*; it is left out"):
        events, summary = watched(config, gallery)

    assert (summary.frames, summary.skipped, summary.last_frame) == (39, 1, 39)
    assert len(events) == len(gallery) == 5


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, 1, "no space is left to write .*; make room, then .* --resume"),
        (errno.EROFS, 2, r"cannot be written \(Read-only file system\); name a place that can be"),
    ],
)
@pytest.mark.parametrize("step", range(4))
def test_a_disk_that_takes_no_more_is_told_and_nothing_is_lost(config_file, gallery, number, code, words, step) -> None:
    config = read_config(config_file)
    flush, left = os.fsync, []

    def full(file):
        # The picture, its folder, the line, the state.
        left.append(file)
        if len(left) > step:
            raise OSError(number, os.strerror(number))
        flush(file)

    with Watcher(config, detector=ColourDetector(), gallery=gallery) as watcher, pytest.MonkeyPatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(ns.NearsightError, match=words) as caught:
            list(watcher.events())
        disk.undo()
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)

    watched(config, gallery, resume=True)

    keys = [event.key for event in read_events(config.out)]
    assert len(keys) == len(set(keys)) == len(gallery) == 5


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a folder in which nothing can be made is wanted")
def test_a_place_that_cannot_be_written_is_told_in_one_line(config_file, gallery) -> None:
    for key in ("out", "thumbnails"):
        config = changed(config_file, ("[camera]", f'events.{key} = "/proc/nowhere/it"\n[camera]'))
        with pytest.raises(ns.InputError, match=r"/proc/nowhere/it cannot be written \(.*\); name a place") as caught:
            watched(config, gallery)
        assert "\n" not in str(caught.value)


def test_a_chinese_name_stands_in_the_picture_and_in_the_gallery(config_file, gallery) -> None:
    config = changed(config_file, ('"gate-3"', '"厨房"'), ('"middle"', '"桌子"'))
    events, _ = watched(config, gallery)

    picture = config.out.parent / events[0].thumbnail

    assert picture_facts(picture).camera == "厨房"
    assert picture_facts(picture).captured_at == events[0].time
    with Image.open(picture) as opened:
        assert "厨房".encode() in opened.info["exif"]
    assert {hit.camera for hit in gallery.search("red", min_relevance=0)} == {"厨房"}


def test_the_longest_names_that_are_allowed_make_file_names_that_can_be_written(config_file, gallery) -> None:
    config = changed(config_file, ('"gate-3"', f'"{"厨" * 32}"'), ('"middle"', f'"{"桌" * 32}"'))

    events, _ = watched(config, gallery)

    assert all((config.out.parent / event.thumbnail).exists() for event in events)
    assert json.loads(config.out.read_text("utf-8").splitlines()[0])["camera"] == "厨" * 32
