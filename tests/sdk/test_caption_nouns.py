"""Which things a caption names: the longest words win, in both languages, and each thing has what it is checked by."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

import nearsight_models
from nearsight.caption.nouns import class_of, nouns, related, things, wider


@pytest.mark.parametrize(
    ("language", "text", "named"),
    [
        ("en", "a man rides a bike past parked cars", ["man", "bicycle", "car"]),
        ("en", "three puppies and two geese", ["dog", "bird"]),
        ("en", "a tennis racket and a tennis ball", ["tennis racket", "tennis"]),
        ("en", "a traffic light", ["traffic light"]),
        ("en", "a horse in a t-shirt", ["horse", "shirt"]),
        ("en", "an orange thing", []),
        ("zh", "一个男人骑着自行车", ["man", "bicycle"]),
        ("zh", "马路上的马", ["street", "horse"]),
        ("zh", "一群人在玩花样滑板", ["group", "skateboard"]),
        ("zh", "跳水的女孩", ["girl"]),
        ("zh", "笔记本电脑旁边的猫", ["laptop", "cat"]),
        ("zh", "", []),
    ],
)
def test_the_longest_word_says_which_thing_is_meant(language, text, named):
    assert [thing for _, thing in nouns(text, language)] == named


def test_a_thing_is_named_once_in_the_word_that_came_first():
    assert nouns("a puppy and two dogs", "en") == [("puppy", "dog")]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_word_names_two_things(language):
    rows = tomllib.loads((resources.files("nearsight.caption") / "nouns.toml").read_text(encoding="utf8"))["things"]
    words = [word for thing, row in rows.items() for word in [*row.get(language, ()), *([thing] * (language == "en"))]]

    assert sorted(words) == sorted(set(words))
    assert len(words) > 200


def test_a_wider_word_is_right_and_a_sibling_is_not():
    assert related("boy", "person")
    assert related("person", "boy")
    assert not related("man", "woman")


def test_every_chain_ends_and_every_class_is_one_of_the_detectors():
    classes = nearsight_models.load("nano", "detect").settings["classes"]

    for thing in things():
        assert set(wider(thing)) <= set(things())
        assert class_of(thing) in {None, *classes}
    assert {class_of(thing) for thing in things()} == {None, *classes}


def test_the_class_of_a_kind_shows_it_where_it_has_none():
    assert class_of("clown") == "person"
    assert class_of("waterfall") is None
