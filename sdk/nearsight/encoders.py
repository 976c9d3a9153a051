"""Turns pictures and texts into vectors of one space, so that a sentence finds a photograph."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.engine import AUTO, Engine
from nearsight.errors import InputError, translated
from nearsight.families.lookup import leaf
from nearsight.values import Embeddings, EncoderIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.families.family import Arrays, EncoderFamily
    from nearsight_npu import Decision, Policy

BATCH = 16
# Seconds that runs have to have taken before the batch of pictures is measured. Measuring took 1 s (nano) to 4 s
# (MobileCLIP2-S0, 30 ms a picture) on two busy cores, once on a machine, and the best batch, mostly of 4, takes 3 to
# 7 % less processor time than 16. So after a minute as much was lost as measuring takes; who runs less never waits.
WORTH_S = 60.0


class Encoder:
    """A picture tower and a text tower of one space; each is loaded at its first use.

    Args:
        model: Name of a model; `nearsight models list` shows them.
        target: Where to run; `auto` lets the delegate choose.
        precision: `auto`, or one of the precisions that the model's files come in.
        policy: How the delegate may behave.
        threads: Threads of one run.

    Raises:
        UnknownModelError: If no model bears this name.
        MissingFilesError: If one of its files is not there.
        InputError: If the model has no such precision.
    """

    def __init__(
        self,
        model: str = "nano",
        *,
        target: str = AUTO,
        precision: str = AUTO,
        policy: Policy | None = None,
        threads: int | None = None,
    ) -> None:
        self._engine = Engine.shared(
            model, capability="search", target=target, precision=precision, policy=policy, threads=threads
        )
        self._manifest = self._engine.manifest
        self._wished = precision

    @property
    def space(self) -> str:
        """Name of the space; vectors of two spaces cannot be compared."""
        return self._manifest.space

    @property
    def dimensions(self) -> int:
        """Width of a vector."""
        return self._manifest.dimensions

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the picture tower's input, in pixels."""
        return self._family.input_size

    @property
    def size_hint(self) -> tuple[int, int] | None:
        """What `read_image` is to be told of a picture for `pixels`; None where it has to decode all of it."""
        return self._family.size_hint

    @property
    def identity(self) -> EncoderIdentity:
        """Which files make the vectors; asking does not load them, and names the first choice until they are."""
        files = self._manifest.files["image"]
        loaded = self._engine.loaded("image")
        wished = loaded.precision if loaded else self._wished
        precision = wished if wished in files else next(iter(files))
        return EncoderIdentity(
            model=self._manifest.name,
            space=self.space,
            dimensions=self.dimensions,
            precision=precision,
            preprocessing=self._family.preprocessing,
            model_hash=files[precision].sha256,
        )

    def images(self, pictures: Sequence[Any]) -> Embeddings:
        """Encode pictures.

        Args:
            pictures: n of anything that `read_image` takes: paths, bytes, PIL pictures, arrays.

        Returns:
            float32 vectors (n, d) of unit length.

        Raises:
            InputError: If there is no picture.
            PictureUnreadableError: If one of them cannot be read.
            DelegateError: If the tower cannot be placed, proven or run.
        """
        from nearsight.pictures import read_image

        if isinstance(pictures, (str, bytes)) or not len(pictures):
            raise InputError("images() takes a list of pictures and got none; write images([picture])")
        read = [self.pixels(read_image(picture, size_hint=self.size_hint)) for picture in pictures]
        parts = [self.encode_pixels(np.stack(read[at : at + BATCH])) for at in range(0, len(read), BATCH)]
        vectors = np.concatenate([part.vectors for part in parts])
        return Embeddings(vectors=vectors, space=self.space, decision=parts[-1].decision)

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Fit one picture to the tower's input: uint8 (h, w, 3); pure, may run in many threads."""
        return self._family.pixels(picture)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Embeddings:
        """Encode fitted pictures.

        Args:
            pixels: uint8 (n, h, w, 3), as `pixels` makes them.

        Returns:
            float32 vectors (n, d) of unit length.
        """
        vectors, decision = self._vectors("image", self._family.image_arrays(pixels))
        return Embeddings(vectors=vectors, space=self.space, decision=decision)

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Encode texts in any of the model's languages.

        Args:
            texts: n texts.

        Returns:
            float32 vectors (n, d) of unit length.

        Raises:
            InputError: If there is no text, or one that is blank.
            DelegateError: If the tower cannot be placed, proven or run.
        """
        if isinstance(texts, str):
            raise InputError("texts() takes a list of texts; write texts([text])")
        parts = []
        for at in range(0, max(1, len(texts)), BATCH):
            vectors, decision = self._vectors("text", self._family.text_arrays(texts[at : at + BATCH]))
            parts.append(vectors)
        return Embeddings(vectors=np.concatenate(parts), space=self.space, decision=decision)

    def reads(self, text: str) -> bool:
        """Whether a text is in a script that the model's vocabulary has; the vector of another one says nothing."""
        return self._family.reads(text)

    @property
    def default_min_relevance(self) -> float:
        """The relevance below which a hit of a text query is left out by default; next to 0 if not calibrated."""
        return self._family.default_min_relevance

    def relevance(
        self, query: NDArray[np.float32], vectors: NDArray[np.float32], text: str | None, considered: int
    ) -> NDArray[np.float32] | None:
        """Judge the best pictures of one query.

        Args:
            query: float32 (d,), the query's vector.
            vectors: float32 (n, d), the pictures' vectors, best first, from the very best on.
            text: The query; None where a picture takes part, which is not calibrated.
            considered: How many pictures these are the best of: among many, an unrelated one may score high.

        Returns:
            float32 (n,), the chance that each picture is what was asked for, 0 for a text in a script that the model
            does not read; None without a text, and where the model's scores are not calibrated.
        """
        if text is None:
            return None
        if not self.reads(text):
            return np.zeros(len(vectors), np.float32)
        return self._family.relevance(vectors @ query, text, considered)

    def _vectors(self, role: str, arrays: Arrays) -> tuple[NDArray[np.float32], Decision]:
        """Run one tower, in as many runs as its batch makes of it; what its graph does not ask for is left out."""
        ports = {port.name: port.shape for port in self._engine.session(role).inputs}
        given = {name: array for name, array in arrays.items() if name in ports}
        count, wanted = max(map(len, given.values())), self._family.outputs(role)
        fixed = {shape[0] for shape in ports.values() if shape and isinstance(shape[0], int)}
        (step,) = fixed or {self._batch(role, given, count)}
        parts, decisions = [], []
        for start in range(0, count, step):
            # The last one of fixed batches is filled up with its own last row.
            rows = np.minimum(np.arange(start, start + step if fixed else min(start + step, count)), count - 1)
            # Of the other tower's input, where one graph has both, there is one sample: every row is that.
            some = given if step == count else {name: array[rows % len(array)] for name, array in given.items()}
            outputs, decision = self._engine.run(role, some, wanted)
            parts.append(self._family.vectors(role, outputs))
            decisions.append(decision)
        return np.concatenate(parts)[:count], _together(decisions, step)

    def _batch(self, role: str, given: Arrays, count: int) -> int:
        """Say how many of these go into one run: of pictures as many as are the quickest, of texts all.

        The longest text of a run sets the length of all, so nothing that is measured once holds for texts; and where
        one graph has both towers, it is given one sample for the other.
        """
        if role != "image" or count == 1 or any(len(array) != count for array in given.values()):
            return count
        with translated():
            return min(count, self._engine.session(role).batch(BATCH, after_s=WORTH_S))

    @cached_property
    def _family(self) -> EncoderFamily:
        family: EncoderFamily = leaf(self._manifest)
        return family


def _together(decisions: Sequence[Decision], step: int) -> Decision:
    """Give one decision for one answer's runs."""
    if len(decisions) == 1:
        return decisions[0]
    from nearsight.sight import together

    decision = together(decisions[-1], decisions)
    return replace(decision, placement=f"{decision.placement}; {step} at a time")
