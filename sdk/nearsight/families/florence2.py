"""Florence-2: one model that follows tasks, from a caption to boxes, written as words and places."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.errors import InputError
from nearsight.families.captioning import VISION, Looks, Speech, ends
from nearsight.families.generation import Rules
from nearsight.families.hubfiles import PictureRecipe, config, optional, tokenizer
from nearsight.families.steps import PRESENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.families.captioning import Arrays, Turn
    from nearsight_models import Manifest

ENCODER = "encoder"
# What each task is called, and what the model is asked then.
# Source: the prompts that transformers' Florence2Processor puts in place of the tasks.
TASKS = {
    "<CAPTION>": "What does the image describe?",
    "<DETAILED_CAPTION>": "Describe in detail what is shown in the image.",
    "<MORE_DETAILED_CAPTION>": "Describe with a paragraph what is shown in the image.",
    "<OCR>": "What is the text in the image?",
    "<OCR_WITH_REGION>": "What is the text in the image, with regions?",
    "<OD>": "Locate the objects with category name in the image.",
    "<DENSE_REGION_CAPTION>": "Locate the objects in the image, with their descriptions.",
    "<REGION_PROPOSAL>": "Locate the region proposals in the image.",
    "<CAPTION_TO_PHRASE_GROUNDING>": "Locate the phrases in the caption: {input}",
    "<OPEN_VOCABULARY_DETECTION>": "Locate {input} in the image.",
    "<REFERRING_EXPRESSION_SEGMENTATION>": "Locate {input} in the image with mask",
    "<REGION_TO_SEGMENTATION>": "What is the polygon mask of region {input}",
    "<REGION_TO_CATEGORY>": "What is the region {input}?",
    "<REGION_TO_DESCRIPTION>": "What does the region {input} describe?",
    "<REGION_TO_OCR>": "What text is in the region {input}?",
}
WORDS_ONLY = {
    "<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>", "<OCR>", "<REGION_TO_CATEGORY>",
    "<REGION_TO_DESCRIPTION>", "<REGION_TO_OCR>",
}  # fmt: skip
_TASK = re.compile(r"<?([A-Za-z_]+)>?")
# Source: Florence-2 names places by a thousandth of the picture's width and height; a place is the middle of
# its bin, cut to a whole pixel.
_BINS = 1000
_PLACES = re.compile(r"((?:<loc_\d+>)+)")
_PLACE = re.compile(r"<loc_(\d+)>")
# Source: marks of shapes in Florence-2's vocabulary.
_MARKS = re.compile(r"</?(?:od|ocr|poly|sep|obj|ground|and|cap|ncap|dcap|grounding|seg|region_cap|proposal|bbox)>")
_BEGIN, _PAD, _END, _LONGEST = 0, 1, 2, 1024


class Florence2:
    """Reads Florence-2, as the hub's exports cut it and as ours do.

    Roles: `vision` (pixel_values to image_features), `embed` (input_ids to inputs_embeds), `encoder` and `decoder`. The
    picture's vectors stand before those of the words. Our encoder also gives the decoder's keys and values of what it
    read; with the hub's, the first step of the (merged) decoder does.

    Args:
        manifest: The model's page.
    """

    answers = True

    def __init__(self, manifest: Manifest) -> None:
        self._recipe = PictureRecipe.read(manifest)
        self._tokenizer = tokenizer(manifest)
        page = config(manifest, "config.json")
        text: dict[str, Any] = page.get("text_config", {}) | optional(manifest, "generation_config.json")
        self._start = int(text.get("decoder_start_token_id", _END))
        self._marks = (int(text.get("bos_token_id", _BEGIN)), int(text.get("pad_token_id", _PAD)))
        self.beams, self._early = int(text.get("num_beams", 1)), text.get("early_stopping") is True
        self._window = int(text.get("max_position_embeddings", _LONGEST))
        first = text.get("forced_bos_token_id")
        self._rules = Rules(
            ends=ends(text, (_END,)),
            longest=min(int(manifest.settings.get("longest", _LONGEST)), self._window),
            first=None if first is None else int(first),
            unrepeated=int(text.get("no_repeat_ngram_size", 0)),
        )
        self._looks = Looks()

    def caption(self, turn: Turn, max_words: int) -> Speech:  # noqa: ARG002 -- the task says how long
        """Begin a caption; see `CaptionerFamily`."""
        return self._speech(turn, TASKS["<CAPTION>"], places=False)

    def answer(self, turn: Turn, question: str) -> Speech:
        """Begin an answer to a task, such as `<OCR>` or `<CAPTION_TO_PHRASE_GROUNDING> a red bus`.

        Places are told in pixels of the upright picture: `a red bus [33, 160, 596, 371]`.
        """
        task, prompt = prompted(question, turn.model)
        return self._speech(turn, prompt, places=task not in WORDS_ONLY)

    def _seen(self, turn: Turn) -> Arrays:
        def look() -> Arrays:
            pixels = self._recipe.fitted(turn.sight.picture())[None]
            return turn.run(VISION, {"pixel_values": self._recipe.normalised(pixels)})

        return self._looks.seen(turn.sight, VISION, look)

    def _speech(self, turn: Turn, prompt: str, *, places: bool) -> Speech:
        words = self._tokenizer.encode(prompt, add_special_tokens=False).ids
        ids = np.array([[self._marks[0], *words, self._rules.ends[0]]], np.int64)
        self._check(turn.model, ids.size, 0)
        seen = self._seen(turn)["image_features"].astype(np.float32)
        self._check(turn.model, ids.size, seen.shape[1])
        vectors = np.concatenate([seen, turn.embedded(ids)], axis=1)
        mask = np.ones(vectors.shape[:2], np.int64)
        read = turn.run(ENCODER, {"inputs_embeds": vectors, "attention_mask": mask})
        kept = {name: array for name, array in read.items() if name.startswith(PRESENT)}
        given = {"encoder_attention_mask": mask, "encoder_hidden_states": read["last_hidden_state"]}
        steps = turn.steps(given=given, kept=kept)

        def scorer(ids: NDArray[np.int64], rows: NDArray[np.intp]) -> NDArray[np.float32]:
            return steps({"inputs_embeds": turn.embedded(ids)}, rows)

        return Speech(
            scorer=scorer,
            prompt=(self._start,),
            rules=self._rules,
            read=self._read,
            told=partial(told, size_wh=turn.sight.size_wh) if places else None,
            early=self._early,
        )

    def _check(self, model: str, words: int, picture: int) -> None:
        """Refuse what the encoder cannot read at once; what the answer takes is the decoder's, which counts anew."""
        if words + picture > self._window:
            raise InputError(
                f"a task of {words} tokens was asked{f' of a picture of {picture}' if picture else ''}; {model} reads "
                f"{self._window} together; ask in fewer words"
            )

    def _read(self, ids: Sequence[int]) -> str:
        """Write ids as text; places are kept, marks of begin, end and padding are not."""
        silent = {*self._marks, *self._rules.ends}
        text: str = self._tokenizer.decode([one for one in ids if one not in silent], skip_special_tokens=False)
        return text


def prompted(question: str, model: str) -> tuple[str, str]:
    """Give a task's name, and what the model is asked then.

    Args:
        question: A task's name, such as `<OCR>`, and after it the words that some tasks take.
        model: For the message.

    Raises:
        InputError: If it is no task, or words are missing or too many.
    """
    found = _TASK.match(question)
    task, words = (f"<{found[1].upper()}>", question[found.end() :].strip()) if found else ("", "")
    if task not in TASKS:
        raise InputError(
            f"{question!r} was asked; {model} follows tasks and answers no free questions; its tasks are "
            f"{', '.join(TASKS)}"
        )
    takes = "{input}" in TASKS[task]
    if takes != bool(words):
        wanted = f"words after it, such as '{task} a red bus'" if takes else "nothing after it"
        raise InputError(f"{question!r} was asked; the task {task} takes {wanted}")
    return task, TASKS[task].format(input=words)


def told(text: str, size_wh: tuple[int, int]) -> str:
    """Write places as pixels: of `car<loc_52><loc_334><loc_932><loc_774>` in 640 x 480 make `car [33, 160, 596, 371]`.

    Args:
        text: What the model wrote.
        size_wh: Width and height of the upright picture.
    """

    def pixels(found: re.Match[str]) -> str:
        numbers = [
            int((int(number) + 0.5) * size_wh[place % 2] / _BINS)
            for place, number in enumerate(_PLACE.findall(found[0]))
        ]
        return f" {numbers} "

    written = _PLACES.sub(pixels, _MARKS.sub(" ", text))
    return re.sub(r"\s+", " ", written).strip()


def family(manifest: Manifest) -> Florence2:
    """Make the leaf for a model."""
    return Florence2(manifest)
