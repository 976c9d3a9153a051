"""What is measured of captions: nouns, repetitions, agreement with people and with the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import nearsight as ns

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture
def captions(evaluation) -> ModuleType:
    return evaluation("captions")


def test_a_noun_is_asked_for_if_two_people_name_the_thing_in_any_of_its_words(captions) -> None:
    said = ["a dog and a cat"]
    asked = [["a puppy runs", "two dogs on the beach", "a boat by the beach", "sand"]]

    found = captions.named_as(said, asked, "en")

    # Asked for are dog and beach; the dog is said, and nobody named a cat.
    assert found == {"noun_recall": 0.5, "noun_precision": 0.5}


def test_chinese_nouns_are_counted_alike(captions) -> None:
    found = captions.named_as(["一只狗在海滩上"], [["狗在跑", "小狗", "沙滩上的狗"]], "zh")

    assert found["noun_recall"] == 1.0


def test_a_caption_that_says_three_words_twice_is_counted(captions) -> None:
    said = ["a man in a hat in a hat in a hat", "a man in a red hat"]

    found = captions.judged(said, [["a man in a hat"], ["a man with a hat"]], "en")

    assert found["repeat_no_3gram"] == 0.5
    assert found["kinds"] == 2
    assert found["cider_low"] <= found["cider"] <= found["cider_high"]


def test_classes_are_named_by_the_words_of_a_caption(captions) -> None:
    assert captions.named("a man rides a bike past two dogs in the snow") == {"person", "bicycle", "dog"}


def test_a_caption_fits_its_own_picture_better_than_others(captions, photos) -> None:
    encoder = ns.Encoder("nano")
    views = encoder.images([photos / f"{name}.jpg" for name in ("cat", "coffee", "rocket", "coins")]).vectors
    texts = ["a cat", "a cup of coffee", "a rocket on a launch pad", "old coins"]

    right, wrong = captions.fitting(texts, views, encoder), captions.fitting(texts[1:] + texts[:1], views, encoder)

    assert right["own_picture_in_1"] >= 0.75 > wrong["own_picture_in_1"]
    assert right["cosine"] > wrong["cosine"]


@pytest.mark.data("flickr8k_dev_captions.jsonl")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_figures_of_real_captions_are_those_of_pycocoevalcap(captions, data, language) -> None:
    cider, bleu = (
        pytest.importorskip(
            f"pycocoevalcap.{name}.{name}", reason="compared with pycocoevalcap, which is not installed"
        )
        for name in ("cider", "bleu")
    )
    _, asked = captions.references(data, "dev")
    said, wanted = [row[0] for row in asked[language][:200]], [row[1:] for row in asked[language][:200]]
    tokens, references = captions.cut(said, wanted, language)
    theirs = (
        {at: [" ".join(one) for one in row] for at, row in enumerate(references)},
        {at: [" ".join(one)] for at, one in enumerate(tokens)},
    )

    ours = captions.judged(said, wanted, language)
    mean, each = cider.Cider().compute_score(*theirs)
    scores, _ = bleu.Bleu(4).compute_score(*theirs, verbose=0)

    assert ours["cider"] == pytest.approx(mean, abs=5e-5)
    assert ours["bleu4"] == pytest.approx(scores[3], abs=5e-5)
    assert captions.agreeing(said, wanted, language) == pytest.approx(np.array(each), abs=1e-6)
