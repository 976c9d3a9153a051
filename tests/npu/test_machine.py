"""What a machine tells of itself, on this machine and on others described by a folder, and what the host costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nearsight_npu.targets.host import HostCost, host_costs
from nearsight_npu.targets.machine import Link, Machine, Processors

if TYPE_CHECKING:
    from collections.abc import Callable

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm asimddp i8mm bf16\nCPU part\t: 0xd0b\n"


@pytest.fixture
def described(tmp_path: Path) -> Callable[..., Machine]:
    """Describe a machine by its system files: path below the root -> content."""

    def describe(**files: str) -> Machine:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return Machine(root=tmp_path)

    return describe


def processors(*siblings: str, allowed: str, **more: str) -> dict[str, str]:
    """Describe processors, each with those that share its core."""
    topology = {
        f"sys/devices/system/cpu/cpu{number}/topology/core_cpus_list": shared for number, shared in enumerate(siblings)
    }
    listed = "".join(f"processor\t: {number}\n\n" for number in range(len(siblings)))
    return {"proc/cpuinfo": listed, "proc/self/status": f"Name:\tx\nCpus_allowed_list:\t{allowed}", **topology, **more}


def card(address: str, speeds: str, lanes: str, vendor: str = "0x1f4b", kind: str = "0x048000") -> dict[str, str]:
    folder = f"sys/bus/pci/devices/{address}"
    now, full = speeds.split(" of ")
    used, had = lanes.split("/")
    return {
        f"{folder}/vendor": vendor,
        f"{folder}/class": kind,
        f"{folder}/current_link_speed": now,
        f"{folder}/max_link_speed": full,
        f"{folder}/current_link_width": used,
        f"{folder}/max_link_width": had,
    }


def cost(machine: Machine, subject: str) -> HostCost:
    (found,) = (item for item in host_costs(machine) if item.subject == subject)
    return found


def test_two_threads_of_one_core_are_counted_as_one_core(described: Callable[..., Machine]) -> None:
    machine = described(**processors("0-1", "0-1", "2-3", "2-3", allowed="0-3"))

    assert machine.processors() == Processors(usable=4, cores=2, present=4, paces=1, quota=None)
    assert cost(machine, "processors").state == (
        "4 of 4 processors may be used, on 2 cores; threads that share a core share its arithmetic"
    )


def test_only_the_processors_this_process_may_run_on_are_counted(described: Callable[..., Machine]) -> None:
    machine = described(**processors("0-1", "0-1", "2-3", "2-3", allowed="0,2"))

    assert machine.processors() == Processors(usable=2, cores=2, present=4, paces=1, quota=None)


def test_big_and_little_cores_are_told_apart(described: Callable[..., Machine]) -> None:
    paces = {f"sys/devices/system/cpu/cpu{number}/cpu_capacity": str(pace) for number, pace in enumerate((414, 1024))}
    machine = described(**processors("0", "1", allowed="0-1", **paces))

    assert "cores of 2 paces" in cost(machine, "processors").state


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/box/job", {"sys/fs/cgroup/box/cpu.max": "150000 100000", "sys/fs/cgroup/box/job/cpu.max": "max 100000"}),
        ("0::/", {"sys/fs/cgroup/cpu.max": "150000 100000"}),
        (
            "3:cpu,cpuacct:/box\n0::/",
            {"sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "75000", "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "50000"},
        ),
    ],
)
def test_a_containers_limit_is_found_in_its_group_or_above_and_said_with_a_remedy(
    described: Callable[..., Machine], groups: str, files: dict[str, str]
) -> None:
    machine = described(**processors("0", "1", "2", "3", allowed="0-3"), **files, **{"proc/self/cgroup": groups})

    found = cost(machine, "processors")

    assert "a limit of 1.5 processors' time holds for this container" in found.state
    assert found.remedy == "raise the container's limit to 4, or use threads=1"


def test_a_group_without_a_limit_has_none(described: Callable[..., Machine]) -> None:
    files = {
        "proc/self/cgroup": "3:cpu:/\n0::/",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu.max": "max 100000",
    }
    machine = described(**processors("0", allowed="0"), **files)

    assert cost(machine, "processors").remedy == ""


@pytest.mark.parametrize(
    ("governors", "remedy"),
    [
        (("performance", "performance"), ""),
        (("schedutil", "schedutil"), ""),
        (("performance", "powersave"), "sudo cpupower frequency-set --governor performance"),
    ],
)
def test_a_governor_that_keeps_the_clock_low_comes_with_the_command_that_mends_it(
    described: Callable[..., Machine], governors: tuple[str, str], remedy: str
) -> None:
    files = {f"sys/devices/system/cpu/cpu{at}/cpufreq/scaling_governor": name for at, name in enumerate(governors)}

    found = cost(described(**files), "clock")

    assert found == HostCost(subject="clock", state=f"governor {', '.join(dict.fromkeys(governors))}", remedy=remedy)


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (X86, "AVX2, AVX-512, VNNI"),
        (ARM, "BF16, NEON, dotprod, i8mm"),
        ("flags : sse2 avx2", "AVX2; none that multiplies and adds 8-bit integers in one step"),
        ("Features : fp asimd", "NEON; none that multiplies and adds 8-bit integers in one step"),
        ("model name : nothing more", "this system does not tell which instructions there are"),
    ],
)
def test_instructions_are_named_as_people_call_them(described: Callable[..., Machine], listed: str, words: str) -> None:
    assert cost(described(**{"proc/cpuinfo": listed}), "instructions").state == words


def test_memory_is_what_the_container_leaves_of_it(described: Callable[..., Machine]) -> None:
    told = {"proc/meminfo": "MemTotal:        8000000 kB\nMemAvailable:    6000000 kB"}
    free = described(**told)
    assert (free.memory_bytes(), free.free_bytes()) == (8_192_000_000, 6_144_000_000)
    assert cost(free, "memory").state == "8.2 GB, 6.1 GB of it free"

    limited = described(**{"proc/self/cgroup": "0::/box", "sys/fs/cgroup/box/memory.max": "2000000000"})

    assert limited.memory_bytes() == 2_000_000_000
    assert cost(limited, "memory").state == "2.0 GB, 2.0 GB of it free"


def test_a_card_on_a_narrow_link_is_told_with_what_it_could_have(described: Callable[..., Machine]) -> None:
    machine = described(**card("0000:03:00.0", "5.0 GT/s PCIe of 8.0 GT/s PCIe", "1/2"))

    found = cost(machine, "link")

    assert found.state == ("card 0000:03:00.0 (0x1f4b): 1 lane at 5 GT/s, 0.50 GB/s; the card has 2 at 8 GT/s")
    assert "slot" in found.remedy


def test_a_card_on_its_full_link_needs_no_remedy(described: Callable[..., Machine]) -> None:
    machine = described(
        **card("0000:01:00.0", "16.0 GT/s PCIe of 16.0 GT/s PCIe", "4/4", vendor="0x8086", kind="0x120000")
    )

    found = cost(machine, "link")

    assert found == HostCost(subject="link", state="card 0000:01:00.0 (0x8086): 4 lanes at 16 GT/s, 7.88 GB/s")


def test_other_cards_and_links_that_are_not_told_are_left_out(described: Callable[..., Machine]) -> None:
    machine = described(
        **card("0000:01:00.0", "8.0 GT/s PCIe of 8.0 GT/s PCIe", "4/4", vendor="0x144d", kind="0x010802"),
        **card("0000:02:00.0", "Unknown of Unknown", "0/255"),
    )

    assert machine.links() == ()
    assert cost(machine, "link").state == "no accelerator card on a PCI Express link"


@pytest.mark.parametrize(("speed", "rate"), [(2.5, 0.25), (5.0, 0.5), (8.0, 0.985), (16.0, 1.969), (32.0, 3.938)])
def test_a_lane_carries_what_its_generation_states(speed: float, rate: float) -> None:
    link = Link(address="", vendor="", lanes=1, full_lanes=1, speed_gts=speed, full_speed_gts=speed)

    assert link.rate_gbs == pytest.approx(rate, abs=5e-4)


def test_a_system_that_tells_nothing_is_said_to_tell_nothing(tmp_path: Path) -> None:
    found = host_costs(Machine(root=tmp_path))

    assert [item.subject for item in found] == ["clock", "processors", "instructions", "memory", "link"]
    assert all("does not tell" in item.state for item in found[:4])
    assert all(item.remedy == "" for item in found)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_this_machine_is_described_as_python_sees_it() -> None:
    found = Machine().processors()

    assert found is not None
    assert found.usable == len(os.sched_getaffinity(0))
    assert 1 <= found.cores <= found.usable <= found.present
    assert Machine().memory_bytes() > (Machine().free_bytes() or 0) > 0
    assert [item.to_dict()["subject"] for item in host_costs()][:4] == ["clock", "processors", "instructions", "memory"]
