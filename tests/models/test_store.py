"""Which models can be loaded: those of the wheel, those installed; and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

import nearsight_models
from nearsight_models import MissingFilesError, ModelError, UnknownModelError, UsageError, store


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NEARSIGHT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_the_folder_is_the_named_one_or_lies_with_the_users_data(monkeypatch, tmp_path):
    monkeypatch.setenv("NEARSIGHT_MODELS", "~/m")
    assert nearsight_models.models_folder() == Path("~/m").expanduser()
    monkeypatch.setenv("NEARSIGHT_MODELS", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    assert nearsight_models.models_folder() == tmp_path / "nearsight" / "models"


def test_a_folder_that_is_not_there_holds_none(home):
    assert nearsight_models.installed() == []
    assert nearsight_models.names() == nearsight_models.embedded()


def test_an_installed_model_stands_behind_those_of_the_wheel(home, installed):
    installed("nano", "another")

    assert nearsight_models.names() == [*nearsight_models.embedded(), "another"]
    assert nearsight_models.load("another", "search").name == "another"
    assert nearsight_models.load("nano").name == "nano"


def test_folders_in_the_making_and_folders_without_a_page_are_no_models(home, installed):
    installed("nano", ".another.part")
    (home / "half").mkdir()

    assert nearsight_models.installed() == []


def test_a_damaged_page_hurts_nobody_else(home):
    (home / "broken").mkdir(parents=True)
    (home / "broken" / "manifest.toml").write_text("name = ")

    assert nearsight_models.load("nano").name == "nano"
    with pytest.raises(ModelError, match="not valid TOML"):
        nearsight_models.load("broken")


BROKEN = [
    b"name = '\xff'",
    b"a = " + b"[" * 5_000 + b"]" * 5_000,
    b"a = " + b"1" * 5_000,
    b'name = "broken"\n[files.detect]\nfp32 = { path = "a", sha256 = 3, bytes = 4 }',
]


@pytest.mark.parametrize("page", BROKEN, ids=["bytes", "deep", "long", "shape"])
def test_whatever_is_wrong_with_a_page_is_one_line(home, page):
    (home / "broken").mkdir(parents=True)
    (home / "broken" / "manifest.toml").write_bytes(page)

    with pytest.raises(ModelError) as caught:
        nearsight_models.load("broken")

    assert "\n" not in str(caught.value)


def test_a_number_that_is_none_in_a_page_is_told(home, installed):
    page = installed("nano", "another") / "manifest.toml"
    page.write_text(page.read_text().replace("[preprocessing]", '[preprocessing]\nreducing_gap = "much"', 1))

    with pytest.raises(ModelError, match="wrong shape"):
        nearsight_models.load("another")


def test_a_folder_that_bears_another_name_than_its_page_is_refused(home, installed):
    installed("nano", "another").rename(home / "renamed")

    with pytest.raises(ModelError, match=r"renamed holds the model 'another'; give the folder that name"):
        nearsight_models.load("renamed")


def test_an_installed_model_is_not_taken_for_what_it_does_not_serve(home, installed):
    installed("nano", "another")

    with pytest.raises(UnknownModelError, match="'another' does not serve 'detect' but 'search'"):
        nearsight_models.load("another", "detect")


@pytest.mark.parametrize(("name", "way"), [("clip-vit-b32", "pull"), ("blip-base", "export")])
def test_what_the_catalogue_knows_and_is_not_here_says_how_it_is_had(home, name, way):
    with pytest.raises(MissingFilesError, match=f"'{name}' is not installed; get it: nearsight models {way} {name}$"):
        nearsight_models.load(name)


def test_an_unknown_name_says_what_is_here_and_what_could_be(home):
    with pytest.raises(UnknownModelError, match=r"there is: nano, .*; to be had: blip-base, .*nearsight models list"):
        nearsight_models.load("clap")


def test_a_name_that_leads_out_of_the_folder_is_no_model(home, installed, tmp_path):
    (tmp_path / "manifest.toml").write_text("name = '..'")

    for name in ("..", "../models", "", "."):
        with pytest.raises(UnknownModelError):
            nearsight_models.load(name)


def test_a_whole_model_takes_the_place_of_the_earlier_one(home):
    with store.in_the_making("m") as staging:
        (staging / "new").touch()
        (home / "m").mkdir()
        (home / "m" / "old").touch()
        store.put_in_place("m", staging)

    assert [path.name for path in (home / "m").iterdir()] == ["new"]
    assert sorted(path.name for path in home.iterdir()) == [".m.lock", "m"]


def test_the_earlier_model_is_put_back_where_the_new_one_cannot_take_its_place(home, monkeypatch):
    (home / "m").mkdir(parents=True)
    (home / "m" / "old").touch()
    with store.in_the_making("m") as staging:
        rename = Path.rename
        monkeypatch.setattr(Path, "rename", lambda path, to: rename(path / "not here" if path == staging else path, to))
        with pytest.raises(OSError, match="not here"):
            store.put_in_place("m", staging)

    assert [path.name for path in (home / "m").iterdir()] == ["old"]


def test_an_earlier_model_that_a_killed_process_put_aside_comes_back(home):
    (home / ".m.old").mkdir(parents=True)

    with store.in_the_making("m"):
        assert (home / "m").is_dir()


def test_a_folder_that_cannot_be_made_is_told(home, monkeypatch):
    home.write_text("no folder")
    monkeypatch.setenv("NEARSIGHT_MODELS", str(home / "models"))

    told = r"cannot be made \(Not a directory\); name another in NEARSIGHT_MODELS"
    with pytest.raises(UsageError, match=told), store.in_the_making("m"):
        pass


def test_who_does_not_get_the_lock_leaves_nothing(home):
    with store.in_the_making("m") as staging:
        staging.rename(home / "m")
        with pytest.raises(ModelError, match="another process"), store.in_the_making("m"):
            pass

    assert sorted(path.name for path in home.iterdir()) == [".m.lock", "m"]


@pytest.mark.parametrize(("how", "way"), [("export", "export"), ("pull", "pull")])
def test_a_damaged_model_is_had_again_the_way_it_came(home, how, way):
    folder = home / "clip-vit-b32"
    folder.mkdir(parents=True)
    page = (Path(nearsight_models.__file__).parent / "manifests" / "nano-detect.toml").read_text(encoding="utf8")
    page = page.replace('name = "nano-detect"', 'name = "clip-vit-b32"')
    (folder / "manifest.toml").write_text(f'{page}\n[source]\nrepo = "o/n"\nrevision = ""\nhow = "{how}"\n')

    with pytest.raises(MissingFilesError, match=rf"lacks its file .*; get it: nearsight models {way} clip-vit-b32$"):
        nearsight_models.load("clip-vit-b32")
