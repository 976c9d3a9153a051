"""One picture for several models: it is read once, each graph looks at it once, and nobody sees less than alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import nearsight as ns
from nearsight.engine import Engine
from nearsight.preprocess import fit_picture
from nearsight.sight import Sight, sight_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGE_WH = (2400, 1600)


@pytest.fixture(scope="module")
def tower() -> Engine:
    return Engine.shared("nano", capability="search")


@pytest.fixture
def cat(photos: Path, tmp_path: Path) -> Path:
    """Copy the cat, so that a test may take it away."""
    copy = tmp_path / "cat.jpg"
    copy.write_bytes((photos / "cat.jpg").read_bytes())
    return copy


@pytest.fixture
def large(photos: Path, tmp_path: Path) -> Path:
    """Enlarge the cat as a JPEG file that says it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photos / "cat.jpg") as picture:
        picture.convert("RGB").resize(LARGE_WH).save(tmp_path / "large.jpg", exif=exif)
    return tmp_path / "large.jpg"


def test_nothing_is_read_before_somebody_looks(tmp_path: Path) -> None:
    sight = Sight(tmp_path / "nothing.jpg")

    with pytest.raises(ns.PictureUnreadableError):
        sight.picture()


def test_a_file_is_read_once_for_all_who_look(cat: Path, tower: Engine) -> None:
    sight = Sight(cat)
    first = sight.picture((224, 224))

    cat.unlink()

    assert sight.picture((300, 300)) is first
    assert sight.picture() is first
    assert sight.size_wh == first.size
    assert sight.pixels(tower).shape == (1, 224, 224, 3)


def test_a_large_jpeg_is_decoded_as_far_as_it_takes_and_its_size_is_the_whole_ones(large: Path) -> None:
    sight = Sight(large)

    small = sight.picture((300, 300))

    assert 300 <= min(small.size) < min(LARGE_WH) / 2
    assert sight.size_wh == (LARGE_WH[1], LARGE_WH[0])  # upright


def test_who_needs_more_gets_more_and_who_needs_less_gets_what_is_there(large: Path) -> None:
    sight = Sight(large)
    small = sight.picture((300, 300))

    more = sight.picture((small.width + 1, small.height + 1))
    whole = sight.picture()

    assert small.width < more.width < whole.width
    assert whole.size == sight.size_wh
    assert sight.picture((300, 300)) is whole


def test_a_large_file_that_goes_away_still_serves_those_who_need_no_more(large: Path) -> None:
    sight = Sight(large)
    small = sight.picture((300, 300))

    large.unlink()

    assert sight.picture((224, 224)) is small
    with pytest.raises(ns.PictureUnreadableError):
        sight.picture()
    assert sight.picture((224, 224)) is small


@pytest.mark.parametrize("kind", ["array", "picture", "bytes", "file"])
def test_a_picture_may_come_in_any_form_that_can_be_read(kind: str, cat: Path, tower: Engine) -> None:
    forms: dict[str, Callable[[], object]] = {
        "array": lambda: np.asarray(Image.open(cat).convert("RGB")),
        "picture": lambda: Image.open(cat),
        "bytes": cat.read_bytes,
        "file": lambda: cat.open("rb"),
    }
    source = forms[kind]()
    sight = Sight(source)

    seen = sight.pixels(tower)
    again = sight.picture()

    assert (seen == Sight(cat).pixels(tower)).all()
    assert again.size == sight.size_wh == (320, 213)
    if hasattr(source, "close"):
        source.close()


def test_pixels_are_those_that_the_model_would_see_alone(large: Path, tower: Engine) -> None:
    shape = tower.manifest.preprocessing
    alone = fit_picture(ns.read_image(large, size_hint=shape.size_wh), shape.size_wh, mode=shape.mode)

    assert (Sight(large).pixels(tower)[0] == alone).all()


def test_a_graph_looks_once_and_what_it_saw_is_remembered_with_its_decision(cat: Path, tower: Engine) -> None:
    sight = Sight(cat)

    outputs, decision = sight.seen(tower, "image")
    again, account = sight.seen(tower, "image")

    assert again is outputs
    assert account is decision
    assert {"embedding", "grid"} <= set(outputs)
    assert (outputs["embedding"] == ns.Encoder("nano").images([cat]).vectors).all()


def test_other_graphs_and_other_precisions_look_for_themselves(cat: Path, tower: Engine) -> None:
    sight = Sight(cat)
    half = Engine.shared("nano", capability="search", precision="fp16")
    eight, first = sight.seen(tower, "image")

    halved, second = sight.seen(half, "image")
    found, third = sight.seen(Engine.shared("nano", capability="detect"), "detect")

    assert len({first.model_hash, second.model_hash, third.model_hash}) == 3
    assert not (eight["embedding"] == halved["embedding"]).all()
    assert {"boxes", "scores"} <= set(found)


def test_what_was_seen_outlives_the_engine_that_saw_it(cat: Path) -> None:
    sight = Sight(cat)
    for threads in (1, 2, 1, 2):
        vector = sight.seen(Engine("nano", capability="search", threads=threads), "image")[0]["embedding"]
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)

    assert len({id(engine) for engine, _, _ in sight._seen.values()}) == 4


def test_a_sight_is_looked_at_further_and_anything_else_becomes_one(cat: Path) -> None:
    sight = sight_of(cat)

    assert sight_of(sight) is sight
    assert sight.source == cat


def test_a_stream_is_read_once_whatever_is_asked_first(large: Path, tower: Engine) -> None:
    with large.open("rb") as stream:
        sight = Sight(stream)
        whole = sight.picture()

        assert sight.pixels(tower).shape == (1, 224, 224, 3)
        assert sight.picture((300, 300)) is whole


def test_graphs_see_the_same_pixels_whoever_looked_first(large: Path, tower: Engine) -> None:
    alone, after = Sight(large), Sight(large)
    after.picture()

    assert (after.pixels(tower) == alone.pixels(tower)).all()


FRAME_WH = (1919, 1082)


@pytest.fixture(scope="module")
def frame(photos: Path) -> np.ndarray:
    """Enlarge the photographer to a frame whose sides no whole number of a model's pixels divides."""
    with Image.open(photos / "photographer.jpg") as picture:
        return np.asarray(picture.convert("RGB").resize(FRAME_WH, Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def finder() -> Engine:
    return Engine.shared("nano", capability="detect")


def test_a_frame_is_looked_at_without_becoming_a_picture(frame: np.ndarray, finder: Engine) -> None:
    sight = Sight(frame)

    pixels = sight.pixels(finder)

    assert (pixels.shape, sight.size_wh) == ((1, 300, 300, 3), FRAME_WH)
    assert sight._picture is None


@pytest.mark.parametrize("kind", ["picture", "bytes", "turned", "strided"])
def test_a_frame_looks_the_same_in_any_form(kind: str, frame: np.ndarray, finder: Engine) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = Image.fromarray(np.ascontiguousarray(frame[::-1, ::-1]))
    turned.info["exif"] = exif.tobytes()
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    forms = {
        "picture": Image.fromarray(frame),
        "bytes": file.getvalue(),
        "turned": turned,
        "strided": np.ascontiguousarray(frame[..., ::-1])[..., ::-1],
    }

    pixels = Sight(forms[kind]).pixels(finder).astype(int)

    assert np.abs(pixels - Sight(frame).pixels(finder)).max() <= 2  # rounded once more


def test_a_frame_that_is_averaged_is_what_bicubic_would_show(frame: np.ndarray, finder: Engine) -> None:
    bicubic = np.asarray(Image.fromarray(frame).resize((300, 300), Image.Resampling.BICUBIC)).astype(int)

    assert np.abs(Sight(frame).pixels(finder)[0] - bicubic).mean() < 2


def test_a_frame_that_is_written_to_after_a_look_was_read_as_it_was(frame: np.ndarray) -> None:
    buffer = frame.copy()
    seen = ns.look(buffer)
    buffer[:] = 0

    found = seen.detect(["person"])

    assert len(found)
    assert np.array_equal(found.boxes_xyxy, ns.look(frame).detect(["person"]).boxes_xyxy)
