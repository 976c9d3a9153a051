"""The lexicon: which labels are names of a class, in English and Chinese, and what is none."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nearsight_models
from nearsight.detect.lexicon import Meaning, kinds, meaning, normalised, taxonomy, words_of

CLASSES = nearsight_models.load("nano", "detect").settings["classes"]


@pytest.fixture(scope="session")
def page(root) -> dict:
    return tomllib.loads((root / "sdk" / "nearsight" / "detect" / "lexicon.toml").read_text(encoding="utf8"))


def test_every_class_of_the_model_has_names_in_both_languages_and_no_other_class_has(page) -> None:
    assert list(page["classes"]) == CLASSES
    for name, row in page["classes"].items():
        assert any(not word.isascii() for word in row["same"]), name
        assert len(row["same"]) + len(row.get("narrower", ())) >= 1, name


def test_no_name_stands_twice(page) -> None:
    words = [
        normalised(word)
        for part in ("classes", "groups")
        for name, row in page[part].items()
        for word in (name, *row["same"], *row.get("narrower", ()))
    ]

    assert len(words) > 800
    assert sorted({word for word in words if words.count(word) > 1}) == []


def test_groups_are_made_of_classes(page) -> None:
    assert all(set(row["of"]) <= set(CLASSES) and row["of"] for row in page["groups"].values())


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_known_by_its_own_name_and_every_name_leads_to_it(name) -> None:
    assert meaning(name).exact
    assert {meaning(word).classes for word in words_of(name)} == {(name,)}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Car", "car"), ("CARS", "car"), ("the car", "car"), ("an automobile", "car"), ("汽车", "car"),
        ("一辆汽车", "car"), ("两辆 汽车", "car"), ("buses", "bus"), ("公交车", "bus"), ("knives", "knife"),
        ("traffic-lights", "traffic light"), ("红绿灯", "traffic light"), ("ＴＶ", "tv"), ("people", "person"),
        ("persons", "person"), ("人", "person"), ("mobile phones", "cell phone"), ("wine glasses", "wine glass"),
        ("sheep", "sheep"), ("skis", "skis"), ("scissors", "scissors"), ("teddy bears", "teddy bear"),
        ("dining_table", "dining table"), ("orange", "orange"), ("couches", "couch"), ("cat.", "cat"), ("这只猫", "cat"),
        ("3 cats", "cat"), ("2 cats", "cat"), ("3只猫", "cat"), ("12 traffic lights", "traffic light"),
        ("十二辆汽车", "car"), ("four dogs", "dog"), ("一根香蕉", "banana"), ("三人", "person"), ("3人", "person"),
        ("两猫", "cat"), ("数十只羊", "sheep"), ("一排椅子", "chair"), ("三头牛", "cow"), ("一口钟", "clock"),
    ],
)  # fmt: skip
def test_spelling_number_and_article_do_not_matter(label, name) -> None:
    found = meaning(label)

    assert (found.classes, found.exact) == ((name,), True)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("woman", "person"), ("women", "person"), ("children", "person"), ("小孩", "person"), ("taxi", "car"),
        ("出租车", "car"), ("puppies", "dog"), ("red car", "car"), ("big red trucks", "truck"), ("红色的卡车", "truck"),
        ("snowboarder", "person"), ("bikers", "person"), ("白色汽车", "car"), ("black cat", "cat"), ("orange cat", "cat"), ("mug", "cup"), ("一杯咖啡", "cup"),
    ],
)  # fmt: skip
def test_a_word_that_says_more_than_its_class_is_not_exact(label, name) -> None:
    found = meaning(label)

    assert (found.classes, found.exact) == ((name,), False)


@pytest.mark.parametrize(
    ("label", "some"), [("animals", "dog"), ("动物", "zebra"), ("vehicle", "bus"), ("车辆", "truck")]
)
def test_a_word_that_covers_several_classes_is_all_of_them(label, some) -> None:
    found = meaning(label)

    assert found.exact
    assert some in found.classes
    assert len(found.classes) > 3


@pytest.mark.parametrize(
    "label",
    ["helmet", "traffic cone", "sea horse", "安全帽", "fox", "bat", "glasses", "cart", "carpet", "咖啡", "red", "s"],
)
def test_what_no_class_is_named_is_unknown(label) -> None:
    assert meaning(label) is None


@pytest.mark.parametrize(
    "label",
    ["no cat", "not a cat", "person without helmet", "isn't a cat", "不是猫", "不是一只猫", "没有猫", "非猫", "无人"],
)
def test_a_negation_names_no_class(label) -> None:
    assert meaning(label) is None
    assert kinds(label) == frozenset()


@pytest.mark.parametrize(
    "label", ["一只", "3只", "一只小", "3", "the", "the three", "red", "small red", "红色", "...", "小"]
)
def test_a_number_a_measure_word_or_a_quality_alone_names_nothing(label) -> None:
    assert meaning(label) is None
    assert kinds(label) == frozenset()


@pytest.mark.parametrize(
    "label",
    [
        "sea horse", "seahorses", "big red sea horse", "sleeping bag", "catfish", "phone booth", "train stations",
        "zebra crossing", "book shelf", "bookshelf", "dog house", "木马", "红色的木马", "红包", "海马", "河马", "犀牛",
        "大熊猫", "斑马线", "车牌", "火车站", "鼠标垫", "牛奶",
    ],
)  # fmt: skip
def test_a_compound_that_is_no_kind_of_the_class_it_holds_is_compared_with_none(label) -> None:
    assert meaning(label) is None
    assert kinds(label) == frozenset()


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("solar car", "car"), ("lorry with trailer", "truck"), ("3 solar cars", "car"), ("rescue boat", "boat"),
        ("businessman", "person"), ("流浪猫", "cat"), ("非洲象", "elephant"), ("导盲犬", "dog"),
        ("不锈钢杯", "cup"), ("直升飞机", "airplane"),
    ],
)  # fmt: skip
def test_a_word_that_ends_in_a_name_may_be_a_kind_of_that_class_only(label, name) -> None:
    assert meaning(label) is None
    assert kinds(label) == {name}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("electric car", "car"),
        ("3 beagles", "dog"),
        ("big merino", "sheep"),
        ("Brigantines", "boat"),
        ("sparrow", "bird"),
    ],
)
def test_a_kind_that_wordnet_has_of_a_class_says_more_than_its_class(label, name) -> None:
    assert meaning(label) == Meaning(classes=(name,), exact=False)


def test_the_lexicon_is_asked_before_wordnet_where_every_kind_is_of_a_class() -> None:
    assert taxonomy()["minivan"] == "truck"
    assert meaning("minivan") == Meaning(classes=("car",), exact=False)
    assert meaning("hot dog") == Meaning(classes=("hot dog",), exact=True)
    assert set(taxonomy().values()) <= set(CLASSES)


@pytest.mark.parametrize("label", ["passerby", "crowd", "ultralight", "彩电", "helmet", "安全帽"])
def test_a_word_without_a_name_may_be_any(label) -> None:
    assert kinds(label) is None


def test_words_that_are_held_out_stand_in_no_list_of_exceptions(root, page) -> None:
    words = json.loads((root / "eval" / "names" / "near_words.json").read_text(encoding="utf8"))
    compounds = words["compounds"]
    others = [*(word for row in words["near"].values() for word in row), *words["uncovered"]]
    held_out = {word.replace(" ", "") for word in (*compounds[1::2], *others[1::2])}

    assert len(compounds) == len(set(compounds)) >= 80
    assert sum(not word.isascii() for word in compounds) * 2 == len(compounds)
    assert not held_out & {*page["idioms"]["en"], *page["idioms"]["zh"]}


@given(st.text(max_size=30))
def test_any_text_can_be_compared(text) -> None:
    found = kinds(text)

    assert found is None or found <= set(CLASSES)


@given(st.sampled_from(CLASSES), st.sampled_from(["{}", " {} ", "The {}", "{}!", "a  {}", "“{}”"]), st.booleans())
def test_normalising_again_changes_nothing(name, form, upper) -> None:
    label = form.format(name.upper() if upper else name)

    once = normalised(label)

    assert normalised(once) == once


@given(st.text(max_size=30))
def test_any_text_can_be_looked_up(text) -> None:
    found = meaning(text)

    assert found is None or set(found.classes) <= set(CLASSES)


@pytest.mark.parametrize("label", ["cat's tail", "cats' eyes", "the bird's nest", "a horse\u2019s head", "man's hat"])
def test_a_part_or_a_belonging_is_no_class(label) -> None:
    assert meaning(label) is None
    assert kinds(label) == frozenset()


def test_whose_thing_it_is_does_not_change_what_it_is() -> None:
    assert kinds("the dog's bowl") == {"bowl"}


@pytest.mark.parametrize("label", ["boater", "kiters"])
def test_who_does_something_with_a_thing_can_only_be_a_person(label) -> None:
    assert meaning(label) is None
    assert kinds(label) == {"person"}


def test_a_bird_with_nine_heads_is_not_nine_birds() -> None:
    assert meaning("九头鸟") is None
    assert meaning("九只鸟").classes == ("bird",)
