"""Search is exact: it equals a plain matrix product under any filter, page and history."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nearsight.gallery.index as index_module
from nearsight.gallery import Gallery
from nearsight.gallery.index import Index, Stamp, load
from nearsight.gallery.reader import Content
from nearsight.gallery.writer import Writer
from nearsight.testing import FakeEncoder
from nearsight.values import Embeddings, EncoderIdentity

DIMENSIONS = 6


class Vectors(FakeEncoder):
    """An encoder whose texts are vectors in writing: "0.1 0.2 ..."."""

    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity(
            model="v", space="v", dimensions=DIMENSIONS, precision="fp32", preprocessing="-", model_hash="-"
        )

    def texts(self, texts) -> Embeddings:
        rows = np.array([[float(number) for number in text.split()] for text in texts])
        return Embeddings(vectors=unit(rows), space="v")

    def relevance(self, query, vectors, text, considered):
        return (vectors @ query + 1) / 2


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def filled(path: Path, vectors: np.ndarray, cameras: list[str]) -> None:
    """Store vectors without files, as a gallery whose pictures are away has them."""
    encoder = Vectors()
    Gallery.open(path, encoder).close()
    store = Writer.open(path)
    with store.writing():
        number = store.encoder_id(encoder.identity)
        for place, (vector, camera) in enumerate(zip(vectors, cameras, strict=True)):
            content = Content(digest=place.to_bytes(20, "big"), size=place, mtime_ns=place)
            store.put(
                Path(f"/p/{place}"),
                content,
                camera=camera,
                metadata=f'{{"n": {place % 3}}}',
                encoder=number,
                vector=vector.tobytes(),
            )
    store.close()


@settings(max_examples=60)
@given(data=st.data())
def test_search_equals_a_matrix_product_under_any_filter_and_page(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count = data.draw(st.sampled_from([1, 2, 7, 60, 200]))
    vectors = unit(rng.normal(size=(count, DIMENSIONS)).round(data.draw(st.sampled_from([0, 1, 6]))) + 1e-3)
    cameras = [f"c{number}" for number in rng.integers(0, 4, count)]
    k, offset = data.draw(st.integers(1, 50)), data.draw(st.integers(0, 60))
    camera = data.draw(st.sampled_from([None, "c0", "c1", "none"]))
    where = data.draw(st.sampled_from([None, {"n": 1}, {"n": 9}]))
    floor = data.draw(st.sampled_from([0.0, 0.4, 0.9]))
    query = rng.normal(size=(1, DIMENSIONS))
    scan_always = data.draw(st.sampled_from([0, 1024]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "SCAN_ALWAYS", scan_always)
        filled(Path(folder) / "g", vectors, cameras)
        with Gallery.open(Path(folder) / "g", Vectors()) as gallery:
            hits = gallery.search(
                " ".join(map(str, query[0])), k=k, offset=offset, camera=camera, where=where, min_relevance=floor
            )

    scores = vectors @ unit(query)[0]
    kept = [
        place for place in range(count)
        if (camera is None or cameras[place] == camera) and (where is None or place % 3 == where["n"])
    ]  # fmt: skip
    ranked = sorted(
        (place for place in kept if (scores[place] + 1) / 2 >= floor - 1e-6), key=lambda place: -scores[place]
    )
    expected = ranked[offset : offset + k]
    assert hits.total_considered == len(kept)
    assert abs(len(hits) - len(expected)) <= sum(abs((scores[place] + 1) / 2 - floor) < 1e-5 for place in kept)
    assert np.allclose([hit.score for hit in hits], scores[expected][: len(hits)], atol=1e-5)
    assert all(hit.score == pytest.approx(scores[int(hit.path.name)], abs=1e-5) for hit in hits)
    assert len({hit.path for hit in hits}) == len(hits)


@settings(max_examples=40)
@given(data=st.data())
def test_pages_cover_the_whole_ranking_once(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count, page = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 40))
    index = Index(DIMENSIONS)
    index.add(np.arange(1, count + 1), unit(rng.integers(-1, 2, (count, DIMENSIONS)) + 1e-3))
    allowed = np.flatnonzero(rng.random(count) < 0.8) + 1 if data.draw(st.booleans()) else None
    query = unit(rng.normal(size=(1, DIMENSIONS)))[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "SCAN_ALWAYS", data.draw(st.sampled_from([0, 1024])))
        patch.setattr(index_module, "HEAP_LIMIT", data.draw(st.sampled_from([8, 1024])))
        pages = [index.nearest(query, stop, allowed)[0][stop - page :] for stop in range(page, count + page, page)]

    found = np.concatenate(pages)
    assert sorted(found.tolist()) == list(range(1, count + 1) if allowed is None else allowed)


@settings(max_examples=40)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "drop", "save", "reload"]), st.integers(0, 2**16)), max_size=12)
)
def test_an_index_holds_what_was_put_in_whatever_happened(steps) -> None:
    index, truth, last = Index(DIMENSIONS), {}, 0
    stamp = Stamp(gallery="g", epoch=1, generation=1, dimensions=DIMENSIONS)
    with tempfile.TemporaryDirectory() as folder:
        saved = None
        for step, seed in steps:
            rng = np.random.default_rng(seed)
            if step == "add":
                ids = last + np.cumsum(rng.integers(1, 4, rng.integers(1, 9)))
                vectors = unit(rng.normal(size=(len(ids), DIMENSIONS)))
                index.add(ids, vectors)
                truth.update(zip(ids.tolist(), vectors, strict=True))
                last = int(ids[-1])
            elif step == "drop":
                truth = {number: vector for number, vector in truth.items() if rng.random() < 0.7}
                index.keep(np.array(sorted(truth), np.int64))
            elif step == "save":
                index.save(Path(folder), stamp)
                saved = dict(truth)
            elif saved is not None:
                index, description = load(Path(folder))
                truth = dict(saved)
                assert (description.count, description.generation) == (len(truth), 1)

            assert index.ids.tolist() == list(truth)
            assert all((held == vector).all() for held, vector in zip(index.vectors, truth.values(), strict=True))


@settings(max_examples=25)
@given(
    colours=st.lists(st.sampled_from(["red", "blue", "green", "white"]), min_size=1, max_size=10),
    seed=st.integers(0, 99),
)
def test_save_and_open_give_equal_results(colours, seed) -> None:
    from PIL import Image

    from nearsight.testing import COLOURS

    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        album = Path(folder) / "album"
        album.mkdir()
        for number, colour in enumerate(colours):
            pixels = (np.array(COLOURS[colour]) + rng.integers(-5, 6, (8, 8, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(album / f"{number}.png")
        with Gallery.open(Path(folder) / "g", FakeEncoder()) as gallery:
            gallery.add(album)
            before = [gallery.search(query, k=20, min_relevance=0).to_dict() for query in ("red", "绿", "white blue")]
        with Gallery.open(Path(folder) / "g", FakeEncoder(), read_only=True) as gallery:
            after = [gallery.search(query, k=20, min_relevance=0).to_dict() for query in ("red", "绿", "white blue")]

    assert before == after


def test_threads_may_search_one_gallery_while_another_adds(gallery, album, paint) -> None:
    for number in range(40):
        paint(f"{number}.png", "red")

    with ThreadPoolExecutor(5) as pool:
        adding = pool.submit(gallery.add, album)
        searching = [pool.submit(gallery.search, "red", 100) for _ in range(40)]
        counts = [len(search.result()) for search in searching]

    assert adding.result().added == 40
    assert all(0 <= count <= 40 for count in counts)
    assert len(gallery.search("red", 100)) == 40


def test_an_index_well_behind_is_written_anew_and_a_little_behind_is_not(gallery, album, paint) -> None:
    for number in range(5):
        paint(f"{number}.png")
    gallery.add(album)
    first = (gallery.path / "index.faiss").read_bytes()
    paint("one more.png")
    gallery.add(album)

    assert (gallery.path / "index.faiss").read_bytes() == first
    assert gallery.verify().index_state == "behind"
    assert len(gallery.search("red", k=10)) == 6
    assert gallery.verify(repair=True).index_repaired
    assert gallery.verify().index_state == "current"
