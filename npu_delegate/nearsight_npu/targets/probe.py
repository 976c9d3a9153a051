"""The registry of targets: which there are, which of them can be used on this machine, and why the others cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight_npu.errors import UnplaceableError
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.reference import ReferenceTarget
from nearsight_npu.targets.target import Availability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nearsight_npu.targets.target import Target

AUTO = "auto"
FALLBACK = "cpu"
TARGETS: Mapping[str, Callable[[], Target]] = {"reference": ReferenceTarget, "cpu": CpuTarget}


def probe() -> tuple[Availability, ...]:
    """Say for every target whether it can be used here, without importing any of their libraries.

    Returns:
        One `Availability` per target, those that can be run on by this version first.
    """
    machine = Machine()
    return (
        *(target().probe() for target in TARGETS.values()),
        *(probe_later(machine) for probe_later in LATER.values()),
    )


def target_named(name: str) -> Target:
    """Give the target of this name.

    Raises:
        UnplaceableError: if there is none, or this version cannot run on it.
    """
    if name in TARGETS:
        return TARGETS[name]()
    if name in LATER:
        found = LATER[name](Machine())
        raise UnplaceableError(f"target {name!r} was asked for; {found.reason}; {found.remedy}")
    raise UnplaceableError(
        f"target {name!r} was asked for; there are {', '.join((AUTO, *TARGETS, *LATER))}; choose one of them "
        "(nearsight doctor shows which can be used here)"
    )


def known(name: str) -> bool:
    """Say whether any target bears this name, usable or not."""
    return name in TARGETS or name in LATER


def _openvino(machine: Machine) -> Availability:
    npu = machine.accelerator("0x8086")
    return _not_yet("openvino", "openvino", machine.installed("openvino"), f"an Intel NPU at {npu}" if npu else None)


def _qnn(machine: Machine) -> Availability:
    node = machine.device("fastrpc-cdsp", "fastrpc-cdsp-secure", "adsprpc-smd")
    return _not_yet(
        "qnn",
        "onnxruntime-qnn",
        machine.installed("onnxruntime_qnn", "onnxruntime-qnn"),
        f"a Qualcomm DSP at {node}" if node else None,
    )


def _axera(machine: Machine) -> Availability:
    node = machine.device("axcl_host", "ax_sys")
    # Source: 1f4b:0650 is what lspci lists for an AX650N or AX8850 card.
    card = machine.pci("0x1f4b")
    idle = f"an Axera card at PCI {card} whose driver is not loaded" if card else None
    device = f"an Axera NPU at {node}" if node else idle
    return _not_yet("axera", "axengine", machine.installed("axengine"), device)


LATER: Mapping[str, Callable[[Machine], Availability]] = {"openvino": _openvino, "qnn": _qnn, "axera": _axera}


def _not_yet(target: str, package: str, version: str | None, device: str | None) -> Availability:
    """Report truthfully on a chip that this version cannot use even where everything is there."""
    software = f"{package} {version} is installed" if version else f"the package {package} is not installed"
    chip = f"found {device}" if device else "no device of its own was found"
    return Availability(
        target=target,
        available=False,
        reason=f"{software}, {chip}; this version of Nearsight cannot run on {target} yet",
        remedy="use target='cpu'",
    )
