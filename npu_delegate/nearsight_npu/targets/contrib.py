"""The two weight-only operators of onnxruntime's own set (com.microsoft), in numpy, for the `reference` target.

Both keep values of 4 or 8 bits in blocks along one axis, each block with a scale and a zero point:
value = (code - zero point) x scale. Two neighbouring codes of 4 bits share a byte, the first one in its low half.

Source: the operators' schemas in onnxruntime's documentation (ContribOperators.md); the defaults for missing zero
points were measured with onnxruntime 1.32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun

if TYPE_CHECKING:
    from nearsight_npu.arrays import Array

_MIDDLE = {4: 8, 8: 128}  # the zero point of codes without a sign where none is stored


class MatMulNBits(OpRun):
    """Multiply with a matrix of 4-bit or 8-bit codes: `a @ matrix.T (+ bias)`."""

    op_domain = "com.microsoft"

    def _run(
        self,
        a: Array,
        codes: Array,
        scales: Array,
        zero_points: Array | None = None,
        groups: Array | None = None,
        bias: Array | None = None,
        *,
        K: int,  # noqa: N803  the attribute's name in the graph
        N: int,  # noqa: N803
        block_size: int,
        bits: int | None = None,
        **_hints: Any,
    ) -> tuple[Array]:
        """Evaluate the operator.

        Args:
            a: (..., K) float.
            codes: (N, blocks, block_size x bits / 8) uint8.
            scales: N x blocks floats, in any shape.
            zero_points: None (the middle code), or packed codes, (N x ceil(blocks x bits / 8)) uint8, or floats as
                many as scales.
            groups: must be absent; reordered blocks are not evaluated here.
            bias: (N,) float, or None.
            K: columns of the matrix.
            N: rows of the matrix.
            block_size: codes that share a scale.
            bits: 4 or 8; None is 4.
            **_hints: attributes that change speed only, such as accuracy_level.

        Returns:
            (..., N) of the type of `a`.
        """
        if bits not in (None, 4, 8) or groups is not None:
            raise NotImplementedError(f"MatMulNBits with bits={bits} or reordered blocks; 4 or 8 in order are known")
        blocks = -(-K // block_size)
        values = _codes(codes, bits).reshape(N, blocks, block_size).astype(np.float32)
        if zero_points is None:
            zeros: Array = np.full((N, blocks), _MIDDLE[bits or 4], np.float32)
        elif zero_points.dtype == np.uint8:
            zeros = _codes(zero_points.reshape(N, -1), bits)[:, :blocks].astype(np.float32)
        else:
            zeros = zero_points.reshape(N, blocks).astype(np.float32)
        matrix = (values - zeros[..., None]) * scales.reshape(N, blocks, 1).astype(np.float32)
        product = a.astype(np.float32) @ matrix.reshape(N, -1)[:, :K].T
        return ((product if bias is None else product + bias).astype(a.dtype),)


class GatherBlockQuantized(OpRun):
    """Take rows of a table of 4-bit codes, as floats."""

    op_domain = "com.microsoft"

    def _run(
        self,
        codes: Array,
        indices: Array,
        scales: Array,
        zero_points: Array | None = None,
        *,
        gather_axis: int | None = None,
        quantize_axis: int | None = None,
        block_size: int | None = None,
        bits: int | None = None,
    ) -> tuple[Array]:
        """Evaluate the operator.

        Args:
            codes: (rows, columns) uint4 or int4, or (rows, columns / 2) uint8 with two codes a byte, or for 8 bits
                (rows, columns) uint8.
            indices: any shape, int32 or int64; negative ones count from the end.
            scales: (rows, blocks) float.
            zero_points: like codes, one for each scale; None is 0, or the middle code for uint8.
            gather_axis: 0, the axis that is indexed.
            quantize_axis: 1, the axis of the blocks.
            block_size: codes that share a scale; 128 where absent.
            bits: 4 or 8; None is 4.

        Returns:
            indices' shape + (columns,), of the type of `scales`.
        """
        axis = 1 if quantize_axis is None else quantize_axis % codes.ndim
        size = block_size or 128
        if bits not in (None, 4, 8) or gather_axis not in (None, 0) or codes.ndim != 2 or axis != 1:
            raise NotImplementedError("GatherBlockQuantized other than rows of 4 or 8 bits in blocks along them")
        blocks = scales.shape[1]
        # Told apart by length, since older versions of onnx hand uint4 over as a kind of uint8.
        packed = bits != 8 and -(-codes.shape[1] // size) != blocks
        values = (unpacked(codes) if packed else codes).astype(np.float32)
        if zero_points is None:
            zeros: Array = np.full(scales.shape, _MIDDLE[bits or 4] if packed or bits == 8 else 0, np.float32)
        else:
            zeros = (unpacked(zero_points)[:, :blocks] if packed else zero_points).astype(np.float32)
        columns = values.shape[1]
        spread = [np.repeat(part.astype(np.float32), size, axis=1)[:, :columns] for part in (zeros, scales)]
        return (((values - spread[0]) * spread[1])[indices].astype(scales.dtype),)


OPERATORS: tuple[type[Any], ...] = (MatMulNBits, GatherBlockQuantized)


def _codes(stored: Array, bits: int | None) -> Array:
    return stored if bits == 8 else unpacked(stored)


def unpacked(pairs: Array) -> Array:
    """Split bytes into 4-bit codes along the last axis, low half first: (..., n) uint8 -> (..., 2n) uint8."""
    return np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(*pairs.shape[:-1], -1)
