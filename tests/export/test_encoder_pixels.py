"""Pixels without torch are the pixels of each model's own processor, within 1/255, on pictures of every kind."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from nearsight.families.clip import Clip
from nearsight.families.hubfiles import PictureRecipe
from nearsight.pictures import read_image
from nearsight_models import File, Manifest

if TYPE_CHECKING:
    from pathlib import Path

SIZES = [(37, 91), (640, 427), (224, 224), (225, 301), (301, 226), (97, 1), (1200, 31), (500, 333)]


def drawn(size: tuple[int, int], mode: str, seed: int) -> Image.Image:
    """Draw noise on a slope, in this mode, with transparency where it has such."""
    rng = np.random.default_rng(seed)
    width, height = size
    slope = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 4))
    noisy = (0.5 * slope + 0.5 * rng.integers(0, 256, (height, width, 4))).astype(np.uint8)
    picture = Image.fromarray(noisy, "RGBA")
    if mode == "P":
        palette = picture.convert("RGB").quantize(32)
        palette.info["transparency"] = 3
        return palette
    return picture if mode == "RGBA" else picture.convert(mode)


def pillow(name: str, **stated: Any) -> Any:
    """Give transformers' processor that works with Pillow."""
    from importlib import import_module

    folder = {"CLIP": "clip", "Siglip": "siglip", "ChineseCLIP": "chinese_clip"}[name]
    module = import_module(f"transformers.models.{folder}.image_processing_pil_{folder}")
    return getattr(module, f"{name}ImageProcessorPil")(**stated)


PROCESSORS = {
    "clip": lambda: pillow("CLIP"),
    "clip 336": lambda: pillow("CLIP", size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
    "siglip2": lambda: pillow("Siglip", resample=2),
    "siglip": lambda: pillow("Siglip", size={"height": 256, "width": 256}),
    "chinese-clip": lambda: pillow("ChineseCLIP", size={"height": 224, "width": 224}, do_center_crop=False),
}


@pytest.fixture(params=sorted(PROCESSORS))
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, PictureRecipe]:
    """Give transformers' processor, and the recipe read from the file that it saves."""
    processor = PROCESSORS[request.param]()
    processor.save_pretrained(tmp_path)
    return processor, PictureRecipe.read(page({"preprocessor_config.json": tmp_path / "preprocessor_config.json"}))


def page(assets: dict[str, Path]) -> Manifest:
    return Manifest(
        name="tiny", family="tiny", capability="search", architecture="clip", summary="", languages=("en",),
        licence="", trained_on=(), research_only=False, parameters=0, files={}, golden={}, preprocessing=None,
        settings={}, assets={name: File.of(path) for name, path in assets.items()},
    )  # fmt: skip


def apart(recipe: PictureRecipe, picture: Image.Image, wanted: np.ndarray) -> float:
    """Give the largest difference, in units of 255, before normalisation."""
    made = recipe.normalised(recipe.fitted(picture)[None])[0]
    assert made.shape == wanted.shape
    return float((np.abs(made - wanted) * np.array(recipe.std)[:, None, None]).max())


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_the_processors(both, size, mode):
    processor, recipe = both
    picture = drawn(size, mode, seed=size[0])

    wanted = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0])

    assert apart(recipe, picture, wanted) <= 1 / 255
    # And in truth not at all, but for the last digit of a float.
    assert apart(recipe, picture, wanted) < 1e-5


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photograph_is_turned_upright_first(both, turn):
    """Transformers' own loader turns pictures by EXIF; so does ours."""
    from transformers.image_utils import load_image

    processor, recipe = both
    exif = Image.Exif()
    exif[274] = turn
    stream = io.BytesIO()
    drawn((61, 37), "RGB", seed=turn).save(stream, "PNG", exif=exif)

    opened = Image.open(io.BytesIO(stream.getvalue()))
    wanted = np.asarray(processor(load_image(opened), return_tensors="np")["pixel_values"][0])

    assert load_image(opened).size == ImageOps.exif_transpose(opened).size
    assert apart(recipe, read_image(stream.getvalue()), wanted) < 1e-5


def test_a_photograph_of_a_cameras_size_is_read_in_full(both, tmp_path):
    """A family has no size hint: what the JPEG decoder makes smaller is far from what a processor makes."""
    from transformers.image_utils import load_image

    processor, recipe = both
    path = tmp_path / "large.jpg"
    drawn((1600, 1200), "RGB", seed=3).save(path, quality=90)
    family = Clip(picture=recipe, text=None)

    wanted = np.asarray(processor(load_image(str(path)), return_tensors="np")["pixel_values"][0])

    assert apart(recipe, read_image(path, size_hint=family.size_hint), wanted) < 1e-5
    assert apart(recipe, read_image(path, size_hint=family.input_size), wanted) > 2 / 255


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "stated",
    [
        {"size": 224},
        {"size": [256, 256], "mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear"},
        {"size": 96, "resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3},
    ],
    ids=["clip", "mobileclip2", "squash"],
)
def test_pixels_are_open_clips(size, stated, tmp_path):
    """It halves the odd rest of a crop by rounding, where transformers cuts it off."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    path = tmp_path / "open_clip_config.json"
    path.write_text(json.dumps({"preprocess_cfg": stated}))
    recipe = PictureRecipe.read(page({"open_clip_config.json": path}))
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()}
    transform = image_transform_v2(PreprocessCfg(**kept), is_train=False)
    picture = drawn(size, "RGB", seed=size[1])

    wanted = transform(picture)

    assert isinstance(wanted, torch.Tensor)
    assert apart(recipe, picture, wanted.numpy()) < 1e-5


def test_the_checks_above_see_a_crop_that_is_off_by_one():
    """A crop of a noisy picture that is rounded the other way is far from the processor's."""
    recipe = PictureRecipe(
        shortest=224, squash_wh=(0, 0), crop_wh=(224, 224), resample=3, rounded_crop=False, scale=1 / 255,
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    )  # fmt: skip
    picture = drawn((227, 224), "RGB", seed=1)
    wanted = recipe.normalised(recipe.fitted(picture)[None])[0]

    assert apart(recipe, picture, wanted) == 0
    assert apart(replace(recipe, rounded_crop=True), picture, wanted) > 10 / 255
