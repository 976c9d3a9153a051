"""`nearsight watch` as a person meets it, with the real detector."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearsight.cli.main import main
from nearsight_apps.smart_city.journal import read_events

COMMAND = Path(sys.executable).parent / "nearsight"
CONFIG = """
[camera]
name = "kitchen"
source = "frames"
fps = 10
start = 2026-11-26T18:00:00

[detect]
labels = ["cat"]

[[line]]
name = "table"
from = [0.5, 0.0]
to = [0.5, 1.0]
"""


@pytest.fixture(scope="module")
def frames(tmp_path_factory, photos) -> Path:
    """Return a folder in which the photograph of a cat moves from left to right over grey: rendered, and says so."""
    folder = tmp_path_factory.mktemp("kitchen") / "frames"
    folder.mkdir()
    with Image.open(photos / "cat.jpg") as opened:
        cat = opened.convert("RGB").resize((240, 160))
    for number in range(20):
        frame = Image.new("RGB", (640, 360), (120, 120, 118))
        frame.paste(cat, (20 * number, 100))
        frame.save(folder / f"{number:03}.png")
    return folder


@pytest.fixture
def config(tmp_path, frames) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.replace('"frames"', f'"{frames}"'), encoding="utf-8")
    return path


def test_it_says_what_happens_and_a_summary(config, capsys) -> None:
    code = main(["watch", str(config)])

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    *events, summary, crossings = out.splitlines()
    assert [event.split("  ")[1:3] for event in events] == [["kitchen", "cat 1 appeared"], ["kitchen", "cat 1 crossed table (out)"]]  # fmt: skip
    assert summary.startswith("kitchen: 20 frames in ")
    assert summary.endswith("appeared: 1 cat")
    assert crossings == "  table out: 1 cat"


def test_json_is_one_object_a_line_and_the_summary_the_last(config, tmp_path, capsys) -> None:
    code = main(["watch", str(config), "--json", "--max-frames", "18"])

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert rows[:-1] == [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    summary = rows[-1]["summary"]
    assert (summary["frames"], summary["last_frame"], summary["appeared"]) == (18, 17, {"cat": 1})
    assert summary["crossings"] == [{"line": "table", "direction": "out", "label": "cat", "count": 1}]
    assert summary["decision"]["target"]


def test_what_was_watched_is_found_by_words(config, tmp_path, capsys) -> None:
    main(["watch", str(config)])
    capsys.readouterr()

    code = main(["search", "a cat", "-g", str(tmp_path / "events.nsg"), "--where", "event=crossing", "--after", "2026-11-26T18:00", "--json"])  # fmt: skip

    hits = json.loads(capsys.readouterr().out)["hits"]
    assert code == 0
    assert [(hit["camera"], hit["metadata"]["line"]) for hit in hits] == [("kitchen", "table")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("fps = 10", "fsp = 10"), "line 5: [camera] fsp: no such key"),
        (("[0.5, 1.0]", "[0.5, 7.0]"), "line 14: [line] to: [0.5, 7.0] is outside the frame"),
        (('["cat"]', '["quasar plasma"]'), "line 9: [detect] labels: quasar plasma cannot be judged"),
        (('["cat"]', '["cat", "猫"]'), "line 9: [detect] labels: 'cat' and '猫' are both seen as 'cat'"),
        (('["cat"]', '["cat", "cats"]'), "line 9: [detect] labels: 'cat' and 'cats' are both seen as 'cat'"),
        (('["cat"]', '["kitten", "cat"]'), "line 9: [detect] labels: 'kitten' and 'cat' are both seen as 'cat'"),
        (('["cat"]', '["cat", "animal"]'), "line 9: [detect] labels: 'cat' and 'animal' are both seen as 'cat'"),
        (
            ('["cat"]', '["cat", "person", "woman"]'),
            "'person' and 'woman' are both seen as 'person', so each would count twice",
        ),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(config, capsys, change, words) -> None:
    config.write_text(config.read_text("utf-8").replace(*change), "utf-8")

    code = main(["watch", str(config)])

    out, err = capsys.readouterr()
    assert code == 2
    assert len(err.splitlines()) == 1
    assert words in err
    assert out == ""


def test_a_label_that_was_mended_needs_no_word_to_begin_again(config, capsys) -> None:
    right = config.read_text("utf-8")
    config.write_text(right.replace('["cat"]', '["quasar plasma"]'), "utf-8")
    assert main(["watch", str(config)]) == 2
    config.write_text(right, "utf-8")

    assert main(["watch", str(config)]) == 0
    assert "appeared: 1 cat" in capsys.readouterr().out


def test_the_agent_answers_about_what_was_watched(config, tmp_path, capsys) -> None:
    main(["watch", str(config)])
    capsys.readouterr()

    code = main(["ask", "how many cats were at kitchen?", "-g", str(tmp_path / "events.nsg"), "--now", "2026-11-26T20:00", "--json"])  # fmt: skip

    answer = json.loads(capsys.readouterr().out)
    assert code == 0
    assert answer["steps"][0]["result"]["kinds"] == {"crossing": {"kitchen": 1}}
    assert [item["metadata"]["run"] for item in answer["items"]] == [read_events(tmp_path / "events.jsonl")[0].run]


def test_an_unreadable_picture_is_a_line_on_stderr_and_counted(config, frames, tmp_path) -> None:
    copy = tmp_path / "frames"
    shutil.copytree(frames, copy)
    (copy / "005.png").write_bytes((copy / "005.png").read_bytes()[:200])
    config.write_text(config.read_text("utf-8").replace(f'"{frames}"', f'"{copy}"'), "utf-8")

    done = subprocess.run([COMMAND, "watch", config], capture_output=True, text=True, check=True)

    assert done.stderr.startswith(f"nearsight: cannot read the picture {copy / '005.png'}: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.splitlines()[-2].endswith("; 1 unreadable left out; appeared: 1 cat")


def test_running_it_again_needs_a_word(config, capsys) -> None:
    main(["watch", str(config), "--max-frames", "4"])

    assert main(["watch", str(config)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["watch", str(config), "--resume"]) == 0
    assert "appeared: 1 cat" in capsys.readouterr().out
    assert main(["watch", str(config), "--fresh"]) == 0
    assert main(["watch", str(config), "--fresh", "--resume"]) == 2


def test_a_reader_that_leaves_loses_no_event(config, tmp_path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{COMMAND}' watch '{config}' --json | head -n 1"], capture_output=True, text=True, check=False
    )

    assert json.loads(done.stdout)["event"] == "appeared"
    assert main(["watch", str(config), "--resume"]) == 0
    kinds = [json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    assert kinds == ["appeared", "crossing"]


def test_a_film_that_breaks_off_ends_with_its_summary_and_exit_code_1(config, frames, tmp_path, capsys) -> None:
    import av

    film = tmp_path / "kitchen.mkv"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.gop_size = 5
        for number in range(20):
            with Image.open(frames / f"{number:03}.png") as picture:
                pixels = np.asarray(picture)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(film.read_bytes())
    start, end = len(content) // 2, len(content) * 6 // 10
    content[start:end] = bytes(end - start)
    film.write_bytes(content)
    config.write_text(config.read_text("utf-8").replace(f'"{frames}"', f'"{film}"').replace("fps = 10\n", ""), "utf-8")

    code = main(["watch", str(config)])

    out, err = capsys.readouterr()
    assert code == 1
    assert "can be read up to frame" in err
    assert "cat 1 appeared" in out
    assert "kitchen: " in out.splitlines()[-1]


def test_help_shows_a_configuration(capsys) -> None:
    assert main(["watch", "--help"]) == 0
    assert "[[line]]" in capsys.readouterr().out
