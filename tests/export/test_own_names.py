"""Weights of one's own get a name of their own; an export that fails leaves what was there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tiny_encoders as tiny

import nearsight_models
from nearsight.cli.main import main
from nearsight.errors import InputError, NearsightError
from nearsight.exporting import export_model

if TYPE_CHECKING:
    from pathlib import Path


def test_weights_of_ones_own_do_not_take_the_catalogues_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARSIGHT_MODELS", str(tmp_path / "models"))
    tiny.clip(tmp_path / "mine")

    code = main(["models", "export", "clip-vit-b32", "--from", str(tmp_path / "mine"), "--name", "my-clip"])

    assert code == 0
    assert nearsight_models.installed() == ["my-clip"]
    page = nearsight_models.load("my-clip", "search")
    told = "as the owner of the weights says; exported from mine's own files"
    assert (page.name, page.licence, page.trained_on) == ("my-clip", told, (told,))
    assert page.space.startswith("my-clip-")
    assert main(["models", "verify", "my-clip"]) == 0


def test_an_export_that_fails_or_is_not_asked_to_replace_leaves_what_was_there(tmp_path: Path, entry: Any) -> None:
    models = tmp_path / "models"
    page = entry("tiny", "clip", "search")
    tiny.clip(tmp_path / "source")
    made = export_model(page, tmp_path / "source", folder=models) / "manifest.toml"
    (models / ".tiny.made").mkdir()
    (models / ".tiny.made" / "of a killed export.onnx").touch()
    before = made.read_bytes()

    with pytest.raises(NearsightError):
        export_model(page, tmp_path / "nowhere", folder=models)
    assert made.read_bytes() == before
    assert sorted(path.name for path in models.iterdir()) == [".tiny.lock", "tiny"]

    made.write_text(before.decode().replace('how = "export"', 'how = "pull"'))
    with pytest.raises(InputError, match="came by pull; give --replace"):
        export_model(page, tmp_path / "source", folder=models)
    export_model(page, tmp_path / "source", folder=models, replace=True)
    assert 'how = "export"' in made.read_text()
