"""A full-size captioner: its family looks and scores, generation speaks, nano's probes check the nouns."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from unicodedata import category

import nearsight_models
from nearsight.caption.grounding import Grounding
from nearsight.caption.nouns import CHINESE
from nearsight.caption.said import Caption
from nearsight.engine import Engine
from nearsight.errors import InputError, translated
from nearsight.families.captioning import Turn
from nearsight.families.generation import beamed, greedy, pieces
from nearsight.families.lookup import leaf
from nearsight.sight import together

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from nearsight.caption.said import Evidence
    from nearsight.families.captioning import Speech
    from nearsight.families.family import CaptionerFamily
    from nearsight.sight import Sight
    from nearsight_npu import Decision

JUDGE = "nano"  # whose tower and detector check nouns and tell whether two pictures look the same
TOKENS_OF_A_WORD = 8  # at most, as a whole; a model that babbles one endless word is stopped by it
_SENTENCE = re.compile(r"(?P<stop>[.!?])[\"')”’]*(?=\s+(?P<next>\w))|\n|[。！？]")
_BEFORE = re.compile(r"[\w.]*\Z")
# After these, and after a single capital letter, a stop ends no sentence.
_ABBREVIATIONS = {"mr", "mrs", "ms", "dr", "st", "no", "vs", "etc", "e.g", "i.e"}
_CHARACTER = re.compile(r"\w")
_WORD = re.compile(r"\S+")


class Large:
    """Speaks through the leaf of `nearsight.families` that reads the model's architecture.

    Args:
        engine: The model's graphs.
        wishes: Target, policy and threads, as the constructor of `Captioner` was told.
        beams: How many captions are followed side by side; None takes as many as the model's own configuration says.

    Raises:
        ModelError: If no leaf reads the architecture, or one of the model's own files cannot be followed.
    """

    def __init__(self, engine: Engine, wishes: dict[str, Any], beams: int | None) -> None:
        self._engine, self._wishes = engine, wishes
        self._family: CaptionerFamily = leaf(engine.manifest)
        self._beams = self._family.beams if beams is None else beams

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that it speaks."""
        return self._engine.manifest.languages

    @property
    def answers(self) -> bool:
        """Whether it answers questions."""
        return self._family.answers

    @cached_property
    def tower(self) -> Engine:
        """The tower that tells whether two pictures look the same."""
        return Engine.shared(JUDGE, capability="search", **self._wishes)

    @cached_property
    def grounding(self) -> Grounding:
        """What checks nouns."""
        with translated():
            page = nearsight_models.load(JUDGE, "caption")
        return Grounding(page, self.tower, Engine.shared(JUDGE, capability="detect", **self._wishes))

    @cached_property
    def identity(self) -> tuple[object, ...]:
        """What an answer depends on besides its picture and prompt: the beams, and the hashes of all files."""
        return (self._beams, *(file.sha256 for file in self._engine.manifest.every_file()))

    def said(self, sight: Sight, language: str, max_words: int, question: str) -> Caption:
        """Caption a picture, or answer a question about it; see `Speaker`."""
        turn = Turn(engine=self._engine, sight=sight)
        speech = self._begun(turn, max_words, question)
        if self._beams == 1:
            text = "".join(self._growing(speech, language, max_words))
        else:
            tokens = beamed(speech.scorer, speech.prompt, speech.rules, self._beams, early=speech.early)
            text = "".join(_limited([speech.read(tokens).strip()], language, max_words, speech))
        return self._judged(turn, speech, text, language, question)

    def streamed(self, sight: Sight, language: str, max_words: int, question: str) -> Generator[str, None, Caption]:
        """Caption or answer piece by piece; among several beams the best is known only at the end. See `Speaker`."""
        if self._beams > 1:
            whole = self.said(sight, language, max_words, question)
            yield whole.text
            return whole
        turn = Turn(engine=self._engine, sight=sight)
        speech = self._begun(turn, max_words, question)
        text = ""
        for piece in self._growing(speech, language, max_words):
            text += piece
            if speech.told is None:
                yield piece
        said = self._judged(turn, speech, text, language, question)
        if speech.told is not None:
            yield said.text
        return said

    def evidence(self, sight: Sight, language: str, max_words: int, decisions: list[Decision]) -> Evidence:
        """Refuse: confidence is calibrated for nano only."""
        del sight, language, max_words, decisions
        raise InputError(
            f"evidence of {self._engine.manifest.name} was asked for; only nano's confidence is calibrated; "
            "take Captioner('nano')"
        )

    def _begun(self, turn: Turn, max_words: int, question: str) -> Speech:
        family = self._family
        speech = family.answer(turn, question) if question else family.caption(turn, max_words)
        longest = min(speech.rules.longest, TOKENS_OF_A_WORD * (max_words + 1))
        return replace(
            speech,
            rules=replace(speech.rules, longest=longest),
            read=lambda tokens: printable(speech.read(tokens)),
        )

    @staticmethod
    def _growing(speech: Speech, language: str, max_words: int) -> Iterator[str]:
        return _limited(
            pieces(greedy(speech.scorer, speech.prompt, speech.rules), speech.read), language, max_words, speech
        )

    def _judged(self, turn: Turn, speech: Speech, text: str, language: str, question: str) -> Caption:
        told = text if speech.told is None else speech.told(text)
        checks: list[Decision] = []
        # An answer may name what is not there ("no dog"); a caption names what it takes to be there.
        judged = not question and language in self.grounding.languages
        grounding = self.grounding.verdicts(turn.sight, told.lower(), language, checks) if judged else ()
        return Caption(
            text=told,
            language=language,
            confidence=None,
            grounding=grounding,
            decision=together(turn.runs[-1], [*checks, *turn.runs]),
        )


def printable(text: str) -> str:
    r"""Leave out control characters other than line breaks and tabs: what a model writes goes to terminals.

    Example:
        >>> printable("a \x1b[31mred dog\n")
        'a [31mred dog\n'
    """
    return "".join(one for one in text if one in "\n\t" or category(one) != "Cc")


def _limited(parts: Iterable[str], language: str, most: int, speech: Speech) -> Iterator[str]:
    """Let a growing text through up to its number of words, and to the first sentence's end if it has to be one."""
    text = ""
    for part in parts:
        begin, text = len(text), text + part
        stop = _stop(text, language, most, one_sentence=speech.one_sentence)
        if stop is None:
            yield part
            continue
        kept = text[:stop].rstrip()
        if len(kept) > begin:
            yield kept[begin:]
        return


def _stop(text: str, language: str, most: int, *, one_sentence: bool) -> int | None:
    """Say where a text has to end; None while it may go on."""
    stops = []
    words = list((_CHARACTER if language == CHINESE else _WORD).finditer(text))
    if len(words) > most:
        stops.append(words[most].start())
    if one_sentence and (end := sentence_end(text)) is not None:
        stops.append(end)
    return min(stops, default=None)


def sentence_end(text: str) -> int | None:
    """Say where the first sentence ends, if something follows it; None where it goes on, or may yet.

    Example:
        >>> text = "Mr. T. stands in St. Paul's. It rains."
        >>> text[: sentence_end(text)]
        "Mr. T. stands in St. Paul's."
    """
    for found in _SENTENCE.finditer(text):
        if not found["stop"] or (found["next"].isupper() and not _abbreviated(text[: found.start()], found["stop"])):
            return found.end()
    return None


def _abbreviated(before: str, stop: str) -> bool:
    """Whether a stop belongs to the word before it."""
    found = _BEFORE.search(before)
    word = found[0] if found else ""
    initial = word.rpartition(".")[2]
    return stop == "." and (word.lower() in _ABBREVIATIONS or (len(initial) == 1 and initial.isupper()))
