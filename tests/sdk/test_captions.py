"""The embedded captioner as a user meets it: what it says differs, keeps to its limits, and names how it came about."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

import nearsight as ns
from nearsight_models import manifest

if TYPE_CHECKING:
    from pathlib import Path

LANGUAGES = ("en", "zh")
LEAST_KINDS = 6  # of eight photographs


@pytest.fixture(scope="module")
def nano() -> ns.Captioner:
    return ns.Captioner("nano")


@pytest.fixture(scope="module")
def said(nano, photos) -> dict[str, list[ns.Caption]]:
    files = sorted(photos.glob("*.jpg"))
    return {language: [nano.caption(path, language) for path in files] for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_different_photographs_get_different_captions(said, language):
    texts = [caption.text for caption in said[language]]

    assert len(set(texts)) >= LEAST_KINDS


def test_english_is_written_in_words_and_chinese_in_characters(said):
    assert all(re.fullmatch(r"[a-z0-9' -]+", caption.text) for caption in said["en"])
    assert all(re.search("[\u4e00-\u9fff]", caption.text) for caption in said["zh"])
    assert not any(" " in caption.text for caption in said["zh"])
    assert {caption.language for caption in said["zh"]} == {"zh"}


def test_confidence_is_between_zero_and_one_and_differs(said):
    for captions in said.values():
        sure = [caption.confidence for caption in captions]
        assert all(0 < one < 1 for one in sure)
        assert len(set(sure)) == len(sure)


def test_one_picture_gets_one_caption_whatever_it_comes_as(nano, photos):
    path = photos / "cat.jpg"
    picture = ns.read_image(path)

    texts = {nano.caption(source).text for source in (path, path.read_bytes(), picture, np.asarray(picture))}

    assert len(texts) == 1


@pytest.mark.parametrize("most", [1, 3, 6])
def test_a_caption_keeps_to_its_number_of_words(nano, photos, most):
    for path in sorted(photos.glob("*.jpg")):
        assert 1 <= len(nano.caption(path, max_words=most).text.split()) <= most
        assert 1 <= sum(c.isalnum() for c in nano.caption(path, "zh", max_words=most).text) <= most


def test_a_caption_says_where_it_ran_and_that_nothing_left(said, nano):
    decision = said["en"][0].decision

    assert decision.target == "cpu"
    assert decision.precision == "int8"
    assert decision.sent == ()
    assert decision.measured.latency_ms > 0
    # The tower's pixels and the decoder's steps are all counted.
    assert decision.measured.bytes_in > 224 * 224 * 3


def test_a_caption_as_a_dictionary_has_the_fields_of_the_command_line(said):
    form = said["zh"][0].to_dict()

    assert form["text"] == said["zh"][0].text
    assert form["grounding"] == []
    assert form["decision"]["sent"] == []


def test_another_language_is_refused_with_those_there_are(nano, photos):
    with pytest.raises(ns.InputError, match="'fr' was asked for; nano-caption speaks en, zh"):
        nano.caption(photos / "cat.jpg", "fr")


@pytest.mark.parametrize("most", [0, -1, 2.5, True, "20"])
def test_a_number_of_words_is_a_whole_number_from_one(nano, photos, most):
    with pytest.raises(ns.InputError, match="max_words="):
        nano.caption(photos / "cat.jpg", max_words=most)


def test_a_file_that_is_no_picture_is_named(nano, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"not a picture")

    with pytest.raises(ns.PictureUnreadableError, match=r"a\.jpg"):
        nano.caption(tmp_path / "a.jpg")


def test_a_precision_that_is_not_there_is_refused():
    with pytest.raises(ns.InputError, match="no precision 'fp64' to caption with; it has int8"):
        ns.Captioner("nano", precision="fp64")


def test_a_model_that_does_not_caption_is_unknown_here():
    with pytest.raises(ns.UnknownModelError, match="caption"):
        ns.Captioner("nano-detect")


def moved(tmp_path: Path, change: tuple[str, str]) -> Path:
    """The models' folder with one change to the caption page."""
    shutil.copytree(manifest.root() / "manifests", tmp_path / "manifests")
    (tmp_path / "embedded").symlink_to(manifest.root() / "embedded")
    page = tmp_path / "manifests" / "nano-caption.toml"
    text = page.read_text(encoding="utf8")
    assert change[0] in text
    page.write_text(text.replace(*change), encoding="utf8")
    return tmp_path


def test_a_tower_of_another_space_is_refused_with_both_names(tmp_path, monkeypatch):
    space = ns.Encoder("nano").space
    folder = moved(tmp_path, (f'space = "{space}"', 'space = "nano-00000000"'))
    monkeypatch.setattr(manifest, "root", lambda: folder)

    with pytest.raises(ns.ModelError, match=rf"'nano-00000000'.*'nano' is of '{space}'.*pip install"):
        ns.Captioner("nano")


def test_another_vocabulary_is_refused(tmp_path, monkeypatch, photos):
    page = (manifest.root() / "manifests" / "nano-caption.toml").read_text(encoding="utf8")
    digest = re.search(r'caption\.spm", sha256 = "(\w+)"', page)[1]
    folder = moved(tmp_path, (digest, digest[::-1]))
    monkeypatch.setattr(manifest, "root", lambda: folder)

    with pytest.raises(ns.ChecksumError, match=r"caption\.spm"):
        ns.Captioner("nano").caption(photos / "cat.jpg")
