"""Probing: truthful about what is here, on this machine and on others described by a folder."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nearsight_npu import probe
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.probe import LATER

if TYPE_CHECKING:
    from pathlib import Path


def test_every_target_is_reported_with_a_reason_and_the_missing_ones_with_a_remedy() -> None:
    found = probe()

    assert [item.target for item in found] == ["reference", "cpu", "openvino", "qnn", "axera"]
    assert all(item.reason and "\n" not in item.reason for item in found)
    assert all(bool(item.remedy) != item.available for item in found)
    assert {item.target for item in found if item.available} == {"reference", "cpu"}
    assert found[1].to_dict()["target"] == "cpu"


def test_probing_imports_none_of_the_libraries() -> None:
    code = "import sys, nearsight_npu; nearsight_npu.probe(); print(sorted({'numpy', 'onnx', 'onnxruntime'} & set(sys.modules)))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("target", list(LATER))
def test_a_target_that_is_not_built_yet_is_never_called_available(target: str, tmp_path: Path) -> None:
    everything = {"openvino": "2026.4.1", "onnxruntime_qnn": "2.7.0", "axengine": "0.1.3"}
    devices(tmp_path, "axcl_host", "fastrpc-cdsp")
    vendor(tmp_path / "sys/class/accel/accel0/device", "0x8086")

    found = LATER[target](Machine(root=tmp_path, packages=everything))

    assert not found.available
    assert "is installed, found" in found.reason
    assert f"cannot run on {target} yet" in found.reason
    assert found.remedy == "use target='cpu'"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    reasons = {name: check(Machine(root=tmp_path, packages={})).reason for name, check in LATER.items()}

    assert reasons["openvino"].startswith("the package openvino is not installed, no device of its own was found")
    assert reasons["qnn"].startswith("the package onnxruntime-qnn is not installed, no device")
    assert reasons["axera"].startswith("the package axengine is not installed, no device")


def test_an_axera_card_is_found_by_its_node_or_else_on_the_bus(tmp_path: Path) -> None:
    vendor(tmp_path / "sys/bus/pci/devices/0000:00:02.0", "0x8086")
    vendor(tmp_path / "sys/bus/pci/devices/0000:03:00.0", "0x1f4b")
    machine = Machine(root=tmp_path, packages={"axengine": "0.1.3"})

    idle = LATER["axera"](machine).reason
    devices(tmp_path, "axcl_host")
    ready = LATER["axera"](machine).reason

    assert "axengine 0.1.3 is installed, found an Axera card at PCI 0000:03:00.0 whose driver is not loaded" in idle
    assert "found an Axera NPU at /dev/axcl_host" in ready


def test_an_accelerator_of_another_maker_is_not_taken_for_an_intel_npu(tmp_path: Path) -> None:
    vendor(tmp_path / "sys/class/accel/accel0/device", "0x1da3")

    assert "no device of its own" in LATER["openvino"](Machine(root=tmp_path, packages={})).reason


def test_a_processor_is_known_by_the_instructions_it_offers(tmp_path: Path) -> None:
    names = []
    for flags in ("sse avx2", "sse avx2 avx512_vnni"):
        (tmp_path / "proc").mkdir(exist_ok=True)
        block = f"processor\t: 0\nmodel name\t: Some CPU\ncpu MHz\t: 2596.1\nflags\t\t: {flags}\n"
        (tmp_path / "proc/cpuinfo").write_text(f"{block}\n{block}")
        names.append(Machine(root=tmp_path).processor())
        (tmp_path / "proc/cpuinfo").write_text(block.replace("2596.1", "3100.0"))
        assert Machine(root=tmp_path).processor() == names[-1]

    assert "Some CPU" in names[0]
    assert names[0] != names[1]


def test_an_installed_package_is_found_without_importing_it() -> None:
    machine = Machine()

    assert machine.installed("pytest") == pytest.__version__
    assert machine.installed("no_such_module_at_all") is None


def devices(root: Path, *names: str) -> None:
    (root / "dev").mkdir(exist_ok=True)
    for name in names:
        (root / "dev" / name).touch()


def vendor(folder: Path, number: str) -> None:
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{number}\n")
