"""SmolVLM and Idefics3: a language model that reads pictures, one 512-pixel tile after another, among the words."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from nearsight.colours import to_rgb
from nearsight.errors import InputError, ModelError
from nearsight.families.captioning import VISION, Looks, Speech, ends
from nearsight.families.generation import Rules
from nearsight.families.hubfiles import PictureRecipe, config, optional, tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.families.captioning import Arrays, Turn
    from nearsight_models import Manifest

WHOLE, TILES = "whole", "tiles"
CAPTION = "Describe the picture in one short sentence."
_LONGEST = 256
# Source: what transformers' LlamaConfig takes where a configuration does not say how long a text may be.
_WINDOW = 2048
# Source: the chat template of SmolVLM for one picture and one question.
_CHAT = "<|im_start|>User:{picture}{question}<end_of_utterance>\nAssistant:"
_END = "<end_of_utterance>"
_IMAGE, _AROUND, _GLOBAL = "<image>", "<fake_token_around_image>", "<global-img>"
# Source: the most pixels on a side to which Idefics3's processor enlarges or shrinks a picture.
_LARGEST = 4096


class SmolVlm:
    """Reads SmolVLM, as the hub's exports cut it and as ours do.

    Roles: `vision` (pixel_values (1, n, 3, h, w) to image_features), `embed` (input_ids to inputs_embeds), `decoder`.
    A caption looks at the picture as a whole; a question may be about something small, and takes the tiles as well, as
    the model's own processor does. The page's settings may say otherwise: `views = { caption = "tiles" }`.

    Args:
        manifest: The model's page.
    """

    beams, answers = 1, True

    def __init__(self, manifest: Manifest) -> None:
        page = config(manifest, "preprocessor_config.json")
        try:
            self._longest_edge = int(page["size"]["longest_edge"])
            self._tile = int(page["max_image_size"]["longest_edge"])
            self._resample = int(page.get("resample", Image.Resampling.LANCZOS))
            self._recipe = PictureRecipe(
                shortest=0,
                squash_wh=(self._tile, self._tile),
                crop_wh=(0, 0),
                resample=self._resample,
                rounded_crop=False,
                scale=float(page.get("rescale_factor", 1 / 255)),
                mean=_three(page["image_mean"]),
                std=_three(page["image_std"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"preprocessor_config.json of model {manifest.name!r} cannot be followed: "
                f"{type(error).__name__}: {error}"
            ) from error
        self._tokenizer = tokenizer(manifest)
        written = config(manifest, "config.json") | optional(manifest, "generation_config.json")
        stop = self._id(_END, manifest.name)
        self._image = self._id(_IMAGE, manifest.name)
        self._rules = Rules(
            ends=tuple(dict.fromkeys((stop, *ends(written, ())))),
            longest=int(manifest.settings.get("longest", _LONGEST)),
            never=(self._image,),
        )
        text: dict[str, Any] = written.get("text_config", {})
        self._window = int(text.get("max_position_embeddings", _WINDOW))
        self._marks = _marks(written)
        self._views = {"caption": WHOLE, "answer": TILES} | manifest.settings.get("views", {})
        self._looks = Looks()

    def caption(self, turn: Turn, max_words: int) -> Speech:  # noqa: ARG002 -- small models cannot count words
        """Begin a caption; see `CaptionerFamily`."""
        return self._speech(turn, CAPTION, self._views["caption"], one_sentence=True)

    def answer(self, turn: Turn, question: str) -> Speech:
        """Begin an answer; see `CaptionerFamily`."""
        marks = [
            mark.content
            for mark in self._tokenizer.get_added_tokens_decoder().values()
            if mark.special and mark.content in question
        ]
        if marks:
            raise InputError(f"a question with {marks[0]} was asked; that is a mark of {turn.model}; ask without it")
        return self._speech(turn, question, self._views["answer"])

    def _id(self, mark: str, model: str) -> int:
        found: int | None = self._tokenizer.token_to_id(mark)
        if found is None:
            raise ModelError(f"tokenizer.json of model {model!r} has no {mark}; get it again")
        return found

    def _speech(self, turn: Turn, question: str, view: str, *, one_sentence: bool = False) -> Speech:
        rows, columns = grid(turn.sight.size_wh, self._longest_edge, self._tile) if view == TILES else (0, 0)
        # What is too long is refused before anything runs.
        self._ids(turn.model, question, shown(rows, columns, self._marks))
        features = self._looks.seen(turn.sight, view, partial(self._look, turn, view))["features"]
        ids = self._ids(turn.model, question, shown(rows, columns, len(features) // (rows * columns + 1)))
        # The words' vectors, with the picture's where its marks stand; later tokens are words.
        vectors = turn.embedded(ids)
        places = ids[0] == self._image
        if int(places.sum()) != len(features):
            raise ModelError(
                f"{turn.model} gives {len(features)} vectors for {int(places.sum())} marks of the picture; "
                f"graphs and tokenizer do not belong together: nearsight models verify {turn.model}"
            )
        vectors[0, places] = features
        steps = turn.steps()

        def scorer(ids: NDArray[np.int64], rows: NDArray[np.intp]) -> NDArray[np.float32]:
            embeds = vectors if steps.length == 0 else turn.embedded(ids)
            return steps({"inputs_embeds": embeds}, rows)

        return Speech(
            scorer=scorer,
            prompt=tuple(ids[0].tolist()),
            rules=self._rules,
            read=partial(_read, self._tokenizer.decode),
            one_sentence=one_sentence,
        )

    def _ids(self, model: str, question: str, picture: str) -> NDArray[np.int64]:
        """Give the ids (1, t) of a question about a picture, if the model sees that far."""
        text = _CHAT.format(picture=picture, question=question)
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) + self._rules.longest > self._window:
            raise InputError(
                f"a picture and a question of {len(ids)} tokens, and an answer of {self._rules.longest}, were asked "
                f"for; {model} sees {self._window} together; ask in fewer words"
            )
        return np.array([ids], np.int64)

    def _look(self, turn: Turn, view: str) -> Arrays:
        tiles, _, _ = tiled(turn.sight.picture(), self._longest_edge, self._tile, self._resample, split=view == TILES)
        pixels = self._recipe.normalised(np.stack(tiles))[None]
        mask = np.ones((1, len(tiles), self._tile, self._tile), bool)
        found = turn.run(VISION, {"pixel_values": pixels, "pixel_attention_mask": mask})["image_features"]
        return {"features": found.reshape(-1, found.shape[-1]).astype(np.float32)}


def shown(rows: int, columns: int, marks: int) -> str:
    """Write a picture's place in the prompt: its tiles, each with `marks` marks, and the whole picture last.

    Args:
        rows: Rows of tiles; 0 where only the whole picture is shown.
        columns: Columns of tiles.
        marks: How many vectors stand for one tile.

    Source: the layout is that of transformers' Idefics3Processor.
    """
    tiles = "".join(
        "".join(f"{_AROUND}<row_{row + 1}_col_{column + 1}>{_IMAGE * marks}" for column in range(columns)) + "\n"
        for row in range(rows)
    )
    return f"{tiles}{chr(10) if rows else ''}{_AROUND}{_GLOBAL}{_IMAGE * marks}{_AROUND}"


def tiled(
    picture: Image.Image, longest_edge: int, tile: int, resample: int, *, split: bool
) -> tuple[list[NDArray[np.uint8]], int, int]:
    """Cut a picture into tiles as the model's own processor does.

    Args:
        picture: Upright.
        longest_edge: To which its longer side is brought first.
        tile: Width and height of a tile.
        resample: Pillow's number of the filter.
        split: Whether the tiles are wanted, or the whole picture only.

    Returns:
        uint8 (tile, tile, 3) each, row by row and the whole picture last; rows; columns (0 and 0 without tiles).
    """
    rgb = to_rgb(picture)
    sized = rgb.resize(_brought(rgb.size, longest_edge), resample)
    rows, columns = grid(rgb.size, longest_edge, tile) if split else (0, 0)
    if split:
        sized = sized.resize((max(columns, 1) * tile, max(rows, 1) * tile), resample)
    if rows:
        tiles = [
            sized.crop((column * tile, row * tile, (column + 1) * tile, (row + 1) * tile))
            for row in range(rows)
            for column in range(columns)
        ]
        return [np.asarray(one, np.uint8) for one in (*tiles, sized.resize((tile, tile), resample))], rows, columns
    return [np.asarray(sized.resize((tile, tile), resample), np.uint8)], 0, 0


def grid(size_wh: tuple[int, int], longest_edge: int, tile: int) -> tuple[int, int]:
    """Give the rows and columns of tiles that `tiled` cuts a picture into; 0 and 0 where it is one tile."""
    columns, rows = (math.ceil(side / tile) for side in _even(_brought(size_wh, longest_edge), tile))
    return (rows, columns) if rows * columns > 1 else (0, 0)


def _brought(size_wh: tuple[int, int], longest: int) -> tuple[int, int]:
    """Bring the longer side to `longest`; the other one follows and is even, as Idefics3 has it."""
    width, height = size_wh
    ratio = width / height
    if width >= height:
        width, height = longest, int(longest / ratio)
        height += height % 2
    else:
        width, height = int(longest * ratio), longest
        width += width % 2
    width, height = max(width, 1), max(height, 1)
    if max(width, height) > _LARGEST:
        ratio = width / height
        width, height = (_LARGEST, int(_LARGEST / ratio)) if width >= height else (int(_LARGEST * ratio), _LARGEST)
    return max(width, 1), max(height, 1)


def _even(size_wh: tuple[int, int], tile: int) -> tuple[int, int]:
    """Give the sides from which whole tiles are counted: the longer one's tiles first, the other one in its ratio."""
    width, height = size_wh
    ratio = width / height
    if width >= height:
        width = math.ceil(width / tile) * tile
        return width, int(width / ratio)
    height = math.ceil(height / tile) * tile
    return int(height * ratio), height


def _marks(written: dict[str, Any]) -> int:
    """Give the number of vectors that stand for one tile, as the configuration has it; 0 where it does not say."""
    vision: dict[str, Any] = written.get("vision_config", {})
    side, patch, scale = vision.get("image_size", 0), vision.get("patch_size", 1), written.get("scale_factor", 1)
    return int(side // patch // scale) ** 2


def _three(numbers: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, numbers)
    return red, green, blue


def family(manifest: Manifest) -> SmolVlm:
    """Make the leaf for a model."""
    return SmolVlm(manifest)


def _read(decode: Any, ids: Sequence[int]) -> str:
    text: str = decode(list(ids), skip_special_tokens=True)
    return text
