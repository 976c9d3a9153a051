"""The front door: light to open, everything behind it works, and nothing there reaches for a network client."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

UNWANTED = ("huggingface_hub", "requests", "httpx", "torch", "transformers", "tokenizers", "onnx")

WALK = """
import importlib, pkgutil, types
import nearsight, nearsight_models, nearsight_npu
seen = []
for package in (nearsight, nearsight_npu, nearsight_models):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # Leaves of the exporters are modules of torch, which is not here; tests/export imports them all.
        if not found.name.endswith("__main__") and not found.name.startswith("nearsight.exporting."):
            importlib.import_module(found.name)
            seen.append(found.name)
for package in (nearsight, nearsight_npu, nearsight_models):
    for name in package.__all__:
        value = getattr(package, name)
        assert not isinstance(value, types.ModuleType), f"{package.__name__}.{name} has become a module"
        assert callable(value) or isinstance(value, str), f"{package.__name__}.{name} is {value!r}"
print(len(seen))
"""


def python(code: str, *arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_public_name_still_works_when_every_submodule_has_been_imported() -> None:
    assert int(python(WALK)) > 20


def test_importing_nearsight_loads_no_numpy() -> None:
    loaded = python("import sys, nearsight; print([name for name in ('numpy', 'PIL', 'faiss') if name in sys.modules])")

    assert loaded == "[]"


def test_importing_nearsight_takes_less_than_60_ms() -> None:
    clock = "import time; start = time.perf_counter(); import nearsight; print(1000 * (time.perf_counter() - start))"

    assert min(float(python(clock)) for _ in range(5)) < 60


def test_a_search_imports_no_hub_client_and_no_training_library(photos: Path, tmp_path: Path) -> None:
    code = f"""
import sys
import nearsight as ns
with ns.Gallery.open("g.nsg") as gallery:
    gallery.add(sys.argv[1])
    assert len(gallery.search("a cup of coffee", min_relevance=0)) > 0
print([name for name in {UNWANTED!r} if name in sys.modules])
"""

    assert python(code, str(photos / "coffee.jpg"), cwd=tmp_path) == "[]"


def test_the_front_door_lists_itself_in_order_and_refuses_strangers() -> None:
    import nearsight

    names = [name for name in nearsight.__all__ if not name.startswith("_")]

    assert names == sorted(names)
    assert set(nearsight.__all__) <= set(dir(nearsight))
    assert not any(isinstance(getattr(nearsight, name), ModuleType) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'detect_everything'"):
        _ = nearsight.detect_everything
