"""Counts on real clips against what was read off them by eye; see truth.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import nearsight as ns
from nearsight_apps.smart_city.config import read_config
from nearsight_apps.smart_city.events import CROSSING
from nearsight_apps.smart_city.watch import Watcher

TRUTH = tomllib.loads((Path(__file__).parent / "truth.toml").read_text("utf-8"))["clip"]
# The truth is good to 2 frames, and a crossing is told when the band behind the line is left: up to 4 frames later.
TOLERANCE = 6
# Every second frame will do; the clip has ten a second.
FPS = 5


def clip(name: str) -> dict:
    return next(row for row in TRUTH if row["file"] == name)


def watched(folder: Path, data: Path, truth: dict) -> dict[str, list[tuple[int, str]]]:
    lines = "".join(
        f'[[line]]\nname = "{line["name"]}"\nfrom = {line["from"]}\nto = {line["to"]}\n' for line in truth["line"]
    )
    labels = ", ".join(f'"{label}"' for label in truth["labels"])
    path = folder / "config.toml"
    source = (data / "video" / truth["file"]).resolve()
    path.write_text(f'camera.source = "{source}"\ncamera.fps = {FPS}\ndetect.labels = [{labels}]\n{lines}', "utf-8")
    told: dict[str, list[tuple[int, str]]] = {line["name"]: [] for line in truth["line"]}
    with ns.Gallery.open(folder / "events.nsg") as gallery, Watcher(read_config(path), gallery=gallery) as watcher:
        for event in watcher.events():
            if event.event == CROSSING:
                told[event.line].append((event.frame, event.direction))
        assert len(gallery) == len((folder / "events.jsonl").read_text("utf-8").splitlines())
    return told


@pytest.mark.data("video/people_one_by_one.mp4")
def test_people_who_come_and_go_are_counted_at_the_right_moments_and_none_is_invented(tmp_path, data) -> None:
    truth = clip("people_one_by_one.mp4")

    told = watched(tmp_path, data, truth)

    # Everybody who leaves walks through the whole picture; who arrives may be recognised only on the line.
    least = {"arrive": 4, "leave": 6}
    for line in truth["line"]:
        late = [
            frame - crossing["frame"]
            for crossing in line["crossings"]
            for frame, direction in told[line["name"]]
            if direction == crossing["direction"] and abs(frame - crossing["frame"]) <= TOLERANCE
        ]
        assert len(late) >= least[line["name"]], told
        assert len(told[line["name"]]) == len(late), told


@pytest.mark.data("video/dashboard.mp4")
def test_two_cars_that_keep_their_places_cross_nothing(tmp_path, data) -> None:
    assert watched(tmp_path, data, clip("dashboard.mp4")) == {"between": []}
