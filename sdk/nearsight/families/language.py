"""Language models for the agent: Qwen2.5, Qwen3 and TinyLlama follow a conversation and go on with it."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from nearsight.errors import InputError
from nearsight.families.captioning import DECODER, Speech, ends
from nearsight.families.generation import Rules, greedy, pieces
from nearsight.families.hubfiles import config, optional, tokenizer
from nearsight.families.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nearsight.engine import Engine
    from nearsight_models import Manifest
    from nearsight_npu import Decision

ROLES = ("system", "user", "assistant")
_LONGEST = 512
# How a message is written, by architecture, and how the answer to it begins. After the latter Qwen3 is told that it has
# thought already: an answer that begins with pages of thought is of no use to an agent that waits.
# Source: the chat templates in the tokenizer_config.json of Qwen2.5, Qwen3 (enable_thinking false) and TinyLlama Chat.
_CHATML = "<|im_start|>{role}\n{text}<|im_end|>\n"
_TEMPLATES = {
    "qwen2": (_CHATML, "<|im_start|>assistant\n"),
    "qwen3": (_CHATML, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    "llama": ("<|{role}|>\n{text}</s>\n", "<|assistant|>\n"),
}
# Source: what Qwen2.5's template says where there is no message of the system.
_SYSTEM = {"qwen2": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."}
_MARK = re.compile(r"</?[^<>\s]+>")


class Language:
    """Reads a language model whose one graph `decoder` takes input_ids, attention_mask, position_ids and a past.

    Args:
        manifest: The model's page.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._architecture = manifest.architecture
        self._tokenizer = tokenizer(manifest)
        added = self._tokenizer.get_added_tokens_decoder().values()
        written, begun = _TEMPLATES[self._architecture]
        template = "".join(written.format(role=role, text="") for role in ROLES) + begun
        self._marks = frozenset({mark.content for mark in added if mark.special} | set(_MARK.findall(template)))
        page: dict[str, Any] = config(manifest, "config.json") | optional(manifest, "generation_config.json")
        self._ends = ends(page, ())
        self._window = int(page.get("max_position_embeddings", 2048))
        self._name = manifest.name

    def reply(
        self, engine: Engine, messages: Sequence[tuple[str, str]], runs: list[Decision], *, longest: int = _LONGEST
    ) -> Iterator[str]:
        """Go on with a conversation, word by word along one beam.

        Args:
            engine: Whose graph runs.
            messages: (who, what) for each message, oldest first; who is `system`, `user` or `assistant`.
            runs: Takes up the delegate's account of each step.
            longest: The most tokens of the reply.

        Returns:
            Pieces of text, which together are the reply.

        Raises:
            InputError: If a message is none, or the conversation is longer than the model's window.
            DelegateError: If the graph cannot be placed, proven or run.
        """
        speech = self.speech(engine, messages, runs, longest=longest)
        return pieces(greedy(speech.scorer, speech.prompt, speech.rules), speech.read)

    def speech(
        self, engine: Engine, messages: Sequence[tuple[str, str]], runs: list[Decision], *, longest: int = _LONGEST
    ) -> Speech:
        """Read a conversation and begin to go on with it; see `reply`."""
        prompt = self.prompt(messages)
        if len(prompt) + longest > self._window:
            raise InputError(
                f"a conversation of {len(prompt)} tokens and a reply of {longest} were asked for; {self._name} sees "
                f"{self._window} together; leave old messages out"
            )
        steps = Steps(engine, DECODER, runs)

        def scorer(ids: NDArray[np.int64], rows: NDArray[np.intp]) -> NDArray[np.float32]:
            return steps({"input_ids": ids}, rows)

        return Speech(
            scorer=scorer,
            prompt=prompt,
            rules=Rules(ends=self._ends, longest=longest),
            read=partial(_read, self._tokenizer.decode),
        )

    def prompt(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        """Give the tokens of a conversation, up to where the reply begins.

        Raises:
            InputError: If there is no message, or one that is none.
        """
        wrong = [message for message in messages if message[0] not in ROLES or not isinstance(message[1], str)]
        if not messages or wrong:
            raise InputError(
                f"messages are pairs of who ({', '.join(ROLES)}) and a text, at least one; got "
                f"{wrong[0] if wrong else 'none'!r}"
            )
        written, begun = _TEMPLATES[self._architecture]
        said = [(role, unmarked(text, self._marks)) for role, text in messages]
        if said[0][0] != "system" and self._architecture in _SYSTEM:
            said = [("system", _SYSTEM[self._architecture]), *said]
        text = "".join(written.format(role=role, text=words) for role, words in said) + begun
        # The marks of ChatML are in the text; Llama's mark of a beginning comes from its tokenizer.
        specials = self._architecture == "llama"
        return tuple(self._tokenizer.encode(text, add_special_tokens=specials).ids)


def family(manifest: Manifest) -> Language:
    """Make the leaf for a model."""
    return Language(manifest)


def unmarked(text: str, marks: Iterable[str]) -> str:
    """Take marks of a conversation out of a message, which could otherwise speak for somebody else.

    What is left has none of them, not even one that came about where another was taken out.

    Example:
        >>> unmarked("hi <|im_<|im_end|>end|>there", ["<|im_end|>"])
        'hi there'
    """
    by_end: dict[str, list[list[str]]] = {}
    for mark in filter(None, marks):
        by_end.setdefault(mark[-1], []).append(list(mark))
    kept: list[str] = []
    for one in text:
        kept.append(one)
        # Only the newest character can complete a mark.
        for letters in by_end.get(one, ()):
            if kept[-len(letters) :] == letters:
                del kept[-len(letters) :]
                break
    return "".join(kept)


def _read(decode: Any, ids: Sequence[int]) -> str:
    text: str = decode(list(ids), skip_special_tokens=True)
    return text
