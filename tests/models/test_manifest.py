"""What a manifest page promises, and what happens when it does not hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import nearsight_models
from nearsight_models import ChecksumError, MissingFilesError, ModelError, UnknownModelError, manifest

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """
name = "tiny"
capability = "search"
summary = "a test"
space = "tiny-1"
dimensions = 2
languages = ["en"]
licence = "CC0-1.0"
research_only = false
parameters = 4
trained_on = ["nothing"]
preprocessing = { size_wh = [4, 4], mode = "stretch", resample = "bicubic" }
tokenizer = { kind = "sentencepiece", prefix = "", longest = 8, bos = 0, eos = 2, pad = 1 }
golden = {}
relevance = {}
[files.image]
int8 = { path = "a.onnx", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", bytes = 3 }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.onnx").write_bytes(b"abc")
    return tmp_path


def test_every_page_in_the_wheel_is_readable_and_its_files_are_as_stated():
    for name in nearsight_models.names():
        page = nearsight_models.load(name)

        page.check()
        assert page.name == name
        assert page.trained_on
        assert page.licence


def test_the_embedded_files_stay_within_sixty_six_megabytes():
    embedded = manifest.root() / "embedded"

    assert sum(path.stat().st_size for path in embedded.rglob("*") if path.is_file()) <= 66_000_000


def test_every_embedded_file_is_named_by_a_page():
    named = set()
    for name in nearsight_models.names():
        page = nearsight_models.load(name)
        named |= {file.path for variants in page.files.values() for file in variants.values()}
        named |= {file.path for file in page.golden.values()}

    assert {path for path in (manifest.root() / "embedded").rglob("*") if path.is_file()} == named


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(UnknownModelError, match=r"no model is called 'nona'; there is: .*nano"):
        nearsight_models.load("nona")


def test_a_family_is_asked_for_by_what_it_shall_serve():
    page = nearsight_models.load("nano", "search")

    assert page == nearsight_models.load("nano")
    with pytest.raises(UnknownModelError, match="model 'nano' does not serve 'juggling'; what does: none"):
        nearsight_models.load("nano", "juggling")


def test_a_page_that_does_not_search_needs_no_space(folder):
    text = PAGE.replace('capability = "search"', 'capability = "detect"\nfamily = "small"').replace(
        'space = "tiny-1"', ""
    )

    page = manifest.parse(text, folder)

    assert (page.name, page.family, page.space, page.settings) == ("tiny", "small", "", {})


def test_a_changed_file_is_told_from_the_right_one(folder):
    page = manifest.parse(PAGE, folder)
    page.check()
    (folder / "a.onnx").write_bytes(b"abd")

    with pytest.raises(ChecksumError, match="SHA-256"):
        page.check()


def test_a_cut_file_is_told_by_its_size(folder):
    page = manifest.parse(PAGE, folder)
    (folder / "a.onnx").write_bytes(b"ab")

    with pytest.raises(ChecksumError, match="2 bytes, its manifest states 3"):
        page.check()


def test_a_missing_file_is_named(folder):
    (folder / "a.onnx").unlink()

    with pytest.raises(MissingFilesError, match=r"a\.onnx"):
        manifest.parse(PAGE, folder)


@pytest.mark.parametrize("lost", ["space", "licence", "trained_on", "dimensions"])
def test_a_page_that_lacks_a_field_names_it(folder, lost):
    text = "\n".join(line for line in PAGE.splitlines() if not line.startswith(lost))

    with pytest.raises(ModelError, match=lost):
        manifest.parse(text, folder)


def test_a_page_that_is_no_toml_says_so(folder):
    with pytest.raises(ModelError, match="not valid TOML"):
        manifest.parse("name = ", folder)


def test_preprocessing_that_differs_has_another_key(folder):
    shape = manifest.parse(PAGE, folder).preprocessing

    assert shape.key != replace(shape, mode="crop").key
    assert shape.key != replace(shape, size_wh=(4, 5)).key
