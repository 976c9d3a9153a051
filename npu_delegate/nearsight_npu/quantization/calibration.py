"""The samples: read from arrays or an archive, checked against the graph, and divided into used and held out."""

from __future__ import annotations

import itertools
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nearsight_npu.arrays import admitted, drawn
from nearsight_npu.errors import InputMismatchError, QuantizationError, one_line
from nearsight_npu.quantization.progress import counted, untold
from nearsight_npu.quantization.settings import MOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.progress import OnProgress
    from nearsight_npu.targets.target import Port

    Calibration: TypeAlias = Iterable[Mapping[str, npt.ArrayLike]] | str | os.PathLike[str] | None

FEWEST = 4  # fewer samples say nothing about a range
MODEST = 32  # below this the ranges are taken with a warning
_HELD_OUT = 20  # the most samples that are kept for the comparison
_ENOUGH = 20  # from this many samples on, some are held out: a fifth of them
_RANDOM = 8
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Inputs for single runs of the graph.

    Attributes:
        calibrating: what ranges are taken from.
        compared: what the two models are compared on.
        first_compared: the place of the first compared sample in the caller's order.
        kind: what `compared` is: "held out", "calibration" or "random".
    """

    calibrating: tuple[dict[str, Array], ...]
    compared: tuple[dict[str, Array], ...]
    first_compared: int
    kind: str


def gather(
    calibration: Calibration, ports: Sequence[Port], limit: int, *, calibrate: bool, told: OnProgress = untold
) -> Samples:
    """Read, check and divide the samples.

    Of 20 samples or more a fifth, at most 20, is held out from the end. Of the others the first `limit` are used.

    Args:
        calibration: dictionaries of arrays, an `.npz` file, or None for random numbers (to compare on, not to
            calibrate with).
        ports: the graph's inputs.
        limit: the most samples to calibrate with.
        calibrate: whether ranges are to be taken at all; if not, every sample is there to compare on.
        told: takes what is being done.

    Returns:
        The samples, divided.

    Raises:
        InputMismatchError: if one does not fit the graph.
        QuantizationError: if they cannot be read, or hold numbers that are not finite.
    """
    if calibration is None:
        return Samples(calibrating=(), compared=tuple(drawn(ports, _RANDOM)), first_compared=0, kind="random")
    entries = itertools.islice(_entries(calibration, ports), limit + _HELD_OUT)
    read = tuple(_checked(entry, place, ports) for place, entry in enumerate(counted(entries, "reading samples", told)))
    if not read:
        raise QuantizationError("calibration data without a single sample was given; give about 100")
    if not calibrate:
        return Samples(calibrating=(), compared=read[:_HELD_OUT], first_compared=0, kind="held out")
    held = min(_HELD_OUT, len(read) // 5) if len(read) >= _ENOUGH else 0
    first = len(read) - held if held else 0
    used = read[: len(read) - held][:limit]
    # Without held-out samples, at most as many of the used ones are compared.
    compared = read[first:] if held else used[:_HELD_OUT]
    return Samples(
        calibrating=used, compared=compared, first_compared=first, kind="held out" if held else "calibration"
    )


def shared_out(
    calibration: Calibration,
    validation: Calibration,
    ports: Sequence[Port],
    limit: int,
    *,
    calibrate: bool,
    told: OnProgress = untold,
) -> Samples:
    """Read the samples, and those to judge on where there are such; see `gather`.

    Args:
        calibration: what ranges, steps and plans are taken from.
        validation: what is compared and judged on; None takes those of `calibration` that are held out.
        ports: the graph's inputs.
        limit: the most samples to calibrate with.
        calibrate: whether anything is taken from samples.
        told: takes what is being done.

    Returns:
        The samples, divided.

    Raises:
        InputMismatchError: if one does not fit the graph.
        QuantizationError: if they cannot be read, or hold numbers that are not finite.
    """
    samples = gather(calibration, ports, limit, calibrate=calibrate, told=told)
    if validation is None:
        return samples
    own = _every(gather(validation, ports, MOST, calibrate=True, told=told))
    used = _every(samples)[:limit] if calibrate else ()
    return Samples(calibrating=used, compared=own, first_compared=0, kind="validation")


def _every(samples: Samples) -> tuple[dict[str, Array], ...]:
    return (*samples.calibrating, *(samples.compared if samples.kind == "held out" else ()))


def _entries(calibration: object, ports: Sequence[Port]) -> Iterator[object]:
    if isinstance(calibration, (str, os.PathLike)):
        return iter(_archived(Path(calibration), ports))
    if isinstance(calibration, Mapping) or not hasattr(calibration, "__iter__"):
        names = ", ".join(f"{port.name!r}: ..." for port in ports)
        raise QuantizationError(
            f"calibration data of type {type(calibration).__name__} was given; it is a sequence of inputs for single "
            f"runs, or an .npz file; give calibration=[{{{names}}}, ...]"
        )
    return iter(calibration)


def _archived(path: Path, ports: Sequence[Port]) -> list[dict[str, Array]]:
    """Cut the arrays of an archive, stacked along their first axis, into samples."""
    try:
        # Opened here: numpy leaves a broken file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            stacked = {name: archive[name] for name in archive.files}
    except (*_DAMAGE, AttributeError) as error:
        raise QuantizationError(
            f"{path} was to be read as calibration data; numpy cannot read it as an .npz archive "
            f"({_damage(path, error)}); write it with numpy.savez(path, INPUT=array), or let nearsight quantize read a "
            "folder of pictures"
        ) from error
    if set(stacked) != {port.name for port in ports}:
        raise QuantizationError(
            f"{path.name} holds {', '.join(map(repr, sorted(stacked))) or 'nothing'}; this graph takes "
            f"{'; '.join(map(str, ports))}; write one array for each input, under its name"
        )
    cut = {port.name: _cut(stacked[port.name], port, path.name) for port in ports}
    counts = {name: len(parts) for name, parts in cut.items()}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise QuantizationError(f"{path.name} holds unlike numbers of samples ({found}); stack the same ones")
    return [dict(zip(cut, parts, strict=True)) for parts in zip(*cut.values(), strict=True)]


def _damage(path: Path, error: Exception) -> str:
    """Say what is wrong with an archive; of other files numpy says that they might be pickles, and how to run those."""
    if path.is_dir():
        return "it is a folder"
    return "it is no zip file" if path.is_file() and not zipfile.is_zipfile(path) else one_line(error)


def _cut(stack: Array, port: Port, name: str) -> list[Array]:
    """Cut one array: along its batch axis, or along an axis in front of all the graph's."""
    if stack.ndim == len(port.shape) + 1:
        return list(stack)
    batch = port.shape[0] if port.shape else None
    step = batch if isinstance(batch, int) else 1
    if stack.ndim != len(port.shape) or not step or stack.shape[0] % step:
        raise QuantizationError(
            f"{name} holds {port.name!r} as {stack.dtype.name} {stack.shape}, which cannot be cut into samples of "
            f"{port}; stack samples along the first axis"
        )
    return [stack[start : start + step] for start in range(0, len(stack), step)]


def _checked(entry: object, place: int, ports: Sequence[Port]) -> dict[str, Array]:
    if not isinstance(entry, Mapping):
        raise QuantizationError(
            f"calibration sample {place} is of type {type(entry).__name__}; a dictionary from input name to array is "
            f"needed; this graph takes {'; '.join(map(str, ports))}"
        )
    try:
        arrays = admitted(entry, ports)
    except InputMismatchError as error:
        raise QuantizationError(f"calibration sample {place}: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise QuantizationError(
                f"calibration sample {place}: input {name!r} holds numbers that are not finite; leave that sample out"
            )
    return arrays
