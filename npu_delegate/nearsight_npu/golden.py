"""Golden sets: a few inputs with the answers a model gave where it was made, to prove it by wherever it runs.

The file is an ordinary numpy archive (`.npz`, no pickles) with these entries:

    in/NAME      one per input of the graph:  (n, ...) in the graph's own type; the first axis counts samples, n >= 2
    out/NAME     one per output to compare:   (n, ...) what the reference gave for them
    other        optional: (k, d) vectors of the partner tower (for pictures: of k texts), to check the order in which
                 the ranked output puts them; without it the samples are ordered against each other
    meta         a 0-d string of JSON:
                 {"format": "nearsight-golden-1",
                  "rank": "embedding",                    the output whose order is checked, (n, d); null for none
                  "floors": {"int8": {"cosine": 0.97, "centred": 0.95, "order": 0.9}, ...},
                  "latency_ms": {"int8": 6.1, ...}}       optional: what a run took where the set was made

Choose inputs that differ: in colour too, or swapped channels cannot be seen. `prove` reports what an honest model
reaches; set the floors a little below that.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.errors import UnreadableGoldenError, one_line

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from nearsight_npu.arrays import Array

FORMAT = "nearsight-golden-1"
UNSTATED = "unstated"
# What reading a damaged archive, array or JSON raises.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What a precision has to reach.

    Attributes:
        cosine: the least cosine between an answer and the golden one, over all samples.
        centred: the least cosine after the golden mean is taken from both, over all samples together: what tells one
            input from another has to agree, not only what all answers share.
        order: the least share of clearly separated pairs of partners that keep their order.
    """

    cosine: float
    centred: float
    order: float

    def __post_init__(self) -> None:
        for name in ("cosine", "centred", "order"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise UnreadableGoldenError(
                    f"a floor of {name} = {value!r} was stated; it has to be above 0 and at most 1; state another one"
                )


# For a precision whose floor a golden set does not state. On EfficientNet-Lite0 and 8 photographs an honest INT8
# reaches cosine .991 and centred .992; the mildest damage tried (one residual block dropped) leaves .965 and .945.
DEFAULT_FLOORS: Mapping[str, Floor] = MappingProxyType(
    {
        "fp32": Floor(cosine=0.9999, centred=0.999, order=0.99),
        "fp16": Floor(cosine=0.999, centred=0.99, order=0.97),
        "int8": Floor(cosine=0.97, centred=0.95, order=0.9),
        "w4": Floor(cosine=0.95, centred=0.85, order=0.85),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Inputs and the answers to expect.

    Attributes:
        inputs: input name -> (n, ...), n samples of the graph's own type.
        outputs: output name -> (n, ...), the reference answers.
        rank: the output whose order is checked, (n, d); None for none.
        other: (k, d) float vectors of the partner tower, or None.
        floors: precision -> what it has to reach; `DEFAULT_FLOORS` for the others.
        latency_ms: precision -> milliseconds that one run took where the set was made.

    Raises:
        UnreadableGoldenError: if the parts contradict each other.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    rank: str | None = None
    other: Array | None = None
    floors: Mapping[str, Floor] = field(default_factory=dict)
    latency_ms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {
            array.shape[0] if array.ndim else 0 for part in (self.inputs, self.outputs) for array in part.values()
        }
        if not self.inputs or not self.outputs or len(counts) != 1 or min(counts) < 2:
            raise UnreadableGoldenError(
                f"a golden set was given with {_shapes(self.inputs)} -> {_shapes(self.outputs)}; it needs inputs and "
                "outputs with the same number of samples, at least 2, on the first axis; make it again"
            )
        for name, array in self.outputs.items():
            if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
                raise UnreadableGoldenError(
                    f"a golden set was given whose output {name!r} is not made of finite numbers; make it again"
                )
        if self.rank is not None:
            ranked = self.outputs.get(self.rank)
            width = None if ranked is None or ranked.ndim != 2 else ranked.shape[1]
            if width is None or (self.other is not None and self.other.shape[1:] != (width,)):
                raise UnreadableGoldenError(
                    f"a golden set was given that ranks {self.rank!r}; it has outputs {_shapes(self.outputs)} and "
                    f"partners {None if self.other is None else self.other.shape}; rank an output (n, d) with "
                    "partners (k, d), or none"
                )
        elif self.other is not None:
            raise UnreadableGoldenError("a golden set was given with partners and no output to rank; state rank")

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def floor(self, precision: str) -> Floor:
        """Give what a precision has to reach; one that nobody described has to be as good as FP32."""
        return self.floors.get(precision) or DEFAULT_FLOORS.get(precision) or DEFAULT_FLOORS["fp32"]

    def digest(self) -> str:
        """Give the SHA-256 of everything in the set, in 64 hexadecimal digits."""
        whole = hashlib.sha256(self._meta().encode())
        for name, array in sorted(self._arrays().items()):
            whole.update(f"{name} {array.dtype.str} {array.shape}".encode())
            whole.update(array.tobytes())
        return whole.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the set as `.npz`; the same set gives the same bytes.

        Args:
            path: the file to write, with its ending.
        """
        arrays = {**self._arrays(), "meta": np.array(self._meta())}
        save_arrays(path, {name: np.asarray(arrays[name]) for name in sorted(arrays)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Golden:
        """Read a set from `.npz`.

        Raises:
            UnreadableGoldenError: if the file is missing, damaged, or no golden set.
        """
        place = Path(path)
        try:
            # Opened here, since np.load leaves a damaged file open.
            with place.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return cls._read(arrays, json.loads(str(arrays.pop("meta"))))
        except FileNotFoundError as error:
            raise UnreadableGoldenError(
                f"golden set {place} was to be loaded; there is no such file; check the path"
            ) from error
        except _DAMAGE as error:
            raise UnreadableGoldenError(
                f"golden set {place} was to be loaded; it cannot be read as one ({one_line(error)}); "
                "fetch or make it again"
            ) from error

    @classmethod
    def _read(cls, arrays: Mapping[str, Array], meta: dict[str, Any]) -> Golden:
        if meta["format"] != FORMAT:
            raise ValueError(f"its format is {meta['format']!r}, and {FORMAT!r} is known")
        return cls(
            inputs=_part(arrays, "in/"),
            outputs=_part(arrays, "out/"),
            rank=meta.get("rank"),
            other=arrays.get("other"),
            floors={name: Floor(**floor) for name, floor in meta.get("floors", {}).items()},
            latency_ms={name: float(latency) for name, latency in meta.get("latency_ms", {}).items()},
        )

    def _arrays(self) -> dict[str, Array]:
        arrays = {f"in/{name}": array for name, array in self.inputs.items()}
        arrays.update({f"out/{name}": array for name, array in self.outputs.items()})
        return arrays if self.other is None else {**arrays, "other": self.other}

    def _meta(self) -> str:
        floors = {
            name: {"cosine": floor.cosine, "centred": floor.centred, "order": floor.order}
            for name, floor in self.floors.items()
        }
        meta = {"format": FORMAT, "rank": self.rank, "floors": floors, "latency_ms": dict(self.latency_ms)}
        return json.dumps(meta, sort_keys=True)


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write an `.npz` that has the same bytes whenever its arrays, in their order, are the same.

    Args:
        path: the file to write, with its ending.
        arrays: entry name -> array.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # A fixed time, so that making the arrays again does not change a committed file.
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def _part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _shapes(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
