"""`nearsight doctor` and `nearsight models`: what can run here, what was proven, what the weights are and may be used for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

import nearsight_models
from nearsight import __version__
from nearsight.cli import doctor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_doctor_names_versions_targets_models_proofs_and_the_cache(nearsight: Callable, gallery: Path) -> None:
    found = json.loads(nearsight("doctor", "--json").out)

    assert found["ok"] is True
    assert found["nearsight"] == __version__
    assert all(found["libraries"].values())
    targets = {target["target"]: target for target in found["targets"]}
    assert targets["cpu"]["available"] is True
    assert all(target["reason"] for target in targets.values())
    assert [model["name"] for model in found["models"]] == nearsight_models.names()
    assert any(proof["passed"] and proof["target"] == "cpu" for proof in found["proofs"])
    assert found["cache"]


def test_the_doctor_shows_what_was_measured_for_a_graph_and_which_choice_that_made(
    nearsight: Callable, gallery: Path
) -> None:
    found = json.loads(nearsight("doctor", "--json").out)

    choice = next(choice for choice in found["choices"] if choice["name"] == "nano.image")
    ways = [choice["taken"], *choice["others"]]
    usable = {target["target"] for target in found["targets"] if target["available"] and not target["simulator"]}
    assert {way["target"] for way in ways} <= usable
    assert {way["precision"] for way in ways} == {"int8", "fp16"}
    assert all(way["latency_ms"] > 0 and way["mb"] > 1 for way in ways)
    said = nearsight("doctor").out
    assert f"nano.image: {choice['taken']['precision']} on {choice['taken']['target']} with " in said
    assert "; not taken: " in said
    assert f"choice     ok   {choice['words']}\n" in said
    assert ("measured again after a day" in said) == any(choice["doubtful"] for choice in found["choices"])


def test_the_doctor_measures_every_graph_when_asked_and_says_where_its_operators_run(nearsight: Callable) -> None:
    said = nearsight("doctor", "--measure", "--json")
    found = json.loads(said.out)

    assert said.code == 0
    placed = {graph["graph"]: graph for graph in found["placements"]}
    assert {"nano.image", "nano.text", "nano-detect.detect", "nano-caption.step"} <= set(placed)
    assert all(graph["ok"] and "operators on " in graph["words"] for graph in placed.values())
    assert set(placed) <= {choice["name"] for choice in found["choices"]}


def test_the_doctor_says_what_the_host_costs_and_what_mends_it() -> None:
    findings = doctor.examine()
    assert [cost["subject"] for cost in findings["host"]][:4] == ["clock", "processors", "instructions", "memory"]
    slow = {"subject": "clock", "state": "governor powersave", "remedy": "sudo cpupower frequency-set -g performance"}

    lines = [words for subject, _, words in doctor._lines({**findings, "host": [slow]}) if subject == "host"]

    assert lines == ["clock: governor powersave; sudo cpupower frequency-set -g performance"]


def test_the_doctor_calls_a_simulator_one_that_is_used_by_name_only() -> None:
    target = {"target": "qnn", "available": True, "reason": "its simulator", "remedy": "", "simulator": True}

    lines = [
        words for subject, _, words in doctor._lines({**doctor.examine(), "targets": [target]}) if subject == "target"
    ]

    assert lines == ["qnn: its simulator; used by name only"]


def test_a_model_that_cannot_be_loaded_is_bad_and_the_others_are_measured(
    nearsight: Callable, installed: Callable
) -> None:
    page = installed("nano-caption", "broken") / "manifest.toml"
    page.write_text(page.read_text(encoding="utf-8").replace("caption.step.golden.npz", "caption.see.golden.npz"))

    said = nearsight("doctor", "--measure")

    assert said.code == 1
    assert re.search(r"^placed\s+BAD\s+broken: caption\.see\.golden\.npz has ", said.out, re.MULTILINE)
    assert re.search(r"^placed\s+ok\s+nano\.image: ", said.out, re.MULTILINE)


def test_the_doctor_s_lines_say_ok_where_it_is_and_why_where_it_is_not(nearsight: Callable) -> None:
    said = nearsight("doctor")

    assert said.code == 0
    assert "BAD" not in said.out
    rows = {tuple(line.split()[:2]) for line in said.out.splitlines()}
    assert {("target", "ok"), ("model", "ok"), ("target", "-")} <= rows


def test_the_list_says_what_a_model_was_trained_on_and_what_may_be_done_with_it(nearsight: Callable) -> None:
    said = nearsight("models", "list")
    listed = json.loads(nearsight("models", "list", "--json").out)["models"]

    assert said.code == 0
    assert "licence: " in said.out
    assert "trained on: " in said.out
    assert {model["name"] for model in listed} >= {"nano", "nano-detect", "nano-caption"}
    assert all(model["licence"] and model["trained_on"] for model in listed)


def test_verify_hashes_every_file_and_proves_every_graph(nearsight: Callable) -> None:
    said = nearsight("models", "verify", "nano")
    found = json.loads(nearsight("models", "verify", "--json").out)

    assert said.code == 0
    assert all("  ok  " in line for line in said.out.splitlines())
    assert found["ok"] is True
    proven = {graph["role"] for graph in found["graphs"] if graph["proof"] and graph["proof"]["passed"]}
    assert proven == {"image", "text", "detect", "top", "see", "step"}


@pytest.mark.parametrize("action", ["list", "verify"])
def test_an_unknown_model_is_a_mistake_and_the_known_ones_are_named(nearsight: Callable, action: str) -> None:
    said = nearsight("models", action, "giant")

    assert said.code == 2
    known = ", ".join(nearsight_models.names())
    assert said.err == f"nearsight: no model 'giant'; there are {known}; see: nearsight models list\n"
