"""Watching makes each event once: durable, with a picture, findable; whatever stops it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image
from scene import ColourDetector

import nearsight as ns
from nearsight.gallery import Gallery
from nearsight.pictures import picture_facts
from nearsight.testing import FakeEncoder
from nearsight_apps.smart_city.config import read_config
from nearsight_apps.smart_city.journal import read_events
from nearsight_apps.smart_city.watch import Watcher

# Stops itself, without a chance to tidy up, at the n-th durable step; sys.argv: folder of the tests, configuration, n,
# whether before or after the step. Without n it runs to the end.
CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from scene import ColourDetector
from nearsight.gallery import Gallery
from nearsight.testing import FakeEncoder
from nearsight_apps.smart_city.config import read_config
from nearsight_apps.smart_city.watch import Watcher
steps, last, after = 0, int(sys.argv[3]), sys.argv[4] == "after"
def counted(step):
    def take(*arguments, **named):
        global steps
        steps += 1
        if steps == last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = step(*arguments, **named)
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return take
os.fsync = counted(os.fsync)
Gallery.add = counted(Gallery.add)
config = read_config(sys.argv[2])
with Gallery.open(config.gallery, FakeEncoder()) as gallery:
    with Watcher(config, resume=True, detector=ColourDetector(), gallery=gallery) as watcher:
        for event in watcher.events():
            pass
print(steps)
"""


def watched(config, gallery, **choices):
    with Watcher(config, detector=ColourDetector(), gallery=gallery, **choices) as watcher:
        events = list(watcher.events())
        return events, watcher.summary()


def unnamed(text: str, config) -> str:
    """Take the run's own name out of what a watch has written: all else is the same in every run."""
    return text.replace(read_events(config.out)[0].run, "RUN")


def lines_of(config) -> str:
    return unnamed(config.out.read_text(encoding="utf-8"), config)


def pictures_of(config) -> dict[str, bytes]:
    return {unnamed(path.name, config): path.read_bytes() for path in config.thumbnails.glob("*.jpg")}


def child(config_file: Path, step: int = 0, when: str = "before") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(config_file), str(step), when],
        capture_output=True,
        text=True,
        check=False,
    )


def indexed(gallery: Gallery, config) -> dict[str, tuple[str, datetime | None, dict]]:
    hits = gallery.search("red", k=1000, min_relevance=0)
    return {
        unnamed(hit.path.name, config): (hit.camera, hit.captured_at, {**hit.metadata, "run": "RUN"}) for hit in hits
    }


def test_the_street_is_told_as_it_is(config_file, gallery) -> None:
    events, summary = watched(read_config(config_file), gallery)

    told = [(event.frame, event.event, event.label, event.line, event.direction) for event in events]
    # Red passes y = 60 between frames 17 and 18 and stands on the edge of the band, at 62, in 18; green at 58 in 26.
    assert [row for row in told if row[1] == "crossing"] == [
        (19, "crossing", "red thing", "middle", "in"),
        (27, "crossing", "green thing", "middle", "out"),
    ]
    assert sorted(row[2] for row in told if row[1] == "appeared") == ["green thing", "red thing", "red thing"]
    assert (summary.frames, summary.last_frame) == (40, 39)
    assert summary.appeared == {"green thing": 1, "red thing": 2}
    assert summary.crossings == {("middle", "in", "red thing"): 1, ("middle", "out", "green thing"): 1}
    assert summary.frames_per_s > 0


def test_every_event_is_a_line_of_json_with_a_picture_that_knows_its_time_and_camera(config_file, gallery) -> None:
    config = read_config(config_file)
    events, _ = watched(config, gallery)

    rows = [json.loads(line) for line in config.out.read_text(encoding="utf-8").splitlines()]

    assert rows == [event.to_dict() for event in events]
    crossing = next(row for row in rows if row["event"] == "crossing")
    assert list(crossing) == ["time", "camera", "run", "event", "label", "track", "score", "box_xyxy", "frame", "line", "direction", "thumbnail"]  # fmt: skip
    assert crossing["time"] == "2026-11-26T18:00:01.900000"
    picture = config.out.parent / crossing["thumbnail"]
    facts = picture_facts(picture)
    assert (facts.captured_at, facts.camera) == (datetime(2026, 11, 26, 18, 0, 1, 900_000), "gate-3")
    with Image.open(picture) as opened:
        # The box of 20 pixels with a quarter of its sides around it.
        assert opened.size == (31, 31)
        red, green, blue = opened.convert("RGB").getpixel((15, 15))
        assert red > green + 120
        assert red > blue + 120


def test_a_zone_is_kept_in_the_picture(config_file, gallery) -> None:
    config_file.write_text(config_file.read_text(encoding="utf-8").replace("18:00:00", "18:00:00+05:30"), "utf-8")
    config = read_config(config_file)
    events, _ = watched(config, gallery)

    taken = picture_facts(config.out.parent / events[0].thumbnail).captured_at

    assert taken == events[0].time
    assert taken.utcoffset() == events[0].time.utcoffset()


def test_every_event_is_found_in_the_gallery_by_what_it_is(config_file, gallery) -> None:
    events, _ = watched(read_config(config_file), gallery)

    assert len(gallery) == len(events) == 5
    (hit,) = gallery.search(
        "red", min_relevance=0, camera="gate-3", where={"event": "crossing", "direction": "in"},
        after="2026-11-26T18:00:01", before="2026-11-26T18:00:02",
    )  # fmt: skip
    assert hit.metadata == {"kind": "event", "run": events[0].run, "event": "crossing", "label": "red thing", "track": hit.metadata["track"], "line": "middle", "direction": "in"}  # fmt: skip


def test_max_frames_and_resume_make_the_events_of_one_run(config_file, gallery, tmp_path) -> None:
    config = read_config(config_file)
    watched(config, gallery)
    lines = lines_of(config)
    for path in (config.out, config.out.with_name("events.jsonl.state")):
        path.unlink()
    gallery.remove(config.thumbnails)

    # Parts of 3, so that one ends while the red thing stands in the band.
    for part in range(14):
        detector = ColourDetector()
        with Watcher(config, resume=True, detector=detector, gallery=gallery) as watcher:
            list(watcher.events(max_frames=3))
        assert detector.frames == (3 if part < 13 else 1)

    assert lines_of(config) == lines
    assert len({event.run for event in read_events(config.out)}) == 1
    assert len(gallery) == len(lines.splitlines())


def test_a_second_run_neither_doubles_nor_deletes_unasked(config_file, gallery) -> None:
    config = read_config(config_file)
    watched(config, gallery)
    lines, pictures = config.out.read_bytes(), sorted(config.thumbnails.iterdir())

    with pytest.raises(ns.InputError, match=r"holds events already; .*--resume.*--fresh"):
        watched(config, gallery)
    events, summary = watched(config, gallery, resume=True)

    assert (events, summary.frames, summary.last_frame, sum(summary.appeared.values())) == ([], 0, 39, 3)
    assert (config.out.read_bytes(), sorted(config.thumbnails.iterdir())) == (lines, pictures)


def test_fresh_takes_out_the_old_events_and_nothing_else(config_file, gallery, tmp_path) -> None:
    config = read_config(config_file)
    watched(config, gallery)
    lines, line = lines_of(config), config.out.read_text(encoding="utf-8").splitlines()[0]
    mine = config.thumbnails / "mine.jpg"
    Image.new("RGB", (8, 8)).save(mine)
    gallery.add(mine)
    outside = tmp_path / "outside.jpg"
    Image.new("RGB", (9, 9)).save(outside)
    with config.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**json.loads(line), "thumbnail": "outside.jpg"}) + "\n")

    events, _ = watched(config, gallery, fresh=True)

    assert lines_of(config) == lines
    assert mine.exists()
    assert len(list(config.thumbnails.iterdir())) == len(events) + 1
    assert outside.exists()
    assert len(gallery) == len(events) + 1


def test_a_changed_configuration_is_not_resumed(config_file, gallery) -> None:
    watched(read_config(config_file), gallery)
    config_file.write_text(config_file.read_text(encoding="utf-8").replace("[1.0, 0.5]", "[1.0, 0.6]"), "utf-8")

    with pytest.raises(ns.InputError, match=r"\(changed: lines\); begin anew with --fresh"):
        watched(read_config(config_file), gallery, resume=True)


def test_a_damaged_state_is_told_and_fresh_mends_it(config_file, gallery) -> None:
    config = read_config(config_file)
    watched(config, gallery)
    lines = lines_of(config)
    config.out.with_name("events.jsonl.state").write_text('{"frame": 3', encoding="utf-8")

    with pytest.raises(ns.InputError, match=r"events\.jsonl\.state is damaged .*--fresh"):
        watched(config, gallery, resume=True)
    watched(config, gallery, fresh=True)

    assert lines_of(config) == lines


def test_a_label_that_cannot_be_judged_is_told_with_its_line(config_file, gallery) -> None:
    config_file.write_text(config_file.read_text(encoding="utf-8").replace('"green thing"', '"blue thing"'), "utf-8")

    with pytest.raises(ns.InputError, match=r"line 9: \[detect\] labels: blue thing cannot be judged"):
        watched(read_config(config_file), gallery)


def test_killed_at_any_durable_step_and_resumed_the_events_are_those_of_one_run(config_file, tmp_path, trials) -> None:
    reference = child(config_file)
    assert reference.returncode == 0, reference.stderr
    steps = int(reference.stdout)
    config = read_config(config_file)
    lines, pictures = lines_of(config), pictures_of(config)
    with Gallery.open(config.gallery, FakeEncoder()) as gallery:
        held = indexed(gallery, config)
    assert steps >= 20
    assert len(held) == len(lines.splitlines()) == 5
    every = [(step, when) for step in range(1, steps + 1) for when in ("before", "after")]
    wanted = trials(len(every))

    for number, (step, when) in enumerate(every[:: max(1, len(every) // wanted)]):
        place = tmp_path / f"trial-{number}"
        place.mkdir()
        copy = place / "config.toml"
        copy.write_bytes(config_file.read_bytes())

        assert child(copy, step, when).returncode == -signal.SIGKILL
        resumed = child(copy)

        assert resumed.returncode == 0, resumed.stderr
        again = read_config(copy)
        assert lines_of(again) == lines, (step, when)
        assert pictures_of(again) == pictures, (step, when)
        with Gallery.open(again.gallery, FakeEncoder()) as gallery:
            assert indexed(gallery, again) == held, (step, when)


def test_a_line_that_was_cut_short_comes_again(config_file, gallery) -> None:
    config = read_config(config_file)
    with Watcher(config, detector=ColourDetector(), gallery=gallery) as watcher:
        list(watcher.events(max_frames=19))
    state = config.out.with_name("events.jsonl.state").read_bytes()
    with Watcher(config, resume=True, detector=ColourDetector(), gallery=gallery) as watcher:
        list(watcher.events())
    lines = config.out.read_bytes()
    # As after a stop in the middle of the line of frame 27.
    config.out.write_bytes(lines[:-40])
    config.out.with_name("events.jsonl.state").write_bytes(state)

    watched(config, gallery, resume=True)

    assert config.out.read_bytes() == lines


def test_a_gallery_that_was_lost_is_filled_again(config_file, tmp_path) -> None:
    config = read_config(config_file)
    with Gallery.open(tmp_path / "one.nsg", FakeEncoder()) as gallery:
        watched(config, gallery)
        held = indexed(gallery, config)

    with Gallery.open(tmp_path / "two.nsg", FakeEncoder()) as gallery:
        watched(config, gallery, resume=True)
        assert indexed(gallery, config) == held


def test_a_busy_gallery_does_not_stop_the_watch_and_gets_the_events_later(config_file, tmp_path) -> None:
    place = tmp_path / "events.nsg"
    Gallery.open(place, FakeEncoder()).close()
    hold = """
import sys
from nearsight.gallery import Gallery
from nearsight.testing import FakeEncoder
def held(progress):
    print("held", flush=True)
    sys.stdin.read()
with Gallery.open(sys.argv[1], FakeEncoder()) as gallery:
    gallery.add(sys.argv[2], progress=held)
"""
    picture = tmp_path / "other.png"
    Image.new("RGB", (8, 8)).save(picture)
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(place), str(picture)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"held\n"
        with Gallery.open(place, FakeEncoder(), wait_s=0.05) as gallery:
            with Watcher(read_config(config_file), detector=ColourDetector(), gallery=gallery) as watcher:
                events = list(watcher.events())
                assert gallery.stats().cameras.get("gate-3", 0) == 0
                other.communicate()
            assert gallery.stats().cameras["gate-3"] == len(events) == 5
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize("choice", ["resume", "fresh"])
def test_two_watches_cannot_write_one_file(config_file, gallery, choice) -> None:
    config = read_config(config_file)
    with Watcher(config, detector=ColourDetector(), gallery=gallery) as first:
        events = list(first.events(max_frames=20))
        with pytest.raises(ns.InputError, match="another nearsight watch is writing"):
            Watcher(config, detector=ColourDetector(), gallery=gallery, **{choice: True})
        events += first.events()

    assert [event.key for event in read_events(config.out)] == [event.key for event in events]
    assert len(list(config.thumbnails.iterdir())) == len(gallery) == len(events) == 5


def test_a_file_that_holds_something_else_is_left_alone(config_file, gallery) -> None:
    config = read_config(config_file)
    config.out.write_text('{"something": "else"}\n', encoding="utf-8")

    for choice in ("resume", "fresh"):
        with pytest.raises(ns.InputError, match="line 1 is no event of nearsight watch"):
            watched(config, gallery, **{choice: True})
    assert config.out.read_text(encoding="utf-8") == '{"something": "else"}\n'
