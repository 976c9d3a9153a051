"""Nano's own captioner: the search tower's grid and the detector's boxes in, words out, surest among beams."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nearsight.caption.decode import Rules, spoken, written
from nearsight.caption.findings import listed
from nearsight.caption.grounding import Grounding
from nearsight.caption.nouns import CHINESE
from nearsight.caption.said import Caption, Evidence
from nearsight.encoders import Encoder
from nearsight.engine import Engine
from nearsight.errors import InputError, ModelError, translated
from nearsight.sight import together

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from nearsight.caption.decode import Pieces
    from nearsight.sight import Sight
    from nearsight_npu import Decision

TOP, SEE, STEP = "top", "see", "step"


class Nano:
    """A decoder over the picture tower of search, checked by detector and encoder; each is loaded at its first use.

    Args:
        engine: The decoder's.
        wishes: Target, policy and threads, as the constructor of `Captioner` was told.
        beams: How many captions are followed side by side; None takes as many as the page says.

    Raises:
        ModelError: If the picture tower is of another space than the decoder was trained on.
    """

    answers = False

    def __init__(self, engine: Engine, wishes: dict[str, Any], beams: int | None) -> None:
        self._engine, self._manifest, self._settings = engine, engine.manifest, engine.manifest.settings
        self._beams = self._settings.get("beams", 1) if beams is None else beams
        self._encoder = Encoder(self._settings["trunk"], **wishes)
        self.tower = Engine.shared(self._settings["trunk"], capability="search", **wishes)
        self._detector = Engine.shared(self._settings["detector"], capability="detect", **wishes)
        self.grounding = Grounding(self._manifest, self.tower, self._detector)
        trained_on, there = self._settings["space"], self.tower.manifest.space
        if there != trained_on:
            raise ModelError(
                f"model {self._manifest.name!r} captions from the picture tower of space {trained_on!r}, and the tower "
                f"of {self._settings['trunk']!r} is of {there!r}; install files of one version: "
                "pip install --force-reinstall nearsight"
            )

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that it speaks."""
        return tuple(self._settings["starts"])

    @cached_property
    def identity(self) -> tuple[object, ...]:
        """What a caption depends on besides its picture and prompt: the beams, and the hashes of all files."""
        pages = [self._manifest, self.tower.manifest, self._detector.manifest]
        hashes = (file.sha256 for page in pages for variants in page.files.values() for file in variants.values())
        return (self._beams, *hashes)

    def said(self, sight: Sight, language: str, max_words: int, question: str) -> Caption:
        """Caption a picture; see `Speaker`."""
        if question:
            raise InputError(
                f"a question was asked; {self._manifest.name} captions and answers none; take a model that answers, "
                "such as blip-vqa-base or smolvlm-256m (see: nearsight models list)"
            )
        decisions: list[Decision] = []
        evidence = self.evidence(sight, language, max_words, decisions)
        checks: list[Decision] = []
        grounding = self.grounding.verdicts(sight, evidence.text, language, checks)
        return Caption(
            text=evidence.text,
            language=language,
            confidence=self._confidence(evidence, language),
            grounding=grounding,
            decision=together(decisions[-1], [*checks, *decisions]),
        )

    def streamed(self, sight: Sight, language: str, max_words: int, question: str) -> Generator[str, None, Caption]:
        """Caption a picture; the sentence comes in one piece, since beams are compared when they have ended."""
        said = self.said(sight, language, max_words, question)
        yield said.text
        return said

    def evidence(self, sight: Sight, language: str, max_words: int, decisions: list[Decision]) -> Evidence:
        """Say what a picture shows, with what confidence is judged by."""
        tower, looked = sight.seen(self.tower, "image")
        decisions.append(looked)
        seen, rules = self._seen(sight, decisions), self._rules(language)
        said = [
            one
            for beams in sorted({1, self._beams})
            for one in spoken(_Steps(self._engine, seen, decisions), self._pieces, rules, max_words, beams)
        ]
        texts = [written(self._pieces.decode(list(one.ids)).strip()) for one in said]
        meant = self._encoder.texts(texts)
        # The decoder's step stays the last: what all runs took is told as its decision.
        decisions[:0] = [meant.decision] if meant.decision else []
        agreements = meant.vectors @ tower["embedding"][0]
        best = int(agreements.argmax())
        if agreements[best] - agreements[0] <= self._settings.get("gain", 0.0):
            best = 0  # what a single beam finds is the likelier by itself
        return Evidence(text=texts[best], sureness=said[best].sureness, agreement=float(agreements[best]))

    def _seen(self, sight: Sight, decisions: list[Decision]) -> NDArray[np.float32]:
        """Give what every step looks at: two trunks' cells and the detector's surest boxes."""
        tower, _ = sight.seen(self.tower, "image")
        detected, first = sight.seen(self._detector, "detect")
        most_shared = self._detector.manifest.settings["max_overlap"]
        findings = listed(detected["boxes"][0], detected["scores"][0], most_shared)
        top, second = self._engine.run(TOP, {"lower": tower["lower"]}, ("cells",))
        given = {"cells": top["cells"], "scene": detected["scene"], "findings": findings[None]}
        found, third = self._engine.run(SEE, given, ("seen",))
        decisions += [first, second, third]
        seen: NDArray[np.float32] = found["seen"]
        return seen

    def _rules(self, language: str) -> Rules:
        settings = self._settings
        return Rules(
            start=settings["starts"][language],
            end=settings["end"],
            silent=tuple(settings["silent"]),
            longest=settings["longest"],
            by_characters=language == CHINESE,
        )

    def _confidence(self, evidence: Evidence, language: str) -> float:
        """A logistic function of mean log probability and agreement, fitted on photographs kept from the encoder."""
        sureness, agreement, intercept = self._settings["confidence"][language]
        logit = sureness * math.log(evidence.sureness) + agreement * evidence.agreement + intercept
        return round(1 / (1 + math.exp(-logit)), 4)

    @cached_property
    def _pieces(self) -> Pieces:
        import sentencepiece

        vocabulary = self._manifest.files["vocabulary"]["spm"]
        with translated():
            vocabulary.check()
        return cast("Pieces", sentencepiece.SentencePieceProcessor(model_file=str(vocabulary.path)))


class _Steps:
    """One caption's way through the step graph: what was said so far stays as keys and values."""

    def __init__(self, engine: Engine, seen: NDArray[np.float32], decisions: list[Decision]) -> None:
        self._engine, self._seen, self._decisions = engine, seen, decisions
        count, rows, heads, _, deep = seen.shape
        self._past = np.zeros((count, rows, heads, 0, deep), np.float32)

    def __call__(self, latest: NDArray[np.int64], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        arrays: dict[str, NDArray[Any]] = {
            "ids": latest[:, None],
            "seen": np.repeat(self._seen, len(latest), axis=0),
            "past": self._past[rows],
        }
        found, decision = self._engine.run(STEP, arrays, ("logits", "present"))
        self._past = found["present"]
        self._decisions.append(decision)
        logits: NDArray[np.float32] = found["logits"]
        return logits
