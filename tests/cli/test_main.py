"""The command itself: finding sub-commands, one-line errors, exit codes, quiet pipes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from nearsight import __version__
from nearsight.cli import main as entrance

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Path(sys.executable).parent / "nearsight"


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_command_in_one_line_each(nearsight: Callable, words: tuple[str, ...]) -> None:
    said = nearsight(*words)

    assert said.code == 0
    listed = [line.split()[0] for line in said.out.splitlines() if line.startswith("  ")]
    assert listed == sorted(entrance.commands())
    ours = {"ask", "caption", "demo", "detect", "doctor", "index", "models", "quantize", "search", "watch"}
    assert ours <= set(listed)


def test_the_version_is_the_package_s(nearsight: Callable) -> None:
    assert nearsight("--version").out == f"nearsight {__version__}\n"


def test_a_slip_of_the_pen_is_answered_with_the_nearest_command(nearsight: Callable) -> None:
    said = nearsight("serach", "dog")

    assert said.code == 2
    assert said.err == "nearsight: no command 'serach'; did you mean search? See: nearsight --help\n"
    assert said.out == ""


def test_a_word_like_no_command_is_answered_with_all_of_them(nearsight: Callable) -> None:
    said = nearsight("xyzzy")

    assert said.code == 2
    assert f"there are {', '.join(sorted(entrance.commands()))}" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("index",), "the following arguments are required"),
        (("search", "dog", "--top", "many"), "a count is wanted"),
        (("search", "dog", "--min-relevance", "7"), "a number from 0 to 1"),
        (("search", "dog", "--after", "yesterday"), "an ISO 8601 time"),
        (("search", "dog", "--where", "weather"), "key=value is wanted"),
        (("search", "dog", "--nonsense"), "unrecognized arguments"),
        (
            ("search", "dog", "--galery", "g.nsg"),
            "--galery g.nsg; did you mean --gallery? See: nearsight search --help",
        ),
        (("detect", "a.jpg", "cat", "--min-scor=0.1"), "did you mean --min-score? See: nearsight detect --help"),
        (
            ("quantize", "a.onnx", "--budget", "7"),
            "did you mean --budget-mb or --budget-ms? See: nearsight quantize --help",
        ),
        (("search", "dog", "--xyzzy"), "unrecognized arguments: --xyzzy; see: nearsight search --help"),
        (("search", "dog"), "no gallery named"),
        (("models", "polish"), "invalid choice"),
        (("--nonsense",), "no option --nonsense"),
    ],
)
def test_a_user_s_mistake_is_one_line_with_the_remedy_and_exit_code_2(
    nearsight: Callable, words: tuple[str, ...], told: str
) -> None:
    said = nearsight(*words)

    assert said.code == 2
    assert said.err.startswith("nearsight: ")
    assert said.err.count("\n") == 1
    assert told in said.err


def test_debug_shows_where_an_error_comes_from(process: Callable, tmp_path: Path) -> None:
    said = process("search", "dog", "--gallery", tmp_path / "none.nsg", "--debug")

    assert said.code == 1
    assert "Traceback" in said.err
    assert "GalleryNotFoundError" in said.err


def test_only_the_command_asked_for_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom nearsight.cli.main import main\nmain(['index', 'nowhere', '-g', 'g'])\n"
        "print(sorted(name for name in sys.modules if name.startswith(('nearsight.cli.', 'rich', 'numpy', 'faiss'))))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    expected = ["index", "main", "place", "terminal"]
    assert done.stdout.strip() == str([f"nearsight.cli.{name}" for name in expected])


def test_a_stranger_s_command_that_cannot_be_loaded_hides_no_other(
    nearsight: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = entrance.commands()
    broken = EntryPoint(name="broken", value="no_such_package.command", group=entrance.GROUP)
    monkeypatch.setattr(entrance, "entry_points", lambda group: [broken, *known.values()])

    said = nearsight("--help")

    assert said.code == 0
    assert re.search(r"broken +\(cannot be loaded: No module named 'no_such_package'\)", said.out)
    assert "search" in said.out


def test_a_stranger_cannot_take_the_name_of_one_of_our_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = entrance.commands()
    stranger = EntryPoint(name="search", value="somebody.search", group=entrance.GROUP)
    monkeypatch.setattr(entrance, "entry_points", lambda group: [*ours.values(), stranger])

    assert entrance.commands()["search"].value == "nearsight.cli.search"


def test_a_reader_that_leaves_early_is_no_error(gallery: Path) -> None:
    command = [COMMAND, "search", "a cat", "--gallery", gallery, "--min-relevance", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        complaint = running.stderr.read()

    assert complaint == b""
    assert running.returncode == 0


def test_a_full_disk_or_a_forbidden_folder_is_one_line_and_a_failure(process: Callable, gallery: Path) -> None:
    said = process("search", "a cat", "--gallery", gallery, "--min-relevance", "0", "--html", os.devnull + "/x.html")

    assert said.code in {1, 2}
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "words",
    [
        ("detect", "cat.jpg", "a cat", "--model", "owlv2-base"),
        ("caption", "cat.jpg", "--model", "blip-base"),
        ("index", ".", "--gallery", "new.nsg", "--encoder", "clip-vit-b32"),
    ],
)
def test_a_model_that_was_not_installed_is_the_users_mistake(nearsight, photos, monkeypatch, tmp_path, words) -> None:
    (tmp_path / "cat.jpg").write_bytes((photos / "cat.jpg").read_bytes())
    monkeypatch.chdir(tmp_path)

    said = nearsight(*words)

    assert said.code == 2
    assert re.fullmatch(rf"nearsight: model '{words[-1]}' is not installed; get it: nearsight models .*\n", said.err)


@pytest.mark.parametrize(
    ("named", "given", "expected"),
    [
        ("search", None, "cpu"),
        ("caption", "", "cpu"),
        ("detect", "openvino,cpu", "openvino,cpu"),
        ("index", None, None),
        ("doctor", None, None),
    ],
)
def test_brief_commands_run_where_they_are_ready_soon_unless_the_user_names_targets(
    named: str, given: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEARSIGHT_TARGETS")
    if given is not None:
        monkeypatch.setenv("NEARSIGHT_TARGETS", given)
    seen: list[str | None] = []
    command = SimpleNamespace(
        HELP="", add_arguments=lambda _: None, run=lambda _: seen.append(os.environ.get("NEARSIGHT_TARGETS")) or 0
    )
    monkeypatch.setattr(entrance, "_load", lambda _: command)

    assert entrance.main([named]) == 0

    assert seen == [expected]
    assert os.environ.get("NEARSIGHT_TARGETS") == given
