"""What the demos ask of pictures that nobody knows: about what is there, each question judged where it can be."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import nearsight as ns
from nearsight_demos import photographs, tour
from nearsight_demos.programme import CARRIED_QUESTIONS, Question, fitted, known
from nearsight_demos.senses import counting
from nearsight_demos.subjects import CLASSES, RARE, SCENES, absent, offered, shown, things_in


@pytest.fixture(scope="module")
def detector() -> ns.Detector:
    return ns.Detector()


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tour") / "holiday"
    return Path(shutil.copytree(photos, place, ignore=shutil.ignore_patterns("*.md")))


@pytest.fixture(scope="module")
def gallery(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    with ns.Gallery.open(tmp_path_factory.mktemp("tour") / "g.nsg") as opened:
        opened.add(folder)
        yield opened


def test_every_subject_by_class_is_a_class_of_the_detector(detector: ns.Detector) -> None:
    assert set(CLASSES) <= set(detector.classes)


def test_what_the_detector_sees_is_told_most_frequent_first(detector: ns.Detector, folder: Path) -> None:
    pictures = [folder / name for name in ("cat.jpg", "photographer.jpg", "astronaut.jpg")]

    found = things_in(detector, [*pictures, folder / "gone.jpg"])

    assert next(iter(found)) == "person"
    assert found["person"] == [folder / "photographer.jpg", folder / "astronaut.jpg"]
    assert found["cat"] == [folder / "cat.jpg"]


def test_subjects_that_are_there_are_chosen_each_of_another_picture(gallery: ns.Gallery) -> None:
    chosen = shown(gallery, [CLASSES["cat"], CLASSES["giraffe"], *SCENES], "en", 5)

    assert CLASSES["cat"] in chosen
    assert CLASSES["giraffe"] not in chosen
    pictures = [gallery.search(subject.en, k=1)[0].path for subject in chosen]
    assert len(set(pictures)) == len(pictures) >= 2


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_offer_asks_in_both_languages_and_once_for_what_is_not_there(gallery: ns.Gallery, language: str) -> None:
    offer = offered(gallery, ["cat", "cup"], language, 3)

    *there, rare = offer.questions
    assert all(gallery.search(question, k=1) for question in there)
    assert not gallery.search(rare, k=1)
    assert {question.isascii() for question in there} == {True, False}
    assert rare == absent(gallery, language).said(language)


def test_a_programme_for_strange_pictures_asks_for_what_is_seen_in_them(
    gallery: ns.Gallery, detector: ns.Detector
) -> None:
    programme = fitted(gallery, detector)

    things = [question.thing for question in programme.questions if question.thing]
    assert {"person", "cat", "cup"} <= set(things)
    assert set(things) <= set(programme.labels) <= set(CLASSES)
    assert {question.text.isascii() for question in programme.questions} == {True, False}
    assert all(things_in(detector, [path]) for path in programme.scenes)
    assert any(CLASSES[thing].en in programme.to_ask[0] for thing in things)
    assert len(ns.Agent(gallery=gallery).run(programme.to_ask[0]).items) >= 1
    assert any(CLASSES[thing].zh in programme.to_ask[1] for thing in things)


def test_pictures_in_which_nothing_is_seen_get_a_programme_as_well(
    tmp_path: Path, folder: Path, detector: ns.Detector
) -> None:
    with ns.Gallery.open(tmp_path / "g.nsg") as gallery:
        gallery.add(folder / "galaxies.jpg")

        programme = fitted(gallery, detector)

    assert programme.scenes == (folder / "galaxies.jpg",)
    assert programme.questions[-2:] == (Question(text=RARE[0].en), Question(text=RARE[0].zh))
    assert len(programme.to_ask) == 2


def test_the_known_photographs_are_asked_only_for_what_could_be_had(folder: Path) -> None:
    programme = known(folder)

    assert {path.name for path in programme.scenes} == {
        "cat.jpg", "coffee.jpg", "astronaut.jpg", "photographer.jpg", "rocket.jpg",
    }  # fmt: skip
    asked = {question.text for question in programme.questions}
    assert "一只猫" in asked
    assert "狮子" not in asked
    assert {question.text for question in CARRIED_QUESTIONS if question.right == ()} <= asked


def test_each_of_the_events_is_asked_for_in_words() -> None:
    assert counting("cat") == "How many cats were there at tour?"
    assert counting("person") == "How many people were there at tour?"


def test_photographs_of_installed_packages_are_copied_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = {
        "matplotlib-that-is-not-there==1": ("package_that_is_not_there/a.jpg",),
        "nearsight==1": ("nearsight_models/manifests/nano.toml", "nearsight_models/nothing.jpg"),
    }
    monkeypatch.setattr(photographs, "CARRIED", carried)

    copies = photographs.installed(tmp_path / "photographs")

    assert [copy.name for copy in copies] == ["nano.toml"]
    assert copies[0].parent == tmp_path / "photographs"
    assert copies[0].read_text(encoding="utf-8").startswith("#")


def test_where_no_package_carries_any_the_folder_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "CARRIED", {"a==1": ("package_that_is_not_there/a.jpg",)})

    assert photographs.installed(tmp_path / "photographs") == []
    assert not (tmp_path / "photographs").exists()


def test_the_tour_of_a_strange_folder_names_what_it_found_and_the_nearest_of_what_it_did_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    code = tour.main(["--photos", str(folder)])

    said = capsys.readouterr().out
    lines = said.splitlines()
    assert code == 0
    (cat,) = (line for line in lines if line.startswith("猫"))
    assert "cat.jpg" in cat
    assert cat.rstrip().endswith("the detector sees it, too")
    (sushi,) = (line for line in lines if line.startswith("a plate of sushi"))
    assert ".jpg" in sushi
    assert "nothing matches" in sushi
    assert re.search(r"How many pictures of an? \w+ are there\?  ->  \w", said)
    assert "were there at tour?" in said
    report = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "Nearsight: the offline tour" in report
    assert report.count("data:image/jpeg") > 10


def test_a_tour_of_no_folder_is_a_mistake_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = tour.main(["--photos", str(tmp_path / "nothing")])

    said = capsys.readouterr()
    assert code == 2
    assert said.err.count("\n") == 1
    assert "make demo PHOTOS=~/Pictures" in said.err
