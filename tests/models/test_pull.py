"""What a pull brings: the stated files, whole, at once, or nothing that could be loaded and one line that says why."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nearsight_models
from nearsight_models import ChecksumError, MissingFilesError, ModelError, UnknownModelError, store

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = "tiny"
FP32 = (
    "onnx/vision_model.onnx",
    "onnx/text_model.onnx",
    "onnx/text_model.onnx_data",
    "config.json",
    "sub/tokenizer.json",
)
PINNED, NEXT = "1" * 40, "2" * 40


def files_of(name: str = TINY) -> dict[str, bytes]:
    """What lies in a model's folder, but for its page."""
    home = store.models_folder() / name
    found = (path for path in home.rglob("*") if path.is_file() and path.name != "manifest.toml")
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in found}


def wanted(hub, commit: str = PINNED, paths: tuple[str, ...] = FP32) -> dict[str, bytes]:
    return {path: hub.commits[commit][path] for path in paths}


def as_on_the_hub(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def on_first(kind: str, fault: str, times: int = 1) -> Callable[[str, str], str]:
    """A hub that is faulty in this way the first times it is asked for this."""
    left = [times]

    def next_fault(asked: str, path: str) -> str:
        if (kind == asked or kind in path) and left[0]:
            left[0] -= 1
            return fault
        return ""

    return next_fault


def test_a_pull_brings_the_preferred_graphs_and_every_asset(hub):
    page = nearsight_models.pull(TINY)

    assert files_of() == wanted(hub)
    assert page == nearsight_models.load(TINY, "search")
    assert {role: list(row) for role, row in page.files.items()} == {"image": ["fp32"], "text": ["fp32"]}
    assert list(page.assets) == ["config.json", "tokenizer.json"]
    assert (page.source.repo, page.source.revision, page.source.how) == ("house/tiny", PINNED, "pull")
    assert page.preprocessing is None
    assert page.golden == {}
    page.check()


def test_a_precision_is_taken_where_a_graph_has_it(hub):
    page = nearsight_models.pull(TINY, precision="int8")

    assert {role: list(row) for role, row in page.files.items()} == {"image": ["int8"], "text": ["fp32"]}
    assert "onnx/vision_model.onnx" not in files_of()
    with pytest.raises(UnknownModelError, match=r"cannot be pulled in 'q4'; there is fp32, int8"):
        nearsight_models.pull(TINY, precision="q4")


def test_other_graphs_make_another_space(hub):
    first = nearsight_models.pull(TINY).space

    assert nearsight_models.pull(TINY, precision="int8").space != first
    assert nearsight_models.pull(TINY).space == first


def test_a_whole_model_is_left_as_it_is(hub):
    page = nearsight_models.pull(TINY)
    hub.told.clear()

    assert nearsight_models.pull(TINY) == page
    assert hub.told == []


def test_a_damaged_model_is_mended_and_only_what_is_damaged_is_fetched(hub):
    nearsight_models.pull(TINY)
    (store.models_folder() / TINY / "onnx" / "text_model.onnx").write_bytes(b"no graph")

    with pytest.raises(ChecksumError, match=r"text_model\.onnx has 8 bytes.*nearsight models pull tiny"):
        nearsight_models.load(TINY)
    states = []
    nearsight_models.pull(TINY, told=states.append)

    assert files_of() == wanted(hub)
    assert [one.file for one in states if one.state == "fetching"] == ["onnx/text_model.onnx"]


def test_a_model_is_not_there_before_it_is_whole(hub):
    hub.faults = lambda _kind, path: "404" if "text_model" in path else ""

    with pytest.raises(MissingFilesError, match=r"the hub has no onnx/text_model\.onnx in house/tiny.*404"):
        nearsight_models.pull(TINY)

    assert nearsight_models.installed() == []
    with pytest.raises(MissingFilesError, match="'tiny' is not installed; get it: nearsight models pull tiny"):
        nearsight_models.load(TINY)


def test_a_pull_that_fails_leaves_the_earlier_model_as_it_was(hub):
    page = nearsight_models.pull(TINY)
    hub.faults = lambda kind, _path: "503" if kind == "blob" else ""

    with pytest.raises(ModelError, match="503"):
        nearsight_models.pull(TINY, precision="int8")

    assert nearsight_models.load(TINY) == page
    page.check()


@pytest.mark.parametrize("times", [1, 3])
def test_a_cut_file_goes_on_where_it_was_cut(hub, times):
    hub.faults = on_first("blob", "cut", times)

    nearsight_models.pull(TINY)

    assert files_of() == wanted(hub)
    first = [asked for kind, path, asked, _ in hub.told if kind == "blob"][: times + 1]
    assert first[0] == ""
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in first[1:]]
    assert starts == sorted(starts)
    assert starts[0] >= 9_000 * 2 // 3 - 512


def test_another_pull_goes_on_where_the_last_one_gave_up(hub):
    cut = on_first("blob", "cut")
    hub.faults = lambda kind, path: cut(kind, path) or ("503" if kind == "blob" else "")
    with pytest.raises(ModelError, match="goes on where it stopped"):
        nearsight_models.pull(TINY)
    hub.faults = lambda _kind, _path: ""
    hub.told.clear()

    nearsight_models.pull(TINY)

    assert files_of() == wanted(hub)
    ranges = [asked for kind, _, asked, _ in hub.told if kind == "blob"]
    assert ranges[0].startswith("bytes=")
    assert ranges[1:] == ["", ""]


def test_a_pull_that_is_killed_leaves_nothing_loadable_and_is_gone_on_with(hub, catalogued, tmp_path):
    data = random.Random(0).randbytes(300_000)
    hub.commits[PINNED]["onnx/vision_model.onnx"] = data
    catalogued(hub.commits[PINNED])
    hub.faults = on_first("blob", "hang")
    code = (
        "import pathlib, huggingface_hub.constants as constants, nearsight_models\n"
        "from nearsight_models import catalogue\n"
        "constants.DOWNLOAD_CHUNK_SIZE = 512\n"
        f"catalogue.folder = lambda: pathlib.Path({str(tmp_path / 'catalogue')!r})\n"
        "nearsight_models.pull('tiny')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as pulling:
        parts = store.models_folder() / ".tiny.part" / ".parts"
        until = time.monotonic() + 60
        while sum(path.stat().st_size for path in parts.glob("*")) < 100_000:
            assert time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(ModelError, match="another process is installing 'tiny'"):
            nearsight_models.pull(TINY)
        pulling.kill()
    hub.released.set()
    assert nearsight_models.installed() == []
    hub.told.clear()

    nearsight_models.pull(TINY)

    assert files_of() == wanted(hub)
    (first,) = (asked for kind, path, asked, _ in hub.told if path.endswith(hashlib.sha256(data).hexdigest()))
    assert int(first.removeprefix("bytes=").removesuffix("-")) >= 100_000


def test_what_came_whole_before_an_interruption_is_not_fetched_again(hub):
    hub.faults = lambda _kind, path: "503" if "text_model" in path else ""
    with pytest.raises(ModelError):
        nearsight_models.pull(TINY)
    hub.faults = lambda _kind, _path: ""
    states = []

    nearsight_models.pull(TINY, told=states.append)

    assert [(one.file, one.state) for one in states][:2] == [
        ("onnx/vision_model.onnx", "kept"),
        ("onnx/text_model.onnx", "fetching"),
    ]


@pytest.mark.parametrize("fault", ["corrupt", "longer", "no range", "wrong range"])
@pytest.mark.parametrize("hashes", [True, False])
def test_one_bad_answer_is_noticed_and_made_good(hub, catalogued, fault, hashes):
    catalogued(hub.commits[PINNED], hashes=hashes)
    cut = on_first("blob", "cut", 1)
    bad = on_first("blob", fault, 1)
    hub.faults = lambda kind, path: cut(kind, path) or bad(kind, path)

    nearsight_models.pull(TINY)

    assert files_of() == wanted(hub)


def test_a_hub_that_always_sends_another_file_is_found_out(hub):
    hub.faults = lambda kind, _path: "corrupt" if kind == "blob" else ""

    with pytest.raises(ChecksumError, match=r"onnx/vision_model\.onnx of house/tiny came as another file"):
        nearsight_models.pull(TINY)
    assert nearsight_models.installed() == []


def test_small_files_are_held_against_gits_hash(hub, catalogued):
    catalogued(hub.commits[PINNED], hashes=False)
    hub.faults = lambda kind, path: "corrupt" if kind == "GET" and "config.json" in path else ""

    with pytest.raises(ChecksumError, match=r"config\.json of house/tiny came as another file"):
        nearsight_models.pull(TINY)


def test_a_hub_that_states_another_hash_than_the_catalogue_is_not_believed(hub, catalogued):
    catalogued(hub.commits[NEXT])

    with pytest.raises(ChecksumError, match=r"states SHA-256 \w{12} for onnx/vision_model\.onnx"):
        nearsight_models.pull(TINY)
    assert not [one for one in hub.told if one[0] == "blob"]


def test_what_the_first_pull_recorded_holds_for_the_next(hub, catalogued):
    catalogued(hub.commits[PINNED], hashes=False)
    nearsight_models.pull(TINY)
    hub.commits[PINNED] = hub.commits[NEXT]

    with pytest.raises(ChecksumError, match="recorded for this commit"):
        nearsight_models.pull(TINY, precision="int8")


def test_an_answer_for_another_commit_is_not_taken(hub):
    hub.faults = lambda kind, _path: "moved" if kind == "HEAD" else ""

    with pytest.raises(ModelError, match=r"answers with commit 222222222222 of house/tiny, not with the 111111111111"):
        nearsight_models.pull(TINY)


def test_a_page_without_a_commit_asks_for_one_and_records_it(hub, catalogued):
    catalogued(hub.commits[NEXT], revision="", hashes=False)
    hub.main = NEXT

    got = nearsight_models.pull(TINY)

    assert got.source.revision == NEXT
    assert files_of() == wanted(hub, NEXT)


def test_another_revision_can_be_named(hub):
    got = nearsight_models.pull(TINY, revision=NEXT)

    assert got.source.revision == NEXT
    assert files_of() == wanted(hub, NEXT)
    with pytest.raises(MissingFilesError, match=r"\(404\)"):
        nearsight_models.pull(TINY, revision="3" * 40)


def test_a_gated_model_wants_a_token_which_goes_to_the_hub_only(hub, monkeypatch):
    hub.token = "secret"
    with pytest.raises(ModelError, match=r"\(401\).*HF_TOKEN"):
        nearsight_models.pull(TINY)
    monkeypatch.setenv("HF_TOKEN", "secret")

    nearsight_models.pull(TINY)

    assert files_of() == wanted(hub)


@pytest.mark.parametrize("fault", ["401", "404", "429", "503", "drop", "stall", "cut", "corrupt", "moved"])
def test_every_failure_is_one_line_that_names_the_file_and_a_remedy(hub, fault, monkeypatch):
    if fault == "stall":  # no answer will come, however long one waits
        for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", 0.04)
    hub.faults = lambda kind, _path: fault if kind != "HEAD" or fault in {"401", "404", "moved"} else ""

    with pytest.raises(ModelError) as caught:
        nearsight_models.pull(TINY)

    told = str(caught.value)
    assert "\n" not in told
    assert "vision_model.onnx" in told or fault == "moved"
    assert any(remedy in told for remedy in ("pull again", "HF_TOKEN", "--revision", "HF_ENDPOINT"))


def test_a_machine_that_is_not_there_is_said_to_be_so(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(ModelError, match=r"the connection to http://127\.0\.0\.1:9 broke over onnx/vision_model\.onnx"):
        nearsight_models.pull(TINY)


def test_a_folder_laid_out_as_the_hub_does_as_well(hub, tmp_path):
    folder = as_on_the_hub(tmp_path / "stick", hub.commits[PINNED])

    page = nearsight_models.pull(TINY, folder=folder)

    assert files_of() == wanted(hub)
    assert page.source.revision == ""
    assert hub.told == []


def test_a_folder_that_lacks_a_file_or_has_another_names_it(hub, tmp_path):
    folder = as_on_the_hub(tmp_path / "stick", hub.commits[PINNED])
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(ChecksumError, match=r"config\.json in .*stick has SHA-256 44136fa355b3"):
        nearsight_models.pull(TINY, folder=folder)
    (folder / "config.json").unlink()

    with pytest.raises(MissingFilesError, match=r"stick lacks config\.json"):
        nearsight_models.pull(TINY, folder=folder)

    assert nearsight_models.installed() == []
    with pytest.raises(MissingFilesError, match="there is no folder"):
        nearsight_models.pull(TINY, folder=tmp_path / "nowhere")


def test_offline_the_cache_of_the_hubs_client_serves(hub, tmp_path, monkeypatch):
    import huggingface_hub

    for path in FP32[:-1]:
        huggingface_hub.hf_hub_download("house/tiny", path, revision=PINNED, endpoint=hub.endpoint)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.told.clear()

    with pytest.raises(MissingFilesError, match=r"offline \(HF_HUB_OFFLINE\).*lacks sub/tokenizer\.json"):
        nearsight_models.pull(TINY)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    huggingface_hub.hf_hub_download("house/tiny", FP32[-1], revision=PINNED, endpoint=hub.endpoint)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.told.clear()
    nearsight_models.pull(TINY)

    assert files_of() == wanted(hub)
    assert hub.told == []


def test_online_the_cache_saves_the_way(hub):
    import huggingface_hub

    huggingface_hub.hf_hub_download("house/tiny", FP32[0], revision=PINNED, endpoint=hub.endpoint)
    states = []

    nearsight_models.pull(TINY, told=states.append)

    assert [one.state for one in states] == ["copied", "fetching", "fetching", "fetching", "fetching"]


def test_two_pulls_of_one_model_do_not_meet(hub):
    with store.in_the_making(TINY), pytest.raises(ModelError, match="another process is installing 'tiny'"):
        nearsight_models.pull(TINY)


def test_a_disk_that_is_too_small_is_noticed_before_anything_comes(hub, monkeypatch):
    free = shutil.disk_usage(Path.cwd())._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: free)

    with pytest.raises(ModelError, match=r"MB are to come and 0 MB are free.*NEARSIGHT_MODELS"):
        nearsight_models.pull(TINY)
    assert hub.told == []


def test_without_the_hubs_client_one_line_says_how_to_get_it(tmp_path):
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "import nearsight_models\n"
        "try: nearsight_models.pull('clip-vit-b32')\n"
        "except nearsight_models.ModelError as error: print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.count("\n") == 1
    assert "pip install 'nearsight[hub]'" in done.stdout
