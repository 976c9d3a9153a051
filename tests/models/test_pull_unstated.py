"""Files whose hash nobody wrote down: held against what the hub calls them, or refused where they cannot be right."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import nearsight_models
from nearsight_models import ChecksumError, ModelError, manifest, sound, store

PINNED = "1" * 40
GRAPH = b"\x08\x08\x3a\x05graph"  # ir_version 8, and a graph of five bytes
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9000\n"


def test_a_mirror_that_calls_files_by_no_hash_is_not_believed(hub, catalogued):
    catalogued(hub.commits[PINNED], hashes=False)
    hub.faults = lambda kind, _path: {"HEAD": "md5", "blob": "corrupt"}.get(kind, "")

    with pytest.raises(ModelError, match=r"states no hash \(ETag\) for onnx/vision_model\.onnx; .*HF_ENDPOINT"):
        nearsight_models.pull("tiny")

    assert nearsight_models.installed() == []


def test_such_a_mirror_does_where_the_catalogue_knows_the_hashes(hub):
    hub.faults = lambda kind, _path: "md5" if kind == "HEAD" else ""

    nearsight_models.pull("tiny").check()

    hub.faults = lambda kind, _path: {"HEAD": "md5", "blob": "corrupt"}.get(kind, "")
    with pytest.raises(ChecksumError, match="came as another file"):
        nearsight_models.pull("tiny", precision="int8")


@pytest.mark.parametrize("path", ["onnx/vision_model.onnx", "config.json"])
def test_offline_the_cache_is_held_against_its_own_names(hub, catalogued, monkeypatch, path):
    import huggingface_hub

    catalogued(hub.commits[PINNED], hashes=False)
    cached = {
        name: huggingface_hub.hf_hub_download("house/tiny", name, revision=PINNED, endpoint=hub.endpoint)
        for name in hub.commits[PINNED]
    }
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    nearsight_models.pull("tiny").check()
    shutil.rmtree(store.models_folder())
    data = bytearray(hub.commits[PINNED][path])
    data[-1] ^= 1
    Path(cached[path]).write_bytes(data)

    with pytest.raises(ChecksumError, match=rf"{path} in the hub's cache has SHA-256 \w+, where the hash"):
        nearsight_models.pull("tiny")


@pytest.mark.parametrize(
    ("path", "data", "told"),
    [
        ("onnx/vision_model.onnx", POINTER, "is a git-lfs pointer, not the file; fetch it there: git lfs pull"),
        ("onnx/text_model.onnx_data", POINTER, "is a git-lfs pointer"),
        ("onnx/vision_model.onnx", b"<!DOCTYPE html><html>no such file</html>", "is no ONNX model, or was cut"),
        ("onnx/text_model.onnx", GRAPH[:-1], "is no ONNX model, or was cut"),
        ("sub/tokenizer.json", b'{"words": [1, 2', "is no JSON, or was cut"),
    ],
)
def test_a_folder_with_a_file_that_cannot_be_right_is_refused_by_name(hub, catalogued, tmp_path, path, data, told):
    files = {name: GRAPH if name.endswith(".onnx") else data for name, data in hub.commits[PINNED].items()}
    catalogued(files, hashes=False)
    nearsight_models.pull("tiny", folder=laid_out(tmp_path / "sound", files))

    with pytest.raises(ChecksumError) as caught:
        nearsight_models.pull("tiny", folder=laid_out(tmp_path / "stick", {**files, path: data}))

    assert f"{path} in {tmp_path / 'stick'} {told}" in str(caught.value)
    assert "\n" not in str(caught.value)
    nearsight_models.load("tiny").check()


def test_a_size_that_the_catalogue_states_is_compared_but_not_for_another_commit(hub, tmp_path):
    files = {name: GRAPH if name.endswith(".onnx") else b"{}" for name in hub.commits[PINNED]}
    folder = laid_out(tmp_path / "stick", files)
    page = tmp_path / "catalogue" / "tiny.toml"
    page.write_text(re.sub(r', sha256 = "\w+"', "", page.read_text()))

    with pytest.raises(ChecksumError, match=r"onnx/vision_model\.onnx in .* has 9 bytes, the catalogue states 9000"):
        nearsight_models.pull("tiny", folder=folder)
    nearsight_models.pull("tiny", folder=folder, revision="another").check()


def test_a_graph_of_the_wheel_is_seen_as_a_model_and_a_cut_one_is_not(tmp_path):
    whole = next(manifest.root().rglob("*.onnx")).read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole)
    assert sound.fault(tmp_path / "m.onnx") == ""

    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / "m.onnx").write_bytes(whole[:length])
        assert sound.fault(tmp_path / "m.onnx") == "is no ONNX model, or was cut"


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder
