"""The catalogue's pages: complete, pinned where they claim to be confirmed, and honest about licences."""

from __future__ import annotations

import re

import pytest

import nearsight_models
from nearsight_models import ModelError, UnknownModelError, catalogue, manifest

NAMES = nearsight_models.available()
ASKED_FOR = {
    "clip-vit-b32", "clip-vit-b32-laion2b", "mobileclip2-s0", "mobileclip2-s2", "siglip2-base", "chinese-clip-base",
    "owlv2-base", "grounding-dino-tiny", "rt-detr-r18", "blip-base", "florence-2-base", "smolvlm-256m",
    "qwen2.5-0.5b-instruct", "qwen2.5-1.5b-instruct", "qwen3-0.6b", "tinyllama-1.1b-chat",
}  # fmt: skip
PAGE = """
name = "m"
capability = "detect"
architecture = "rt-detr"
summary = "a test"
languages = ["en"]
licence = "MIT"
research_only = false
parameters = 1000000
trained_on = ["nothing"]
[hub]
repo = "o/n"
revision = ""
confirmed = false
assets = ["config.json"]
[hub.files.detect]
fp32 = { path = "m.onnx", bytes = 4000000 }
int8 = { path = "m8.onnx" }
"""


def test_every_model_that_was_asked_for_is_there():
    assert set(NAMES) >= ASKED_FOR
    assert not set(NAMES) & set(nearsight_models.embedded())


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_a_user_must_know(name):
    entry = nearsight_models.entry(name)

    assert entry.name == name
    assert entry.capability in {"search", "detect", "caption", "plan"}
    assert entry.summary
    assert all(re.fullmatch("[a-z]{2,3}", code) for code in entry.languages)
    assert entry.licence
    assert entry.trained_on
    assert entry.parameters > 100_000
    assert entry.hub or entry.weights
    assert (entry.dimensions > 0) == (entry.capability == "search")
    assert all(0 < row.value < 2 and row.source and row.data for row in entry.published)


@pytest.mark.parametrize("name", [name for name in NAMES if nearsight_models.entry(name).hub])
def test_what_is_called_confirmed_is_pinned_and_hashes_are_hashes(name):
    hub = nearsight_models.entry(name).hub

    assert re.fullmatch(r"[\w.-]+/[\w.-]+", hub.repo)
    assert re.fullmatch("[0-9a-f]{40}" if hub.confirmed else "([0-9a-f]{40})?", hub.revision)
    parts = [part for row in hub.files.values() for file in row.values() for part in file.parts()]
    for part in (*parts, *hub.assets):
        assert part.sha256 == "" or re.fullmatch("[0-9a-f]{64}", part.sha256)
        assert part.bytes is None or part.bytes > 0
    assert len({part.path for part in parts}) == len(parts) or len(hub.files) == 2
    assert len({part.sha256 for part in parts if part.sha256}) == len({part.path for part in parts if part.sha256})


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_pinned_are_pinned_to_a_commit(name):
    weights = nearsight_models.entry(name).weights

    if weights is not None:
        assert re.fullmatch("[0-9a-f]{40}" if weights.confirmed else "([0-9a-f]{40})?", weights.revision)
        assert (weights.library == "open_clip") == bool(weights.model and weights.tag)


def test_apples_weights_are_for_research_only():
    apple = [entry for entry in catalogue.entries() if "apple-amlr" in entry.licence]

    assert [entry.name for entry in apple] == ["mobileclip2-s0", "mobileclip2-s2"]
    assert all(entry.research_only for entry in apple)


def test_sizes_are_summed_only_where_all_are_known():
    hub = catalogue.read(manifest.toml(PAGE)).hub

    assert hub.precisions() == ["fp32", "int8"]
    assert hub.bytes() == 4_000_000
    assert hub.bytes("int8") is None
    assert catalogue.read(manifest.toml(PAGE)).weights_mb("fp16") == 2.0


@pytest.mark.parametrize("lost", ["capability", "licence", "parameters", "repo", "revision", "confirmed"])
def test_a_page_that_lacks_a_field_names_it(lost):
    text = "\n".join(line for line in PAGE.splitlines() if not line.startswith(lost))

    with pytest.raises(ModelError, match=lost):
        catalogue.read(manifest.toml(text))


def test_a_page_that_names_a_file_elsewhere_is_refused():
    with pytest.raises(ModelError, match="outside the model's folder"):
        catalogue.read(manifest.toml(PAGE.replace("m8.onnx", "../m8.onnx")))


def test_an_unheard_of_library_is_refused():
    text = PAGE + '[weights]\nlibrary = "keras"\nrepo = "o/n"\n'

    with pytest.raises(ModelError, match="'keras'; there is transformers, open_clip"):
        catalogue.read(manifest.toml(text))


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(UnknownModelError, match=r"no model 'clap'; it has: blip-base, "):
        nearsight_models.entry("clap")
