"""CIDEr-D and BLEU of `eval/agreement.py` by hand, and against the implementation that others use where it is at hand."""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.fixture(scope="module")
def agreement(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("agreement", root / "eval" / "agreement.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_english_is_cut_into_lower_case_words_without_punctuation(agreement):
    said = agreement.words("A black-and-white dog, in its owner's T-shirt .")

    assert said == ["a", "black-and-white", "dog", "in", "its", "owner", "'s", "t-shirt"]


def test_chinese_is_cut_into_characters(agreement):
    assert agreement.characters("一只狗， 在跑。") == list("一只狗在跑")


def test_bleu_of_one_word_too_few_by_hand(agreement):
    said, asked = [["a", "b", "c", "d"]], [[["a", "b", "c", "d", "e"]]]

    assert agreement.bleu(said, asked) == pytest.approx(math.exp(1 - 5 / 4))


def test_bleu_counts_a_word_as_often_as_a_reference_has_it(agreement):
    said, asked = [["the", "the", "the", "the"]], [[["the", "cat", "is", "there"], ["the", "dog", "and", "the", "cat"]]]

    assert agreement.bleu(said, asked, longest=1) == pytest.approx(2 / 4)


def test_bleu_takes_the_closest_reference_and_the_shorter_of_two(agreement):
    said, asked = [["a", "b", "c"]], [[["a", "b"], ["a", "b", "c", "d"]]]

    assert agreement.bleu(said, asked, longest=1) == pytest.approx(1.0)


def test_a_caption_that_is_its_only_reference_has_ten(agreement):
    said = [["a", "dog", "runs", "fast"], ["two", "cats", "sleep", "here"]]

    assert agreement.cider(said, [[one] for one in said]) == pytest.approx([10.0, 10.0])


def test_cider_of_half_a_caption_by_hand(agreement):
    """Words that stand in both pictures weigh nothing, the others log 2 each; one of two such words is right."""
    said, asked = [["a", "dog"], ["a", "cat"]], [[["a", "dog", "runs"]], [["a", "cat"]]]
    one, two = 1 / math.sqrt(2), 1 / math.sqrt(2)

    first, second = agreement.cider(said, asked)

    assert first == pytest.approx(10 * (one + two) / 4 * math.exp(-1 / 72))
    assert second == pytest.approx(10 * 2 / 4)


def test_what_everybody_says_of_every_picture_is_worth_nothing(agreement):
    assert agreement.cider([["a"], ["a"]], [[["a"]], [["a"]]]) == [0.0, 0.0]


def test_saying_a_good_word_again_gains_nothing(agreement):
    asked = [[["a", "dog", "runs"]], [["a", "cat", "sleeps"]]]

    once, _ = agreement.cider([["a", "dog", "runs"], []], asked)
    twice, _ = agreement.cider([["a", "dog", "dog", "dog", "runs"], []], asked)

    assert twice < once


def random_captions() -> tuple[list[list[str]], list[list[list[str]]]]:
    """Five references a picture, and one of them with some words changed."""
    random = np.random.default_rng(3)
    vocabulary = [f"w{i}" for i in range(12)]

    def one() -> list[str]:
        return [vocabulary[i] for i in random.integers(12, size=random.integers(4, 12))]

    asked = [[one() for _ in range(5)] for _ in range(40)]
    said = [[word if random.uniform() < 0.8 else vocabulary[random.integers(12)] for word in row[0]] for row in asked]
    return said, asked


def test_the_figures_are_those_of_pycocoevalcap(agreement):
    cider, bleu = (
        pytest.importorskip(
            f"pycocoevalcap.{name}.{name}", reason="compared with pycocoevalcap, which is not installed"
        )
        for name in ("cider", "bleu")
    )
    said, asked = random_captions()
    theirs = (
        {at: [" ".join(one) for one in row] for at, row in enumerate(asked)},
        {at: [" ".join(one)] for at, one in enumerate(said)},
    )

    mean, each = cider.Cider().compute_score(*theirs)
    scores, _ = bleu.Bleu(4).compute_score(*theirs, verbose=0)

    assert agreement.cider(said, asked) == pytest.approx(list(each), abs=1e-6)
    assert np.mean(agreement.cider(said, asked)) == pytest.approx(mean, abs=1e-6)
    assert [agreement.bleu(said, asked, longest=n) for n in (1, 2, 3, 4)] == pytest.approx(scores, abs=1e-6)
