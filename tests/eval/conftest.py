"""The modules of `eval` are scripts beside the repository's packages: they are imported from its root."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType


@pytest.fixture
def evaluation(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of `eval`."""
    monkeypatch.syspath_prepend(str(root))
    return lambda name: import_module(f"eval.{name}")
