"""`nearsight models`: what is here and what could be, installing from a folder, verifying, recommending."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import nearsight_models
from nearsight_models import catalogue, models_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = """
name = "tiny"
capability = "detect"
architecture = "rt-detr"
summary = "finds nothing"
languages = ["en"]
licence = "CC0-1.0"
research_only = true
parameters = 4000000
trained_on = ["nothing"]
notes = ["made for a test"]
[hub]
repo = "house/tiny"
revision = ""
confirmed = false
assets = ["config.json"]
[hub.files.detect]
fp32 = { path = "onnx/model.onnx", bytes = 9 }
int8 = { path = "onnx/model_quantized.onnx", bytes = 7 }
"""


@pytest.fixture
def stick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out as a repository of the hub, and a catalogue that names it and nothing else."""
    pages, folder = tmp_path / "catalogue", tmp_path / "stick"
    pages.mkdir()
    (pages / "tiny.toml").write_text(PAGE)
    monkeypatch.setattr(catalogue, "folder", lambda: pages)
    monkeypatch.setenv("NEARSIGHT_MODELS", str(tmp_path / "models"))
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(b"\x08\x08\x3a\x05graph")
    (folder / "onnx" / "model_quantized.onnx").write_bytes(b"\x08\x08\x3a\x03int")
    (folder / "config.json").write_text("{}")
    return folder


def test_a_model_is_installed_from_a_folder_listed_and_verified(nearsight: Callable, stick: Path) -> None:
    said = nearsight("models", "pull", "tiny", "--from", stick)
    listed = nearsight("models", "list", "tiny")
    verified = nearsight("models", "verify", "tiny")

    assert said.code == 0
    assert said.out.splitlines()[0] == "tiny  detect  installed  0.0 MB  en"
    assert said.out.splitlines()[-1] == f"  in {models_folder() / 'tiny'}"
    assert said.err.splitlines() == [
        "nearsight: copied onnx/model.onnx (0.0 MB)",
        "nearsight: copied config.json (0.0 MB)",
    ]
    assert listed.out == "\n".join(said.out.splitlines()[:-1]) + "\n"
    assert verified.code == 0
    assert [line.split()[1] for line in verified.out.splitlines()] == ["detect", "config.json"]
    assert verified.out.endswith("tiny  config.json  -  -  ok  file as the manifest states\n")


def test_a_precision_is_pulled_and_told_in_json(nearsight: Callable, stick: Path) -> None:
    told = json.loads(nearsight("models", "pull", "tiny", "--from", stick, "--precision", "int8", "--json").out)

    assert list(told["model"]["files"]["detect"]) == ["int8"]
    assert told["model"]["state"] == "installed"
    assert told["model"]["source"] == {"repo": "house/tiny", "revision": "", "how": "pull"}
    assert told["folder"] == str(models_folder() / "tiny")


def test_a_damaged_asset_does_not_verify(nearsight: Callable, stick: Path) -> None:
    nearsight("models", "pull", "tiny", "--from", stick)
    (models_folder() / "tiny" / "config.json").write_text("[]")

    said = nearsight("models", "verify", "tiny")

    assert said.code == 1
    assert "tiny  config.json  -  -  REFUSED  config.json has SHA-256" in said.out
    assert "nearsight models pull tiny" in said.out


def test_a_missing_file_is_named_and_nothing_is_installed(nearsight: Callable, stick: Path) -> None:
    (stick / "config.json").unlink()

    said = nearsight("models", "pull", "tiny", "--from", stick)

    assert said.code == 2
    assert nearsight("models", "pull", "tiny", "--from", stick / "nowhere").code == 2
    assert said.err.splitlines()[-1] == (
        f"nearsight: {stick} lacks config.json; put the whole repository of the hub there"
    )
    assert nearsight_models.installed() == []


def test_what_is_not_installed_is_listed_with_the_way_to_it(nearsight: Callable, stick: Path) -> None:
    said = nearsight("models", "list", "tiny")
    told = json.loads(nearsight("models", "list", "--json").out)["models"]

    assert said.out.splitlines() == [
        "tiny  detect  not installed: pull  0.0 MB  en",
        "  detect: fp32, int8",
        "  licence: CC0-1.0",
        "  weights: fp32 0 MB, int8 0 MB",
        "  finds nothing",
        "  its weights, or some of what they were trained on, are for research only",
        "  note: made for a test",
        "  note: where it is on the hub, or what its files are called, could not be confirmed",
    ]
    assert [model["state"] for model in told] == [*["embedded"] * len(nearsight_models.embedded()), "available"]
    assert told[-1]["confirmed"] is False


def test_the_whole_catalogue_can_be_listed(nearsight: Callable) -> None:
    told = json.loads(nearsight("models", "list", "--json").out)["models"]
    some = nearsight("models", "list", "--capability", "plan")

    assert {model["name"] for model in told} >= {"nano", *nearsight_models.available()}
    assert all(model["licence"] and model["trained_on"] for model in told)
    assert {line.split()[1] for line in some.out.splitlines() if line[0] != " "} == {"plan"}


def test_recommending_shows_the_trade_with_sources(nearsight: Callable) -> None:
    said = nearsight("models", "recommend", "--capability", "search", "--language", "zh", "--memory-mb", "500")
    told = json.loads(nearsight("models", "recommend", "--capability", "search", "--json").out)

    first = said.out.splitlines()[0]
    assert said.code == 0
    assert said.err == f"nearsight: get it: nearsight models pull {first.split()[0]} --precision {first.split()[1]}\n"
    assert "left out: does not know zh" in said.out
    assert told["recommended"] == told["models"][0]["name"] == "siglip2-base"
    assert told["models"][0]["figure"]["source"].startswith("README_siglip2.md")
    assert {model["left_out"] for model in told["models"] if model["research_only"]} == {"for research only"}


def test_a_figure_of_another_precision_is_said_to_be_one(nearsight: Callable) -> None:
    said = nearsight("models", "recommend", "--capability", "search", "--memory-mb", "160")

    assert said.out.startswith("clip-vit-b32  int8  154 MB  of fp32: 0.304 R@1 text to image, MSCOCO 5k test (")


def test_what_this_version_does_not_run_is_marked(nearsight: Callable, stick: Path) -> None:
    page = stick.parent / "catalogue" / "tiny.toml"
    page.write_text(page.read_text().replace("rt-detr", "abacus"))

    pulled = nearsight("models", "pull", "tiny", "--from", stick)
    advised = nearsight("models", "recommend", "--capability", "detect", "--any-licence")

    assert pulled.err.endswith(
        "nearsight: tiny is here, but no part of this version runs the architecture abacus yet\n"
    )
    assert "left out: not run by this version yet" in advised.out


def test_any_licence_lets_research_weights_in(nearsight: Callable) -> None:
    told = json.loads(
        nearsight("models", "recommend", "--capability", "search", "--memory-mb", "60", "--any-licence", "--json").out
    )

    assert told["recommended"] == "nano"


def test_nothing_to_recommend_is_a_failure_that_says_what_to_allow(nearsight: Callable) -> None:
    said = nearsight("models", "recommend", "--capability", "caption", "--memory-mb", "1")

    assert said.code == 1
    assert said.err.startswith("nearsight: nothing fits what was asked for; allow more: --memory-mb")
    assert all("left out" in line for line in said.out.splitlines())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pull"], "pull wants the name of a model; there are "),
        (["pull", "nano"], "no model 'nano' to pull; there are blip-base"),
        (["export", "clap"], "no model 'clap' to export; there are "),
        (["pull", "clip-vit-b32", "--batch", "2"], "--batch belongs to export, not to pull"),
        (["list", "--from", "x"], "--from belongs to pull and export, not to list"),
        (["pull", "clip-vit-b32", "--name", "mine"], "--name belongs to export, not to pull"),
        (["list", "--replace"], "--replace belongs to pull and export, not to list"),
        (["export", "clip-vit-b32", "--name", "mine"], "say where they are: --from FOLDER"),
        (["export", "clip-vit-b32", "--from", "x", "--name", "blip-base"], "the wheel or the catalogue has it"),
        (["export", "clip-vit-b32", "--from", "x", "--name", "../x"], "cannot be called '../x'"),
        (["recommend", "--capability", "search", "--language", "xx"], "no model knows the language 'xx'; give one of"),
        (["recommend"], "recommend wants --capability: search, detect"),
        (["recommend", "nano", "--capability", "search"], "recommend takes no name"),
        (["recommend", "--capability", "search", "--memory-mb", "much"], "'much' is no number of megabytes"),
        (["export", "owlv2-base", "--canvas", "960"], "'960' is no size; give WIDTHxHEIGHT"),
        (["export", "owlv2-base", "--batch", "0"], "'0' is no number of 1 or more"),
        (["export", "yolox-nano"], "'yolox-nano' is not exported but pulled: nearsight models pull yolox-nano"),
        (["pull", "blip-base"], "there are no ready graphs of 'blip-base' to pull; make them: nearsight models export"),
        (["pull", "clip-vit-b32", "--precision", "q1"], "cannot be pulled in 'q1'; there is fp32, int8"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(nearsight: Callable, words: list[str], told: str) -> None:
    said = nearsight("models", *words)

    assert said.code == 2
    assert said.err.startswith("nearsight: ")
    assert said.err.count("\n") == 1
    assert told in said.err


@pytest.mark.parametrize("action", ["list", "verify"])
def test_what_is_not_installed_cannot_be_verified(nearsight: Callable, action: str) -> None:
    said = nearsight("models", action, "clip-vit-b32")

    if action == "list":
        assert said.out.startswith("clip-vit-b32  search  not installed: pull or export")
    else:
        assert said.code == 2
        assert (
            said.err == "nearsight: model 'clip-vit-b32' is not installed; get it: nearsight models pull clip-vit-b32\n"
        )


def test_on_a_terminal_the_trade_is_a_table(on_a_terminal: Callable) -> None:
    code, shown = on_a_terminal("models", "recommend", "--capability", "detect", columns=250)

    assert code == 0
    head = shown.splitlines()[0]
    assert [head.index(word) for word in ("model", "precision", "weights", "published figure", "licence")] == sorted(
        head.index(word) for word in ("model", "precision", "weights", "published figure", "licence")
    )
    assert "README.md of IDEA-Research/GroundingDINO" in shown


def test_a_damaged_model_hides_no_other(nearsight: Callable, stick: Path) -> None:
    nearsight("models", "pull", "tiny", "--from", stick)
    (models_folder() / "tiny" / "onnx" / "model.onnx").write_bytes(b"")

    listed = nearsight("models", "list")
    verified = nearsight("models", "verify")

    told = "model.onnx has 0 bytes, its manifest states 9; get it: nearsight models pull tiny"
    assert listed.code == 0
    assert listed.err == f"nearsight: tiny is damaged: {told}\n"
    assert listed.out.startswith("nano  search")
    assert verified.code == 1
    assert verified.out.splitlines()[-1] == f"tiny  page  -  -  REFUSED  {told}"
    assert sum("  ok  " in line for line in verified.out.splitlines()) > 5


@pytest.mark.parametrize("code", ["ZH", "zh-CN", "zh_Hans"])
def test_a_language_is_known_by_its_code_however_it_is_written(nearsight: Callable, code: str) -> None:
    plain, other = (
        nearsight("models", "recommend", "--capability", "search", "--language", one) for one in ("zh", code)
    )

    assert (other.code, other.out) == (0, plain.out)


def test_a_figure_on_other_data_is_shown_and_not_compared(nearsight: Callable) -> None:
    rows = nearsight("models", "recommend", "--capability", "detect").out.splitlines()

    (dino,) = (row for row in rows if row.startswith("grounding-dino-tiny"))
    assert "not compared: 0.484 AP, boxes, COCO 2017 val, zero-shot (" in dino
    assert rows[0].startswith("rt-detr-r18")
    assert any(row.startswith("owlv2-base  fp32  614 MB, a run ") for row in rows)


@pytest.mark.parametrize(
    ("variable", "words"),
    [("NEARSIGHT_MODELS", ["list"]), ("NEARSIGHT_MODELS", ["verify"]), ("HF_ENDPOINT", ["pull", "tiny"])],
)
def test_a_setting_that_is_none_is_told_at_once(
    nearsight: Callable, stick: Path, monkeypatch: pytest.MonkeyPatch, variable: str, words: list[str]
) -> None:
    if variable == "HF_ENDPOINT":
        pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'nearsight[hub]'")
    monkeypatch.setenv(variable, str(stick / "config.json"))

    said = nearsight("models", *words)

    assert said.code == 2
    assert said.err.startswith(f"nearsight: {variable} is '{stick / 'config.json'}', which is no ")
    assert said.err.count("\n") == 1


def test_a_damaged_page_hides_no_other_and_a_pull_replaces_it(nearsight: Callable, stick: Path) -> None:
    nearsight("models", "pull", "tiny", "--from", stick)
    (models_folder() / "tiny" / "manifest.toml").write_bytes(b"name = '\xff'")

    listed, verified = nearsight("models", "list"), nearsight("models", "verify")
    pulled = nearsight("models", "pull", "tiny", "--from", stick)

    assert listed.code == 0
    assert listed.err.startswith("nearsight: tiny is damaged: the page of 'tiny' cannot be read (")
    assert listed.err.endswith("; get it: nearsight models pull tiny\n")
    assert listed.out.startswith("nano  search")
    assert verified.code == 1
    assert verified.out.splitlines()[-1].startswith("tiny  page  -  -  REFUSED")
    assert pulled.code == 0
    nearsight_models.load("tiny").check()


def test_a_model_that_came_another_way_is_replaced_only_when_asked_for(nearsight: Callable, stick: Path) -> None:
    nearsight("models", "pull", "tiny", "--from", stick)
    exported = nearsight("models", "export", "tiny", "--from", stick)
    page = models_folder() / "tiny" / "manifest.toml"
    page.write_text(page.read_text().replace('how = "pull"', 'how = "export"'))
    pulled = nearsight("models", "pull", "tiny", "--from", stick)

    for said, came, how in ((exported, "pull", "export"), (pulled, "export", "pull")):
        assert said.code == 2
        told = f"nearsight: 'tiny' is installed and came by {came}; give --replace to have it by {how} instead"
        assert said.err.startswith(told)
        assert said.err.count("\n") == 1
    assert nearsight("models", "pull", "tiny", "--from", stick, "--replace").code == 0
    assert nearsight_models.load("tiny").source.how == "pull"
