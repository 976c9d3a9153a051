"""The `simulated:<chip>` targets: an NPU's integer arithmetic on any machine, within that NPU's operators and types."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import UnplaceableError, UnreadableGraphError, one_line
from nearsight_npu.targets.chips import HOST, chip_named, covered
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.target import Availability, Placement, Setup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.targets.chips import Chip, Coverage
    from nearsight_npu.targets.cpu import CpuProgram
    from nearsight_npu.targets.target import Port

_REMEDY = "pip install 'nearsight[quantize]'"
_MOST_SHOWN = 4
_FIXING = (
    "for each input: python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name NAME --input_shape 1,2,3 "
    "IN.onnx OUT.onnx"
)


def simulated_target(chip: str) -> SimulatedTarget:
    """Give the target that simulates a chip.

    Args:
        chip: its name or an alias, such as "AX650N" or "intel-npu".

    Raises:
        UnplaceableError: if chips.toml has none of this name.
    """
    return SimulatedTarget(chip_named(chip))


class SimulatedTarget:
    """Runs graphs as a chip would, number by number; its speed and its memory are this machine's, not the chip's.

    QuantizeLinear and DequantizeLinear are evaluated as they stand, without fusing: each integer operator gets exactly
    the numbers that its codes stand for, and its result is rounded to codes once. Operators outside of QDQ are computed
    in FP32 and counted as such, also for chips that compute them in FP16.
    """

    # The kernels of the processor: what is said there holds here.
    tolerance = CpuTarget.tolerance

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.name = f"simulated:{chip.name}"
        self._processor = CpuTarget(fused=False)

    def probe(self) -> Availability:
        """Look for onnxruntime, which computes, and onnx, which reads the graph."""
        if Machine().installed("onnx") is None:
            return Availability(
                target=self.name,
                available=False,
                reason="the package onnx is not installed",
                remedy=_REMEDY,
                simulator=True,
            )
        found = self._processor.probe()
        own = f"the operators and number types of {self.chip.name} (built as {self.chip.built_as}), computed by "
        return replace(found, target=self.name, reason=(own if found.available else "") + found.reason, simulator=True)

    def versions(self) -> dict[str, str]:
        """Name what computes, and what is known of the chip."""
        known = hashlib.sha256(repr(_facts(self.chip)).encode()).hexdigest()[:8]
        onnx = Machine().installed("onnx") or "none"
        return {**self._processor.versions(), "onnx": onnx, "chip": f"{self.chip.name} {known}"}

    def compile(self, path: Path, threads: int | None = None) -> SimulatedProgram:
        """Hold a graph against the chip and make it ready; see `Target.compile`."""
        coverage = covered(_read(path), self.chip)
        refused = _refusal(path, coverage, self.chip)
        if refused is not None:
            raise refused
        try:
            program = self._processor.compile_as(path, Setup(threads=threads))
        except UnplaceableError as error:
            raise UnplaceableError(
                f"{path.name} was to run on {self.name}; nothing here computes one of its operators "
                f"({one_line(error)}); export the model with standard operators"
            ) from error
        return SimulatedProgram(program, _placement(coverage, self.chip))


class SimulatedProgram:
    """A graph on the processor, unfused; it serves several threads at once."""

    __slots__ = ("_program", "inputs", "outputs", "placement")

    def __init__(self, program: CpuProgram, placement: Placement) -> None:
        self._program = program
        self.inputs: tuple[Port, ...] = program.inputs
        self.outputs: tuple[Port, ...] = program.outputs
        self.placement = placement

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once; see `Program.run`."""
        return self._program.run(arrays, outputs)

    def close(self) -> None:
        """Let the memory go, after the runs that have begun."""
        self._program.close()


def _read(path: Path) -> Any:
    # Imported here: onnx is an extra, and looking for targets must not load it.
    try:
        import google.protobuf.message  # type: ignore[import-untyped]
        import onnx
    except ImportError as error:
        raise UnplaceableError(
            f"{path.name} was to be simulated; onnx cannot be loaded ({one_line(error)}); {_REMEDY}"
        ) from error
    why: object
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, ValueError, google.protobuf.message.DecodeError) as error:
        why = error
    else:
        if model.graph.node:
            return model
        why = "it holds no operators"
    raise UnreadableGraphError(
        f"{path.name} was to be loaded; onnx cannot read it as a graph ({one_line(why)}); fetch or export it again"
    )


def _refusal(path: Path, coverage: Coverage, chip: Chip) -> UnplaceableError | None:
    """Say why a chip does not take a graph, if it does not."""
    asked = f"{path.name} was to run on simulated:{chip.name}"
    if coverage.unfit:
        remedy = _FIXING if any("length" in why for why in coverage.unfit) else "export it with ports of these types"
        return UnplaceableError(f"{asked}; {_some(coverage.unfit)}; {remedy}")
    if coverage.lacking and not chip.host:
        whys = [f"{name} ({why})" for name, why in coverage.lacking]
        return UnplaceableError(
            f"{asked}; the chip cannot run {_some(whys)}; change the model, or use target='cpu' or another chip"
        )
    return None


def _placement(coverage: Coverage, chip: Chip) -> Placement:
    counts = {
        chip.name: coverage.on_codes,
        f"{chip.name} in FP32{' (there FP16)' if chip.floats == 'float16' else ''}": coverage.on_floats,
        HOST: coverage.left_over,
    }
    return Placement(
        parts=tuple(sorted(((place, count) for place, count in counts.items() if count), key=lambda part: -part[1])),
        outside=tuple((name, HOST) for name in dict.fromkeys(name for name, _ in coverage.lacking)),
    )


def _some(whys: Sequence[str]) -> str:
    more = f" and {len(whys) - _MOST_SHOWN} more" if len(whys) > _MOST_SHOWN else ""
    return ", ".join(whys[:_MOST_SHOWN]) + more


def _facts(chip: Chip) -> tuple[object, ...]:
    """Give what a chip is known by, in an order that is the same in every process."""
    tables = (chip.attributes, chip.ranks, chip.scalars, chip.absent)
    types = (chip.codes, chip.weights, chip.ports)
    return sorted(chip.operators), chip.in_gelu, *(sorted(table.items()) for table in tables), *types
