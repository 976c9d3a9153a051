"""What may leave this machine: a question goes in, and what a policy's `privacy` lets out comes back.

    nothing   nothing
    text      the words
    blur      the words, and pictures in which no face or number plate can be read
    whole     the words, and pictures of at most 1,024 pixels

A picture that leaves is made anew from its pixels: no EXIF, no place, no time, no name of a file goes with it.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter

from nearsight.errors import InputError
from nearsight.pictures import read_image

if TYPE_CHECKING:
    from nearsight.pictures import PictureSource
    from nearsight_npu.remote import Picture, Request

# All that is left of a blurred picture is this many pixels on the longer side, softened by a standard deviation of one
# of them: half of the contrast is left at 4.5 cycles across the picture, and none at 12. Faces are recognised by 8 to
# 13 cycles across their width. Source: R. Näsänen, Spatial frequency bandwidth used in the recognition of facial
# images, Vision Research 39 (1999). Of number plates that fill the picture, none is read (eval/blur.py).
KEPT_SIDE = 24
SOFTENED = 1.0
BLURRED_SIDE = 336
WHOLE_SIDE = 1024
QUALITY = 85


def redact(request: Request, *, privacy: str) -> Request:
    """Take out of a question what may not leave, and make JPEG bytes of the pictures that may.

    Args:
        request: what is to be asked; each picture's `source` is anything that `read_image` takes.
        privacy: "nothing", "text", "blur" or "whole".

    Returns:
        A question without sources; under "nothing" an empty one, under "text" one without pictures.

    Raises:
        InputError: for another privacy.
        PictureUnreadableError: if a source is no picture.
    """
    if privacy == "nothing":
        return replace(request, instruction="", text="", pictures=())
    if privacy == "text":
        return replace(request, pictures=())
    return replace(request, pictures=tuple(_redacted(picture, privacy) for picture in request.pictures))


def _redacted(picture: Picture, privacy: str) -> Picture:
    if privacy == "blur":
        made, how = blurred(picture.source), " blurred"
    elif privacy == "whole":
        made, how = _within(read_image(picture.source, size_hint=(WHOLE_SIDE, WHOLE_SIDE)), WHOLE_SIDE), ""
    else:
        raise InputError(f'privacy {privacy!r} was asked for; there are "nothing", "text", "blur" and "whole"')
    file = io.BytesIO()
    made.save(file, "JPEG", quality=QUALITY)
    width, height = made.size
    return replace(picture, source=None, jpeg=file.getvalue(), note=f"{picture.note} {width}x{height}{how}")


def blurred(source: PictureSource) -> Image.Image:
    """Blur a whole picture so far that no face or number plate in it can be read.

    It is not the faces that are blurred, since nothing here finds them without fail: the whole picture is reduced to
    24 pixels on its longer side, so that no sharpening brings anything back. What a scene is about can often be told.

    Args:
        source: anything that `read_image` takes.

    Returns:
        A picture of at most 336 pixels on its longer side.

    Raises:
        PictureUnreadableError: if the source is no picture.
    """
    picture = _within(read_image(source, size_hint=(BLURRED_SIDE, BLURRED_SIDE)), BLURRED_SIDE)
    # Softened first, so that nothing fine is folded into what is kept.
    soft = picture.filter(ImageFilter.GaussianBlur(SOFTENED * max(picture.size) / KEPT_SIDE))
    return _within(soft, KEPT_SIDE).resize(picture.size, Image.Resampling.BICUBIC)


def _within(picture: Image.Image, side: int) -> Image.Image:
    """Shrink a picture to `side` pixels on its longer side; a smaller one stays as it is."""
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
