"""A detector that takes any words: labels become vectors that its boxes are compared with, or go into its graph."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

import nearsight_models
from nearsight.detect.boxes import EXAMPLE, TEXT
from nearsight.detect.labels import Asked, check_labels, example_names
from nearsight.detect.lexicon import meaning, negates
from nearsight.detect.parts import Part, Plain
from nearsight.errors import InputError, translated
from nearsight.names import HAN, Names
from nearsight.sight import sight_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.engine import Engine
    from nearsight.families.family import OpenFamily, PromptedFamily, VectorFamily
    from nearsight_models import Manifest
    from nearsight_npu import Decision

TEXT_ROLE = "text"
BATCH = 16  # texts in one run of the text graph
MOST = 20_000  # vectors that are remembered


class _Open:
    """What both kinds share: which labels can be asked, and how they are said."""

    classes: tuple[str, ...] = ()

    def __init__(self, manifest: Manifest, leaf: OpenFamily) -> None:
        self._manifest, self._reads = manifest, leaf.reads
        self.chances = Plain(least=leaf.min_score)

    def _texts(self, labels: Sequence[Any]) -> list[Asked]:
        """Say how each text is asked; one that is a negation, or of a script the model did not learn, is not."""
        check_labels(labels)
        return [self._asked(text) for text in dict.fromkeys(label for label in labels if isinstance(label, str))]

    def _asked(self, text: str) -> Asked:
        said = text if "zh" in self._manifest.languages or not HAN.search(text) else english(text)
        if said is None or negates(text) or not self._reads(said):
            return Asked(label=text)
        return Asked(label=text, route=TEXT, said=said)


class Outside(_Open):
    """A detector whose boxes have vectors, which words and pictures are compared with outside the graph.

    Args:
        engine: Its graphs, `image` and `text`.
        leaf: Its leaf.
    """

    def __init__(self, engine: Engine, leaf: VectorFamily) -> None:
        super().__init__(engine.manifest, leaf)
        self._engine, self._leaf = engine, leaf
        self._known: dict[str, NDArray[np.float32]] = {}

    def resolve(self, labels: Sequence[Any]) -> tuple[list[Asked], list[Decision]]:
        """Give each text its vector, which is remembered, and each picture that of the thing it shows."""
        texts = self._texts(labels)
        vectors, decisions = self._vectors([one.said for one in texts if one.said])
        asked = [replace(one, vector=vectors[one.said]) if one.said else one for one in texts]
        for name, picture in example_names(labels):
            one, decision = self._example(picture, name)
            asked.append(one)
            decisions.append(decision)
        return asked, decisions

    def parts(self, rows: Sequence[tuple[Asked, float]]) -> list[Part]:
        """Compare one look at the picture with all labels."""
        judged = [(one, least) for one, least in rows if one.vector is not None]
        if not judged:
            return []
        vectors = np.stack([one.vector for one, _ in judged if one.vector is not None])
        numbered = [(replace(one, columns=(column,)), least) for column, (one, least) in enumerate(judged)]
        return [Part(rows=numbered, scores=partial(self._leaf.scores, vectors=vectors))]

    def _vectors(self, said: Sequence[str]) -> tuple[dict[str, NDArray[np.float32]], list[Decision]]:
        known = self._known
        rows = {text: known[text] for text in dict.fromkeys(said) if text in known}
        new = [text for text in dict.fromkeys(said) if text not in rows]
        decisions = []
        for at in range(0, len(new), BATCH):
            group = new[at : at + BATCH]
            outputs, decision = self._engine.run(TEXT_ROLE, self._leaf.text_arrays(group))
            decisions.append(decision)
            rows |= dict(zip(group, self._leaf.vectors(outputs), strict=True))
        if len(known) + len(new) > MOST:
            self._known = known = {}  # another thread may still read the old one
        known.update((text, rows[text]) for text in new[-MOST:])
        return rows, decisions

    def _example(self, picture: Any, name: str) -> tuple[Asked, Decision]:
        sight, leaf = sight_of(picture), self._leaf
        outputs, decision = sight.seen(self._engine, leaf.role, lambda: leaf.picture_arrays(sight.picture()))
        return Asked(label=name, route=EXAMPLE, vector=leaf.example(outputs)), decision


class Inside(_Open):
    """A detector whose graph takes words and picture together.

    Args:
        manifest: Its page.
        leaf: Its leaf.
    """

    def __init__(self, manifest: Manifest, leaf: PromptedFamily) -> None:
        super().__init__(manifest, leaf)
        self._leaf = leaf

    def resolve(self, labels: Sequence[Any]) -> tuple[list[Asked], list[Decision]]:
        """Say how each text is asked.

        Raises:
            InputError: If a label is a picture, which goes into no such graph.
        """
        asked = self._texts(labels)
        if any(not isinstance(label, str) for label in labels):
            raise InputError(
                f"model {self._manifest.name!r} takes texts as labels; got a picture; "
                "ask Detector('owlv2-base') as we export it, or Detector('nano')"
            )
        return asked, []

    def parts(self, rows: Sequence[tuple[Asked, float]]) -> list[Part]:
        """Put labels into as few prompts as hold them."""
        judged = [(one, least) for one, least in rows if one.said]
        parts, at = [], 0
        for prompt in self._leaf.prompts([one.said for one, _ in judged]) if judged else []:
            held = judged[at : at + prompt.count]
            numbered = [(replace(one, columns=(column,)), least) for column, (one, least) in enumerate(held)]
            parts.append(Part(rows=numbered, scores=partial(self._leaf.answers, prompt=prompt), words=prompt.arrays))
            at += prompt.count
        return parts


def english(text: str) -> str | None:
    """Say a Chinese label in English: a class of the lexicon, or a thing of nano's list of names; None for others.

    Example:
        >>> english("猫"), english("红色的卡车")
        ('cat', None)
    """
    found = meaning(text)
    if found is not None and found.exact and len(found.classes) == 1:
        return found.classes[0]
    return _names().english(text)


@cache
def _names() -> Names:
    with translated():
        file = nearsight_models.load("nano", "search").files["names"]["tsv"]
        file.check()
    return Names(file.path)
