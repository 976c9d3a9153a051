"""Probing: truthful about what is here, on this machine and on others described by a folder."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nearsight_npu import probe
from nearsight_npu.errors import UnplaceableError
from nearsight_npu.targets.chips import chips, targets_for
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.probe import TARGETS, automatic, target_named

if TYPE_CHECKING:
    from pathlib import Path


def test_every_target_is_reported_with_a_reason_and_the_missing_ones_with_a_remedy() -> None:
    found = probe()

    assert [item.target for item in found][:5] == ["reference", "cpu", "openvino", "qnn", "axera"]
    assert all(item.reason and "\n" not in item.reason for item in found)
    assert all(bool(item.remedy) != item.available for item in found)
    assert {item.target for item in found if item.available} >= {"reference", "cpu"}
    assert found[1].to_dict()["target"] == "cpu"


def test_probing_imports_none_of_the_libraries() -> None:
    libraries = {"numpy", "onnx", "onnxruntime", "openvino", "onnxruntime_qnn", "axengine"}
    code = f"import sys, nearsight_npu; nearsight_npu.probe(); print(sorted({libraries} & set(sys.modules)))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "simulated"])
def test_a_target_is_found_by_its_name_whether_or_not_it_can_be_used_here(name: str) -> None:
    target = target_named(name)

    assert target.name == name
    assert target.probe().target == name


@pytest.mark.parametrize("name", ["gpu", "cpu:avx", "cpu:", "openvino:", "simulated", "simulated:", "", ":"])
def test_a_name_that_no_target_bears_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(
        UnplaceableError, match=r"there are auto, reference, cpu, openvino, qnn, axera, simulated:<chip>"
    ):
        target_named(name)


def test_auto_chooses_among_what_can_be_used_at_its_own_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEARSIGHT_TARGETS", raising=False)
    states = {item.target: item for item in probe()}

    names = [target.name for target in automatic()]

    assert names[0] == "cpu"
    assert "reference" not in names
    assert all(states[name].available and not states[name].simulator for name in names)
    assert all(
        name in names or name == "reference" or state.simulator for name, state in states.items() if state.available
    )


def test_the_environment_may_name_the_targets_of_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_TARGETS", "reference,cpu")
    assert [target.name for target in automatic()] == ["reference", "cpu"]

    monkeypatch.setenv("NEARSIGHT_TARGETS", " ")
    assert automatic()[0].name == "cpu"

    monkeypatch.setenv("NEARSIGHT_TARGETS", "cpu,toaster")
    with pytest.raises(UnplaceableError, match="'toaster'"):
        automatic()


def test_an_accelerator_of_another_maker_is_not_taken_for_an_intel_npu(tmp_path: Path) -> None:
    vendor(tmp_path / "sys/class/accel/accel0/device", "0x1da3")

    assert Machine(root=tmp_path).accelerator("0x8086") is None
    assert Machine(root=tmp_path).accelerator("0x1da3") == "/dev/accel/accel0"


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


def vendor(folder: Path, number: str) -> None:
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{number}\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AX650N", "simulated:AX650N computes its numbers on any machine, axera runs on the chip itself"),
        ("ax620e", "simulated:AX630C computes its numbers on any machine, axera runs on the chip itself"),
        ("axera:AX8850", "simulated:AX8850 computes"),
        ("Intel NPU", "simulated:Intel-NPU computes its numbers on any machine, openvino:npu runs on the chip itself"),
        ("HTP", "simulated:Qualcomm-HTP computes its numbers on any machine, qnn runs on the chip itself"),
    ],
)
def test_a_chip_that_is_named_alone_leads_to_its_targets(name: str, said: str) -> None:
    with pytest.raises(UnplaceableError, match=f"target '{name}' was asked for; that is a chip: {said}"):
        target_named(name)


def test_every_chip_names_targets_that_there_are() -> None:
    for chip in chips():
        named = re.findall(r"(\S+) (?:computes|runs)", targets_for(chip.name))

        assert [target_named(name).name for name in named] == [f"simulated:{chip.name}", chip.target]
