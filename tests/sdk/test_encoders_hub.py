"""Encoders of the hub's families in the product, without torch: a CLIP whose weights can be computed by hand."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hub_models import PIECES, installed, preprocessor, standing_in, table
from PIL import Image

import nearsight as ns
from nearsight.engine import Engine
from nearsight.families.lookup import leaf
from nearsight.gallery.pipeline import processed
from nearsight.testing import COLOURS
from nearsight_models import File, manifest, pages

if TYPE_CHECKING:
    from pathlib import Path

CHECKED = ("red", "green", "blue", "yellow")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the models folder of this test."""
    monkeypatch.setenv("NEARSIGHT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def painted(paint, album) -> Path:
    """Paint a folder of one picture for each of four colours."""
    for colour in CHECKED:
        paint(f"{colour}.png", colour)
    return album


@pytest.fixture
def large(tmp_path) -> Path:
    """Give a JPEG of a camera's size whose lines are another picture where the decoder makes it smaller."""
    rows, columns = np.mgrid[0:1200, 0:1600]
    lines = np.stack([rows * columns // 800, columns * columns // 3000, rows * rows // 900], -1) % 256
    path = tmp_path / "large.jpg"
    Image.fromarray(lines.astype(np.uint8)).save(path, quality=92)
    return path


@pytest.mark.parametrize("by", ["path", "bytes", "gallery", "look"])
def test_every_pixel_of_a_large_photograph_is_read(home, large, by):
    """No model's own processor lets the JPEG decoder shrink a picture; nano alone does."""
    installed(home)
    encoder = ns.Encoder("colours")
    wanted = encoder.images([ns.read_image(large)]).vectors[0]
    shrunk = encoder.images([ns.read_image(large, size_hint=encoder.input_size)]).vectors[0]
    assert np.abs(shrunk - wanted).max() > 1e-5

    if by == "gallery":
        vector = next(processed([large], encoder, set(), max_pixels=None))[0].vector
    elif by == "look":
        vector = ns.look(large, model="colours").embedding.vectors[0]
    else:
        vector = encoder.images([large if by == "path" else large.read_bytes()]).vectors[0]

    assert np.array_equal(vector, wanted)
    assert encoder.size_hint is None
    assert ns.Encoder("nano").size_hint == ns.Encoder("nano").input_size


def test_a_gallery_is_indexed_and_searched_with_an_installed_model(home, painted, tmp_path):
    installed(home)

    with ns.Gallery.open(tmp_path / "g.nsg", encoder="colours") as gallery:
        report = gallery.add(painted)
        found = {colour: gallery.search(f"a photo of {colour}", k=1)[0] for colour in CHECKED}
        alike = gallery.search(painted / "blue.png", k=1)

        assert report.added == len(CHECKED)
        assert {colour: hit.path.stem for colour, hit in found.items()} == {colour: colour for colour in CHECKED}
        assert alike[0].path.stem == "blue"
        assert gallery.stats().space.startswith("colours-")


def test_a_gallery_of_another_space_is_refused_until_it_is_encoded_anew(home, painted, tmp_path):
    installed(home)
    with ns.Gallery.open(tmp_path / "g.nsg", encoder="nano") as gallery:
        gallery.add(painted)

    with pytest.raises(ns.SpaceMismatchError, match="reindex"):
        ns.Gallery.open(tmp_path / "g.nsg", encoder="colours")
    with ns.Gallery.open(tmp_path / "g.nsg", encoder="nano") as gallery:
        gallery.reindex("colours")
        first = gallery.search("green", k=1)[0]
    with ns.Gallery.open(tmp_path / "g.nsg", encoder="colours") as gallery:
        again = gallery.search("green", k=1)[0]

    assert first.path.stem == again.path.stem == "green"
    with pytest.raises(ns.SpaceMismatchError):
        ns.Gallery.open(tmp_path / "g.nsg", encoder="nano")


def test_other_weights_never_share_an_index(home, painted, tmp_path):
    installed(home)
    with ns.Gallery.open(tmp_path / "g.nsg", encoder="colours") as gallery:
        gallery.add(painted)
    shutil.rmtree(home / "colours")
    installed(home, turn=1.5)

    with pytest.raises(ns.SpaceMismatchError):
        ns.Gallery.open(tmp_path / "g.nsg", encoder="colours")


def test_vectors_are_what_the_weights_say(home):
    installed(home)
    encoder = ns.Encoder("colours")

    said = encoder.texts(["red", "a photo"]).vectors
    seen = encoder.images([Image.new("RGB", (40, 20), COLOURS["red"])]).vectors

    wanted = table(1.0)[PIECES.index("red")] + table(1.0)[3]
    assert np.allclose(said[0], wanted / np.linalg.norm(wanted), atol=1e-6)
    assert np.allclose(np.linalg.norm(said, axis=1), 1, atol=1e-5)
    assert seen[0] @ said[0] > 0.9999


@pytest.mark.parametrize(("batch", "masked"), [(None, False), (None, True), (2, False), (3, True)])
def test_fixed_batches_and_masks_are_the_graphs_own_business(home, batch, masked):
    """A graph without a mask gets none, and a graph of fixed batches gets such, the last one filled up."""
    installed(home, batch=batch, masked=masked)
    encoder = ns.Encoder("colours")
    texts = [*CHECKED, "a photo of red"]

    together = encoder.texts(texts).vectors
    alone = np.concatenate([encoder.texts([text]).vectors for text in texts])
    pictures = encoder.images([Image.new("RGB", (20, 20), COLOURS[colour]) for colour in CHECKED]).vectors

    assert together.shape == (5, 3)
    assert np.allclose(together, alone, atol=1e-5)
    assert (pictures * together[:4]).sum(1).min() > 0.999


def test_pictures_are_run_in_the_best_batch_and_texts_together(home):
    """The length of a text is that of the longest in its run, so a batch that was measured says nothing of it."""
    installed(home)
    encoder = ns.Encoder("colours")
    pictures = [Image.new("RGB", (20, 20), COLOURS[colour]) for colour in (*CHECKED, *CHECKED)]
    whole = encoder.images(pictures)
    fakes = {role: standing_in(encoder, role, best_batch=3) for role in ("image", "text")}

    seen, one = encoder.images(pictures), encoder.images(pictures[:1])
    encoder.texts([*CHECKED, "a photo of red"])

    assert [len(call["pixel_values"]) for call in fakes["image"].calls] == [3, 3, 2, 1]
    assert [len(call["input_ids"]) for call in fakes["text"].calls] == [5]
    np.testing.assert_allclose(seen.vectors, whole.vectors, atol=1e-6)
    assert seen.decision.placement == "fake: no operators; 3 at a time"
    assert seen.decision.measured.bytes_in == 8 * one.decision.measured.bytes_in
    assert one.decision.placement == "fake: no operators"


def test_few_pictures_measure_nothing_and_many_do_so_once(home, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    installed(home)
    encoder = ns.Encoder("colours")
    pictures = [Image.new("RGB", (20, 20), COLOURS[colour]) for colour in CHECKED]
    batches = tmp_path / "cache" / "nearsight" / "batches"

    encoder.images(pictures)
    few = [*batches.glob("*.json")]
    monkeypatch.setattr("nearsight.encoders.WORTH_S", 0.0)
    encoder.images(pictures)
    encoder.texts([*CHECKED])
    many = {path: path.read_bytes() for path in batches.glob("*.json")}
    encoder.images(pictures[:2])

    assert few == []
    assert len(many) == 1
    assert {path: path.read_bytes() for path in batches.glob("*.json")} == many


def test_a_graph_that_was_pulled_without_golden_sets_runs_unproven(home):
    installed(home, golden=False)

    encoder = ns.Encoder("colours")

    assert encoder.texts(["red"]).decision.target == "cpu"


def test_a_graph_that_does_not_give_its_golden_answers_is_refused(home):
    folder = installed(home)
    graph = folder / "onnx" / "text_model.onnx"
    page = manifest.parse((folder / "manifest.toml").read_text(encoding="utf8"), folder)
    model = onnx.load(graph)
    for weights in model.graph.initializer:
        if weights.name == "table":
            array = onnx.numpy_helper.to_array(weights)
            weights.CopyFrom(onnx.numpy_helper.from_array(array[::-1].copy(), "table"))
    onnx.save(model, graph)
    page.files["text"]["fp32"] = File.of(graph)
    pages.save(page, folder)

    with pytest.raises(ns.DelegateError, match="golden"):
        ns.Encoder("colours").texts(["red"])


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json"])
def test_a_file_of_the_model_that_was_changed_is_refused_by_name(home, name):
    folder = installed(home)
    (folder / name).write_text((folder / name).read_text(encoding="utf8") + " ", encoding="utf8")

    with pytest.raises(ns.ChecksumError, match=name):
        ns.Encoder("colours").texts(["red"])


def test_a_graph_that_was_changed_is_refused(home):
    folder = installed(home)
    graph = folder / "onnx" / "vision_model.onnx"
    whole = graph.read_bytes()

    graph.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ns.DelegateError, match="SHA-256"):
        ns.Encoder("colours").images([Image.new("RGB", (20, 20))])
    graph.write_bytes(whole[:-1])
    with pytest.raises(ns.ChecksumError, match=graph.name):
        ns.Encoder("colours")


def test_a_page_that_lacks_a_file_says_which_and_what_to_do(home):
    folder = installed(home)
    page = folder / "manifest.toml"
    kept = [line for line in page.read_text(encoding="utf8").splitlines() if not line.startswith('"tokenizer.json"')]
    page.write_text("\n".join(kept), encoding="utf8")

    with pytest.raises(ns.ModelError, match=r"no tokenizer\.json.*nearsight models"):
        ns.Encoder("colours").texts(["red"])


def test_an_architecture_that_this_version_does_not_read_is_named(home):
    installed(home, architecture="abacus")

    with pytest.raises(ns.ModelError, match=r"abacus.*upgrade"):
        ns.Encoder("colours").texts(["red"])


def test_without_the_package_tokenizers_the_remedy_is_one_line(home, monkeypatch):
    installed(home)
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(ns.ModelError, match=r"pip install 'nearsight\[hub\]'") as caught:
        ns.Encoder("colours").texts(["red"])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["settings", "relevance", "preprocessor_config.json", "golden"])
def test_a_page_that_was_changed_gives_another_engine_and_the_same_page_does_not(home, field):
    """The files of the graphs are the same ones all the time."""
    folder = installed(home)
    first, same = (Engine.shared("colours", capability="search") for _ in range(2))
    page = manifest.parse((folder / "manifest.toml").read_text(encoding="utf8"), folder)
    if field == "golden":
        page.golden.clear()
    elif field == "preprocessor_config.json":
        stated = {**preprocessor(), "image_mean": [0.0, 0.0, 0.0]}
        (folder / field).write_text(json.dumps(stated), encoding="utf8")
        page.assets[field] = File.of(folder / field)
    else:
        getattr(page, field)["min_score"] = 0.25
    pages.save(page, folder)

    changed = Engine.shared("colours", capability="search")

    assert first is same
    assert changed is not first
    assert changed.manifest.files == first.manifest.files
    assert changed.manifest != first.manifest


def test_identity_and_input_size_are_known_without_loading_a_graph(home):
    folder = installed(home)
    encoder = ns.Encoder("colours")
    (folder / "onnx" / "vision_model.onnx").write_bytes(b"no graph")

    assert encoder.input_size == (16, 16)
    assert encoder.identity.model == "colours"
    assert encoder.identity.precision == "fp32"
    assert encoder.identity.space == encoder.space
    assert "crop16x16" in encoder.identity.preprocessing


@pytest.mark.parametrize("blank", ["", "  ", "\n\t", "\x00"])
def test_a_blank_text_is_an_input_error(home, blank):
    installed(home)

    with pytest.raises(ns.InputError, match="blank"):
        ns.Encoder("colours").texts([blank])


@pytest.mark.parametrize("odd", ["\ud800 red", "red " * 500, "🐕 red", "red\x00\x1b[31m", "ｒｅｄ"])
def test_odd_texts_are_encoded(home, odd):
    installed(home)

    assert np.isfinite(ns.Encoder("colours").texts([odd]).vectors).all()


def test_a_long_text_is_cut_and_keeps_its_end(home):
    installed(home)
    encoder = ns.Encoder("colours")
    family = leaf(encoder._manifest)

    ids = family.text_arrays(["red " * 200])["input_ids"]

    assert ids.shape == (1, 77)
    assert (ids[0, 0], ids[0, -1]) == (2, 3)


def test_a_text_is_filled_up_where_the_graph_has_one_length(home):
    installed(home, batch=1)

    ids = leaf(ns.Encoder("colours")._manifest).text_arrays(["red"])["input_ids"]

    assert ids.tolist() == [[2, PIECES.index("red"), 3, 0, 0, 0, 0, 0]]


def test_a_chinese_text_is_not_read_by_a_model_that_learned_english(home):
    installed(home)
    encoder = ns.Encoder("colours")
    vector = encoder.texts(["红色"]).vectors[0]

    assert encoder.reads("a red car")
    assert not encoder.reads("红色的车")
    assert encoder.relevance(vector, vector[None], "红色的车", 1).tolist() == [0.0]


def test_a_gallery_says_that_nothing_matches_a_text_that_the_model_does_not_read(home, painted, tmp_path):
    installed(home)

    with ns.Gallery.open(tmp_path / "g.nsg", encoder="colours") as gallery:
        gallery.add(painted)
        unread, read = gallery.search("红色的车"), gallery.search("red")

    assert (len(unread), unread.weak) == (0, True)
    assert (read[0].path.stem, read.weak) == ("red", False)


def test_a_picture_is_never_ruled_out_by_its_cosine_where_nothing_is_calibrated(home, paint, album, tmp_path):
    installed(home)
    paint("blue.png", "blue")

    with ns.Gallery.open(tmp_path / "g.nsg", encoder="colours") as gallery:
        gallery.add(album)
        hits = gallery.search("red")
    match = ns.look(album / "blue.png", model="colours").matches(["red"])[0]

    assert hits[0].score < 0
    assert (len(hits), hits.weak) == (1, False)
    assert (match.score, match.matches) == (pytest.approx(hits[0].score), True)


def test_relevance_follows_the_score_where_nothing_is_calibrated(home):
    installed(home)
    encoder = ns.Encoder("colours")
    query = np.array([1, 0, 0], np.float32)
    scores = np.array([0.36, 0.3, 0.1, -0.2], np.float32)
    vectors = np.stack([scores, np.sqrt(1 - scores**2), np.zeros(4, np.float32)], 1)

    relevance = encoder.relevance(query, vectors, "red", 4)

    assert np.allclose(relevance, [0.9, 0.75, 0.25, 0.0], atol=1e-6)
    assert (relevance >= encoder.default_min_relevance).all()
    assert 0 < encoder.default_min_relevance < 1e-9
    assert encoder.relevance(query, vectors, None, 4) is None


def test_one_look_answers_by_an_installed_model(home, painted):
    installed(home)

    seen = ns.look(painted / "red.png", model="colours")
    matches = seen.matches(["red", "blue"])

    assert matches[0].score > 0.99 > matches[1].score
    assert np.array_equal(seen.embedding.vectors, seen.embedding.vectors)
    with pytest.raises(ns.UnknownModelError):
        seen.detect(["cat"])
