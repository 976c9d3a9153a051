"""What weights become in fewer bits: rounded one by one, or so that their errors make up for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nearsight_npu.quantization.half import fits_half
from nearsight_npu.quantization.weight_only import blockwise

if TYPE_CHECKING:
    from nearsight_npu.arrays import Array

# Source: Frantar et al. 2022: a hundredth of the mean is added, so that rare inputs count a little. More where few rows
# were seen: then what goes together may do so by chance.
DAMPINGS = (0.01, 1.0)


def compensated(rows: Array, spread: Array, bits: int, block: int) -> Array:
    """Round a matrix so that the errors of its columns make up for each other on the inputs that were seen.

    Columns are rounded in turn, and what one is off by is taken from those that are not rounded yet, as far as their
    inputs go together. Every block keeps a smallest and a largest code, so that whoever rounds the answer again finds
    the same steps and the same codes, and changes nothing.
    Source: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ", arXiv 2210.17323, 2022; keeping the ends is our own.

    Args:
        rows: (outputs, inputs) float32.
        spread: (inputs, inputs): how an input's error is passed on; see `spread_of`.
        bits: 4 or 8.
        block: neighbouring inputs that share a step.

    Returns:
        (outputs, inputs) float32: what is stored, as a runtime restores it.
    """
    work = rows.T.astype(np.float32)  # a copy: inputs first, so that a column is contiguous
    inputs = work.shape[0]
    done = np.empty_like(work)
    for begin in range(0, inputs, block):
        end = min(begin + block, inputs)
        done[begin:end], errors = _block(work[begin:end], spread[begin:end, begin:end], bits, block)
        work[end:] -= spread[begin:end, end:].T @ errors
    return np.ascontiguousarray(done.T)


def spread_of(moments: Array, damping: float) -> Array:
    """Tell how the error of an input is spread over those behind it.

    Args:
        moments: (inputs, inputs): means of the products of two inputs.
        damping: how far to doubt them: the share of their mean that is added to squares.

    Returns:
        (inputs, inputs) float32: the upper triangular root of their inverse.
    """
    damped = moments.astype(np.float64)
    mean = float(np.trace(damped)) / len(damped)
    damped[np.diag_indices(len(damped))] += damping * mean if mean > 0 else 1.0
    # Flipped, rooted and flipped back, the lower root becomes the upper one whose inverse is wanted.
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    return np.linalg.inv(upper).astype(np.float32)


def _block(columns: Array, spread: Array, bits: int, block: int) -> tuple[Array, Array]:
    """Round the inputs of one block; give what they become, and their errors in units of `spread`."""
    made = blockwise(np.ascontiguousarray(columns.T), bits, block, spanning=True)
    steps, zeros = made.scales[:, 0].astype(np.float32), made.zeros[:, 0].astype(np.float32)
    largest = 2**bits - 1
    places = np.arange(columns.shape[1])
    forced = np.full(columns.shape, -1.0, np.float32)
    low, high = columns.argmin(axis=0), columns.argmax(axis=0)
    forced[high, places] = np.where(columns[high, places] > 0, largest, -1)
    forced[low, places] = np.where(columns[low, places] < 0, 0, forced[low, places])
    work, done, errors = columns.copy(), np.empty_like(columns), np.empty_like(columns)
    for place, own in enumerate(forced):
        codes = np.where(own >= 0, own, np.clip(np.rint(work[place] / steps) + zeros, 0, largest))
        done[place] = (codes - zeros) * steps
        errors[place] = (work[place] - done[place]) / spread[place, place]
        work[place + 1 :] -= np.outer(spread[place, place + 1 :], errors[place])
    return done, errors


def loss(before: Array, after: Array, moments: Array) -> float:
    """Give the mean square by which the answers of a matrix product move.

    Args:
        before: (outputs, inputs).
        after: the same, rounded.
        moments: (inputs, inputs): means of the products of two inputs.
    """
    moved = after - before
    return float(((moved @ moments) * moved).sum(dtype=np.float64))


def stored(array: Array, bits: int) -> Array:
    """Give what a weight of any shape becomes with a step for each place of its first axis: float32."""
    flat = array.reshape(array.shape[0], -1)
    return blockwise(flat, bits, flat.shape[1]).restored().reshape(array.shape)


def halved(array: Array) -> Array:
    """Give what a weight becomes in FP16, which it keeps out of where FP16 does not reach its numbers: float32."""
    return array.astype(np.float16).astype(np.float32) if fits_half(array) else array
