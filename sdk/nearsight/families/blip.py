"""BLIP: a vision transformer and a BERT that speaks; one checkpoint captions, another one answers questions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.errors import InputError
from nearsight.families.captioning import VISION, Looks, Speech
from nearsight.families.generation import Rules
from nearsight.families.hubfiles import PictureRecipe, config, tokenizer
from nearsight.families.steps import PRESENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.families.captioning import Arrays, Turn
    from nearsight_models import Manifest

QUESTION = "question"
# Source: BLIP's vocabulary is BERT's with two marks of a beginning behind it; a config.json may state others.
_BEGIN, _SEPARATOR = 30522, 102
_LONGEST, _POSITIONS = 50, 512


class Blip:
    """Reads BLIP as `nearsight models export` makes it.

    Roles: `vision` (pixel_values to the decoder's keys and values of the picture, or, for a model that answers, to
    `image_embeds`), `question` (input_ids, attention_mask, image_embeds to the keys and values of the question, read
    in sight of the picture) and `decoder`.

    Args:
        manifest: The model's page.
    """

    beams = 1

    def __init__(self, manifest: Manifest) -> None:
        self.answers = QUESTION in manifest.files
        self._recipe = PictureRecipe.read(manifest)
        self._tokenizer = tokenizer(manifest)
        text: dict[str, Any] = config(manifest, "config.json").get("text_config", {})
        self._begin = int(text.get("bos_token_id", _BEGIN))
        self._longest_question = int(text.get("max_position_embeddings", _POSITIONS))
        self._rules = Rules(
            ends=(int(text.get("sep_token_id", _SEPARATOR)),),
            longest=min(int(manifest.settings.get("longest", _LONGEST)), self._longest_question),
        )
        self._looks = Looks()

    def caption(self, turn: Turn, max_words: int) -> Speech:  # noqa: ARG002 -- its captions are short by themselves
        """Begin a caption; see `CaptionerFamily`."""
        if self.answers:
            raise InputError(
                f"a caption was asked for; {turn.model} answers questions; ask answer(image, 'what is in the "
                "picture?'), or take a model that captions, such as blip-base"
            )
        return self._speech(turn, self._seen(turn))

    def answer(self, turn: Turn, question: str) -> Speech:
        """Begin an answer; see `CaptionerFamily`."""
        if not self.answers:
            raise InputError(
                f"a question was asked; {turn.model} captions and answers none; take a model that answers, such as "
                "blip-vqa-base or smolvlm-256m"
            )
        encoded = self._tokenizer.encode(question)
        encoded.truncate(self._longest_question)
        ids = np.array([encoded.ids], np.int64)
        seen = {**self._seen(turn), "input_ids": ids, "attention_mask": np.ones_like(ids)}
        return self._speech(turn, turn.run(QUESTION, seen))

    def _seen(self, turn: Turn) -> Arrays:
        def look() -> Arrays:
            pixels = self._recipe.fitted(turn.sight.picture())[None]
            return turn.run(VISION, {"pixel_values": self._recipe.normalised(pixels)})

        return self._looks.seen(turn.sight, VISION, look)

    def _speech(self, turn: Turn, seen: Arrays) -> Speech:
        steps = turn.steps(kept={name: array for name, array in seen.items() if name.startswith(PRESENT)})

        def scorer(ids: NDArray[np.int64], rows: NDArray[np.intp]) -> NDArray[np.float32]:
            return steps({"input_ids": ids}, rows)

        return Speech(
            scorer=scorer, prompt=(self._begin,), rules=self._rules, read=partial(_read, self._tokenizer.decode)
        )


def family(manifest: Manifest) -> Blip:
    """Make the leaf for a model."""
    return Blip(manifest)


def _read(decode: Any, ids: Sequence[int]) -> str:
    text: str = decode(list(ids), skip_special_tokens=True)
    return text
