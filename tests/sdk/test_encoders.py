"""The embedded encoders as a user meets them: both languages, any picture, one space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nearsight as ns
from nearsight_npu.testing import FakeTarget

# Sentences that nano answers, so that a regression is seen; it fails on the rocket, the astronaut and the coins among
# these eight photographs. How often it fails is measured in eval/carried.py, not here.
PAIRS = [
    ("a cup of coffee", "coffee"),
    ("a cat", "cat"),
    ("a man with a camera", "photographer"),
    ("a brick wall", "brick-wall"),
    ("一只猫", "cat"),
    ("一杯咖啡", "coffee"),
    ("一个男人在拍照", "photographer"),
    ("砖墙", "brick-wall"),
]


@pytest.fixture(scope="module")
def nano() -> ns.Encoder:
    return ns.Encoder("nano")


@pytest.fixture(scope="module")
def shown(nano, photos) -> tuple[list[str], np.ndarray]:
    files = sorted(photos.glob("*.jpg"))
    return [path.stem for path in files], nano.images(files).vectors


@pytest.mark.parametrize(("sentence", "name"), PAIRS)
def test_a_sentence_finds_its_photograph(nano, shown, sentence, name):
    names, vectors = shown

    scores = vectors @ nano.texts([sentence]).vectors[0]

    assert names[int(scores.argmax())] == name


def test_vectors_are_unit_length_and_of_the_manifests_space(nano, shown):
    _, vectors = shown

    assert vectors.shape[1] == nano.dimensions <= 512
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert nano.texts(["a"]).space == nano.space


def test_a_batch_gives_what_each_gives_alone(nano):
    texts = ["a dog", "a very long sentence about many people who stand on a beach in the evening sun", "狗"]

    together = nano.texts(texts).vectors
    alone = np.concatenate([nano.texts([text]).vectors for text in texts])

    assert (together * alone).sum(1).min() > 0.999


def test_scaled_decoding_gives_the_same_embedding(nano, photos, tmp_path):
    """JPEGs of 1600 x 1200 are decoded at a fraction of their size; the embedding must not tell."""
    whole, scaled = [], []
    for path in sorted(photos.glob("*.jpg")):
        large = tmp_path / path.name
        Image.open(path).convert("RGB").resize((1600, 1200), Image.Resampling.BICUBIC).save(large, quality=92)
        whole.append(nano.pixels(ns.read_image(large)))
        scaled.append(nano.pixels(ns.read_image(large, size_hint=nano.input_size)))

    a, b = (nano.encode_pixels(np.stack(pixels)).vectors for pixels in (whole, scaled))

    assert (a * b).sum(1).min() >= 0.995


def test_every_answer_says_where_it_ran(nano):
    decision = nano.texts(["a dog"]).decision

    assert (decision.target, decision.precision) == ("cpu", "w4")
    assert not decision.sent
    assert decision.measured.latency_ms > 0


def test_the_halves_of_precision_agree(nano, photos):
    files = sorted(photos.glob("*.jpg"))
    fine = ns.Encoder("nano", precision="fp16").images(files)

    assert fine.decision.precision == "fp16"
    assert (fine.vectors * nano.images(files).vectors).sum(1).min() > 0.93


def test_identity_is_known_without_loading(nano):
    fresh = ns.Encoder("nano")

    assert fresh.identity.model_hash == nano.identity.model_hash
    assert fresh.identity.space == nano.space


def test_identity_names_the_file_that_made_the_vectors(photos):
    chip = FakeTarget("chip", delay_s=lambda path, _: 0.05 if "int8" in path.name else 0.0)
    encoder = ns.Encoder("nano", target=chip)

    decision = encoder.images([photos / "cat.jpg"]).decision

    assert decision.precision == "fp16"
    assert (encoder.identity.precision, encoder.identity.model_hash) == (decision.precision, decision.model_hash)


@pytest.mark.parametrize("blank", ["", "   ", "\n\t", "\x00"])
def test_a_blank_text_is_an_input_error(nano, blank):
    with pytest.raises(ns.InputError, match="blank"):
        nano.texts([blank])


@pytest.mark.parametrize("odd", ["\ud800 dog", "a" * 5000, "🐕 на пляже", "dog\x00\x1b[31m", "ｄｏｇ　ｂｅａｃｈ"])
def test_odd_texts_are_encoded(nano, odd):
    assert np.isfinite(nano.texts([odd]).vectors).all()


def test_one_text_is_not_a_list_of_letters(nano):
    with pytest.raises(ns.InputError, match="list"):
        nano.texts("dog")


def test_no_pictures_is_an_input_error(nano):
    with pytest.raises(ns.InputError, match="list of pictures"):
        nano.images([])


def test_an_unknown_model_or_precision_says_what_there_is():
    with pytest.raises(ns.UnknownModelError, match="nano"):
        ns.Encoder("huge")
    with pytest.raises(ns.InputError, match="int8"):
        ns.Encoder("nano", precision="int3")


def test_relevance_rises_with_both_parts_and_knows_no_pictures(nano, shown):
    _, vectors = shown
    query = nano.texts(["a cat"]).vectors[0]

    found = nano.relevance(query, vectors, "a cat", 8)

    assert found is not None
    assert found.argmax() == (vectors @ query).argmax()
    assert ((found >= 0) & (found <= 1)).all()
    assert nano.relevance(query, vectors, None, 8) is None


def test_one_pass_gives_a_feature_grid_as_well(nano, photos):
    from nearsight.engine import Engine

    pixels = nano.pixels(ns.read_image(Path(photos) / "cat.jpg"))[None]

    outputs, _ = Engine("nano", capability="search").run("image", {"pixels": pixels})

    assert outputs["grid"].shape == (1, 49, 1280)
    assert np.allclose(outputs["embedding"], nano.encode_pixels(pixels).vectors, atol=1e-5)
