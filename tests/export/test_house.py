"""The rules of the house for what needs torch, which `make check` cannot import."""

from __future__ import annotations

import importlib
import pkgutil

import nearsight.exporting


def test_every_exporter_can_be_imported_and_is_listed():
    leaves = {found.name for found in pkgutil.iter_modules(nearsight.exporting.__path__)}

    for name in sorted(leaves):
        importlib.import_module(f"nearsight.exporting.{name}")

    for module in nearsight.exporting.EXPORTERS.values():
        assert callable(importlib.import_module(f"nearsight.exporting.{module}").export)
    whole = {name for name in leaves if hasattr(importlib.import_module(f"nearsight.exporting.{name}"), "export")}
    assert whole == set(nearsight.exporting.EXPORTERS.values())
