"""What a capability asks of an architecture, so that `Encoder`, `Detector` and `Captioner` know none by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.families.captioning import Speech, Turn

    Arrays = Mapping[str, NDArray[Any]]


class EncoderFamily(Protocol):
    """A picture tower and a text tower of one space, around their graphs; every method is pure."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of what `pixels` gives."""

    @property
    def size_hint(self) -> tuple[int, int] | None:
        """Width and height above which a JPEG may be decoded smaller; None where a processor reads every pixel."""

    @property
    def preprocessing(self) -> str:
        """A short text that is equal only where equal pictures become equal arrays."""

    def outputs(self, role: str, /) -> tuple[str, ...]:
        """The outputs that are wanted of the graph `image` or `text`."""

    def pixels(self, picture: Image.Image, /) -> NDArray[np.uint8]:
        """Resize and crop one upright picture as the model's own processor does: uint8 (h, w, 3)."""

    def image_arrays(self, pixels: NDArray[np.uint8], /) -> Arrays:
        """Give the picture graph's inputs for uint8 (n, h, w, 3)."""

    def text_arrays(self, texts: Sequence[str], /) -> Arrays:
        """Give the text graph's inputs for n texts.

        Raises:
            InputError: If there is no text, or one that is blank.
        """

    def vectors(self, role: str, outputs: Arrays, /) -> NDArray[np.float32]:
        """Give float32 (n, d) of unit length for the outputs of the graph `image` or `text`."""

    def reads(self, text: str, /) -> bool:
        """Whether the text is in a script that the model learned; the vector of another one says nothing."""

    @property
    def default_min_relevance(self) -> float:
        """The relevance below which a hit of a text query is not shown unless asked for."""

    def relevance(self, scores: NDArray[np.float32], text: str, considered: int, /) -> NDArray[np.float32] | None:
        """Give the chance, 0 to 1, that each picture is what was asked for; None where that is not calibrated.

        Args:
            scores: float32 (n,), cosines of the query with its best pictures, best first.
            text: The query.
            considered: How many pictures these are the best of.
        """


class CaptionerFamily(Protocol):
    """A graph that looks at a picture, and a decoder that speaks about it; it runs graphs only through its `Turn`."""

    @property
    def beams(self) -> int:
        """How many captions the model's own configuration follows side by side."""

    @property
    def answers(self) -> bool:
        """Whether it answers questions."""

    def caption(self, turn: Turn, max_words: int, /) -> Speech:
        """Look at a picture and begin to say what it shows.

        Args:
            turn: The picture, and whose graphs look at it.
            max_words: How many words will be read, for models that can be told.

        Raises:
            InputError: If this model makes no captions.
            DelegateError: If a graph cannot be placed, proven or run.
        """

    def answer(self, turn: Turn, question: str, /) -> Speech:
        """Look at a picture and begin to answer a question about it.

        Raises:
            InputError: If this model answers no questions, or not such ones.
            DelegateError: If a graph cannot be placed, proven or run.
        """


class DetectorFamily(Protocol):
    """What every detector has around its graph; every method is pure. It is one of the three kinds below."""

    @property
    def role(self) -> str:
        """The graph that looks at the picture."""

    @property
    def min_score(self) -> float:
        """The score below which a box is left out unless asked for."""

    @property
    def max_overlap(self) -> float:
        """Of two boxes of a label that share more than this, the worse one is left out."""

    def picture_arrays(self, picture: Image.Image, /) -> Arrays:
        """Give the graph's inputs for one upright picture, each (1, ...), as the model's own processor does."""

    def boxes(self, outputs: Arrays, size_wh: tuple[int, int], /) -> NDArray[np.float32]:
        """Give the boxes of one picture: float32 (a, 4), left, top, right, bottom in pixels of the picture.

        Args:
            outputs: Of the graph, each (1, ...).
            size_wh: Width and height of the upright picture.
        """


class ClosedSetFamily(DetectorFamily, Protocol):
    """A detector of a fixed set of classes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """English names of the classes, in the order of the scores."""

    def scores(self, outputs: Arrays, /) -> NDArray[np.float32]:
        """Give the scores of one picture: float32 (a, classes), 0 to 1."""


class OpenFamily(DetectorFamily, Protocol):
    """A detector that takes any words."""

    def reads(self, text: str, /) -> bool:
        """Whether the text is in a script that the model learned."""


class VectorFamily(OpenFamily, Protocol):
    """An open one whose boxes have vectors, which words, or a picture of the thing, are compared with outside."""

    def text_arrays(self, texts: Sequence[str], /) -> Arrays:
        """Give the inputs of the graph `text` for n texts."""

    def vectors(self, outputs: Arrays, /) -> NDArray[np.float32]:
        """Give what the graph `text` made of n texts: float32 (n, d)."""

    def example(self, outputs: Arrays, /) -> NDArray[np.float32]:
        """Give the vector of the thing that a picture shows: float32 (d,)."""

    def scores(self, outputs: Arrays, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compare the boxes of one picture with n vectors: float32 (a, n), 0 to 1."""


class PromptedFamily(OpenFamily, Protocol):
    """An open one whose graph takes words and picture together."""

    def prompts(self, texts: Sequence[str], /) -> list[Prompt]:
        """Put texts, in their order, into as few prompts as hold them."""

    def answers(self, outputs: Arrays, prompt: Prompt) -> NDArray[np.float32]:
        """Give the scores of the prompt's n texts: float32 (a, n), 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """Texts that go into a graph at once.

    Attributes:
        arrays: the graph's inputs for them.
        count: how many texts these are.
        places: numbers of the tokens of each text; empty where the graph gives a score for each text.
    """

    arrays: Arrays
    count: int
    places: tuple[NDArray[np.intp], ...] = ()
