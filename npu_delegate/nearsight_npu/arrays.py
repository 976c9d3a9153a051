"""Checks an array's type and shape where it enters: one check, one message, one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nearsight_npu.errors import InputMismatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nearsight_npu.targets.target import Port

Array = npt.NDArray[Any]
FREE_LENGTH = 16  # of an axis without a fixed length, in inputs that are drawn


def shaped(
    array: npt.ArrayLike, axes: str, dtype: str, *, name: str = "array", lengths: dict[str, int] | None = None
) -> Array:
    """Give the array back if it has this type and these axes.

    Args:
        array: what came in; nothing is converted.
        axes: one word per axis, such as "n 224 224 3": a number is a length that is needed, "?" is any length, any
            other word is a length that varies but is the same wherever the word stands again.
        dtype: the numpy name of the type that is needed, such as "float32".
        name: what the message calls the array.
        lengths: lengths that the words stand for so far; new ones are written into it. Hand the same dictionary to
            several calls to have arrays agree with each other.

    Returns:
        The same array.

    Raises:
        InputMismatchError: if the type, the number of axes or a length is another one.

    Example:
        >>> shaped(np.zeros((2, 4), np.float32), "n 4", "float32").shape
        (2, 4)
    """
    given = np.asarray(array)
    words = axes.split()
    known = {} if lengths is None else lengths
    fits = given.dtype.name == dtype and given.ndim == len(words)
    if fits:
        found: dict[str, int] = {}
        for word, length in zip(words, given.shape, strict=True):
            expected = int(word) if word.isdecimal() else known.get(word, found.setdefault(word, length))
            fits = fits and (word == "?" or expected == length)
        if fits:
            known.update({word: length for word, length in found.items() if word != "?" and not word.isdecimal()})
    if fits:
        return given
    bound = ", ".join(f"{word} = {known[word]}" for word in dict.fromkeys(words) if word in known)
    raise InputMismatchError(
        f"{name} is {given.dtype.name} {_axes(given.shape)}; {dtype} {_axes(words)} is needed"
        f"{f' with {bound}' if bound else ''}; convert it first, for example with .astype({dtype!r}) or .reshape(...)"
    )


def admitted(arrays: Mapping[str, npt.ArrayLike], ports: Sequence[Port]) -> dict[str, Array]:
    """Check the arrays for one run against the graph's inputs.

    Args:
        arrays: name -> array.
        ports: the graph's inputs.

    Returns:
        The same arrays in the order of the ports and in this machine's byte order, which runtimes take for granted.

    Raises:
        InputMismatchError: if no names are given, one is missing or unknown, or an array does not fit.
    """
    names = [port.name for port in ports]
    named = isinstance(arrays, Mapping)  # a bare array is the first thing that is tried
    if not named or set(arrays) != set(names):
        given = f"inputs {_names(arrays)} were given" if named else f"a bare {type(arrays).__name__} was given"
        raise InputMismatchError(
            f"{given}; this graph takes {'; '.join(map(str, ports))}; "
            f"call run({{{', '.join(f'{name!r}: ...' for name in names)}}})"
        )
    lengths: dict[str, int] = {}
    found = {
        port.name: shaped(arrays[port.name], port_axes(port), port.dtype, name=f"input {port.name!r}", lengths=lengths)
        for port in ports
    }
    return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in found.items()}


def chosen(outputs: Iterable[str] | None, ports: Sequence[Port]) -> tuple[str, ...]:
    """Check which outputs are wanted.

    Args:
        outputs: names, or None for all.
        ports: the graph's outputs.

    Returns:
        The names, each once, in the order asked.

    Raises:
        InputMismatchError: if a name is unknown, no name is given, or a bare string stands for a tuple of names.
    """
    names = tuple(port.name for port in ports)
    if outputs is None:
        return names
    wanted = () if isinstance(outputs, str) else tuple(dict.fromkeys(outputs))
    if not wanted or not set(wanted) <= set(names):
        asked = f"the string {outputs!r}" if isinstance(outputs, str) else _names(wanted)
        raise InputMismatchError(
            f"outputs {asked} were asked for; this graph gives {_names(names)}; name them in a tuple, "
            f"such as outputs=({names[0]!r},), or leave outputs out for all"
        )
    return wanted


def drawn(ports: Sequence[Port], count: int) -> Iterator[dict[str, Array]]:
    """Draw inputs for single runs, the same ones every time.

    Floats come from a normal distribution, bytes from all values, other integers are 0 or 1 (ids, masks). A free axis
    is 16 long, but for those that some input has first, which are 1.

    Args:
        ports: the graph's inputs.
        count: how many runs.

    Yields:
        Input name -> array.
    """
    numbers = np.random.default_rng(0)
    leading = {port.shape[0] for port in ports if port.shape} - {"?"}
    for _ in range(count):
        arrays: dict[str, Array] = {}
        for port in ports:
            shape = [
                length if isinstance(length, int) else 1 if axis == 0 or length in leading else FREE_LENGTH
                for axis, length in enumerate(port.shape)
            ]
            if port.dtype.startswith("float"):
                values: Array = numbers.standard_normal(shape)
            else:
                values = numbers.integers(0, 256 if port.dtype == "uint8" else 2, shape)
            arrays[port.name] = values.astype(port.dtype)
        yield arrays


def port_axes(port: Port) -> str:
    """Write a port's shape as `shaped` reads it, with lengths that the graph does not name as "?"."""
    return " ".join(str(length).replace(" ", "_") for length in port.shape)


def _axes(lengths: Iterable[object]) -> str:
    return f"({', '.join(str(length) for length in lengths)})"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(repr(name) for name in names)) or "none"
