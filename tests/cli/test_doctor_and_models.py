"""`nearsight doctor` and `nearsight models`: what can run here, what was proven, what the weights are and may be used for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import nearsight_models
from nearsight import __version__

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
