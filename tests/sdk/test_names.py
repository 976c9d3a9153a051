"""Bare Chinese nouns are asked in English, where the family's list has them."""

from __future__ import annotations

import numpy as np
import pytest

import nearsight as ns
import nearsight_models
from nearsight.names import Names


@pytest.fixture(scope="module")
def names() -> Names:
    return Names(nearsight_models.load("nano").files["names"]["tsv"].path)


@pytest.fixture
def two(tmp_path) -> Names:
    page = tmp_path / "names.tsv"
    page.write_text("# a comment\tof two|names\naccordion\t手风琴|风琴\nt-shirt\tT恤\n", encoding="utf8")
    return Names(page)


@pytest.mark.parametrize("text", ["手风琴", " 手风琴 ", "手风琴。", "一台手风琴", "这台手风琴", "风琴", "手 风 琴"])
def test_a_bare_noun_is_said_in_english(two, text):
    assert two.english(text) == "accordion"


@pytest.mark.parametrize("text", ["红色的手风琴", "拉手风琴的人", "accordion", "", "台", "names", "手风琴 accordion"])
def test_anything_else_stays_as_it_is(two, text):
    assert two.english(text) is None


@pytest.mark.parametrize("text", ["accordions", "Accordions", "two accordions", "the accordions", "t-shirts"])
def test_a_bare_plural_is_said_in_the_singular(two, text):
    assert two.singular(text) in {"accordion", "t-shirt"}


@pytest.mark.parametrize("text", ["accordion", "red accordions", "accordions on a table", "violins", "", "s"])
def test_other_english_stays_as_it_is(two, text):
    assert two.singular(text) is None


@pytest.mark.parametrize("text", ["两台手风琴", "3台手风琴", "几台手风琴", "一副手风琴"])
def test_a_counted_noun_is_a_noun(two, text):
    assert two.english(text) == "accordion"


def test_a_hand_is_not_cut_out_of_a_word(names):
    assert names.english("一把手") is None


def test_full_width_letters_count_as_letters(two):
    assert two.english("Ｔ恤") == "t-shirt"
    assert len(two) == 3


def test_the_embedded_list_has_thousands_of_names_and_each_once(names):
    path = nearsight_models.load("nano").files["names"]["tsv"].path
    rows = [line.split("\t") for line in path.read_text(encoding="utf8").splitlines() if not line.startswith("#")]
    chinese = [word for _, words in rows for word in words.split("|")]

    assert all(len(row) == 2 for row in rows)
    assert len(chinese) == len(set(chinese)) == len(names) > 5000
    assert names.english("狮子") == "lion"


def test_a_listed_noun_lies_where_its_english_name_lies_and_a_phrase_does_not():
    encoder = ns.Encoder("nano")

    noun, phrase, english, plural = encoder.texts(["狮子", "草地上的狮子", "lion", "lions"]).vectors

    np.testing.assert_allclose(noun, english, atol=1e-5)
    np.testing.assert_allclose(plural, english, atol=1e-5)
    assert phrase @ english < 0.95
