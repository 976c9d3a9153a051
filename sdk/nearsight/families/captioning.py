"""What a captioner's leaf is given and gives: one picture to look at, and all that is needed to speak about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from nearsight.errors import ModelError
from nearsight.families.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nearsight.engine import Engine
    from nearsight.families.generation import Rules, Scorer
    from nearsight.sight import Sight
    from nearsight_npu import Decision

    Arrays = Mapping[str, NDArray[Any]]

VISION, DECODER = "vision", "decoder"
EMBED = "embed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer about one picture, before it is said.

    Attributes:
        engine: Whose graphs run.
        sight: The picture.
        runs: The delegate's account of each run so far.
    """

    engine: Engine
    sight: Sight
    runs: list[Decision] = field(default_factory=list)

    @property
    def model(self) -> str:
        """Name of the model, for messages."""
        return self.engine.manifest.name

    def run(self, role: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Run a graph on those of the arrays that it takes, in the types that it takes them in.

        Exports of one architecture differ in both: some need a mask, some come in half precision.

        Raises:
            ModelError: If the graph takes an array that is not among them.
            DelegateError: If the graph cannot be placed, proven or run.
        """
        ports = self.engine.session(role).inputs
        unknown = [str(port) for port in ports if port.name not in arrays]
        if unknown:
            raise ModelError(
                f"graph {role!r} of {self.model} takes {', '.join(unknown)}, which its family does not know; "
                "install an export that this version of Nearsight reads: nearsight models list"
            )
        fed = {port.name: np.asarray(arrays[port.name], dtype=port.dtype, order="C") for port in ports}
        found, decision = self.engine.run(role, fed)
        self.runs.append(decision)
        return found

    def steps(self, *, given: Arrays | None = None, kept: Arrays | None = None) -> Steps:
        """Begin to step through the decoder; see `Steps`."""
        return Steps(self.engine, DECODER, self.runs, given=given, kept=kept)

    def embedded(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the vectors (n, t, d) of ids (n, t)."""
        vectors: NDArray[np.float32] = self.run(EMBED, {"input_ids": ids})["inputs_embeds"].astype(np.float32)
        return vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """An answer that is about to be said.

    Attributes:
        scorer: gives the logits of next tokens; see `nearsight.families.generation`.
        prompt: ids that its first call takes.
        rules: what the answer keeps to.
        read: makes a text of ids; more ids only make it longer.
        told: makes what a person reads of the whole text; None where that is the text itself.
        one_sentence: whether the answer ends with its first sentence, since this model likes to go on.
        early: whether a beam search stops as soon as enough answers have ended.
    """

    scorer: Scorer
    prompt: tuple[int, ...]
    rules: Rules
    read: Callable[[Sequence[int]], str]
    told: Callable[[str], str] | None = None
    one_sentence: bool = False
    early: bool = False


class Looks:
    """Remembers what a graph saw in a picture for as long as somebody holds its `Sight`."""

    def __init__(self) -> None:
        self._seen: WeakKeyDictionary[Sight, dict[str, Arrays]] = WeakKeyDictionary()

    def seen(self, sight: Sight, view: str, look: Callable[[], Arrays]) -> Arrays:
        """Give what was seen in this view of the picture, or look."""
        views = self._seen.setdefault(sight, {})
        if view not in views:
            views[view] = look()
        return views[view]


def ends(configuration: Mapping[str, Any], default: Sequence[int]) -> tuple[int, ...]:
    """Read `eos_token_id`, which is one id, several, or missing."""
    stated = configuration.get("eos_token_id")
    if stated is None:
        return tuple(default)
    return tuple(map(int, stated)) if isinstance(stated, list) else (int(stated),)
