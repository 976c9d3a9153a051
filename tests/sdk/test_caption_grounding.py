"""Whether the nouns of a caption are in the picture: by what the detector and the encoder see, not by the words."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import nearsight as ns
from nearsight.sight import Sight
from nearsight_models import manifest

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight.engine import Engine


@pytest.fixture(scope="module")
def nano() -> ns.Captioner:
    return ns.Captioner("nano")


class Counted(Sight):
    """A picture that counts which graphs look at the whole of it."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self.looks: list[str] = []

    def pixels(self, engine: Engine) -> np.ndarray:
        self.looks.append(engine.manifest.capability)
        return super().pixels(engine)


@pytest.mark.parametrize(
    ("photo", "text", "language", "verdicts"),
    [
        ("cat", "a cat", "en", [("cat", True)]),
        ("cat", "a car", "en", [("car", False)]),
        ("coffee", "a cat and a cup", "en", [("cat", False), ("cup", True)]),
        ("cat", "草地上的猫", "zh", [("草地", False), ("猫", True)]),
        ("astronaut", "一个女人和一辆自行车", "zh", [("女人", True), ("自行车", False)]),
    ],
)
def test_a_noun_is_seen_where_its_thing_is(nano, photos, photo, text, language, verdicts):
    assert list(nano.grounded(photos / f"{photo}.jpg", text, language)) == verdicts


def test_painting_the_thing_over_takes_the_verdict_back(nano, photos):
    picture = Image.open(photos / "cat.jpg").convert("RGB")
    grey = Image.new("RGB", picture.size, (128, 128, 128))

    assert nano.grounded(picture, "a cat") == (("cat", True),)
    assert nano.grounded(grey, "a cat") == (("cat", False),)


def test_a_caption_carries_the_verdicts_of_its_own_nouns(nano, photos):
    for path in sorted(photos.glob("*.jpg")):
        for language in ("en", "zh"):
            said = nano.caption(path, language)

            assert said.grounding == nano.grounded(path, said.text, language)
            assert all(noun in said.text for noun, _ in said.grounding)


def test_captions_in_two_languages_cost_one_pass_of_tower_and_detector(nano, photos):
    sight = Counted(photos / "cat.jpg")

    for language in ("en", "zh"):
        nano.caption(sight, language)
    nano.grounded(sight, "a cat on a couch")

    assert sorted(sight.looks) == ["detect", "search"]


def test_a_text_without_nouns_has_no_verdicts(nano, photos):
    assert nano.grounded(photos / "cat.jpg", "nothing much to be said") == ()


def test_another_language_is_refused(nano, photos):
    with pytest.raises(ns.InputError, match="'fr' was asked for"):
        nano.grounded(photos / "cat.jpg", "un chat", "fr")


def test_probes_of_another_file_are_refused(tmp_path, monkeypatch, photos):
    shutil.copytree(manifest.root() / "manifests", tmp_path / "manifests")
    shutil.copytree(manifest.root() / "embedded", tmp_path / "embedded")
    nouns = tmp_path / "embedded" / "nano" / "caption.nouns.npz"
    data = bytearray(nouns.read_bytes())
    data[len(data) // 2] ^= 1
    nouns.write_bytes(data)
    monkeypatch.setattr(manifest, "root", lambda: tmp_path)

    with pytest.raises(ns.ChecksumError, match=r"caption\.nouns\.npz"):
        ns.Captioner("nano").caption(photos / "cat.jpg")


@pytest.mark.data("detection/dev.tar")
def test_boxes_agree_with_most_verdicts(data, root, monkeypatch):
    monkeypatch.syspath_prepend(str(root))
    from eval import grounding, sets

    shown = sets.pictures(data / "detection" / "dev.tar")
    files, truth = grounding.boxes(data)
    captioner = ns.Captioner("nano")

    figures = grounding.judged([captioner.caption(shown[file]) for file in files[:60]], files[:60], truth)

    assert figures["right"] > figures["right_if_all_were_seen"]
    assert figures["right"] >= 0.85


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 140, 200)])
def test_nothing_is_seen_in_a_blank_picture(nano, colour) -> None:
    noise = np.random.default_rng(3).integers(-6, 7, (480, 640, 3))
    for blank in (Image.new("RGB", (640, 480), colour), (noise + colour).clip(0, 255).astype(np.uint8)):
        said = nano.caption(blank)

        assert not any(seen for _, seen in said.grounding)
        assert nano.grounded(blank, "a person with a dog") == (("person", False), ("dog", False))


def test_a_plain_wall_is_no_blank_picture(photos) -> None:
    assert not Sight(photos / "brick-wall.jpg").is_blank
    assert not Sight(photos / "galaxies.jpg").is_blank
    assert Sight(Image.new("RGB", (3000, 1))).is_blank
