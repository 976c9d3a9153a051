"""The package's front door: sorted, lazy, complete."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nearsight_models
import nearsight_npu
from nearsight_npu import errors


def test_importing_the_package_loads_neither_numpy_nor_a_runtime() -> None:
    code = """
import sys, nearsight_npu, nearsight_npu.errors, nearsight_npu.policy, nearsight_npu.testing
print(sorted({'numpy', 'onnx', 'onnxruntime', 'platformdirs'} & set(sys.modules)))
"""

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_no_runtime_reports_to_its_maker(tmp_path: Path) -> None:
    # onnxruntime keeps an identity and its reports in the cache folder; it is silent by itself where CI is set.
    silent = {"ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS", "TF_BUILD", "JENKINS_URL"}
    environment = {name: value for name, value in os.environ.items() if name not in silent}
    model = Path(nearsight_models.__file__).parent / "embedded" / "nano" / "image.int8.onnx"
    code = f"from nearsight_npu import Delegate; Delegate('cpu').load({str(model)!r})"

    subprocess.run([sys.executable, "-c", code], check=True, env={**environment, "XDG_CACHE_HOME": str(tmp_path)})

    assert {path.name for path in tmp_path.iterdir()} <= {"nearsight"}


def test_every_name_is_there_and_sorted() -> None:
    assert dir(nearsight_npu) == nearsight_npu.__all__ == sorted(nearsight_npu.__all__)
    for name in nearsight_npu.__all__:
        assert getattr(nearsight_npu, name) is not None


def test_no_module_takes_the_place_of_a_public_name() -> None:
    for module in pkgutil.walk_packages(nearsight_npu.__path__, "nearsight_npu."):
        importlib.import_module(module.name)

    for name in nearsight_npu.__all__:
        assert not isinstance(getattr(nearsight_npu, name), type(sys))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nearsight_npu' has no attribute 'nothing'"):
        _ = nearsight_npu.nothing


def test_every_error_is_raised_somewhere_and_drawn_in_the_tree() -> None:
    folder = Path(nearsight_npu.__file__).parent
    source = "\n".join(path.read_text("utf-8") for path in folder.rglob("*.py") if path.name != "errors.py")
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and value.__module__ == errors.__name__
    ]

    for kind in classes:
        assert errors.__doc__ is not None
        assert kind.__name__ in errors.__doc__
        if issubclass(kind, Exception) and kind is not errors.DelegateError:
            assert re.search(rf"(raise|return) {kind.__name__}\(|{kind.__name__},\n", source), kind
    assert len(classes) == 11
