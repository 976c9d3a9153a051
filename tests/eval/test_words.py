"""The words that the detector is judged by: two halves by their hashes, and one of them hidden."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

import nearsight as ns
from nearsight.detect.lexicon import meaning

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture
def words(evaluation) -> ModuleType:
    return evaluation("words")


def test_the_half_of_a_word_is_the_last_hex_digit_of_its_hash(words) -> None:
    assert hashlib.sha256("狗".encode()).hexdigest()[-1] in "02468ace"
    assert not words.unseen("狗")
    assert hashlib.sha256("汽车".encode()).hexdigest()[-1] in "13579bdf"
    assert words.unseen("汽车")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_there_are_eighty_words_and_more_about_half_of_them_unseen(words, language) -> None:
    here = [word for word in words.every() if word.language == language]

    assert len({word.text for word in here}) == len(here) >= 80
    assert 0.4 < sum(word.unseen for word in here) / len(here) < 0.6


def test_every_word_belongs_to_a_class_and_is_not_its_own_name(words) -> None:
    classes = ns.Detector().classes

    assert {word.means for word in words.every()} <= set(classes)
    assert not {word.text for word in words.every()} & set(classes)


def test_a_hidden_half_is_unknown_only_while_it_is_hidden(words) -> None:
    unseen = [word.text for word in words.every() if word.unseen]
    before = [meaning(text) for text in unseen]

    with words.hidden() as detector:
        within = [meaning(text) for text in unseen]
        routes = {detector.meaning(text)[1] for text in unseen}

    assert sum(told is not None and told.exact for told in within) < len(unseen) / 20
    assert sum(told is not None for told in before) > len(unseen) / 2
    assert "similar" in routes
    assert [meaning(text) for text in unseen] == before


def test_words_that_are_not_judged_count_nothing(words) -> None:
    rows = [
        words.Word(text="lorry", means="truck", language="en", unseen=False),
        words.Word(text="wagon", means="truck", language="en", unseen=True),
        words.Word(text="puppy", means="dog", language="en", unseen=True),
    ]

    found = words.summed(rows, {"lorry": 0.5, "wagon": 0.0, "puppy": 1.0}, ["en"])

    assert found["en all"] == {"words": 3, "ap50": 0.5, "classes": 2, "ap50_by_class": 0.625}
    assert found["en unseen"] == {"words": 2, "ap50": 0.5, "classes": 2, "ap50_by_class": 0.5}
    assert found["en seen"] == {"words": 1, "ap50": 0.5, "classes": 1, "ap50_by_class": 0.5}


def test_names_of_one_class_are_asked_once_and_other_words_each_for_itself(words) -> None:
    texts = ("people", "人类", "helmet", "安全帽")
    rows = [words.Word(text=text, means="person", language="en", unseen=False) for text in texts]

    asked = words.labels(ns.Detector(), rows)

    assert asked["people"] == "person"
    assert (asked["helmet"], asked["安全帽"]) == ("helmet", "安全帽")
