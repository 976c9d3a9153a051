"""The embedded captioner as a user meets it: what it says differs, keeps to its limits, and names how it came about."""

from __future__ import annotations

import re
import shutil
import tomllib
from typing import TYPE_CHECKING

import numpy as np
import pytest

import nearsight as ns
from nearsight_models import manifest

if TYPE_CHECKING:
    from pathlib import Path

LANGUAGES = ("en", "zh")
LEAST_KINDS = 5  # of eight photographs, half of which show nothing that captions were learned from


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


def test_many_pictures_are_captioned_as_one_by_one_and_read_when_their_turn_comes(nano, photos, said):
    files = sorted(photos.glob("*.jpg"))

    many = nano.caption_many([*files, photos / "gone.jpg"], "zh")

    assert [next(many).text for _ in files] == [caption.text for caption in said["zh"]]
    with pytest.raises(ns.PictureUnreadableError, match=r"gone\.jpg"):
        next(many)


def test_a_wrong_language_of_many_is_refused_before_a_picture_is_read(nano):
    with pytest.raises(ns.InputError, match="'fr' was asked for"):
        nano.caption_many(["gone.jpg"], "fr")


def test_a_frame_of_a_camera_is_captioned_as_its_picture(nano, photos):
    (frame,) = [frame for frame in ns.Camera(str(photos)) if frame.index == 2]

    (said,) = nano.caption_many([frame])

    assert said.text == nano.caption(frame.pixels).text


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_repeat_no_three_pieces(photos, beams):
    captioner = ns.Captioner("nano", beams=beams)
    for path in sorted(photos.glob("*.jpg")):
        for language in LANGUAGES:
            text = captioner.caption(path, language).text
            words = [c for c in text if c.isalnum()] if language == "zh" else text.split()
            runs = [tuple(words[at : at + 3]) for at in range(len(words) - 2)]
            assert len(set(runs)) == len(runs)


def test_what_a_beam_finds_is_said_where_it_agrees_better_by_the_gain(photos):
    greedy, beam = (ns.Captioner("nano", beams=beams) for beams in (1, 5))
    gain = tomllib.loads((manifest.root() / "manifests" / "nano-caption.toml").read_text("utf8"))["settings"]["gain"]
    pairs = [
        (greedy.evidence(path, language), beam.evidence(path, language))
        for path in sorted(photos.glob("*.jpg"))
        for language in LANGUAGES
    ]

    others = [(one, two) for one, two in pairs if one.text != two.text]

    assert others
    assert all(two.agreement - one.agreement > gain for one, two in others)


@pytest.mark.parametrize("beams", [0, True, 2.0])
def test_a_number_of_beams_is_a_whole_number_from_one(beams):
    with pytest.raises(ns.InputError, match="beams="):
        ns.Captioner("nano", beams=beams)


def test_agreement_is_the_cosine_of_what_was_said_and_the_picture(nano, photos):
    encoder = ns.Encoder("nano")

    evidence = nano.evidence(photos / "cat.jpg")

    picture, text = encoder.images([photos / "cat.jpg"]).vectors[0], encoder.texts([evidence.text]).vectors[0]
    assert evidence.agreement == pytest.approx(float(picture @ text), abs=1e-5)


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
    assert form["grounding"] == [list(row) for row in said["zh"][0].grounding]
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
