"""Fetches files from the hub through its own client: goes on where it was cut, and holds them against their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from nearsight_models import sound
from nearsight_models.errors import ChecksumError, MissingFilesError, ModelError, UsageError
from nearsight_models.manifest import sha256_of
from nearsight_models.pulling import Progress, copy, flush

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearsight_models.catalogue import HubFile

HUB = "https://huggingface.co"
# Waits between the tries of one file, in seconds; what has come is kept between them.
WAITS_S = (1.0, 2.0, 4.0)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_GO_ON = "then pull again: it goes on where it stopped"
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
_Answer = TypeVar("_Answer")


class _PassingError(Exception):
    """Carries an error that another try may mend."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stated:
    """What is known of a file before it comes.

    Attributes:
        sha256: Its SHA-256; empty where only Git's hash of it is known.
        etag: What the hub calls this content: SHA-256 of a large file, Git's hash of a small one; a mirror may call it
            anything, which is used only where the SHA-256 is known.
        bytes: Its size; None where the hub does not say.
    """

    sha256: str
    etag: str
    bytes: int | None

    def holds(self, path: Path) -> bool:
        """Whether this is the file."""
        if not path.is_file() or self.bytes not in (None, path.stat().st_size):
            return False
        if self.sha256:
            return sha256_of(path) == self.sha256
        return _git_hash(path) == self.etag


class Online:
    """A repository on the hub at one commit.

    Args:
        repo: `owner/name`.
        revision: A commit; a branch or tag is asked for its commit once; empty stands for `main`.
        parts: The folder for files that have not come whole yet.
        earlier: The folder of an earlier version of the model: files that are still right are taken from it.

    Raises:
        MissingFilesError: If the hub has no such revision.
        UsageError: If HF_ENDPOINT is no URL.
        ModelError: If the hub's client is not installed, or the hub cannot be asked, or declines.
    """

    def __init__(self, repo: str, revision: str, *, parts: Path, earlier: Path) -> None:
        self._client = _client()
        self._repo = repo
        self._parts = parts
        self._earlier = earlier
        self._endpoint = endpoint()
        self.revision = revision or "main"
        if not _COMMIT.fullmatch(self.revision):
            self.revision = _patiently(self._commit)

    def bring(self, file: HubFile, to: Path, sha256: str, told: Callable[[Progress], None]) -> None:
        """Put one file there, from the cache of the hub's client or from the hub.

        Args:
            file: Which.
            to: Where.
            sha256: The hash it must have; empty for the one that the hub states.
            told: Called when it begins and whenever it begins again.

        Raises:
            MissingFilesError: If the hub does not have it, or the machine is offline and the cache lacks it.
            ChecksumError: If another file comes than stated.
            ModelError: If the hub cannot be asked, or declines.
        """
        if self._offline():
            self._from_cache(file, to, sha256, told)
        else:
            _patiently(lambda: self._fetch(file, to, sha256, told), lambda: told(_progress(file, "again")))

    def _offline(self) -> bool:
        named = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
        return named or bool(self._client.constants.HF_HUB_OFFLINE)

    def _commit(self) -> str:
        if self._offline():
            raise MissingFilesError(
                f"offline (HF_HUB_OFFLINE): which commit of {self._repo} {self.revision!r} is can only be asked with a "
                "network; name the commit: --revision"
            )
        with self._asked(self.revision):
            api = self._client.HfApi(endpoint=self._endpoint)
            info = api.model_info(self._repo, revision=self.revision, timeout=self._patience_s())
        if not _COMMIT.fullmatch(str(info.sha)):
            raise ModelError(f"{self._endpoint} names no commit for {self.revision!r} of {self._repo}")
        return str(info.sha)

    def _patience_s(self) -> float:
        return float(self._client.constants.HF_HUB_ETAG_TIMEOUT)

    def _from_cache(self, file: HubFile, to: Path, sha256: str, told: Callable[[Progress], None]) -> None:
        cached = self._cached(file)
        if cached is None:
            raise MissingFilesError(
                f"offline (HF_HUB_OFFLINE): the hub's cache here lacks {file.path} of {self._repo} at "
                f"{self.revision[:12]}; pull once with a network, or from a folder: --from DIR"
            )
        stated = sha256 or cached.resolve().name  # the cache names what it holds by the hub's hash of it
        if _is_hash(stated):
            known = _Stated(sha256="" if _COMMIT.fullmatch(stated) else stated, etag=stated, bytes=None)
            wrong = not known.holds(cached)
            fault = f"has SHA-256 {sha256_of(cached)[:12]}, where the hash {stated[:12]} is stated" if wrong else ""
        else:
            fault = sound.fault(cached)
        if fault:
            raise ChecksumError(f"{file.path} in the hub's cache {fault}; remove {cached} and pull with a network")
        told(_progress(file, "copied"))
        copy(cached, to)

    def _cached(self, file: HubFile) -> Path | None:
        found = self._client.try_to_load_from_cache(self._repo, file.path, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def _fetch(self, file: HubFile, to: Path, sha256: str, told: Callable[[Progress], None]) -> None:
        head = self._head(file, sha256)
        etag = head.etag or ""
        hub_s = etag if _SHA256.fullmatch(etag) else ""
        if sha256 and hub_s and sha256 != hub_s:
            raise ChecksumError(
                f"{self._endpoint} states SHA-256 {hub_s[:12]} for {file.path} of {self._repo}, where {sha256[:12]} is "
                "recorded for this commit; try another HF_ENDPOINT"
            )
        stated = _Stated(sha256=sha256 or hub_s, etag=etag, bytes=head.size)
        near = (self._earlier / file.path, *filter(None, [self._cached(file)]))
        if stated.holds(to):
            told(_progress(file, "kept"))
        elif (found := next((path for path in near if stated.holds(path)), None)) is not None:
            told(_progress(file, "copied"))
            copy(found, to)
        else:
            told(_progress(file, "fetching"))
            self._download(file, head, stated, to)

    def _head(self, file: HubFile, sha256: str) -> Any:
        url = self._client.hf_hub_url(self._repo, file.path, revision=self.revision, endpoint=self._endpoint)
        with self._asked(file.path):
            head = self._client.get_hf_file_metadata(url, timeout=self._patience_s())
        if not sha256 and not _is_hash(head.etag or ""):  # such as the MD5 that a store of files calls them by
            raise ModelError(f"{self._endpoint} states no hash (ETag) for {file.path}; name another HF_ENDPOINT")
        if head.commit_hash != self.revision:
            told = f"{self._endpoint} answers with commit {str(head.commit_hash)[:12]} of {self._repo}, not with the "
            raise _PassingError(ModelError(f"{told}{self.revision[:12]} that is pinned; name another HF_ENDPOINT"))
        return head

    def _download(self, file: HubFile, head: Any, stated: _Stated, to: Path) -> None:
        # The client's own download throws away what came of a file that was cut (huggingface_hub 2.4): not this call.
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        headers = build_hf_headers()
        if urlsplit(head.location).netloc != urlsplit(self._endpoint).netloc:
            headers.pop("authorization", None)  # a token is for the hub, not for where its files lie
        part = self._parts / f"{stated.sha256 or stated.etag}.{hashlib.sha256(file.path.encode()).hexdigest()[:8]}"
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.exists() and (head.size is None or part.stat().st_size > head.size):
            part.unlink()
        with part.open("ab") as stream, self._asked(file.path):
            http_get(
                head.location,
                stream,
                resume_size=stream.tell(),
                headers=headers,
                expected_size=head.size,
                displayed_filename=file.path,
            )
        if not stated.holds(part):
            told = (
                f"{file.path} of {self._repo} came as another file ({part.stat().st_size} bytes) than is stated for it"
            )
            part.unlink()
            raise _PassingError(ChecksumError(f"{told}; pull again, or name another HF_ENDPOINT"))
        flush(part)
        to.parent.mkdir(parents=True, exist_ok=True)
        part.replace(to)

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Say in one line whatever the hub's client raises; its errors share no class over its versions."""
        try:
            yield
        except Exception as error:
            self._tell(error, what)
            raise

    def _tell(self, error: Exception, what: str) -> NoReturn:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, OSError) and error.errno in _DISK:
            raise ModelError(f"cannot write {what}: {error.strerror}; make room or mend rights, {_GO_ON}") from error
        if status in (401, 403):
            raise ModelError(
                f"the hub does not give {what} of {self._repo} to everybody ({status}); accept its terms on "
                f"{self._endpoint}/{self._repo} and name your token in HF_TOKEN, or see whether it still exists"
            ) from error
        if status in (404, 410):
            raise MissingFilesError(
                f"the hub has no {what} in {self._repo} at {self.revision[:12]} ({status}); another commit may: "
                "--revision main"
            ) from error
        if status is not None and status not in _PASSING:
            raise ModelError(f"{self._endpoint} declines {what} of {self._repo} ({status})") from error
        told = f"{self._endpoint} declines {what} for now ({status}); wait"
        if status is None:
            told = f"the connection to {self._endpoint} broke over {what} ({_reason(error)}); see to the network"
        raise _PassingError(ModelError(f"{told}, {_GO_ON}")) from error


def endpoint() -> str:
    """Give the hub that is asked: `$HF_ENDPOINT`, else the public one.

    Raises:
        UsageError: If what is named is no URL.
    """
    named = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    try:
        url = urlsplit(named)
        sound_url = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or True)
    except ValueError:
        sound_url = False
    if not sound_url:
        raise UsageError(f"HF_ENDPOINT is {named!r}, which is no URL; name one, such as {HUB}, or unset it")
    return named


def _client() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
    except ImportError as error:
        raise ModelError(
            "pulling from the hub needs its client; install it: pip install 'nearsight[hub]' (a folder needs none: "
            "--from DIR)"
        ) from error
    return huggingface_hub


def _patiently(do: Callable[[], _Answer], again: Callable[[], None] | None = None) -> _Answer:
    """Do it, and again after a while where that may help."""
    for wait in (*WAITS_S, None):
        try:
            return do()
        except _PassingError as passing:
            if wait is None:
                raise passing.error from passing.__cause__
        if again is not None:
            again()
        time.sleep(wait)
    raise AssertionError("unreachable")


def _is_hash(etag: str) -> bool:
    return bool(_COMMIT.fullmatch(etag) or _SHA256.fullmatch(etag))


def _git_hash(path: Path) -> str:
    """Give Git's hash of a file. Source: Git's object format, `blob SIZE NUL CONTENT`."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    digest.update(path.read_bytes())
    return digest.hexdigest()


def _progress(file: HubFile, state: str) -> Progress:
    return Progress(file=file.path, bytes=file.bytes, state=state)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 100 and text else type(error).__name__
