"""What may leave: nothing, words, a blur, or a whole picture; and never what lies beside the pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from nearsight.errors import InputError, PictureUnreadableError
from nearsight.pictures import read_image
from nearsight.privacy import blurred, redact
from nearsight_npu.remote import Picture, Request

if TYPE_CHECKING:
    from pathlib import Path


def about(*sources: object) -> Request:
    return Request(instruction="Be brief.", text="What?", pictures=tuple(Picture(source=each) for each in sources))


def test_nothing_is_nothing(photos: Path) -> None:
    left = redact(about(photos / "cat.jpg"), privacy="nothing")

    assert (left.instruction, left.text, left.pictures) == ("", "", ())


def test_text_is_words_only(photos: Path) -> None:
    left = redact(about(photos / "cat.jpg"), privacy="text")

    assert (left.instruction, left.text, left.pictures) == ("Be brief.", "What?", ())


@pytest.mark.parametrize(("privacy", "how"), [("blur", "picture 336x168 blurred"), ("whole", "picture 1024x512")])
def test_a_picture_that_leaves_is_small_and_says_what_it_is(privacy: str, how: str) -> None:
    (picture,) = redact(about(np.zeros((1000, 2000, 3), np.uint8)), privacy=privacy).pictures

    assert picture.note == how
    assert picture.source is None
    with Image.open(io.BytesIO(picture.jpeg)) as read:
        assert read.format == "JPEG"
        assert f"picture {read.width}x{read.height}" in how


@pytest.mark.parametrize(("privacy", "size_wh"), [("blur", (500, 375)), ("whole", (2000, 1500))])
@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_a_large_jpeg_is_decoded_no_larger_than_need_be(
    kind: str, privacy: str, size_wh: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearsight import privacy as module

    decoded: list[tuple[int, int]] = []

    def noted(*given: Any, **options: Any) -> Image.Image:
        picture = read_image(*given, **options)
        decoded.append(picture.size)
        return picture

    path = tmp_path / "large.jpg"
    Image.new("RGB", (4000, 3000), "teal").save(path)
    monkeypatch.setattr(module, "read_image", noted)

    (picture,) = redact(about(path if kind == "path" else path.read_bytes()), privacy=privacy).pictures

    assert decoded == [size_wh]
    assert picture.note.startswith({"blur": "picture 336x252", "whole": "picture 1024x768"}[privacy])


@pytest.mark.parametrize("privacy", ["blur", "whole"])
def test_a_small_picture_is_not_made_larger(privacy: str) -> None:
    (picture,) = redact(about(np.zeros((10, 20, 3), np.uint8)), privacy=privacy).pictures

    assert picture.note.startswith("picture 20x10")


@pytest.mark.parametrize("privacy", ["blur", "whole"])
def test_place_time_and_camera_stay_here(privacy: str, tmp_path: Path, photos: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    path = tmp_path / "secret-name.jpg"
    with Image.open(photos / "cat.jpg") as cat:
        cat.save(path, exif=exif, comment=b"SecretComment", xmp=b"SecretXmp", icc_profile=b"SecretProfile")
    assert path.read_bytes().lower().count(b"secret") == 4

    (picture,) = redact(about(path), privacy=privacy).pictures

    assert b"secret" not in picture.jpeg.lower()
    assert "secret" not in repr(picture).lower()
    with Image.open(io.BytesIO(picture.jpeg)) as read:
        assert not read.getexif()
        assert set(read.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_another_privacy_is_refused(photos: Path) -> None:
    with pytest.raises(InputError, match='"nothing", "text", "blur" and "whole"'):
        redact(about(photos / "cat.jpg"), privacy="crop")


def test_a_source_that_is_no_picture_is_named() -> None:
    with pytest.raises(PictureUnreadableError, match="nowhere"):
        redact(about("nowhere.jpg"), privacy="blur")


def contrast(picture: Image.Image) -> float:
    """Give what is left of a grating, 0 to 255, away from the edges."""
    row = np.asarray(picture.convert("L"), np.float64)[picture.height // 2]
    middle = row[len(row) // 4 : -len(row) // 4]
    return float(middle.max() - middle.min())


def grating(cycles: float) -> Image.Image:
    wave = 127.5 + 127.5 * np.sin(np.arange(672) / 672 * cycles * 2 * np.pi)
    return Image.fromarray(np.tile(wave, (448, 1)).astype(np.uint8))


@pytest.mark.parametrize("cycles", [10, 12, 14, 17, 20, 24, 31, 36, 48, 90, 130, 168, 200])
def test_of_what_is_finer_than_a_face_is_recognised_by_nothing_is_left(cycles: int) -> None:
    assert contrast(blurred(grating(cycles))) < 8


@pytest.mark.parametrize("cycles", [10, 24, 60, 168, 330, 336, 500, 660, 1000, 1340])
def test_nothing_fine_is_folded_into_a_jpeg_that_is_decoded_small(cycles: int) -> None:
    wave = 127.5 + 127.5 * np.sin(np.arange(2688) / 2688 * cycles * 2 * np.pi)
    file = io.BytesIO()
    Image.fromarray(np.tile(wave, (2688, 1)).astype(np.uint8)).save(file, "JPEG", quality=95)

    assert contrast(blurred(file.getvalue())) < 8


def test_the_large_shapes_of_a_scene_stay() -> None:
    assert contrast(blurred(grating(2))) > 150
