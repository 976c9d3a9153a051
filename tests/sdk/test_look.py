"""One look, many questions: the answers are those of the models alone, and each graph looks at the picture once."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import nearsight as ns
import nearsight_models
from nearsight.engine import Engine
from nearsight.looking import _match
from nearsight.sight import LOOKED_WH, Sight
from nearsight.testing import COLOURS, FakeEncoder
from nearsight_npu.loopback import FakeCloud
from nearsight_npu.remote import forget_failures

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ("a cat", "一只猫", "a red bus", "一杯咖啡", "a dog on the beach")


@pytest.fixture
def cat(photos: Path, tmp_path: Path) -> Path:
    """Copy the cat, so that a test may take it away."""
    copy = tmp_path / "cat.jpg"
    copy.write_bytes((photos / "cat.jpg").read_bytes())
    return copy


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """Count the runs of each graph, which run as they always do."""
    counted: Counter[tuple[str, str]] = Counter()
    whole = Engine.run

    def counting(engine: Engine, role: str, *given: Any) -> Any:
        counted[engine.manifest.name, role] += 1
        return whole(engine, role, *given)

    monkeypatch.setattr(Engine, "run", counting)
    return counted


# Matching


def test_a_picture_matches_what_it_shows_in_both_languages_and_nothing_else(cat: Path) -> None:
    rows = ns.look(cat).matches(TEXTS)

    assert [row.text for row in rows] == list(TEXTS)
    assert [row.matches for row in rows] == [True, True, False, False, False]
    assert all(row.matches == (row.relevance >= rows.min_relevance) for row in rows)
    assert min(rows[:2], key=lambda row: row.score).score > max(row.score for row in rows[2:])


def test_a_text_is_as_relevant_as_in_a_gallery_of_this_one_picture(photos: Path, tmp_path: Path) -> None:
    look = ns.look(photos / "coffee.jpg")
    with ns.Gallery.open(tmp_path / "g.nsg") as gallery:
        gallery.add(photos / "coffee.jpg")
        hits = [gallery.search(text, min_relevance=0)[0] for text in TEXTS]

    rows = look.matches(TEXTS)

    assert [row.relevance for row in rows] == pytest.approx([hit.relevance for hit in hits], abs=1e-4)
    assert [row.score for row in rows] == pytest.approx([hit.score for hit in hits], abs=1e-4)
    assert rows.min_relevance == ns.Encoder().default_min_relevance


def test_matches_are_a_sequence_and_json_with_their_decision(cat: Path) -> None:
    rows = ns.look(cat).matches(["a cat", "a dog"])

    form = json.loads(json.dumps(rows.to_dict()))

    assert len(rows) == 2
    assert rows[1:] == (rows[1],)
    assert form["matches"][0] == {
        "text": "a cat",
        "score": rows[0].score,
        "relevance": rows[0].relevance,
        "matches": True,
    }
    assert form["decision"]["target"] == "cpu"
    assert form["decision"]["sent"] == []


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("a cat", "takes a list of texts"),
        (b"a cat", "takes a list of texts"),
        ([], "takes a list of texts and got none"),
        (None, "takes a list of texts"),
        (["a cat", "  "], "got a blank one"),
        (["a cat", 3], "got one that is int"),
        ([["a", "cat"]], "got one that is list"),
        ([np.zeros((4, 4, 3), np.uint8)], "got one that is ndarray"),
    ],
)
def test_texts_that_are_none_are_a_mistake_in_one_line(texts: Any, said: str, cat: Path) -> None:
    with pytest.raises(ns.InputError, match=said) as caught:
        ns.look(cat).matches(texts)

    assert "\n" not in str(caught.value)


def test_any_script_and_any_length_is_a_text_and_what_cannot_be_read_matches_nothing(cat: Path) -> None:
    unread = [text for text in ("قطة", "แมว", "猫", "кошка") if not ns.Encoder().reads(text)]

    rows = ns.look(cat).matches([*unread, "\x07a cat\x00", "a cat " * 2000])

    assert unread
    assert [row.relevance for row in rows[: len(unread)]] == [0.0] * len(unread)
    assert rows[len(unread)].matches
    assert all(0 <= row.relevance <= 1 for row in rows)


class Silent(FakeEncoder):
    """One that judges no text, as a SigLIP whose files state no scale."""

    def relevance(self, *_: Any, **__: Any) -> None:
        return None


def test_a_text_of_a_model_that_judges_none_has_the_relevance_of_a_search_and_matches() -> None:
    encoder = Silent()
    picture = encoder.images([np.full((32, 32, 3), COLOURS["red"], np.uint8)]).vectors

    rows = [_match(encoder, text, encoder.texts([text]).vectors[0], picture) for text in ("red", "blue")]

    assert [row.relevance for row in rows] == [pytest.approx((rows[0].score - 0.2) / 0.8), 0.5]
    assert all(row.matches for row in rows)


@pytest.mark.data("flickr8k_dev.tar", "flickr8k_dev_captions.jsonl")
def test_own_captions_match_and_those_of_other_pictures_rarely_do(data: Path) -> None:
    lines = (data / "flickr8k_dev_captions.jsonl").read_text(encoding="utf8").splitlines()[:60]
    rows = [json.loads(line) for line in lines]
    with tarfile.open(data / "flickr8k_dev.tar") as archive:
        wanted = {row["image"] for row in rows}
        files = {
            member.name.rpartition("/")[2]: archive.extractfile(member).read()
            for member in archive
            if member.name.rpartition("/")[2] in wanted
        }
    looks = [ns.look(files[row["image"]]) for row in rows]

    for language in ("en", "zh"):
        texts = [row[language][0] for row in rows]
        found = np.array([[match.matches for match in look.matches(texts)] for look in looks])
        own = np.eye(len(rows), dtype=bool)
        assert found[own].mean() > 0.55
        assert found[~own].mean() < 0.05


# The other questions


def test_the_answers_are_those_of_the_models_alone(photos: Path) -> None:
    path = photos / "coffee.jpg"
    look = ns.look(path)

    found, said, chinese = look.detect(["cup", "勺子"]), look.caption(), look.caption("zh", max_words=6)

    alone = ns.Detector().detect(path, ["cup", "勺子"])
    assert found.labels == alone.labels
    assert (found.boxes_xyxy == alone.boxes_xyxy).all()
    assert (found.scores == alone.scores).all()
    captioner = ns.Captioner()
    assert said.text == captioner.caption(path).text
    assert said.confidence == captioner.caption(path).confidence
    assert chinese.text == captioner.caption(path, "zh", max_words=6).text
    assert (look.embedding.vectors == ns.Encoder().images([path]).vectors).all()
    assert len({answer.decision.target for answer in (found, said, look.embedding)}) == 1


def test_a_lowest_score_is_handed_on(photos: Path) -> None:
    look = ns.look(photos / "coffee.jpg")

    assert len(look.detect(["cup"], 0.05)) > len(look.detect(["cup"], 0.6))
    with pytest.raises(ns.InputError, match="from 0 to 1"):
        look.detect(["cup"], 7)


def test_tiles_and_examples_are_handed_on(photos: Path) -> None:
    look = ns.look(photos / "cat.jpg")

    tiled, alike = look.detect(["cat"], tiles=2), look.detect([ns.read_image(photos / "cat.jpg")], 0.0)

    assert tiled.decision.measured.bytes_in > look.detect(["cat"]).decision.measured.bytes_in
    assert set(alike.routes) == {"example"}


def test_each_graph_looks_at_the_picture_once_whatever_is_asked(cat: Path, runs: Counter[tuple[str, str]]) -> None:
    look = ns.look(cat)
    assert not runs

    for _ in range(2):
        look.matches(["a cat", "a dog"])
        look.detect(["cat", "dog"])
        look.caption()
        look.caption("zh")
        _ = look.embedding

    assert runs["nano", "image"] == 1
    assert runs["nano-detect", "detect"] == 1


def test_each_text_is_encoded_once_for_all_looks(photos: Path, runs: Counter[tuple[str, str]]) -> None:
    texts = ["a zebra in the snow", "雪地里的斑马"]
    for name in ("cat.jpg", "coffee.jpg", "rocket.jpg"):
        ns.look(photos / name).matches(texts)

    assert runs["nano", "text"] == 1  # one batch, at the first look
    assert runs["nano", "image"] == 3


def test_the_picture_is_read_once(cat: Path) -> None:
    look = ns.look(cat)

    cat.unlink()

    assert look.matches(["a cat"])[0].matches
    assert look.detect(["cat"]).labels == ("cat",)
    assert look.caption().text
    assert look.size_wh == (320, 213)


def test_no_model_looks_at_more_of_a_picture_than_is_read_at_first() -> None:
    pages = [nearsight_models.load(name) for name in nearsight_models.names()]

    assert all(side <= most for page in pages for side, most in zip(page.preprocessing.size_wh, LOOKED_WH, strict=True))


def test_boxes_in_a_large_jpeg_are_in_pixels_of_the_whole(photos: Path) -> None:
    stream = io.BytesIO()
    with Image.open(photos / "cat.jpg") as picture:
        picture.resize((3200, 2130)).save(stream, "JPEG")
    small, large = ns.look(photos / "cat.jpg").detect(["cat"]), ns.look(stream.getvalue()).detect(["cat"])

    assert large.size_wh == (3200, 2130)
    assert large.boxes_xyxy[0] == pytest.approx(small.boxes_xyxy[0] * 10, abs=40)


@pytest.mark.parametrize("kind", ["array", "picture", "bytes", "frame", "sight"])
def test_a_look_takes_what_can_be_read(kind: str, cat: Path) -> None:
    picture = ns.read_image(cat)
    forms = {"array": np.asarray(picture), "picture": picture, "bytes": cat.read_bytes(), "sight": Sight(cat)}
    with ns.Camera(cat.parent) as camera:
        forms["frame"] = next(iter(camera))

    assert ns.look(forms[kind]).matches(["a cat"])[0].matches


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 4000), (8000, 5000)])
def test_a_picture_of_any_size_gets_answers(size_wh: tuple[int, int]) -> None:
    look = ns.look(Image.new("RGB", size_wh, (90, 120, 60)))

    assert not look.matches(["a dog on the beach"])[0].matches
    assert look.detect(["car"]).size_wh == size_wh
    assert look.caption("zh").language == "zh"


def test_looks_in_several_threads_share_the_models_and_answer_as_one_after_the_other(photos: Path) -> None:
    def asked(path: Path) -> tuple[object, ...]:
        look = ns.look(path)
        return look.matches(TEXTS).items, look.detect(["cat", "cup", "person"]).to_dicts(), look.caption().text

    files = sorted(photos.glob("*.jpg"))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(asked, files))

    assert together == [asked(path) for path in files]


# What can go wrong


def test_a_picture_that_cannot_be_read_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")

    for path in (tmp_path / "nothing.jpg", tmp_path / "broken.jpg"):
        with pytest.raises(ns.PictureUnreadableError, match=path.name):
            ns.look(path)
    with pytest.raises(ns.InputError):
        ns.look(3)


def test_a_model_that_is_not_there_is_said_at_once_with_those_that_are(cat: Path) -> None:
    with pytest.raises(ns.UnknownModelError, match="nano"):
        ns.look(cat, "giant")


def test_an_unsure_caption_of_a_look_may_be_asked_for_elsewhere_and_the_rest_stays_here(cat: Path) -> None:
    forget_failures()
    with FakeCloud("A cat looks at the camera.") as cloud:
        look = ns.look(cat, policy=ns.Policy(threshold=1.0, cloud=True, endpoint=cloud.url))

        said, rows, found = look.caption(), look.matches(["a cat"]), look.detect(["cat"])

        asked = cloud.connections
    assert said.text == "A cat looks at the camera."
    assert said.decision.sent[1].startswith("picture 320x213 blurred, ")
    assert asked == 1
    assert rows.decision.sent == found.decision.sent == ()
