"""One answer's way through a decoder graph: what was said so far stays as keys and values, as hub exports name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nearsight.engine import Engine
    from nearsight_npu import Decision
    from nearsight_npu.targets.target import Port

    Arrays = Mapping[str, NDArray[Any]]

PAST, PRESENT = "past_key_values.", "present."
OF_ENCODER = ".encoder."


class Steps:
    """Runs a decoder step by step for answers side by side.

    The graph's own inputs say what it is given: `attention_mask` and `position_ids` where it takes them, keys and
    values of the past (empty at first), `use_cache_branch` of merged exports. Keys and values of the encoder are the
    same for all answers and all steps: they come from outside, or from the first step.

    Source: names and meanings of the inputs are those of transformers.js and optimum.

    Args:
        engine: Whose graph.
        role: Which graph.
        runs: Takes up the delegate's account of each step.
        given: What every step takes, by input name; the first axis is 1.
        kept: Outputs `present.*.encoder.*` of another graph, for a decoder that does not make them itself.
    """

    def __init__(
        self,
        engine: Engine,
        role: str,
        runs: list[Decision],
        *,
        given: Arrays | None = None,
        kept: Arrays | None = None,
    ) -> None:
        self._engine, self._role, self._runs = engine, role, runs
        session = engine.session(role)
        self._ports = session.inputs
        self._given = dict(given or {})
        self._past = {name.replace(PRESENT, PAST, 1): array for name, array in (kept or {}).items()}
        self._lengths = {
            word: length
            for port in self._ports
            if port.name in self._given
            for word, length in zip(port.shape, self._given[port.name].shape, strict=False)
        }
        outputs = {port.name for port in session.outputs}
        self._pairs = {
            port.name: port.name.replace(PAST, PRESENT, 1) for port in self._ports if port.name.startswith(PAST)
        }
        if "logits" not in outputs:
            raise ModelError(
                f"graph {role!r} of {engine.manifest.name} gives {', '.join(sorted(outputs))} and no logits; "
                f"install it again: nearsight models verify {engine.manifest.name}"
            )
        self._pairs = {past: present for past, present in self._pairs.items() if present in outputs}
        self.length = 0

    def __call__(self, arrays: Arrays, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Go on from rows of the previous step.

        Args:
            arrays: The step's own inputs, (n, t) or (n, t, d): t new tokens of each of n answers.
            rows: (n,), which row of the previous step each answer goes on from.

        Returns:
            float32 (n, v): logits of the next token.

        Raises:
            DelegateError: If the graph cannot be placed, proven or run.
        """
        count, new = next(iter(arrays.values())).shape[:2]
        fed = {port.name: self._fed(port, arrays, rows, count, new) for port in self._ports}
        found, decision = self._engine.run(self._role, fed, ("logits", *self._pairs.values()))
        self._runs.append(decision)
        for past, present in self._pairs.items():
            # Later steps of merged exports give nothing of use for the encoder's keys and values.
            if OF_ENCODER not in past or past not in self._past:
                self._past[past] = found[present]
        self.length += new
        logits: NDArray[np.float32] = found["logits"][:, -1].astype(np.float32)
        return logits

    def _fed(self, port: Port, arrays: Arrays, rows: NDArray[np.intp], count: int, new: int) -> NDArray[Any]:
        total = self.length + new
        if port.name in arrays:
            array = arrays[port.name]
        elif port.name.startswith(PAST):
            array = self._recalled(port, rows, count)
        elif port.name == "attention_mask":
            array = np.ones((count, total))
        elif port.name == "position_ids":
            array = np.broadcast_to(np.arange(self.length, total), (count, new))
        elif port.name == "use_cache_branch":
            array = np.array([self.length > 0])
        elif port.name == "num_logits_to_keep":
            array = np.ones([1] * len(port.shape))
        elif port.name in self._given:
            array = self._repeated(self._given[port.name], count)
        else:
            raise ModelError(
                f"graph {self._role!r} of {self._engine.manifest.name} takes {port}, which its family does not know; "
                "install an export that this version of Nearsight reads: nearsight models list"
            )
        return np.asarray(array, dtype=port.dtype, order="C")

    def _recalled(self, port: Port, rows: NDArray[np.intp], count: int) -> NDArray[Any]:
        past = self._past.get(port.name)
        if past is None:
            heads, deep = port.shape[1], port.shape[3]
            if not isinstance(heads, int) or not isinstance(deep, int):
                raise ModelError(
                    f"graph {self._role!r} of {self._engine.manifest.name} takes {port}; the numbers of heads and of "
                    "features must be stated in it; export the model again: nearsight models export"
                )
            # Merged exports take the encoder's keys and values before there are any; some want them as long as it.
            length = self._lengths.get(port.shape[2], 0) if OF_ENCODER in port.name else 0
            return np.zeros((count, heads, length, deep))
        if OF_ENCODER in port.name:
            # The same for all answers: kept as many times as there are answers, until that number changes.
            self._past[port.name] = past = self._repeated(past, count)
            return past
        return past if np.array_equal(rows, np.arange(len(past))) else past[rows]

    @staticmethod
    def _repeated(array: NDArray[Any], count: int) -> NDArray[Any]:
        return array if len(array) == count else np.repeat(array[:1], count, axis=0)
