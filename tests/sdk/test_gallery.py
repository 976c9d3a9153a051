"""A gallery from the outside: adding, finding, changing, looking after."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearsight.errors import (
    GalleryDamagedError,
    GalleryError,
    GalleryNotFoundError,
    InputError,
    SpaceMismatchError,
)
from nearsight.gallery import Gallery
from nearsight.gallery.pipeline import BATCH
from nearsight.testing import COLOURS, FakeEncoder
from nearsight.values import Embeddings


def found(hits) -> list[str]:
    return [hit.path.name for hit in hits]


# Adding


def test_a_new_gallery_finds_what_was_added(gallery, album, paint) -> None:
    for colour in COLOURS:
        paint(f"{colour}.png", colour)

    report = gallery.add(album)

    assert (report.added, report.unchanged, report.failed) == (len(COLOURS), 0, ())
    assert len(gallery) == len(COLOURS)
    assert found(gallery.search("a red square", k=1)) == ["red.png"]
    assert found(gallery.search("蓝", k=1)) == ["blue.png"]


def test_adding_again_encodes_nothing(gallery, album, paint, encoder) -> None:
    for number in range(3):
        paint(f"{number}.png")
    gallery.add(album)

    report = gallery.add(album)

    assert (report.added, report.unchanged, report.encoded) == (0, 3, 0)
    assert encoder.encoded_pictures == 3


def test_a_touched_file_is_known_by_its_content(gallery, album, paint, encoder) -> None:
    path = paint("a.png")
    gallery.add(album)
    os.utime(path, ns=(1, 1))

    first, second = gallery.add(album), gallery.add(album)

    assert (first.unchanged, second.unchanged, encoder.encoded_pictures) == (1, 1, 1)
    assert gallery.verify().ok


def test_changed_content_is_encoded_again(gallery, album, paint) -> None:
    paint("a.png", "red")
    gallery.add(album, camera="gate", metadata={"floor": 1})
    paint("a.png", "blue")

    report = gallery.add(album)

    assert (report.added, report.changed, report.unchanged) == (0, 1, 0)
    assert found(gallery.search("red")) == []
    hit = gallery.search("blue")[0]
    assert (hit.path.name, hit.camera, hit.metadata) == ("a.png", "gate", {"floor": 1})
    assert len(gallery) == 1


def test_a_renamed_file_keeps_its_entry_without_encoding(gallery, album, paint, encoder) -> None:
    path = paint("a.png", "red")
    gallery.add(album, camera="gate", metadata={"floor": 1})
    (album / "sub").mkdir()
    path.rename(album / "sub" / "b.png")

    report = gallery.add(album)

    assert (report.added, report.renamed, report.missing, encoder.encoded_pictures) == (0, 1, 0, 1)
    hit = gallery.search("red")[0]
    assert (hit.path, hit.camera, hit.metadata, hit.exists) == (album / "sub" / "b.png", "gate", {"floor": 1}, True)
    assert len(gallery) == 1


def test_one_content_at_many_paths_is_encoded_once(gallery, album, paint, encoder) -> None:
    path = paint("a.png", "red")
    for number in range(3 * BATCH):
        shutil.copy(path, album / f"copy{number}.png")

    report = gallery.add(album)

    assert (report.added, report.encoded, encoder.encoded_pictures) == (3 * BATCH + 1, 1, 1)
    assert len(gallery.search("red", k=100)) == 3 * BATCH + 1


def test_a_later_copy_is_not_encoded_and_takes_no_given_camera(gallery, album, paint, encoder) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Box"
    path = paint("a.jpg", "red", exif=exif)
    gallery.add(path, camera="gate")
    shutil.copy(path, album / "b.jpg")

    report = gallery.add(album)

    assert (report.added, report.unchanged, encoder.encoded_pictures) == (1, 1, 1)
    assert {hit.path.name: hit.camera for hit in gallery.search("red")} == {"a.jpg": "gate", "b.jpg": "Box"}


def test_two_files_that_swap_names_are_told_apart(gallery, album, paint) -> None:
    one, two = paint("1.png", "red"), paint("2.png", "blue")
    gallery.add(album)
    one.rename(album / "x")
    two.rename(one)
    (album / "x").rename(two)
    os.utime(one, ns=(5, 5))
    os.utime(two, ns=(6, 6))

    report = gallery.add(album)

    assert report.changed == 2
    assert found(gallery.search("red")) == ["2.png"]
    assert found(gallery.search("blue")) == ["1.png"]
    assert gallery.verify().ok


def test_bad_files_are_named_and_cost_the_others_nothing(gallery, album, paint) -> None:
    paint("good.png")
    (album / "empty.jpg").write_bytes(b"")
    (album / "text.png").write_text("not a picture")
    (album / "text again.png").write_text("not a picture")
    (album / "cut.png").write_bytes(paint("whole.png").read_bytes()[:60])

    report = gallery.add(album)

    assert report.added == 2
    assert {failure.path.name for failure in report.failed} == {"empty.jpg", "text.png", "text again.png", "cut.png"}
    reasons = {failure.path.name: failure.reason for failure in report.failed}
    assert reasons["empty.jpg"] == "the file is empty"
    assert reasons["text again.png"] == reasons["text.png"]
    assert all(str(album) not in reason and "\n" not in reason for reason in reasons.values())


def test_a_picture_above_the_limit_is_named(gallery, paint) -> None:
    path = paint("a.png")

    assert "megapixels" in gallery.add(path, max_pixels=10).failed[0].reason
    assert gallery.add(path, max_pixels=None).added == 1


def test_heic_files_without_the_reader_are_counted(gallery, album, paint, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    paint("a.png")
    for number in range(2):
        (album / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes([number]) * 40)

    report = gallery.add(album)

    assert (report.added, report.skipped_heif, report.failed) == (1, 2, ())


def test_a_picture_that_the_model_fails_on_costs_the_others_nothing(tmp_path, album, paint) -> None:
    class Choosy(FakeEncoder):
        def encode_pixels(self, pixels) -> Embeddings:
            embeddings = super().encode_pixels(pixels)
            vectors = embeddings.vectors.copy()
            vectors[pixels.mean(axis=(1, 2, 3)) > 240] = np.nan
            return Embeddings(vectors=vectors, space=embeddings.space)

    for number in range(5):
        paint(f"{number}.png", "red")
    paint("white.png", "white")
    with Gallery.open(tmp_path / "g.nsg", Choosy()) as gallery:
        report = gallery.add(album)

        assert report.added == 5
        assert [failure.path.name for failure in report.failed] == ["white.png"]
        assert gallery.verify().ok


def test_an_encoder_that_breaks_its_promise_is_refused(tmp_path, album, paint) -> None:
    class Liar(FakeEncoder):
        def encode_pixels(self, pixels) -> Embeddings:
            return Embeddings(vectors=super().encode_pixels(pixels).vectors, space="another")

    paint("a.png")
    with (
        Gallery.open(tmp_path / "g.nsg", Liar()) as gallery,
        pytest.raises(GalleryError, match="nearsight models verify"),
    ):
        gallery.add(album)


def test_gone_files_are_counted_and_stay_until_removed(gallery, album, paint) -> None:
    gone, kept = paint("gone.png", "red"), paint("kept.png", "red")
    gallery.add(album)
    gone.unlink()

    report = gallery.add(album)

    assert (report.missing, report.unchanged, len(gallery)) == (1, 1, 2)
    assert {hit.path: hit.exists for hit in gallery.search("red")} == {gone: False, kept: True}
    assert gallery.remove(missing=True) == 1
    assert found(gallery.search("red")) == ["kept.png"]


def test_camera_and_metadata_of_known_files_can_be_set_later(gallery, album, paint, encoder) -> None:
    paint("a.png", "red")
    gallery.add(album, metadata={"a": 1})

    report = gallery.add(album, camera="gate", metadata={"b": 2})

    hit = gallery.search("red")[0]
    assert (report.unchanged, hit.camera, hit.metadata, encoder.encoded_pictures) == (1, "gate", {"b": 2}, 1)


def test_progress_ends_at_the_total_and_every_stored_path_is_told(gallery, album, paint) -> None:
    paths = [paint(f"{number:02}.png") for number in range(2 * BATCH + 3)]
    (album / "bad.png").write_bytes(b"x")
    seen, stored = [], []

    gallery.add(album, progress=seen.append, on_stored=stored.append)

    assert sorted(stored) == sorted(paths)
    assert (seen[-1].done, seen[-1].total, seen[-1].seconds_left) == (len(paths) + 1, len(paths) + 1, 0.0)
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert all(step.rate_per_s > 0 for step in seen)


def test_an_interrupted_add_keeps_what_was_told_and_goes_on(gallery, album, paint, encoder) -> None:
    for number in range(4 * BATCH):
        paint(f"{number:03}.png")
    stored: list[Path] = []

    def interrupt(path: Path) -> None:
        stored.append(path)
        if len(stored) == BATCH + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gallery.add(album, on_stored=interrupt)
    kept = len(gallery)
    report = gallery.add(album)

    assert kept >= len(stored)
    assert (report.unchanged, report.added) == (kept, 4 * BATCH - kept)
    assert gallery.verify().ok


def test_odd_file_names_come_back_as_they_are(gallery, album, paint) -> None:
    source = paint("a.png", "red")
    names = [
        b"new\nline.png",
        b"latin\xe9.png",
        "红灯.png".encode(),
        "n\u0303.png".encode(),
        b"'; DROP TABLE items;--.png",
    ]
    for number, name in enumerate(names):
        Image.new("RGB", (8, 8), (200 + number, 0, 0)).save(album / "t.png")
        os.rename(album / "t.png", os.path.join(os.fsencode(album), name))
    source.unlink()

    gallery.add(album)
    hits = gallery.search("red", k=10)

    assert {os.fsencode(hit.path.name) for hit in hits} == set(names)
    assert all(hit.exists for hit in hits)
    assert json.loads(json.dumps(hits.to_dict()))["hits"][0]["path"] == str(hits[0].path)
    assert gallery.remove(album) == len(names)


def test_the_gallerys_own_folder_is_never_indexed(tmp_path, album, paint, encoder) -> None:
    paint("a.png")
    with Gallery.open(album / "collection", encoder) as gallery:
        gallery.add(album)
        Image.new("RGB", (4, 4)).save(album / "collection" / "thumbnail.png")

        assert gallery.add(album).added == 0


@pytest.mark.parametrize(
    "options",
    [
        {"camera": 3},
        {"metadata": {1: 2}},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": object()}},
        {"metadata": ["a"]},
        {"camera": "\udcff"},
    ],
)
def test_what_cannot_be_kept_is_refused(gallery, paint, options) -> None:
    path = paint("a.png")

    with pytest.raises(InputError):
        gallery.add(path, **options)
    assert len(gallery) == 0


def test_adding_nothing_or_what_is_not_there_is_refused(gallery, tmp_path) -> None:
    with pytest.raises(InputError, match="nothing to add"):
        gallery.add()
    with pytest.raises(InputError, match="no such file"):
        gallery.add(tmp_path / "none")


# Finding


def test_an_empty_gallery_answers_with_nothing(gallery) -> None:
    hits = gallery.search("red")

    assert (list(hits), hits.total_considered, hits.best_relevance, hits.weak) == ([], 0, None, False)


def test_more_hits_than_pictures_gives_all(gallery, album, paint) -> None:
    for number in range(3):
        paint(f"{number}.png", "red")
    gallery.add(album)

    assert len(gallery.search("red", k=1000)) == 3
    assert len(gallery.search("red", k=5, offset=2)) == 1
    assert len(gallery.search("red", k=5, offset=50)) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0}, {"k": -1}, {"k": 2.5}, {"k": True}, {"offset": -1}, {"min_relevance": 1.5}, {"min_relevance": -0.1},
        {"camera": 7}, {"after": "yesterday"}, {"before": 5}, {"where": {"a": [1]}}, {"where": "a"}, {"where": {2: 3}},
        {"plus": [""]}, {"minus": None}, {"plus": [(0, "red")]}, {"plus": [(-1, "red")]}, {"plus": [(float("inf"), "red")]},
        {"plus": [("red", 2, 3)]}, {"both": ("red", "blue")}, {"minus": ["red"]},
    ],
)  # fmt: skip
def test_searches_that_make_no_sense_are_input_errors(gallery, album, paint, wrong) -> None:
    paint("a.png", "red")
    gallery.add(album)

    with pytest.raises(InputError) as caught:
        gallery.search("red", **wrong)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("query", ["", "  ", None])
def test_an_empty_query_is_an_input_error(gallery, query) -> None:
    with pytest.raises(InputError):
        gallery.search(query)


def test_nothing_matches_is_an_answer(gallery, album, paint) -> None:
    paint("a.png", "red")
    gallery.add(album)

    hits = gallery.search("unicorn")
    everything = gallery.search("unicorn", min_relevance=0)

    assert (len(hits), hits.weak, hits.total_considered, hits.min_relevance) == (0, True, 1, 0.5)
    assert hits.best_relevance < 0.5
    assert (len(everything), everything.weak) == (1, True)
    assert not gallery.search("red").weak


def test_a_picture_finds_itself_first_in_every_form(gallery, album, paint) -> None:
    for colour in COLOURS:
        paint(f"{colour}.png", colour)
    gallery.add(album)
    path = album / "green.png"
    picture = Image.open(path)
    picture.load()

    for query in (path, path.read_bytes(), picture, np.asarray(picture)):
        hits = gallery.search(query, k=2)
        assert hits[0].path == path
        assert hits[0].score == pytest.approx(1.0, abs=1e-5)
        assert hits[0].relevance == pytest.approx(1.0, abs=1e-5)


def test_text_and_picture_together_find_what_answers_both(gallery, album, paint) -> None:
    for colour in ("red", "blue", "green"):
        paint(f"{colour}.png", colour)
    half = np.zeros((24, 32, 3), np.uint8)
    half[:, :16], half[:, 16:] = COLOURS["red"], COLOURS["blue"]
    Image.fromarray(half).save(album / "half.png")
    gallery.add(album)

    assert found(gallery.search(both=("blue", album / "red.png"), k=1)) == ["half.png"]


def test_plus_and_minus_move_the_query_and_weights_count(gallery, album, paint) -> None:
    for colour in ("red", "blue", "green"):
        paint(f"{colour}.png", colour)
    half = np.zeros((24, 32, 3), np.uint8)
    half[:, :16], half[:, 16:] = COLOURS["red"], COLOURS["blue"]
    Image.fromarray(half).save(album / "half.png")
    gallery.add(album)

    assert found(gallery.search("red", plus=["blue"], k=1)) == ["half.png"]
    assert found(gallery.search("red", plus="blue", k=1)) == ["half.png"]
    assert found(gallery.search(plus=["red", (9, "blue")], k=1)) == ["blue.png"]
    assert found(gallery.search("red", minus=["blue"], min_relevance=0, k=4))[-1] == "blue.png"
    assert found(gallery.search("green", minus=[(0.5, album / "red.png")], min_relevance=0, k=4))[-1] == "red.png"
    assert gallery.search("red", plus=[(2, "blue")], minus=["green"]).query == "red +2:blue -green"


def test_pages_join_without_gap_or_repeat_even_among_equals(gallery, album, paint) -> None:
    source = paint("a.png", "red")
    for number in range(40):
        shutil.copy(source, album / f"same{number}.png")
    for number in range(30):
        paint(f"other{number}.png", "red")
    gallery.add(album)

    whole = [hit.path for hit in gallery.search("red", k=100)]
    pages = [hit.path for start in range(0, 100, 7) for hit in gallery.search("red", k=7, offset=start)]

    assert len(set(whole)) == 71
    assert pages == whole


def test_group_folds_near_duplicates(gallery, album, paint) -> None:
    for number in range(4):
        paint(f"red{number}.png", "red")
        paint(f"blue{number}.png", "blue")
    gallery.add(album)

    hits = gallery.search("red", group=True, min_relevance=0)

    assert len(hits) == 2
    assert {path.name for path in (hits[0].path, *hits[0].duplicates)} == {f"red{n}.png" for n in range(4)}
    assert len(hits[1].duplicates) == 3
    assert gallery.search("red", group=True, min_relevance=0, offset=1)[0] == hits[1]


def test_camera_and_metadata_filters_still_give_k_hits(gallery, album, paint) -> None:
    for number in range(60):
        gallery.add(paint(f"{number}.png", "red"), camera="gate" if number % 20 == 7 else "yard",
                    metadata={"floor": number % 2, "name": f"n{number}", "open": number % 3 == 0, "x": None})  # fmt: skip

    gate = gallery.search("red", k=3, camera="gate")
    assert (len(gate), gate.total_considered) == (3, 3)
    assert {hit.camera for hit in gate} == {"gate"}
    assert gallery.search("red", camera="nowhere").total_considered == 0
    assert gallery.search("red", where={"floor": 1}).total_considered == 30
    assert gallery.search("red", where={"floor": 1, "open": True}).total_considered == 10
    assert gallery.search("red", where={"open": False}).total_considered == 40
    assert found(gallery.search("red", where={"name": "n5"})) == ["5.png"]
    assert gallery.search("red", where={"floor": "1"}).total_considered == 0
    assert gallery.search("red", where={"floor": True}).total_considered == 0
    assert gallery.search("red", where={"x": None, "absent": None}).total_considered == 60
    assert gallery.search("red", where={"floor": None}).total_considered == 0


@pytest.mark.parametrize("name", ["a", 'quo"te', "do.t", "$", "红", "a'b", ""])
def test_metadata_names_may_be_anything(gallery, paint, name) -> None:
    gallery.add(paint("a.png", "red"), metadata={name: "v", "other": [1, {"deep": 2}]})

    assert gallery.search("red", where={name: "v"})[0].metadata == {name: "v", "other": [1, {"deep": 2}]}


# Opening and looking after


def test_what_was_stored_is_there_after_opening_again(tmp_path, album, paint, encoder) -> None:
    for colour in COLOURS:
        paint(f"{colour}.png", colour)
    with Gallery.open(tmp_path / "g.nsg", encoder) as gallery:
        gallery.add(album, metadata={"a": 1})
        before = gallery.search("red", k=8, min_relevance=0).to_dict()

    with Gallery.open(tmp_path / "g.nsg", encoder, read_only=True) as gallery:
        assert gallery.search("red", k=8, min_relevance=0).to_dict() == before


@pytest.mark.parametrize("harm", ["delete", "truncate", "flip", "swap", "json", "empty json", "format"])
def test_a_lost_or_damaged_index_is_rebuilt_without_a_word(tmp_path, album, paint, encoder, harm) -> None:
    for colour in COLOURS:
        paint(f"{colour}.png", colour)
    path = tmp_path / "g.nsg"
    with Gallery.open(path, encoder) as gallery:
        gallery.add(album)
        before = gallery.search("red", k=8, min_relevance=0).to_dict()
    index, description = path / "index.faiss", path / "index.json"
    data = bytearray(index.read_bytes())
    if harm == "delete":
        index.unlink()
    elif harm == "truncate":
        index.write_bytes(data[: len(data) // 2])
    elif harm == "flip":
        data[len(data) // 2] ^= 255
        index.write_bytes(data)
    elif harm == "swap":
        index.write_bytes(b"IwFl" + os.urandom(200))
    elif harm == "json":
        description.write_text("{")
    elif harm == "empty json":
        description.write_text("[]")
    else:
        description.write_text(json.dumps(json.loads(description.read_text()) | {"format": 99}))

    with Gallery.open(path, encoder, read_only=True) as gallery:
        assert gallery.search("red", k=8, min_relevance=0).to_dict() == before
        assert gallery.verify().index_state in ("damaged", "absent")
    with Gallery.open(path, encoder) as gallery:
        assert gallery.search("red", k=8, min_relevance=0).to_dict() == before
        assert gallery.verify().index_state == "current"


def test_an_index_of_another_gallery_is_not_believed(tmp_path, album, paint, encoder) -> None:
    paint("a.png", "red")
    with Gallery.open(tmp_path / "one.nsg", encoder) as gallery:
        gallery.add(album)
    paint("a.png", "blue")
    with Gallery.open(tmp_path / "two.nsg", encoder) as gallery:
        gallery.add(album)
    for name in ("index.faiss", "index.json"):
        shutil.copy(tmp_path / "one.nsg" / name, tmp_path / "two.nsg" / name)

    with Gallery.open(tmp_path / "two.nsg", encoder) as gallery:
        assert found(gallery.search("blue")) == ["a.png"]
        assert found(gallery.search("red")) == []


def test_another_space_is_refused_with_the_remedy_and_another_precision_is_not(tmp_path, album, paint, encoder) -> None:
    paint("a.png", "red")
    with Gallery.open(tmp_path / "g.nsg", encoder) as gallery:
        gallery.add(album)

    with pytest.raises(SpaceMismatchError, match="reindex"):
        Gallery.open(tmp_path / "g.nsg", FakeEncoder(space="other"))
    with Gallery.open(tmp_path / "g.nsg", FakeEncoder(precision="int8")) as gallery:
        paint("b.png", "red")
        gallery.add(album)
        assert gallery.stats().models == {"fake/fp32": 1, "fake/int8": 1}
        assert len(gallery.search("red")) == 2


@pytest.mark.parametrize("options", [{"read_only": True}, {"encoder": None}])
def test_a_gallery_that_is_not_there_is_not_made_to_be_read(tmp_path, options) -> None:
    with pytest.raises(GalleryNotFoundError, match="nearsight index"):
        Gallery.open(tmp_path / "none.nsg", **{"encoder": FakeEncoder(), **options})

    assert not (tmp_path / "none.nsg").exists()


def test_a_read_only_gallery_refuses_changes(tmp_path, album, paint, encoder) -> None:
    paint("a.png")
    Gallery.open(tmp_path / "g.nsg", encoder).close()
    with Gallery.open(tmp_path / "g.nsg", encoder, read_only=True) as gallery:
        for change in (
            lambda: gallery.add(album),
            lambda: gallery.remove(missing=True),
            lambda: gallery.reindex(encoder),
        ):
            with pytest.raises(GalleryError, match="read-only"):
                change()


def test_a_folder_with_other_files_does_not_become_a_gallery(album, paint, encoder, tmp_path) -> None:
    paint("a.png")
    (tmp_path / "file").write_text("x")

    with pytest.raises(InputError, match="holds other files"):
        Gallery.open(album, encoder)
    with pytest.raises(InputError, match="is a file"):
        Gallery.open(tmp_path / "file", encoder)


def test_a_gallery_of_a_newer_version_is_refused_with_the_remedy(tmp_path, encoder) -> None:
    Gallery.open(tmp_path / "g.nsg", encoder).close()
    with sqlite3.connect(tmp_path / "g.nsg" / "gallery.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()

    with pytest.raises(GalleryError, match="pip install -U nearsight"):
        Gallery.open(tmp_path / "g.nsg", encoder)


def test_files_that_are_no_gallery_are_refused(tmp_path, encoder) -> None:
    for folder, content in (("noise", b"noise" * 1000), ("cut", b"SQLite format 3\0" + b"\xff" * 2000)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "gallery.sqlite").write_bytes(content)
        with pytest.raises(GalleryDamagedError):
            Gallery.open(tmp_path / folder, encoder)
    (tmp_path / "foreign").mkdir()
    with sqlite3.connect(tmp_path / "foreign" / "gallery.sqlite") as database:
        database.execute("CREATE TABLE mine (a)")
    database.close()
    with pytest.raises(GalleryError, match="no Nearsight gallery"):
        Gallery.open(tmp_path / "foreign", encoder)


def test_a_gallery_whose_making_was_interrupted_is_made(tmp_path, encoder) -> None:
    (tmp_path / "g.nsg").mkdir()
    (tmp_path / "g.nsg" / "gallery.sqlite").write_bytes(b"")
    (tmp_path / "g.nsg" / "writer.lock").write_bytes(b"")

    with pytest.raises(GalleryNotFoundError, match="still empty"):
        Gallery.open(tmp_path / "g.nsg", encoder, read_only=True)
    with Gallery.open(tmp_path / "g.nsg", encoder) as gallery:
        assert len(gallery) == 0


def test_a_gallery_folder_may_have_any_name(tmp_path, album, paint, encoder) -> None:
    paint("a.png", "red")
    for name in (b"with space#and?query%20.nsg", b"latin\xe9.nsg", "红.nsg".encode(), b"new\nline"):
        path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
        with Gallery.open(path, encoder) as gallery:
            gallery.add(album)
        with Gallery.open(path, encoder, read_only=True) as gallery:
            assert found(gallery.search("red")) == ["a.png"]
            assert gallery.verify().index_state == "current"


def test_a_closed_gallery_says_so(tmp_path, encoder) -> None:
    gallery = Gallery.open(tmp_path / "g.nsg", encoder)
    gallery.close()
    gallery.close()

    for use in (
        lambda: gallery.search("red"),
        lambda: len(gallery),
        gallery.stats,
        gallery.verify,
        lambda: gallery.add("x"),
    ):
        with pytest.raises(GalleryError, match="is closed"):
            use()


def test_without_an_encoder_a_gallery_can_be_looked_after(tmp_path, album, paint, encoder) -> None:
    paint("a.png", "red")
    with Gallery.open(tmp_path / "g.nsg", encoder) as gallery:
        gallery.add(album)
    with Gallery.open(tmp_path / "g.nsg", None) as gallery:
        assert gallery.verify().ok
        assert gallery.stats().items == 1
        with pytest.raises(GalleryError, match="without an encoder"):
            gallery.search("red")
        assert gallery.remove(album) == 1


def test_remove_takes_files_and_folders_and_leaves_their_neighbours(gallery, album, paint) -> None:
    for name in ("a/1.png", "a/2.png", "ab/3.png", "b.png"):
        paint(name, "red")
    gallery.add(album)

    with pytest.raises(InputError, match="holds nothing at"):
        gallery.remove(album / "b.png", album / "none.png")
    with pytest.raises(InputError, match="nothing to remove"):
        gallery.remove()
    assert gallery.remove(album / "a") == 2
    assert sorted(found(gallery.search("red"))) == ["3.png", "b.png"]
    assert gallery.verify().ok


def test_removing_what_is_missing_can_be_confined_to_a_folder(gallery, album, paint) -> None:
    for name in ("a/1.png", "b/2.png"):
        paint(name)
    gallery.add(album)
    shutil.rmtree(album / "a")
    shutil.rmtree(album / "b")

    assert gallery.remove(album / "a", missing=True) == 1
    assert len(gallery.verify().missing_files) == 1
    assert gallery.remove(missing=True) == 1


def test_stats_count_what_is_there(gallery, album, paint) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Box"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 18:30:05"
    paint("a.jpg", exif=exif)
    paint("b.png")
    gallery.add(album)

    stats = gallery.stats()

    assert (stats.items, stats.space, stats.cameras, stats.models) == (
        2,
        "colours",
        {"": 1, "Box": 1},
        {"fake/fp32": 2},
    )
    assert stats.oldest == stats.newest
    assert stats.disk_bytes > 10_000
    assert json.dumps(stats.to_dict())


# verify and reindex


def test_verify_finds_bad_vectors_and_their_pictures_can_be_mended(tmp_path, album, paint, encoder) -> None:
    for name in ("nan", "short", "long", "good"):
        paint(f"{name}.png", "red")
    path = tmp_path / "g.nsg"
    with Gallery.open(path, encoder) as gallery:
        gallery.add(album)
    with sqlite3.connect(path / "gallery.sqlite") as database:
        ids = {Path(name).stem: number for number, name in database.execute("SELECT id, path FROM items")}
        size = encoder.identity.dimensions
        for name, vector in (("nan", np.full(size, np.nan)), ("short", np.ones(3)), ("long", np.full(size, 2.0))):
            database.execute(
                "UPDATE vectors SET vector = ? WHERE id = ?", (vector.astype(np.float32).tobytes(), ids[name])
            )
    database.close()

    with Gallery.open(path, encoder) as gallery:
        report = gallery.verify()
        assert not report.ok
        assert {bad.stem for bad in report.bad_vectors} == {"nan", "short", "long"}
        for bad in report.bad_vectors:
            gallery.remove(bad)
        assert gallery.add(album).added == 3
        assert gallery.verify().ok


def test_a_vector_of_the_wrong_size_stops_a_search_with_the_remedy(tmp_path, album, paint, encoder) -> None:
    paint("a.png", "red")
    with Gallery.open(tmp_path / "g.nsg", encoder) as gallery:
        gallery.add(album)
    (tmp_path / "g.nsg" / "index.json").unlink()
    with sqlite3.connect(tmp_path / "g.nsg" / "gallery.sqlite") as database:
        database.execute("UPDATE vectors SET vector = x'00'")
    database.close()

    with (
        Gallery.open(tmp_path / "g.nsg", encoder) as gallery,
        pytest.raises(GalleryDamagedError, match=r"gallery\.remove"),
    ):
        gallery.search("red")


def test_verify_sees_an_index_that_lies_and_repairs_it(tmp_path, album, paint, encoder) -> None:
    for colour in COLOURS:
        paint(f"{colour}.png", colour)
    path = tmp_path / "g.nsg"
    with Gallery.open(path, encoder) as gallery:
        gallery.add(album)
    with sqlite3.connect(path / "gallery.sqlite") as database:
        other = database.execute("SELECT vector FROM vectors WHERE id = 1").fetchone()[0]
        database.execute("UPDATE vectors SET vector = ? WHERE id = 2", (other,))
    database.close()

    with Gallery.open(path, encoder) as gallery:
        assert (gallery.verify().ok, gallery.verify().index_wrong) == (False, 1)
        assert gallery.verify(repair=True).index_repaired
        assert gallery.verify().ok


def test_verify_reports_a_damaged_database(tmp_path, album, paint, encoder) -> None:
    for number in range(60):
        paint(f"{number}.png")
    path = tmp_path / "g.nsg"
    with Gallery.open(path, encoder) as gallery:
        gallery.add(album)
    data = bytearray((path / "gallery.sqlite").read_bytes())
    for start in range(4096 * 6, len(data) - 4096, 4096):
        data[start : start + 200] = b"\xff" * 200
    (path / "gallery.sqlite").write_bytes(data)

    with Gallery.open(path, None) as gallery:
        report = gallery.verify()

    assert not report.ok
    assert report.database_problems


def test_reindex_moves_the_gallery_to_another_space(tmp_path, album, paint, encoder) -> None:
    paths = [paint(f"{colour}.png", colour) for colour in COLOURS]
    shutil.copy(paths[0], album / "copy.png")
    other = FakeEncoder(space="other", spare=3, model="second")
    with (
        Gallery.open(tmp_path / "g.nsg", encoder) as gallery,
        Gallery.open(tmp_path / "g.nsg", encoder, read_only=True) as reader,
    ):
        gallery.add(album, camera="gate", metadata={"a": 1})
        assert len(reader.search("red")) == 2
        report = gallery.reindex(other)

        assert (report.changed, report.encoded) == (len(paths) + 1, len(paths))
        hit = gallery.search("blue")[0]
        assert (hit.path.name, hit.camera, hit.metadata) == ("blue.png", "gate", {"a": 1})
        assert (gallery.stats().space, gallery.stats().models) == ("other", {"second/fp32": len(paths) + 1})
        assert gallery.verify().ok
        with pytest.raises(SpaceMismatchError):
            reader.search("red")
    with pytest.raises(SpaceMismatchError):
        Gallery.open(tmp_path / "g.nsg", encoder)
    with Gallery.open(tmp_path / "g.nsg", other) as gallery:
        paint("new.png", "red")
        assert gallery.add(album).added == 1


def test_reindex_changes_nothing_until_all_is_done_and_goes_on(tmp_path, album, paint, encoder) -> None:
    for number in range(BATCH * 2):
        paint(f"{number:02}.png", "red")
    gone = paint("gone.png", "blue")
    other = FakeEncoder(space="other", spare=1)
    with Gallery.open(tmp_path / "g.nsg", encoder) as gallery:
        gallery.add(album)
        data = gone.read_bytes()
        gone.unlink()

        with pytest.raises(GalleryError, match="1 of 33 pictures cannot be encoded again"):
            gallery.reindex(other)

        assert found(gallery.search("blue")) == ["gone.png"]
        gone.write_bytes(data)
        assert gallery.reindex(other).encoded == 1
        assert found(gallery.search("blue")) == ["gone.png"]
        assert gallery.verify().ok


def test_reindex_takes_up_changed_content(tmp_path, album, paint, encoder) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Box"
    paint("a.jpg", "red")
    with Gallery.open(tmp_path / "g.nsg", encoder) as gallery:
        gallery.add(album)
        paint("a.jpg", "blue", exif=exif)
        gallery.reindex(FakeEncoder(space="other"))

        hit = gallery.search("blue")[0]
        assert (hit.path.name, hit.camera) == ("a.jpg", "Box")
        assert gallery.add(album).unchanged == 1


def test_reindex_by_a_third_encoder_drops_what_was_prepared_for_a_second(tmp_path, album, paint, encoder) -> None:
    paint("a.png", "red")
    gone = paint("b.png", "blue")
    with Gallery.open(tmp_path / "g.nsg", encoder) as gallery:
        gallery.add(album)
        gone.unlink()
        with pytest.raises(GalleryError):
            gallery.reindex(FakeEncoder(space="second"))
        gallery.remove(missing=True)

        assert gallery.reindex(FakeEncoder(space="third", spare=7)).encoded == 1
        assert gallery.verify().ok
