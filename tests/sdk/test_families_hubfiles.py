"""Pixels and ids as the hub's files say, against what the models' own processors gave (processors.npz, committed)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import pytest
from hub_models import words
from PIL import Image

import nearsight as ns
from nearsight.families import hubfiles
from nearsight.families.clip import Clip
from nearsight.families.hubfiles import PictureRecipe, TextRecipe
from nearsight.families.siglip import Siglip
from nearsight_models import File, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RED = 6
# Pillow 13, which drew what is stored, resizes rows before columns; older ones, which gradio asks for, round otherwise.
ROWS_FIRST = int(PIL.__version__.split(".")[0]) >= 13


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Manifest]:
    """Return a maker of pages with these files: name -> content."""

    def made(**files: dict[str, Any]) -> Manifest:
        assets = {}
        for key, content in files.items():
            name = f"{key}.json"
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf8")
            assets[name] = File.of(tmp_path / name)
        return Manifest(
            name="tiny", family="tiny", capability="search", architecture="clip", summary="", languages=("en",),
            licence="", trained_on=(), research_only=False, parameters=0, files={}, golden={}, preprocessing=None,
            settings={}, assets=assets,
        )  # fmt: skip

    return made


def drawn(mode: str) -> Image.Image:
    """Draw what tests/export/fixture_pixels.py drew."""
    width, height = {"RGB": (37, 61), "L": (50, 24), "RGBA": (25, 33)}[mode]
    rows, columns, channel = np.mgrid[0:height, 0:width, 0 : {"L": 1, "RGB": 3, "RGBA": 4}[mode]]
    values = (rows * 7 + columns * columns * 3 + channel * 61 + (rows * columns) % 29 * 5) % 256
    return Image.fromarray(values.astype(np.uint8).squeeze())


# open_clip drops transparency, which is white here for every model (below).
CASES = [(name, mode) for name in ("clip", "siglip", "chinese-clip", "open_clip") for mode in ("RGB", "L", "RGBA")]
CASES.remove(("open_clip", "RGBA"))


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_pixels_are_those_of_the_models_own_processor(name, mode, page, root):
    with np.load(root / "tests" / "sdk" / "processors.npz") as stored:
        wanted, stated = stored[f"{name}/{mode}"], json.loads(str(stored[f"page/{name}"]))
    key = "open_clip_config" if name == "open_clip" else "preprocessor_config"
    recipe = PictureRecipe.read(page(**{key: stated}))

    made = recipe.normalised(recipe.fitted(drawn(mode))[None])[0]

    assert made.dtype == np.float32
    assert made.shape == wanted.shape == (3, 24, 24)
    off = np.abs(made - wanted) * np.array(recipe.std)[:, None, None] * 255
    assert off.max() <= (1 if ROWS_FIRST else 8) + 1e-4
    assert off.mean() < 0.5  # another filter is off by more than 5


def test_what_is_transparent_is_white_for_every_model(page):
    """Transformers' processors do so; open_clip's own drops transparency, but it is gone where pictures are read."""
    stated = {"preprocess_cfg": {"size": 24}}
    picture = drawn("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)

    recipe = PictureRecipe.read(page(open_clip_config=stated))

    made = recipe.fitted(picture)
    assert np.array_equal(made, recipe.fitted(ns.read_image(picture)))
    assert np.array_equal(made, recipe.fitted(white.convert("RGB")))
    assert not np.array_equal(made, recipe.fitted(picture.convert("RGB")))


def test_an_older_file_with_single_numbers_says_the_same(page):
    new = {
        "size": {"shortest_edge": 30},
        "crop_size": {"height": 20, "width": 20},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    old = {**new, "size": 30, "crop_size": 20}
    nested = {"image_processor": new}

    recipes = [PictureRecipe.read(page(**{key: stated})) for key, stated in
               (("preprocessor_config", new), ("preprocessor_config", old), ("processor_config", nested))]  # fmt: skip

    assert recipes[0] == recipes[1] == recipes[2]
    assert recipes[0].fitted(Image.new("RGB", (7, 300))).shape == (20, 20, 3)


def test_recipes_that_differ_have_different_keys(page):
    stated = {"size": {"shortest_edge": 30}, "crop_size": {"height": 20, "width": 20}}
    others = [{}, {"resample": 2}, {"image_mean": [0, 0, 0]}, {"size": {"shortest_edge": 31}}, {"do_rescale": False}]

    keys = {PictureRecipe.read(page(preprocessor_config={**stated, **other})).key for other in others}

    assert len(keys) == len(others)


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"size": {"longest_edge": 40}},
        {"size": {"shortest_edge": 40}},
        {"size": {"height": "tall", "width": 3}},
        {"size": 9, "crop_size": 9, "image_mean": [1, 2]},
    ],
)
def test_a_file_that_cannot_be_followed_is_named(stated, page):
    with pytest.raises(ns.ModelError, match=r"preprocessor_config\.json of model 'tiny' cannot be followed"):
        PictureRecipe.read(page(preprocessor_config=stated))


def test_a_file_that_is_no_json_or_no_object_is_named(page):
    with pytest.raises(ns.ModelError, match="is no JSON"):
        hubfiles.config(page(config="{"), "config.json")
    with pytest.raises(ns.ModelError, match="an object belongs"):
        hubfiles.config(page(config="[]"), "config.json")
    with pytest.raises(ns.ModelError, match=r"tokenizer\.json of model 'tiny' cannot be read"):
        hubfiles.tokenizer(page(tokenizer="{}"))


def test_normalised_is_scale_mean_and_std(page):
    stated = {"size": {"height": 2, "width": 3}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 2.0]}
    recipe = PictureRecipe.read(page(preprocessor_config=stated))
    pixels = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3) * 7

    made = recipe.normalised(pixels)

    wanted = (pixels / 255.0 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]
    assert np.allclose(made, wanted.transpose(0, 3, 1, 2), atol=1e-6)
    assert made.flags.c_contiguous


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, [[2, RED, 3, 9], [2, RED, RED, 3]]),
        ({"fixed": True}, [[2, RED, 3, 9, 9], [2, RED, RED, 3, 9]]),
        ({"fixed": True, "left": True}, [[9, 9, 2, RED, 3], [9, 2, RED, RED, 3]]),
    ],
)
def test_texts_are_filled_up_on_the_side_and_to_the_length_that_the_tower_knows(more, wanted):
    recipe = TextRecipe(tokenizer=words(), longest=5, pad=9, lower=True, **more)

    ids, mask = recipe.ids(["RED", "red red"])

    assert ids.tolist() == wanted
    assert (mask == (ids != 9)).all()


def test_a_text_is_read_where_the_vocabulary_has_half_of_it():
    recipe = TextRecipe(tokenizer=words(), longest=9, pad=0, unknown=1, languages=("zh",))

    assert recipe.reads("red unheard")
    assert not recipe.reads("unheard of red")
    assert not recipe.reads("")


def test_a_sigmoid_makes_a_chance_of_a_cosine_where_the_model_says_how():
    stated = {"size": {"height": 2, "width": 2}}
    recipe = PictureRecipe._of_transformers(stated)
    text = TextRecipe(tokenizer=words(), longest=5, pad=0)
    scores = np.array([0.2, 0.15, 0.0], np.float32)
    telling = Siglip(picture=recipe, text=text, scale=100.0, bias=-15.0)

    chance = telling.relevance(scores, "red", 3)

    assert np.allclose(chance, 1 / (1 + np.exp(-(100 * scores - 15))), rtol=1e-5)
    assert Siglip(picture=recipe, text=text).relevance(scores, "red", 3) is None
    assert set(telling.text_arrays(["red"])) == {"input_ids"}
    assert set(Clip(picture=recipe, text=text).text_arrays(["red"])) == {"input_ids", "attention_mask"}
