"""Reads the files that the hub keeps beside a model's weights: preprocessing, tokenizer, configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nearsight.colours import to_rgb
from nearsight.errors import InputError, ModelError, translated
from nearsight.tokens import cleaned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image
    from tokenizers import Tokenizer

    from nearsight_models import Manifest

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
OPEN_CLIP = "open_clip_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
# Source: Pillow's numbers of filters, which `resample` in a preprocessor_config.json states.
_BILINEAR, _BICUBIC = 2, 3
# Source: OPENAI_CLIP_MEAN and OPENAI_CLIP_STD, what both libraries take where a model's file says nothing.
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def asset(manifest: Manifest, name: str) -> Path:
    """Give a file of the model, once it is known to be the very one that its page states.

    Raises:
        MissingFilesError: If the file is not there.
        ChecksumError: If it is another file.
        ModelError: If the page names no such file.
    """
    file = manifest.assets.get(name)
    if file is None:
        raise ModelError(
            f"model {manifest.name!r} has no {name}; it has {', '.join(manifest.assets) or 'none'}; "
            f"get it again: nearsight models pull {manifest.name}, or export {manifest.name}"
        )
    with translated():
        file.check()
    return file.path


def config(manifest: Manifest, name: str) -> dict[str, Any]:
    """Read a file of the model that holds one JSON object.

    Raises:
        ModelError: As `asset`, or if the file is none.
    """
    try:
        read = json.loads(asset(manifest, name).read_text(encoding="utf8"))
    except ValueError as error:
        raise ModelError(f"{name} of model {manifest.name!r} is no JSON: {error}; get the model again") from error
    if not isinstance(read, dict):
        raise ModelError(f"{name} of model {manifest.name!r} holds a {type(read).__name__} where an object belongs")
    return read


def optional(manifest: Manifest, name: str) -> dict[str, Any]:
    """Read a file that holds one JSON object, if the model has it; otherwise an empty one."""
    return config(manifest, name) if name in manifest.assets else {}


def tokenizer(manifest: Manifest, longest: int | None = None) -> Tokenizer:
    """Load the model's tokenizer, with no padding.

    Args:
        manifest: Whose tokenizer.
        longest: Most tokens of a text, the specials included, which stay when a text is cut; None cuts nothing.

    Raises:
        ModelError: As `asset`, or if the package `tokenizers` is not installed, or cannot read the file.
    """
    path = asset(manifest, TOKENIZER)
    try:
        import tokenizers
    except ImportError as error:
        raise ModelError(
            f"model {manifest.name!r} needs the package tokenizers; install it: pip install 'nearsight[hub]'"
        ) from error
    try:
        loaded = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        # The package raises bare `Exception` for whatever it cannot read.
        raise ModelError(f"{TOKENIZER} of model {manifest.name!r} cannot be read: {error}; get it again") from error
    loaded.no_padding()
    if longest is None:
        loaded.no_truncation()
    else:
        loaded.enable_truncation(longest)
    return loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRecipe:
    """How a model's own processor makes pixels of a picture: resize, crop, scale, normalise.

    Attributes:
        shortest: The shorter side after resizing, the ratio of sides kept; 0 where the picture is squashed.
        squash_wh: Width and height after squashing; (0, 0) where the ratio of sides is kept.
        crop_wh: Width and height of the centre that is kept; (0, 0) for all.
        resample: Pillow's number of the filter.
        rounded_crop: Whether an odd rest is halved by rounding to even, as torchvision does, or down.
        scale: What a value of 0 to 255 is multiplied by.
        mean: Of each channel, taken away after that.
        std: Of each channel, divided by at last.
    """

    shortest: int
    squash_wh: tuple[int, int]
    crop_wh: tuple[int, int]
    resample: int
    rounded_crop: bool
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, manifest: Manifest) -> Self:
        """Read the model's `open_clip_config.json`, `preprocessor_config.json` or `processor_config.json`.

        Raises:
            ModelError: If it has none of them, or one that says something unheard of.
        """
        name = next((name for name in (OPEN_CLIP, PREPROCESSOR, PROCESSOR) if name in manifest.assets), PREPROCESSOR)
        page = config(manifest, name)
        try:
            # Source: transformers 5 writes the picture processor's page inside the processor's.
            page = page["image_processor"] if name == PROCESSOR else page
            return cls._of_open_clip(page) if name == OPEN_CLIP else cls._of_transformers(page)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{name} of model {manifest.name!r} cannot be followed: {type(error).__name__}: {error}"
            ) from error

    @classmethod
    def _of_transformers(cls, page: Mapping[str, Any]) -> Self:
        size = page["size"] if page.get("do_resize", True) else {}
        # Older files state one number for the shorter side, and for both sides of a crop.
        size = {"shortest_edge": size} if isinstance(size, int) else size
        crop = page.get("crop_size", {}) if page.get("do_center_crop", "crop_size" in page) else {}
        crop = {"width": crop, "height": crop} if isinstance(crop, int) else crop
        normalise = page.get("do_normalize", True)
        made = cls(
            shortest=int(size.get("shortest_edge", 0)),
            squash_wh=(int(size.get("width", 0)), int(size.get("height", 0))),
            crop_wh=(int(crop.get("width", 0)), int(crop.get("height", 0))),
            resample=int(page.get("resample", _BICUBIC)),
            rounded_crop=False,
            scale=float(page.get("rescale_factor", 1 / 255)) if page.get("do_rescale", True) else 1.0,
            mean=_three(page.get("image_mean", _CLIP_MEAN)) if normalise else (0.0, 0.0, 0.0),
            std=_three(page.get("image_std", _CLIP_STD)) if normalise else (1.0, 1.0, 1.0),
        )
        if not all(made.size_wh):
            raise ValueError(f"it makes pictures of no fixed size: size {size}, crop {crop}")
        return made

    @classmethod
    def _of_open_clip(cls, page: Mapping[str, Any]) -> Self:
        wanted = page["preprocess_cfg"]
        size = wanted.get("size") or page["model_cfg"]["vision_cfg"]["image_size"]
        wide, high = (size, size) if isinstance(size, int) else (size[1], size[0])
        mode = wanted.get("resize_mode") or "shortest"
        if mode not in ("shortest", "squash") or (mode == "shortest" and wide != high):
            raise ValueError(f"resize_mode {mode!r} to {wide} x {high}; there is shortest to a square, and squash")
        squash = mode == "squash"
        return cls(
            shortest=0 if squash else wide,
            squash_wh=(wide, high) if squash else (0, 0),
            crop_wh=(0, 0) if squash else (wide, high),
            resample={"bilinear": _BILINEAR, "bicubic": _BICUBIC}[wanted.get("interpolation") or "bicubic"],
            rounded_crop=True,
            scale=1 / 255,
            mean=_three(wanted.get("mean") or _CLIP_MEAN),
            std=_three(wanted.get("std") or _CLIP_STD),
        )

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the pixels."""
        return self.crop_wh if self.crop_wh[0] else self.squash_wh

    @property
    def key(self) -> str:
        """A short text that is equal only for equal recipes."""
        resized = f"shortest{self.shortest}" if self.shortest else f"squash{self.squash_wh[0]}x{self.squash_wh[1]}"
        cropped = f"crop{self.crop_wh[0]}x{self.crop_wh[1]}{'r' * self.rounded_crop}"
        normal = ",".join(f"{number:.6g}" for number in (self.scale, *self.mean, *self.std))
        return f"{resized}-{cropped}-{self.resample}-{normal}"

    def fitted(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop one picture, as the model's own processor does.

        Args:
            picture: Upright; any mode; transparent parts become white.

        Returns:
            uint8 (h, w, 3), RGB.

        Raises:
            InputError: If the picture is empty.
        """
        width, height = picture.size
        if width < 1 or height < 1:
            raise InputError(f"cannot fit a picture of {width} x {height} pixels; it is empty")
        resized = self._resized_wh(width, height)
        rgb = to_rgb(picture)
        if self.crop_wh[0]:
            left, top = (self._offset(whole - kept) for whole, kept in zip(resized, self.crop_wh, strict=True))
            box = (left, top, left + self.crop_wh[0], top + self.crop_wh[1])
            return np.asarray(rgb.resize(resized, self.resample).crop(box), np.uint8)
        return np.asarray(rgb.resize(resized, self.resample), np.uint8)

    def normalised(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scale and normalise uint8 (n, h, w, 3) to float32 (n, 3, h, w)."""
        made = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            table = ((np.arange(256) * self.scale - mean) / std).astype(np.float32)
            np.take(table, pixels[..., channel], out=made[:, channel])
        return made

    def _resized_wh(self, width: int, height: int) -> tuple[int, int]:
        if not self.shortest:
            return self.squash_wh
        long = int(self.shortest * max(width, height) / min(width, height))
        return (self.shortest, long) if width <= height else (long, self.shortest)

    def _offset(self, rest: int) -> int:
        # Source: torchvision's center_crop rounds half of the rest to even; transformers' cuts the half off.
        return round(rest / 2) if self.rounded_crop else rest // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecipe:
    """How texts become the ids that a text tower takes.

    Attributes:
        tokenizer: The model's own, which cuts a text to the longest there can be.
        longest: Most tokens of one text, the specials included.
        pad: Id that fills a batch.
        fixed: Whether each text is filled up to the longest there can be, because the tower looks at the filling.
        left: Whether the filling comes before the text.
        lower: Whether the text is made lower case first.
        unknown: Id of what the vocabulary does not have; -1 where it has everything.
        languages: What the model learned, as ISO 639-1 codes.
    """

    tokenizer: Tokenizer
    longest: int
    pad: int
    fixed: bool = False
    left: bool = False
    lower: bool = False
    unknown: int = -1
    languages: tuple[str, ...] = ()

    def ids(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Encode texts: int64 ids (n, t) and a mask (n, t) that is 1 where there is a token.

        Raises:
            InputError: If there is no text, or one that is blank.
        """
        if not texts:
            raise InputError("no text was given; give at least one")
        rows = [self._row(text) for text in texts]
        width = self.longest if self.fixed else max(map(len, rows))
        ids = np.full((len(rows), width), self.pad, np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for place, row in enumerate(rows):
            where = slice(width - len(row), width) if self.left else slice(len(row))
            ids[place, where], mask[place, where] = row, 1
        return ids, mask

    def reads(self, text: str) -> bool:
        """Whether the vocabulary has half of a text's tokens or more, and an English model half of its letters."""
        letters = [letter for letter in text if letter.isalpha()]
        latin = sum(letter < "\u0250" for letter in letters)
        if self.languages == ("en",) and 2 * latin < len(letters):
            return False
        ids = self.tokenizer.encode(self._cleaned(text), add_special_tokens=False).ids
        return bool(ids) and 2 * ids.count(self.unknown) <= len(ids)

    def _row(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise InputError(f"a query is a text, not {type(text).__name__}; give a str")
        words = self._cleaned(text)
        if not words:
            raise InputError(f"the text {text!r} is blank; write what the picture should show")
        return list(self.tokenizer.encode(words).ids)

    def _cleaned(self, text: str) -> str:
        words = cleaned(text)
        return words.lower() if self.lower else words


def _three(numbers: Sequence[float] | float) -> tuple[float, float, float]:
    if isinstance(numbers, (int, float)):
        return (float(numbers),) * 3
    red, green, blue = map(float, numbers)
    return red, green, blue
