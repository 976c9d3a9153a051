"""What each label of a question is answered by: classes, crops that look like a text or a picture, or nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from nearsight.detect.boxes import CLASS, CROP, EXAMPLE, SIMILAR
from nearsight.detect.lexicon import forms, meaning, names_nothing, normalised
from nearsight.errors import InputError
from nearsight.sight import Sight, sight_of
from nearsight.tokens import cleaned

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from numpy.typing import NDArray

    from nearsight.detect.chances import Chances
    from nearsight.detect.nearness import Nearness
    from nearsight.detect.words import Words
    from nearsight_npu import Decision

MOST = 20_000  # texts whose meaning is remembered


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """One label, and what answers it.

    Attributes:
        label: the text as it was given; of a picture the name of its file, or a number.
        route: `class`, `similar`, `crop`, `example` or `text`; empty where nothing can be said.
        columns: numbers of the scores that answer it, those of the model's classes or its own; empty where crops do.
        share: what the classes' chance is multiplied by.
        vector: float32 (d,), what crops or a detector's own boxes are compared with; None where there is none.
        said: how a detector that takes any words is asked; empty where it is not.
    """

    label: str
    route: str = ""
    columns: tuple[int, ...] = ()
    share: float = 1.0
    vector: NDArray[np.float32] | None = None
    said: str = ""


class Labels:
    """Finds out what labels mean to one detector, and remembers it.

    Args:
        classes: English names of the model's classes.
        near: Judges words that the lexicon does not have.
        words: The family's encoder.
        chances: The detector's curves.
    """

    def __init__(self, classes: Sequence[str], near: Nearness, words: Words, chances: Chances) -> None:
        self._numbers = {name: number for number, name in enumerate(classes)}
        # Classes that the lexicon has never heard of, as a model that was trained further may have them.
        self._unlisted = {normalised(name): number for number, name in enumerate(classes) if meaning(name) is None}
        self._near, self._words, self._chances = near, words, chances
        self._known: dict[str, Asked] = {}

    def resolve(self, labels: Sequence[Any]) -> tuple[list[Asked], list[Decision]]:
        """Say for every label, each text once, what answers it; and what runs that took.

        Raises:
            InputError: If there is no label, or one that is neither text nor picture, or blank.
            PictureUnreadableError: If an example cannot be read.
            DelegateError: If the encoder is needed and cannot be placed, proven or run.
        """
        check_labels(labels, self._known)
        texts = list(dict.fromkeys(label for label in labels if isinstance(label, str)))
        if len(self._known) + len(texts) > MOST:
            self._known = {}  # another thread may still read the old one
        known = self._known
        decisions = self._learn([text for text in texts if text not in known], known)
        shown = []
        for name, example in example_names(labels):
            outputs, decision = sight_of(example).seen(self._words.tower, "image")
            shown.append(Asked(label=name, route=EXAMPLE, vector=outputs["embedding"][0]))
            decisions.append(decision)
        return [*(known[text] for text in texts), *shown], decisions

    def _learn(self, texts: list[str], known: dict[str, Asked]) -> list[Decision]:
        other = []
        for text in texts:
            found = meaning(text) or meaning(self._words.english(text) or "")
            columns = tuple(self._numbers[name] for name in found.classes if name in self._numbers) if found else ()
            own = next((self._unlisted[form] for form in forms(normalised(text)) if form in self._unlisted), None)
            if own is not None:
                known[text] = Asked(label=text, route=CLASS, columns=(own,))
            elif found and columns:
                route, share = (CLASS, 1.0) if found.exact else (SIMILAR, self._chances.narrower)
                known[text] = Asked(label=text, route=route, columns=columns, share=share)
            elif names_nothing(text) or not self._words.encoder.reads(text):
                known[text] = Asked(label=text)
            else:
                other.append(text)
        if not other:
            return []
        vectors, decisions = self._words.encoded(other)
        for text, column, vector in zip(other, self._near.nearest(other), vectors, strict=True):
            known[text] = (
                Asked(label=text, route=CROP, vector=vector)
                if column is None
                else Asked(label=text, route=SIMILAR, columns=(column,), share=self._chances.near)
            )
        return decisions


def example_names(labels: Iterable[Any]) -> list[tuple[str, Any]]:
    """Give every picture among labels a name of its own.

    It is the name of its file; with that of its folder, or a number, where another label is called so; and without a
    file "example 1", its number among the pictures.
    """
    labels = list(labels)
    taken = {label for label in labels if isinstance(label, str)}
    named = []
    for number, example in enumerate((label for label in labels if not isinstance(label, str)), 1):
        if isinstance(example, os.PathLike):
            path = Path(os.fspath(example))
            offered = [path.name, f"{path.absolute().parent.name}/{path.name}"]
        else:
            offered = [f"example {number}"]
        offered += [f"{offered[0]} ({count})" for count in range(2, len(labels) + 2)]
        name = next(name for name in offered if name not in taken)
        taken.add(name)
        named.append((name, example))
    return named


def check_labels(labels: Any, known: Container[str] = ()) -> None:
    """Refuse labels that are none.

    Args:
        labels: As a caller gave them.
        known: Texts that were looked at before.

    Raises:
        InputError: If there is no label, or one that is neither text nor picture, or blank.
    """
    if isinstance(labels, (str, bytes, np.ndarray, Image.Image)) or not hasattr(labels, "__len__"):
        raise InputError("labels is a list of texts or pictures; write ['car', 'person']")
    wrong = [
        label
        for label in labels
        if not (
            label in known or cleaned(label)
            if isinstance(label, str)
            else isinstance(label, (os.PathLike, Image.Image, np.ndarray, Sight))
        )
    ]
    if wrong or not len(labels):
        what = f"{type(wrong[0]).__name__} {wrong[0]!r:.80}" if wrong else "nothing"
        raise InputError(
            f"labels are texts such as 'car' or '汽车', or pictures; got {what}; give at least one and no blank one"
        )
