"""A page that is written is read back the same, appears whole or not at all, and names nothing outside its folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight_models import File, Manifest, ModelError, Preprocessing, Source, Tokenizer, manifest, pages

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SETTINGS = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "onnx").mkdir()
    for name in ("onnx/a.onnx", "onnx/a.onnx_data", "b.json", "c.npz"):
        (folder / name).write_bytes(name.encode())
    return folder


def page(home: Path, **changes) -> Manifest:
    made = Manifest(
        name="tiny",
        family="tiny",
        capability="search",
        architecture="clip",
        summary='says "much" \\ 中文 \x7f',
        languages=("en", "zh"),
        licence="MIT",
        trained_on=("one", "two"),
        research_only=True,
        parameters=7,
        files={"image": {"fp32": File.of(home / "onnx/a.onnx", beside=(home / "onnx/a.onnx_data",))}},
        golden={"image": File.of(home / "c.npz")},
        assets={"b.json": File.of(home / "b.json")},
        preprocessing=None,
        settings={"canvas": [960, 960]},
        space="tiny-1",
        dimensions=3,
        source=Source(repo="o/n", revision="1" * 40, how="export"),
    )
    return replace(made, **changes)


def test_a_page_is_read_back_as_it_was_written(home):
    made = page(home)

    assert manifest.parse(pages.written(made, home), home) == made


def test_fields_of_small_models_are_read_back_too(home):
    made = page(
        home,
        architecture="nano",
        preprocessing=Preprocessing(size_wh=(4, 5), mode="crop", resample="bicubic", reducing_gap=1.5),
        tokenizer=Tokenizer(kind="sentencepiece", prefix="q: ", longest=8, bos=0, eos=2, pad=1),
        relevance={"slope": 1.5, "support": 2},
        source=None,
    )

    assert manifest.parse(pages.written(made, home), home) == made


@given(settings=st.dictionaries(TEXTS, SETTINGS, max_size=4))
def test_whatever_settings_there_are_come_back(home, settings):
    assert manifest.parse(pages.written(page(home, settings=settings), home), home).settings == settings


def test_what_a_page_cannot_hold_is_refused(home):
    with pytest.raises(ModelError, match="cannot hold bytes"):
        pages.written(page(home, settings={"weights": b"1"}), home)


def test_a_file_outside_the_folder_is_refused_when_written_and_when_read(home, tmp_path):
    (tmp_path / "x.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match=r"x\.json does not lie in"):
        pages.written(page(home, assets={"x.json": File.of(tmp_path / "x.json")}), home)

    for path in ("../x.json", "/etc/x.json", "a/../../x.json", "..\\x.json", ""):
        text = pages.written(page(home), home).replace('path = "b.json"', f"path = '{path}'")
        with pytest.raises(ModelError, match="outside the model's folder"):
            manifest.parse(text, home)


def test_a_page_appears_in_one_step(home):
    path = pages.save(page(home), home)

    assert path.name == "manifest.toml"
    assert manifest.parse(path.read_text(encoding="utf8"), home) == page(home)
    assert [one.name for one in home.iterdir() if one.name.startswith(".")] == []


def test_what_belongs_to_a_graph_is_counted_and_checked_with_it(home):
    made = manifest.parse(pages.written(page(home), home), home)
    data = home / "onnx" / "a.onnx_data"
    before = data.read_bytes()

    assert made.bytes == sum(
        (home / name).stat().st_size for name in ("onnx/a.onnx", "onnx/a.onnx_data", "b.json", "c.npz")
    )
    made.check()
    data.write_bytes(before[:-1] + b"!")
    with pytest.raises(ModelError, match=r"a\.onnx_data has SHA-256"):
        made.check()
    data.write_bytes(before)


def test_an_unheard_of_way_to_come_is_refused(home):
    text = pages.written(page(home), home).replace('how = "export"', 'how = "theft"')

    with pytest.raises(ModelError, match="'theft'; there is pull, export"):
        manifest.parse(text, home)
