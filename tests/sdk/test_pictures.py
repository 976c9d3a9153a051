"""Reading pictures: every odd kind comes out upright, in RGB, with the right colours; bad ones are refused."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFilter

import nearsight.pictures as pictures_module
from nearsight.errors import InputError, PictureUnreadableError
from nearsight.pictures import HeifReaderMissingError, read_image
from nearsight.preprocess import fit_picture

HAS_AVIF = "AVIF" in set(Image.registered_extensions().values())


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def quarters(mode: str = "RGB") -> Image.Image:
    """Red, green, blue and white quarters, so that every turn and every swapped channel shows."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = (255, 0, 0)
    pixels[:16, 24:] = (0, 255, 0)
    pixels[16:, :24] = (0, 0, 255)
    pixels[16:, 24:] = (255, 255, 255)
    return Image.fromarray(pixels).convert(mode)


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one).astype(float) - np.asarray(other).astype(float)).mean())


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    """Blurred noise: edges and flat parts at all sizes, as a photograph has them."""
    rng = np.random.default_rng(7)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (n, n * 3 // 2, 3), np.uint8)).resize((1500, 1000), 3), float)
        for n in (4, 16, 64)
    ]
    picture = Image.fromarray((sum(layers) / 3).clip(0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(1))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_lossless_formats_give_back_their_pixels(kind: str) -> None:
    picture = quarters()
    options = {"lossless": True} if kind == "WEBP" else {}

    read = read_image(encoded(picture, kind, **options))

    assert read.mode == "RGB"
    assert difference(read, picture) == 0.0


@pytest.mark.parametrize(
    "kind",
    ["JPEG", "MPO", pytest.param("AVIF", marks=pytest.mark.skipif(not HAS_AVIF, reason="this Pillow has no AVIF"))],
)
def test_lossy_formats_give_back_nearly_their_pixels(kind: str) -> None:
    picture = quarters()

    read = read_image(encoded(picture, kind, quality=95))

    assert read.mode == "RGB"
    assert difference(read, picture) < 6.0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_every_exif_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    upright = quarters()
    turns = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    turn = turns[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "AVIF" and not HAS_AVIF:
        pytest.skip("this Pillow has no AVIF")
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98, "subsampling": 0}, "AVIF": {"quality": 95}}.get(
        kind, {}
    )
    if kind == "HEIF":
        # HEIF turns pictures by a property of its own, which this writer sets from the EXIF block.
        file = io.BytesIO()
        heif = pytest.importorskip("pillow_heif", reason="HEIF is written with pillow_heif, which is not installed")
        heif.from_pillow(stored).save(file, exif=exif.tobytes(), quality=95)
        data = file.getvalue()
    else:
        data = encoded(stored, kind, exif=exif, **options)

    read = read_image(data)

    assert read.size == upright.size
    assert difference(read, upright) < 8.0
    assert read.getexif().get(0x0112, 1) == 1


def test_a_senseless_orientation_is_passed_over() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99

    assert read_image(encoded(quarters(), "PNG", exif=exif)).size == (48, 32)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says that the block is damaged
def test_a_damaged_exif_block_does_not_cost_the_picture() -> None:
    data = encoded(quarters(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f" + b"\xff" * 40, quality=95)

    assert difference(read_image(data), quarters()) < 8.0


def test_cmyk_comes_out_in_its_colours() -> None:
    read = read_image(encoded(quarters("CMYK"), "JPEG", quality=95))

    assert difference(read, quarters()) < 8.0


def test_lab_comes_out_in_its_colours() -> None:
    lab = ImageCms.applyTransform(
        quarters(), ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    )

    assert difference(read_image(encoded(lab, "TIFF")), quarters()) < 8.0


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)

    read = np.asarray(read_image(encoded(Image.fromarray(ramp), kind)))

    assert np.abs(read[:, :, 0].astype(int) - np.rint(ramp / 257).astype(int)).max() <= 1
    assert (read[:, :, 0] == read[:, :, 2]).all()


def test_big_endian_16_bit_is_read_in_its_byte_order() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    header = struct.pack(">2sHI", b"MM", 42, 8)
    entries = [(256, 3, 1, 16 << 16), (257, 3, 1, 16 << 16), (258, 3, 1, 16 << 16), (259, 3, 1, 1 << 16),
               (262, 3, 1, 1 << 16), (273, 4, 1, 8 + 2 + 9 * 12 + 4), (277, 3, 1, 1 << 16), (278, 3, 1, 16 << 16),
               (279, 4, 1, 512)]  # fmt: skip
    directory = struct.pack(">H", 9) + b"".join(struct.pack(">HHII", *entry) for entry in entries) + b"\0" * 4

    read = np.asarray(read_image(header + directory + ramp.astype(">u2").tobytes()))

    assert np.abs(read[:, :, 1].astype(int) - np.rint(ramp / 257).astype(int)).max() <= 1


def test_12_bit_tiff_uses_its_own_range() -> None:
    values = np.array([[0, 2048], [4095, 1024]], np.uint16)
    packed = bytearray()
    for row in values:
        packed += bytes([row[0] >> 4, (row[0] & 15) << 4 | row[1] >> 8, row[1] & 255])
    entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1),
               (273, 4, 1, 8 + 2 + 9 * 12 + 4), (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, 6)]  # fmt: skip
    directory = struct.pack("<H", 9) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + b"\0" * 4

    read = np.asarray(read_image(struct.pack("<2sHI", b"II", 42, 8) + directory + bytes(packed)))[:, :, 0]

    assert read.tolist() == [[0, 128], [255, 64]]


def test_floating_point_tiff_within_one_keeps_its_range() -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)

    read = np.asarray(read_image(encoded(Image.fromarray(values), "TIFF")))[:, :, 0]

    assert np.abs(read - np.rint(values * 255)).max() <= 1


def test_transparent_parts_become_white() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (255, 0, 0, 255)
    pixels[:4, 4:] = (0, 0, 0, 0)
    pixels[4:, 4:] = (0, 0, 0, 128)

    read = np.asarray(read_image(encoded(Image.fromarray(pixels), "PNG")))

    assert read[0, 0].tolist() == [255, 0, 0]
    assert read[0, 6].tolist() == [255, 255, 255]
    assert 120 <= read[6, 6, 0] <= 134


def test_a_palette_with_a_transparent_entry_becomes_white_there() -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 1), 1)

    read = np.asarray(read_image(encoded(picture, "PNG", transparency=0)))

    assert read[0, 0].tolist() == [255, 255, 255]
    assert read[1, 1].tolist() == [200, 100, 50]


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P"])
def test_grey_palette_and_one_bit_pictures_come_out_in_rgb(mode: str) -> None:
    black_and_white = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (4, 4))).convert(mode)

    read = np.asarray(read_image(encoded(black_and_white, "PNG")))

    assert read.shape == (4, 8, 3)
    assert read[0, :2].tolist() == [[0, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}

    read = read_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))

    assert read.getpixel((8, 8)) == (255, 0, 0)


def test_heic_is_read_upright_with_the_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC is written with pillow_heif, which is not installed")
    file = io.BytesIO()
    pillow_heif.from_pillow(quarters()).save(file, quality=95)

    read = read_image(file.getvalue())

    assert read.size == (48, 32)
    assert difference(read, quarters()) < 10.0


def test_heic_without_the_extra_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    head = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + b"\0" * 64

    with pytest.raises(HeifReaderMissingError, match=r'pip install "nearsight\[heif\]"'):
        read_image(head)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((4, 5), 200, np.uint8), [200, 200, 200]),
        (np.full((4, 5, 1), 200, np.uint8), [200, 200, 200]),
        (np.full((4, 5, 3), (1, 2, 3), np.uint8), [1, 2, 3]),
        (np.full((4, 5, 4), (9, 9, 9, 0), np.uint8), [255, 255, 255]),
        (np.full((4, 5), 65535, np.uint16), [255, 255, 255]),
        (np.full((4, 5, 3), 257 * 7, np.uint16), [7, 7, 7]),
        (np.full((4, 5, 3), 0.5, np.float32), [128, 128, 128]),
        (np.full((4, 5), 1.0, np.float64), [255, 255, 255]),
        (np.ones((4, 5), np.bool_), [255, 255, 255]),
    ],
)
def test_arrays_of_every_documented_kind_are_read(array: np.ndarray, expected: list[int]) -> None:
    read = np.asarray(read_image(array))

    assert read.shape == (4, 5, 3)
    assert read[0, 0].tolist() == expected


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3,), np.uint8),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 2), np.int64),
        np.full((2, 2), 7.0),
        np.full((2, 2), np.nan),
        np.zeros((2, 2), np.complex64),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError):
        read_image(array)


def test_a_callers_own_picture_is_neither_changed_nor_handed_back(tmp_path) -> None:
    path = tmp_path / "own.jpg"
    quarters().resize((480, 320)).save(path)
    with Image.open(path) as own:
        read = read_image(own, size_hint=(10, 10))
        read.paste((0, 0, 0), (0, 0, 480, 320))

        assert own.size == read.size == (480, 320)
        assert own.getpixel((100, 50))[0] > 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused(kind: str, share: float, scene: Image.Image) -> None:
    data = encoded(scene.resize((300, 200)), kind)

    with pytest.raises(PictureUnreadableError) as caught:
        read_image(data[: int(len(data) * share)])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"not a picture at all",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"<svg xmlns='x'/>",
        b"%PDF-1.7",
        b"BM" + b"\0" * 60,
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(PictureUnreadableError) as caught:
        read_image(data)

    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]), data=st.data())
def test_damaged_files_are_read_or_refused_but_nothing_else(kind: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(quarters(), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))

    try:
        read = read_image(bytes(whole), max_pixels=1_000_000)
    except PictureUnreadableError:
        return
    assert read.mode == "RGB"


def bomb(side: int) -> bytes:
    """A PNG that says it is side x side pixels and holds none of them."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_a_picture_above_the_limit_is_refused_before_decoding() -> None:
    with pytest.raises(PictureUnreadableError, match=r"400\.0 megapixels, the limit is 50\.0"):
        read_image(bomb(20_000))


def test_the_limit_counts_pixels_exactly() -> None:
    data = encoded(Image.new("RGB", (100, 50)), "PNG")

    assert read_image(data, max_pixels=5000).size == (100, 50)
    with pytest.raises(PictureUnreadableError, match="raise max_pixels"):
        read_image(data, max_pixels=4999)
    assert read_image(data, max_pixels=None).size == (100, 50)


def test_pillows_own_limit_does_not_speak() -> None:
    """100 megapixels, above the size at which `PIL.Image.open` warns; warnings are errors here."""
    data = encoded(Image.new("1", (10_000, 10_000)), "PNG")

    assert read_image(data, max_pixels=None).size == (10_000, 10_000)


@pytest.mark.parametrize("size", [(480, 500), (1500, 1000), (1000, 1500)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_scaled_jpeg_decoding_gives_nearly_the_same_pixels(
    size: tuple[int, int], orientation: int, scene: Image.Image
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene.resize(size, 3), "JPEG", quality=92, exif=exif)

    scaled = read_image(data, size_hint=(224, 224))
    whole = read_image(data)

    assert scaled.width < whole.width
    assert min(scaled.size) >= 224
    assert (scaled.width < scaled.height) == (whole.width < whole.height)
    one, other = (fit_picture(picture, (224, 224)).astype(float) for picture in (scaled, whole))
    assert np.abs(one - other).mean() < 2.0
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.998


def test_a_size_hint_above_the_picture_changes_nothing(scene: Image.Image) -> None:
    data = encoded(scene, "JPEG")

    assert read_image(data, size_hint=(4000, 4000)).size == scene.size


def test_many_threads_read_the_same_as_one(tmp_path, scene: Image.Image) -> None:
    paths = []
    for number, kind in enumerate(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"] * 4):
        path = tmp_path / f"{number}.{kind.lower()}"
        scene.resize((120 + number, 80)).save(path, kind)
        paths.append(path)
    alone = [np.asarray(read_image(path)) for path in paths]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: np.asarray(read_image(path)), paths))

    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_a_path_may_be_text_or_a_path_object_or_an_open_file(tmp_path) -> None:
    path = tmp_path / "weiß 红.png"
    quarters().save(path)

    with open(path, "rb") as file:
        read = [read_image(path), read_image(str(path)), read_image(file)]

    assert all(difference(picture, quarters()) == 0.0 for picture in read)


def test_the_extension_does_not_decide(tmp_path) -> None:
    path = tmp_path / "in truth a png.jpg"
    quarters().save(path, "PNG")

    assert difference(read_image(path), quarters()) == 0.0


def test_formats_off_the_list_are_refused(tmp_path) -> None:
    path = tmp_path / "picture.jpg"
    quarters().save(path, "PPM")

    with pytest.raises(PictureUnreadableError, match="not a picture in a format that is read"):
        read_image(path)


@pytest.mark.parametrize("source", [None, 3, ["a.jpg"], object()])
def test_what_cannot_hold_a_picture_is_an_input_error(source: object) -> None:
    with pytest.raises(InputError, match="give a path"):
        read_image(source)


def test_missing_files_folders_and_pipes_are_refused_at_once(tmp_path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)

    for path in (tmp_path, tmp_path / "none.jpg", pipe, "nul\0.jpg"):
        with pytest.raises(PictureUnreadableError):
            read_image(path)


@pytest.fixture
def server(tmp_path):
    data = encoded(quarters(), "PNG")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", (tmp_path / "secret.png").as_uri())
                self.end_headers()
                return
            self.send_response(200 if self.path == "/picture" else 404)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    quarters().save(tmp_path / "secret.png")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_an_address_is_fetched_only_when_asked(server: str) -> None:
    with pytest.raises(InputError, match="allow_url=True"):
        read_image(f"{server}/picture")

    assert difference(read_image(f"{server}/picture", allow_url=True), quarters()) == 0.0


@pytest.mark.parametrize("path", ["/none", "/away"])
def test_an_address_that_fails_or_leads_to_a_file_is_refused(server: str, path: str) -> None:
    with pytest.raises(PictureUnreadableError):
        read_image(server + path, allow_url=True)


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/a.png"])
def test_other_kinds_of_address_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="only http"):
        read_image(address, allow_url=True)


def test_a_download_beyond_the_limit_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures_module, "MAX_DOWNLOAD_BYTES", 10)

    with pytest.raises(PictureUnreadableError, match="larger than"):
        read_image(f"{server}/picture", allow_url=True)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    wanted=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    mode=st.sampled_from(["stretch", "crop"]),
)
def test_a_fitted_picture_has_the_wanted_size_and_keeps_a_flat_colour(size, wanted, mode) -> None:
    fitted = fit_picture(Image.new("RGB", size, (10, 120, 240)), wanted, mode)

    assert fitted.shape == (wanted[1], wanted[0], 3)
    assert fitted.dtype == np.uint8
    assert np.abs(fitted.astype(int) - [10, 120, 240]).max() <= 1


def test_crop_takes_the_middle_and_stretch_takes_all() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    picture = Image.fromarray(pixels)

    assert fit_picture(picture, (10, 10), "crop").mean() > 250
    assert 75 < fit_picture(picture, (10, 10), "stretch").mean() < 95


@pytest.mark.parametrize("size", [(1001, 1703), (2000, 600), (300, 40_000)])
def test_pixels_that_are_averaged_are_the_mean_of_what_they_stand_for(size: tuple[int, int]) -> None:
    rows = np.linspace(0, 255, size[1]).astype(np.uint8)
    pixels = np.broadcast_to(rows[:, None, None], (size[1], size[0], 3)).copy()
    wanted = np.array([part.mean() for part in np.array_split(rows.astype(float), 100)])

    for form in (pixels, Image.fromarray(pixels)):
        fitted = fit_picture(form, (100, 100), averaged_from=2.0)
        assert np.abs(fitted[:, :, 0] - wanted[:, None]).max() <= 2
    assert (fit_picture(Image.new("RGB", (150, 900)), (100, 100), averaged_from=2.0) == 0).all()


@pytest.mark.parametrize("bad", [{"size_wh": (0, 5)}, {"size_wh": (5, 5), "mode": "pad"}])
def test_a_fit_that_makes_no_sense_is_refused(bad: dict) -> None:
    with pytest.raises(InputError):
        fit_picture(quarters(), **bad)


def test_a_slip_of_our_own_is_not_called_a_damaged_file(photos, monkeypatch):
    def slip(picture):
        raise TypeError("ours")

    monkeypatch.setattr("nearsight.pictures.to_rgb", slip)

    with pytest.raises(TypeError, match="ours"):
        read_image(photos / "cat.jpg")
