"""A hub on loopback: it speaks the routes that huggingface_hub calls, and can be told to be faulty, seeded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from nearsight_models import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REPO = "house/tiny"
PINNED, NEXT = "1" * 40, "2" * 40
PATIENCE_S = 0.2
RESOLVE = re.compile(r"/(?P<repo>[\w.-]+/[\w.-]+)/resolve/(?P<revision>[\w.-]+)/(?P<path>.+)")
CACHED = re.compile(r"/api/resolve-cache/models/(?P<repo>[\w.-]+/[\w.-]+)/(?P<revision>[\w.-]+)/(?P<path>[^?]+)\?.*")
INFO = re.compile(r"/api/models/(?P<repo>[\w.-]+/[\w.-]+)/revision/(?P<revision>[\w.-]+)")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def content(seed: int) -> dict[str, bytes]:
    """The files of a tiny repository: four large ones, as the hub keeps graphs, and two small ones."""
    draw = random.Random(seed)
    return {
        "onnx/vision_model.onnx": draw.randbytes(9_000),
        "onnx/vision_model_quantized.onnx": draw.randbytes(3_000),
        "onnx/text_model.onnx": draw.randbytes(2_500),
        "onnx/text_model.onnx_data": draw.randbytes(12_000),
        "config.json": json.dumps({"seed": seed}).encode(),
        "sub/tokenizer.json": json.dumps({"words": draw.sample(range(10_000), 300)}).encode(),
    }


@dataclass
class Hub:
    """The state of both servers: the hub, and where it keeps large files."""

    commits: dict[str, dict[str, bytes]]
    main: str = PINNED
    token: str = ""
    faults: Callable[[str, str], str] = lambda _kind, _path: ""
    told: list[tuple[str, str, str, str]] = field(default_factory=list)
    endpoint: str = ""
    store: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    def blob(self, digest: str) -> tuple[str, bytes] | None:
        """The file of this hash, in whichever commit."""
        return next(
            ((path, data) for files in self.commits.values() for path, data in files.items() if sha256(data) == digest),
            None,
        )


class Handler(BaseHTTPRequestHandler):
    """Answers one request, well or badly."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each body waits 40 ms for the headers before it to be acknowledged
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        kind = "blob" if self.path.startswith("/blobs/") else "info" if INFO.fullmatch(self.path) else self.command
        fault = self.hub.faults(kind, self.path)
        self.hub.told.append((kind, self.path, self.headers.get("Range", ""), fault))
        if fault == "drop":
            self.close_connection = True
            return
        if fault == "stall":
            time.sleep(PATIENCE_S * 2)
            self.close_connection = True
            return
        if fault.isdigit():
            self._refuse(int(fault))
            return
        if kind == "blob":
            assert "Authorization" not in self.headers, "the token went where only files lie"
            found = self.hub.blob(self.path.rpartition("/")[2])
            self._send(found[1], fault) if found else self._refuse(404)
            return
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._refuse(401, "GatedRepo")
            return
        if kind == "info":
            self._info()
        else:
            self._resolve(fault)

    def _info(self) -> None:
        revision = INFO.fullmatch(self.path)["revision"]
        commit = self.hub.main if revision == "main" else revision
        if commit not in self.hub.commits:
            self._refuse(404, "RevisionNotFound")
            return
        siblings = [{"rfilename": path} for path in self.hub.commits[commit]]
        page = {"id": REPO, "modelId": REPO, "sha": commit, "private": False, "tags": [], "siblings": siblings}
        self._send(json.dumps(page).encode(), "")

    def _resolve(self, fault: str) -> None:
        asked = CACHED.fullmatch(self.path) or RESOLVE.fullmatch(self.path)
        commit = NEXT if fault == "moved" else asked["revision"]
        files = self.hub.commits.get(commit)
        if files is None or asked["repo"] != REPO:
            self._refuse(404, "RepoNotFound" if files else "RevisionNotFound")
            return
        if asked["path"] not in files:
            self._refuse(404, "EntryNotFound")
            return
        data = files[asked["path"]]
        small = {"X-Repo-Commit": commit, "ETag": f'"{git_hash(data)}"'}
        if fault == "md5":  # as a store of files behind a mirror names what it holds
            small["ETag"] = f'"{md5(data)}"'
        if len(data) < 2_000 and asked.re is CACHED:
            self._send(data, fault, small)
            return
        # Small files are a relative redirect away; large ones lie elsewhere, and the hub states what they are.
        self.send_response(307 if len(data) < 2_000 else 302)
        elsewhere = {
            "Location": f"{self.hub.store}/blobs/{sha256(data)}",
            "X-Linked-Etag": small["ETag"] if fault == "md5" else f'"{sha256(data)}"',
            "X-Linked-Size": str(len(data)),
        }
        near = {"Location": f"/api/resolve-cache/models/{REPO}/{asked['revision']}/{asked['path']}?etag=1"}
        for name, value in {**small, **(near if len(data) < 2_000 else elsewhere), "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, data: bytes, fault: str, headers: dict[str, str] | None = None) -> None:
        start = 0
        if (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) and fault != "no range":
            start = int(asked[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:]
        if fault == "wrong range":
            body = data[: len(body)]
        if fault == "corrupt" and body:
            body = body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]
        if fault == "longer":
            body += b"and more"
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "cut":
            body = body[: len(body) * 2 // 3]
            self.close_connection = True
        with contextlib.suppress(ConnectionError):
            if fault == "hang":
                self.wfile.write(body[: len(body) * 2 // 3])
                self.hub.released.wait(60)
                self.close_connection = True
                return
            self.wfile.write(body)


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve a hub on a free port of loopback."""

    class Bound(Handler):
        pass

    Bound.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Hurry:
    """Stands for the module `time` inside huggingface_hub: what it sleeps, it sleeps a hundred times faster."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 1) / 100)


def page(files: dict[str, bytes], *, revision: str = PINNED, hashes: bool = True) -> str:
    """The catalogue's page of the tiny repository."""

    def row(path: str, name: str = "") -> str:
        said = [f'path = "{path}"', *([f'name = "{name}"'] if name else [])]
        if hashes:
            said += [f"bytes = {len(files[path])}", f'sha256 = "{sha256(files[path])}"']
        if path == "onnx/text_model.onnx":
            said.append(f"beside = [{row('onnx/text_model.onnx_data')}]")
        return f"{{ {', '.join(said)} }}"

    return f"""
name = "tiny"
capability = "search"
architecture = "clip"
summary = "a test"
languages = ["en"]
licence = "CC0-1.0"
research_only = false
parameters = 4
dimensions = 2
trained_on = ["nothing"]
[hub]
repo = "{REPO}"
revision = "{revision}"
confirmed = true
assets = [{row("config.json")}, {row("sub/tokenizer.json", "tokenizer.json")}]
[hub.files.image]
fp32 = {row("onnx/vision_model.onnx")}
int8 = {row("onnx/vision_model_quantized.onnx")}
[hub.files.text]
fp32 = {row("onnx/text_model.onnx")}
"""


@pytest.fixture(scope="session")
def hub_servers() -> Iterator[Hub]:
    """The two servers, started once."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'nearsight[hub]'")
    hub = Hub(commits={})
    with serving(hub) as hub.endpoint, serving(hub) as hub.store:
        yield hub


@pytest.fixture
def hub(hub_servers: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A healthy hub with one repository of two commits, which the catalogue names, and an empty models folder."""
    import huggingface_hub.constants
    import huggingface_hub.file_download
    import huggingface_hub.utils._http

    hub_servers.commits = {PINNED: content(1), NEXT: content(2)}
    hub_servers.main, hub_servers.token, hub_servers.faults = PINNED, "", lambda _kind, _path: ""
    hub_servers.told.clear()
    hub_servers.released.clear()
    monkeypatch.setenv("HF_ENDPOINT", hub_servers.endpoint)
    monkeypatch.setenv("NEARSIGHT_MODELS", str(tmp_path / "models"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "HF_HUB_ETAG_TIMEOUT": PATIENCE_S,
        "HF_HUB_DOWNLOAD_TIMEOUT": PATIENCE_S,
        "DOWNLOAD_CHUNK_SIZE": 512,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN_PATH": str(tmp_path / "no token"),
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(huggingface_hub.file_download, "time", Hurry())
    monkeypatch.setattr(huggingface_hub.utils._http, "time", Hurry())
    monkeypatch.setattr("nearsight_models.hub.WAITS_S", (0.0, 0.0, 0.0))
    listed(tmp_path, monkeypatch, page(hub_servers.commits[PINNED]))
    return hub_servers


def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the catalogue have this page and no other."""
    folder = tmp_path / "catalogue"
    folder.mkdir(exist_ok=True)
    (folder / "tiny.toml").write_text(text, encoding="utf8")
    monkeypatch.setattr(catalogue, "folder", lambda: folder)


@pytest.fixture
def catalogued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets the catalogue's one page state these files: see `page`."""
    return lambda files, **how: listed(tmp_path, monkeypatch, page(files, **how))
