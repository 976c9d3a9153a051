"""Several processes on one gallery, and processes that die: nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nearsight.errors import GalleryBusyError
from nearsight.gallery import Gallery
from nearsight.testing import FakeEncoder

ADD = """
import os, sys, time
from nearsight.gallery import Gallery
from nearsight.testing import FakeEncoder
def told(path):
    os.write(1, os.fsencode(path) + b"\\0")
    time.sleep(float(sys.argv[4]))
with Gallery.open(sys.argv[1], FakeEncoder(), wait_s=float(sys.argv[3])) as gallery:
    gallery.add(sys.argv[2], on_stored=told)
"""

HOLD = """
import sys
from nearsight.gallery import Gallery
from nearsight.testing import FakeEncoder
def held(path):
    print("held", flush=True)
    sys.stdin.read()
with Gallery.open(sys.argv[1], FakeEncoder()) as gallery:
    gallery.add(sys.argv[2], on_stored=held)
"""

REINDEX = """
import sys
from nearsight.gallery import Gallery
from nearsight.testing import FakeEncoder
def held(step):
    print(step.done, flush=True)
    sys.stdin.read()
with Gallery.open(sys.argv[1], None) as gallery:
    gallery.reindex(FakeEncoder(space="other", spare=3), progress=held)
"""


def started(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.fixture
def many(album, paint) -> list[Path]:
    colours = ("red", "blue", "green")
    return [paint(f"{number:03}.png", colours[number % 3]) for number in range(120)]


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path, album, many, trials, soak_record) -> None:
    rng = random.Random(11)
    wanted, kills, rounds, acknowledged_in_all, midway = trials(50), 0, 0, 0, 0
    while kills < wanted:
        rounds += 1
        path = tmp_path / f"{rounds}.nsg"
        acknowledged: set[Path] = set()
        complete = False
        while not complete and kills < wanted:
            process = started(ADD, path, album, 5, 0)
            told = b""
            if rng.random() < 0.3:
                time.sleep(rng.random() * 0.5)
            else:
                # After the first acknowledgements, so that the kill meets the work and not the start.
                told = os.read(process.stdout.fileno(), rng.randrange(1, 4000))
                time.sleep(rng.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            told += process.stdout.read()
            # What follows the last end mark was cut while it was told.
            acknowledged |= {Path(os.fsdecode(name)) for name in told.split(b"\0")[:-1]}
            process.stdin.close()
            process.stdout.close()
            complete = process.wait() == 0
            kills += not complete
            midway += not complete and 0 < len(acknowledged) < len(many)
            if not path.exists():
                continue
            with Gallery.open(path, FakeEncoder()) as gallery:
                report = gallery.verify()
                held = {hit.path for hit in gallery.search("red", k=1000, min_relevance=0)}
                assert report.ok, report
                assert acknowledged <= held
        acknowledged_in_all += len(acknowledged)
        with Gallery.open(path, FakeEncoder()) as gallery:
            gallery.add(album)
            assert len(gallery) == len(many)
            assert gallery.verify().ok

    assert acknowledged_in_all > 0
    soak_record("gallery_kill", {"kills": kills, "kills_midway": midway, "rounds": rounds, "pictures": len(many),
                                 "acknowledged": acknowledged_in_all, "lost": 0})  # fmt: skip


def test_a_killed_reindex_leaves_the_old_space_and_goes_on(tmp_path, album, many) -> None:
    path = tmp_path / "g.nsg"
    with Gallery.open(path, FakeEncoder()) as gallery:
        gallery.add(album)
    process = started(REINDEX, path)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert process.returncode == -signal.SIGKILL
    with Gallery.open(path, FakeEncoder()) as gallery:
        assert len(gallery.search("blue", k=100)) == len(many) // 3
        assert gallery.verify().ok
    other = FakeEncoder(space="other", spare=3)
    with Gallery.open(path, None) as gallery:
        gallery.reindex(other)
        assert other.encoded_pictures < len(many)
        assert len(gallery.search("blue", k=100)) == len(many) // 3
        assert gallery.verify().ok


def test_a_reader_sees_new_pictures_while_another_process_writes(tmp_path, album, many) -> None:
    path = tmp_path / "g.nsg"
    Gallery.open(path, FakeEncoder()).close()
    seen = [0]
    with Gallery.open(path, FakeEncoder(), read_only=True) as reader:
        process = started(ADD, path, album, 5, 0.01)
        while process.poll() is None:
            hits = reader.search("red", k=1000, min_relevance=0)
            assert len(hits) == hits.total_considered
            seen.append(len(hits))
        process.communicate()
        seen.append(len(reader.search("red", k=1000, min_relevance=0)))

    assert process.returncode == 0
    assert seen == sorted(seen)
    assert seen[-1] == len(many)
    assert len(set(seen)) > 2, "the reader saw none of the states between"


def test_a_second_writer_is_told_so_and_readers_are_not_held_up(tmp_path, album, paint) -> None:
    path = tmp_path / "g.nsg"
    paint("a.png", "red")
    process = started(HOLD, path, album)
    assert process.stdout.readline() == b"held\n"
    try:
        with Gallery.open(path, FakeEncoder(), wait_s=0.3) as gallery:
            began = time.monotonic()
            for change in (
                lambda: gallery.add(album),
                lambda: gallery.remove(album),
                lambda: gallery.reindex(FakeEncoder()),
            ):
                with pytest.raises(GalleryBusyError, match=r"0\.3 s"):
                    change()
            assert time.monotonic() - began < 5
            assert len(gallery.search("red")) == 1
            assert gallery.verify().ok
            process.send_signal(signal.SIGKILL)
            process.wait()

            assert gallery.add(album).unchanged == 1
    finally:
        process.kill()
        process.communicate()


def test_processes_that_make_and_fill_one_gallery_at_once_take_turns(tmp_path, album, many) -> None:
    path = tmp_path / "g.nsg"
    processes = [started(ADD, path, album, 60, 0) for _ in range(3)]
    told = [process.communicate()[0].split(b"\0")[:-1] for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(map(len, told)) == len(many)
    with Gallery.open(path, FakeEncoder()) as gallery:
        assert len(gallery) == len(many)
        assert gallery.verify().ok
