"""What the host costs: its clock, processors, instructions, memory and links, and what makes them quicker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearsight_npu.targets.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearsight_npu.targets.machine import Link, Processors

# What a person calls it -> what /proc/cpuinfo lists (x86, Arm). Only what kernels for neural nets look for.
INSTRUCTIONS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16", "bf16"),
    "AMX": ("amx_int8", "amx_bf16"),
    "NEON": ("neon", "asimd"),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
    "SVE": ("sve",),
}
_SLOW_CLOCKS = ("powersave", "conservative")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCost:
    """One thing about the host that answers wait for, or that keeps them from waiting.

    Attributes:
        subject: "clock", "processors", "instructions", "memory" or "link".
        state: what there is, in one line.
        remedy: the command or the change that makes answers quicker; empty where there is nothing to mend.
    """

    subject: str
    state: str
    remedy: str = ""

    def to_dict(self) -> dict[str, object]:
        """Give the same as a dictionary that `json.dumps` takes."""
        return {"subject": self.subject, "state": self.state, "remedy": self.remedy}


def host_costs(machine: Machine | None = None) -> tuple[HostCost, ...]:
    """Say what the host costs, as far as its system tells.

    Args:
        machine: the machine; None is this one.
    """
    machine = machine or Machine()
    return tuple(_all(machine))


def _all(machine: Machine) -> Iterator[HostCost]:
    yield _clock(machine.governors())
    yield _processors(machine.processors())
    yield _instructions(machine)
    yield _memory(machine.memory_bytes(), machine.free_bytes())
    links = machine.links()
    yield from map(_link, links)
    if not links:
        yield HostCost(subject="link", state="no accelerator card on a PCI Express link")


def _clock(governors: tuple[str, ...]) -> HostCost:
    if not governors:
        return HostCost(subject="clock", state="this system does not tell what decides over the processors' clock")
    slow = [name for name in governors if name in _SLOW_CLOCKS]
    return HostCost(
        subject="clock",
        state=f"governor {', '.join(governors)}",
        remedy="sudo cpupower frequency-set --governor performance" if slow else "",
    )


def _processors(found: Processors | None) -> HostCost:
    if found is None:
        return HostCost(subject="processors", state="this system does not tell which processors may be used")
    # "4 of 8 processors may be used, on 2 cores, of 2 paces"
    words = f"{found.usable} of {found.present} processors may be used, on {found.cores} core{'s' * (found.cores != 1)}"
    if found.cores < found.usable:
        words += "; threads that share a core share its arithmetic"
    if found.paces > 1:
        words += f"; cores of {found.paces} paces, and a run waits for the slowest it uses"
    if found.quota is None or found.quota >= found.usable:
        return HostCost(subject="processors", state=words)
    return HostCost(
        subject="processors",
        state=f"{words}; a limit of {found.quota:g} processors' time holds for this container",
        remedy=f"raise the container's limit to {found.usable}, or use threads={max(int(found.quota), 1)}",
    )


def _instructions(machine: Machine) -> HostCost:
    offered = [name for name, listed in INSTRUCTIONS.items() if machine.offers(*listed)]
    if not offered:
        return HostCost(subject="instructions", state="this system does not tell which instructions there are")
    # What integer kernels stand on: without it INT8 is often no quicker than FP32.
    integer = {"VNNI", "AMX", "dotprod", "i8mm"} & set(offered)
    lacking = "" if integer else "; none that multiplies and adds 8-bit integers in one step"
    return HostCost(subject="instructions", state=f"{', '.join(offered)}{lacking}")


def _memory(total: int | None, free: int | None) -> HostCost:
    if total is None:
        return HostCost(subject="memory", state="this system does not tell how much memory there is")
    rest = f", {min(free, total) / 1e9:.1f} GB of it free" if free is not None else ""
    return HostCost(subject="memory", state=f"{total / 1e9:.1f} GB{rest}")


def _link(link: Link) -> HostCost:
    state = (
        f"card {link.address} ({link.vendor}): {link.lanes} lane{'s' * (link.lanes != 1)} at {link.speed_gts:g} GT/s, "
        f"{link.rate_gbs:.2f} GB/s"
    )
    if link.lanes >= link.full_lanes and link.speed_gts >= link.full_speed_gts:
        return HostCost(subject="link", state=state)
    return HostCost(
        subject="link",
        state=f"{state}; the card has {link.full_lanes} at {link.full_speed_gts:g} GT/s",
        remedy="look again while the card works, since an idle one slows its link; else seat it in a slot that gives "
        "as much, or allow the speed in the firmware",
    )
