"""Open picture files and straighten them: the only module that reads them (`walk` finds them).

A picture is recognised by its first bytes, never by its name, and only the formats in `FORMATS` are tried. Its size is
checked in the header, before anything is decoded.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import stat
import struct
import urllib.error
import urllib.request
import zlib
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, TypeAlias, Union, cast

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from nearsight.colours import array_to_rgb, to_rgb
from nearsight.errors import InputError, PictureUnreadableError
from nearsight.exif import PictureFacts, facts, orientation
from nearsight.folders import EXCLUDED_FOLDERS, EXTENSIONS, walk
from nearsight.formats import FORMATS, recognised
from nearsight.values import DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from numpy.typing import NDArray

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "EXCLUDED_FOLDERS",
    "EXTENSIONS",
    "FORMATS",
    "HEIF_REMEDY",
    "HeifReaderMissingError",
    "PictureFacts",
    "PictureSource",
    "UnreadableFileError",
    "camera_model",
    "captured_at",
    "picture_facts",
    "read_image",
    "read_with_facts",
    "walk",
]

PictureSource: TypeAlias = Union[str, "os.PathLike[str]", bytes, IO[bytes], Image.Image, "NDArray[Any]"]

HEIF_REMEDY = 'pip install "nearsight[heif]"'
MAX_DOWNLOAD_BYTES = 64 << 20
DOWNLOAD_TIMEOUT_S = 15.0

# What Pillow's decoders raise on damaged files, as met in its own `Image.open` and in fuzzed files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    RuntimeError,
    OverflowError,
    AttributeError,
    ZeroDivisionError,
    MemoryError,
    UserWarning,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableFileError(PictureUnreadableError):
    """A picture that cannot be read; `reason` is the message without the picture's name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read the picture {name}: {reason}")
        self.reason = reason


class HeifReaderMissingError(UnreadableFileError):
    """A HEIC or HEIF picture, and the optional reader is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(name, f"HEIC and HEIF need an extra reader; {HEIF_REMEDY}")


def read_image(
    source: PictureSource,
    *,
    size_hint: tuple[int, int] | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    allow_url: bool = False,
) -> Image.Image:
    """Read a picture, upright and in RGB, transparent parts on white.

    Args:
        source: path, encoded bytes, binary file, Pillow image, or array: uint8 (h, w), (h, w, 1), (h, w, 3) RGB or
            (h, w, 4) RGBA, uint16 of the same shapes, bool (h, w), or float of the same shapes in 0 to 1. Of an
            animation the first frame is read.
        size_hint: width and height below which the picture will not be used; a JPEG may then be decoded at 1/2, 1/4
            or 1/8 of its size, never smaller than the hint.
        max_pixels: largest picture to decode; None for no limit.
        allow_url: whether an `http:` or `https:` address may be fetched.

    Returns:
        A new RGB picture.

    Raises:
        PictureUnreadableError: when the source is no picture, is damaged, too large or in a format that is not read.
        InputError: when the source is of a type that cannot hold a picture, or an address without `allow_url`.
    """
    return read_with_facts(source, size_hint=size_hint, max_pixels=max_pixels, allow_url=allow_url)[0]


def read_with_facts(
    source: PictureSource,
    *,
    size_hint: tuple[int, int] | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    allow_url: bool = False,
) -> tuple[Image.Image, PictureFacts]:
    """Read a picture as `read_image` does, with its EXIF facts and its full size, in one opening of the file."""
    if isinstance(source, np.ndarray):
        if source.ndim >= 2:
            _check_size((source.shape[1], source.shape[0]), "in memory", max_pixels)
        return array_to_rgb(source), PictureFacts()
    with _Opened(source, max_pixels, allow_url) as (picture, name):
        return _decoded(picture, name, size_hint, owned=picture is not source)


def at_hand(source: object) -> Image.Image | NDArray[np.uint8] | None:
    """Give a picture that is there as 8-bit RGB and upright already, as it is: nothing is copied.

    Returns:
        The Pillow picture, or the array, uint8 (h, w, 3); None where `read_image` has to be asked.

    Raises:
        PictureUnreadableError: when it is too large or, where it was not loaded yet, damaged.
    """
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.shape[2:] == (3,):
        _check_size((source.shape[1], source.shape[0]), "in memory", DEFAULT_MAX_PIXELS)
        return source
    if isinstance(source, Image.Image) and source.mode == "RGB" and not source.has_transparency_data:
        _check_size(source.size, "in memory", DEFAULT_MAX_PIXELS)
        with _decoding("in memory"):
            source.load()
        return None if orientation(source) in _UPRIGHT else source
    return None


def captured_at(source: PictureSource) -> datetime | None:
    """Tell when a picture was taken, from EXIF DateTimeOriginal; without a zone where the camera wrote none."""
    return picture_facts(source).captured_at


def camera_model(source: PictureSource) -> str | None:
    """Tell which camera took a picture, from EXIF."""
    return picture_facts(source).camera


def picture_facts(source: PictureSource) -> PictureFacts:
    """Read a picture's EXIF facts; of most formats only the header is read.

    Raises:
        PictureUnreadableError: when the source is no picture.
    """
    if isinstance(source, np.ndarray):
        return PictureFacts()
    with _Opened(source, None, allow_url=False) as (picture, _):
        return facts(picture)


class _Opened:
    """A picture whose header is read and whose size is checked, and the name to use in messages."""

    def __init__(self, source: PictureSource, max_pixels: int | None, allow_url: bool) -> None:
        self._source = source
        self._max_pixels = max_pixels
        self._allow_url = allow_url
        self._file: IO[bytes] | None = None

    def __enter__(self) -> tuple[Image.Image, str]:
        source = self._source
        if isinstance(source, Image.Image):
            name = "in memory"
            _check_size(source.size, name, self._max_pixels)
            return source, name
        if isinstance(source, (bytes, bytearray, memoryview)):
            name, file = "in memory", _as_file(bytes(source))
        elif isinstance(source, str) and re.match(r"(?i)[a-z][a-z0-9+.-]+://", source):
            name, file = source, _as_file(_download(source, self._allow_url))
            self._file = file
        elif isinstance(source, (str, os.PathLike)):
            name, file = os.fspath(source), _open_file(source)
            self._file = file
        elif hasattr(source, "read") and hasattr(source, "seek"):
            name, file = str(getattr(source, "name", "in a file object")), cast("IO[bytes]", source)
        else:
            raise InputError(
                f"cannot read a picture from {type(source).__name__}; "
                "give a path, bytes, a Pillow image or a numpy array"
            )
        try:
            return _open_header(file, name, self._max_pixels), name
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()


def _as_file(data: bytes) -> IO[bytes]:
    return io.BytesIO(data)


def _open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    name = os.fspath(path)
    try:
        expanded = os.path.expanduser(name)
        # Checked before opening: opening a pipe would wait for a writer.
        if not stat.S_ISREG(os.stat(expanded).st_mode):
            raise UnreadableFileError(name, "it is not a file; give the path of a picture file")
        return open(expanded, "rb")
    except (OSError, ValueError) as error:
        if isinstance(error, PictureUnreadableError):
            raise
        raise UnreadableFileError(
            name, f"{getattr(error, 'strerror', None) or error}; check the path and its permissions"
        ) from error


def _download(address: str, allow_url: bool) -> bytes:
    if not allow_url:
        raise InputError(f"{address} is an address, and nothing is fetched unasked; pass allow_url=True to fetch it")
    if not address.lower().startswith(("http://", "https://")):
        raise InputError(f"{address} cannot be fetched; only http: and https: addresses can")
    # Put together by hand, so that a redirect cannot lead to a file: or ftp: address.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "nearsight"), ("Accept", "image/*")]
    try:
        with opener.open(address, timeout=DOWNLOAD_TIMEOUT_S) as answer:
            data: bytes = answer.read(MAX_DOWNLOAD_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UnreadableFileError(address, f"it cannot be fetched: {reason}; check the address") from error
    if len(data) > MAX_DOWNLOAD_BYTES:
        raise UnreadableFileError(
            address, f"it is larger than {MAX_DOWNLOAD_BYTES >> 20} MiB; download it and give the file"
        )
    return data


def _factory(picture_format: str, name: str) -> Callable[[IO[bytes], str], ImageFile.ImageFile]:
    factories: dict[str, Callable[[Any, Any], Any]] = {
        "JPEG": JpegImagePlugin.jpeg_factory,
        "PNG": PngImagePlugin.PngImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
    }
    if picture_format in factories:
        return factories[picture_format]
    if picture_format == "AVIF":
        try:
            avif: Callable[[Any, Any], Any] = import_module("PIL.AvifImagePlugin").AvifImageFile
        except ImportError as error:
            raise UnreadableFileError(name, 'this Pillow reads no AVIF; pip install -U "pillow>=11.3"') from error
        return avif
    try:
        heif: Callable[[Any, Any], Any] = import_module("pillow_heif").HeifImageFile
    except ImportError as error:
        raise HeifReaderMissingError(name) from error
    return heif


def _open_header(file: IO[bytes], name: str, max_pixels: int | None) -> Image.Image:
    """Read the header only; Pillow's plugins are called directly, past its process-wide pixel limit."""
    try:
        file.seek(0)
        head = file.read(64)
        file.seek(0)
    except OSError as error:
        raise _damaged(name, error) from error
    if not head:
        raise UnreadableFileError(name, "the file is empty")
    picture_format = recognised(head)
    if picture_format is None:
        raise UnreadableFileError(name, f"not a picture in a format that is read ({', '.join(FORMATS)})")
    factory = _factory(picture_format, name)
    with _decoding(name):
        picture = factory(file, "")
    _check_size(picture.size, name, max_pixels)
    return picture


def _check_size(size_wh: tuple[int, int], name: str, max_pixels: int | None) -> None:
    width, height = size_wh
    if width < 1 or height < 1:
        raise UnreadableFileError(name, f"it has no pixels ({width} x {height})")
    if max_pixels is not None and width * height > max_pixels:
        raise UnreadableFileError(
            name,
            f"{width} x {height} is {width * height / 1e6:.1f} megapixels, the limit is {max_pixels / 1e6:.1f}; "
            "shrink it, or raise max_pixels (nearsight index: --max-megapixels)",
        )


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow's decoders raise on damaged files into the public error; nothing of ours runs inside."""
    try:
        yield
    except _DECODER_ERRORS as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: BaseException) -> UnreadableFileError:
    text = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in text.lower():
        text = "the file is truncated"
    return UnreadableFileError(name, f"damaged or not decodable ({text}); copy the file again from where it came")


def _decoded(
    picture: Image.Image, name: str, size_hint: tuple[int, int] | None, owned: bool
) -> tuple[Image.Image, PictureFacts]:
    whole_wh = picture.size
    # A picture that belongs to the caller is not put into draft mode.
    if owned and size_hint is not None and isinstance(picture, JpegImagePlugin.JpegImageFile):
        width, height = size_hint
        wanted = (height, width) if orientation(picture) >= 5 else (width, height)
        with _decoding(name):
            picture.draft("", wanted)
    with _decoding(name):
        picture.load()
    known = facts(picture)
    try:
        flat = to_rgb(picture)
    except (OSError, ValueError, MemoryError) as error:
        # What Pillow raises where a mode cannot be converted.
        raise _damaged(name, error) from error
    turn = _UPRIGHT.get(orientation(picture))
    if turn is not None:
        flat = flat.transpose(turn)
    elif flat is picture:
        flat = picture.copy()
    # The EXIF orientation no longer holds for the turned pixels.
    flat.info = {}
    return flat, replace(known, size_wh=whole_wh[::-1] if orientation(picture) >= 5 else whole_wh)
