"""Recommendations: what fits comes first, the better published figure on top, and what is left out says why."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

import nearsight_models
from nearsight_models import Candidate, Published, recommended
from nearsight_models.choosing import candidate


def one(name: str, value: float | None = None, **changes) -> Candidate:
    figures = () if value is None else (figure(value),)
    made = Candidate(
        name=name,
        capability="search",
        architecture="clip",
        languages=("en",),
        licence="MIT",
        research_only=False,
        megabytes={"fp32": 400.0, "int8": 100.0},
        way="pull",
        published=figures,
    )
    return replace(made, **changes)


def figure(value: float, data: str = "MSCOCO 5k test", measure: str = "R@1 text to image") -> Published:
    return Published(measure=measure, data=data, language="en", value=value, source="a paper")


def names(found) -> list[str]:
    return [choice.name for choice in found if not choice.left_out]


def test_the_better_figure_is_on_top():
    found = recommended([one("a", 0.3), one("b", 0.5), one("c", 0.4)], capability="search")

    assert names(found) == ["b", "c", "a"]
    assert found[0].figure.value == 0.5


def test_a_model_without_a_figure_comes_after_those_with_one():
    found = recommended([one("none"), one("some", 0.1)], capability="search")

    assert names(found) == ["some", "none"]


def test_figures_of_other_data_sets_do_not_count():
    other = one("a", published=(figure(0.9, "Flickr30k test"), figure(0.9, measure="R@1 image to text")))

    found = recommended([other, one("b", 0.1)], capability="search")

    assert names(found) == ["b", "a"]
    assert found[1].figure is None
    assert len(found[1].others) == 2


def test_zero_shot_figures_stand_apart():
    rows = [
        Published(measure="AP, boxes", data=f"COCO 2017 val{how}", language="en", value=value, source="a paper")
        for how, value in ((", zero-shot", 0.9), ("", 0.1))
    ]
    both = [one(row.data, capability="detect", published=(row,)) for row in rows]

    found = recommended(both, capability="detect")

    assert names(found) == ["COCO 2017 val", "COCO 2017 val, zero-shot"]
    assert (found[1].figure, found[1].others) == (None, (rows[0],))


def test_a_limit_is_for_a_run_where_one_was_measured():
    measured = one("a", 0.3, run_mb={"fp32": 3500.0})

    tight, roomy = (recommended([measured], capability="search", memory_mb=mb)[0] for mb in (3499, 3500))

    assert (tight.precision, tight.megabytes, tight.run_mb) == ("int8", 100.0, None)
    assert (roomy.precision, roomy.megabytes, roomy.run_mb) == ("fp32", 400.0, 3500.0)
    only = replace(measured, megabytes={"fp32": 400.0})
    assert recommended([only], capability="search", memory_mb=500)[0].left_out == "needs 3500 MB"


def test_the_finest_precision_that_fits_is_taken():
    roomy, tight = (recommended([one("a", 0.3)], capability="search", memory_mb=mb)[0] for mb in (400, 399))

    assert (roomy.precision, roomy.megabytes) == ("fp32", 400.0)
    assert (tight.precision, tight.megabytes) == ("int8", 100.0)


def test_what_does_not_fit_says_how_much_it_needs():
    found = recommended([one("a", 0.3)], capability="search", memory_mb=99)

    assert names(found) == []
    assert found[0].left_out == "needs 100 MB"


def test_another_language_is_left_out():
    found = recommended([one("a", 0.3), one("b", languages=("zh",))], capability="search", language="zh")

    assert names(found) == ["b"]
    assert found[1].left_out == "does not know zh"


def test_research_weights_are_left_out_unless_asked_for():
    both = [one("a", 0.3), one("b", 0.9, research_only=True)]

    assert names(recommended(both, capability="search")) == ["a"]
    assert names(recommended(both, capability="search", any_licence=True)) == ["b", "a"]


def test_what_cannot_be_run_is_left_out():
    both = [one("a", 0.9, architecture="abacus"), one("b", 0.1)]

    found = recommended(both, capability="search", runs=lambda architecture: architecture != "abacus")

    assert names(found) == ["b"]
    assert found[1].left_out == "not run by this version yet"


def test_other_capabilities_are_not_listed():
    assert recommended([one("a", capability="caption")], capability="search") == []


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(1, 1000), st.booleans()), max_size=8),
    st.floats(1, 1000),
    st.booleans(),
)
def test_no_recommendation_breaks_a_condition_and_none_is_beaten_by_a_later_one(rows, memory_mb, any_licence):
    offered = [
        one(f"m{i}", value, megabytes={"fp32": size}, research_only=research)
        for i, (value, size, research) in enumerate(rows)
    ]

    found = recommended(offered, capability="search", memory_mb=memory_mb, any_licence=any_licence)

    assert {choice.name for choice in found} == {each.name for each in offered}
    chosen = [choice for choice in found if not choice.left_out]
    assert found[: len(chosen)] == chosen
    assert all(choice.megabytes <= memory_mb for choice in chosen)
    assert any_licence or not any(choice.research_only for choice in chosen)
    values = [choice.figure.value for choice in chosen]
    assert values == sorted(values, reverse=True)


def test_chinese_in_half_a_gigabyte_finds_a_model_of_the_catalogue():
    found = recommended(nearsight_models.candidates(), capability="search", language="zh", memory_mb=500)
    best = found[0]

    assert best.left_out == ""
    assert "zh" in best.languages
    assert best.megabytes <= 500
    assert "nano" in {choice.name for choice in found if choice.left_out == "for research only"}


def test_sizes_come_from_the_files_where_they_are_known_and_from_the_weights_else():
    clip = candidate(nearsight_models.entry("clip-vit-b32"))
    blip = candidate(nearsight_models.entry("blip-base"))

    assert clip.megabytes["fp32"] == (351_685_709 + 254_058_553) / 1e6
    assert (blip.way, blip.megabytes) == ("export", {"fp32": 223_971_644 * 4 / 1e6})
