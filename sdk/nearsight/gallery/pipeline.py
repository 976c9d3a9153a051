"""Read, decode and encode picture files side by side, in bounded memory.

Threads read and decode (Pillow lets go of the interpreter meanwhile), one more thread encodes in batches, and the
caller's thread stores what comes out. Each content is decoded and encoded once, however many paths have it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nearsight.errors import GalleryError, InputError
from nearsight.gallery.reader import Content
from nearsight.pictures import HeifReaderMissingError, UnreadableFileError, read_with_facts

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from nearsight.gallery.encoder import GalleryEncoder
    from nearsight.values import Embeddings
    from nearsight_npu import Decision

BATCH = 16
BATCHES_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What became of one file.

    Attributes:
        path: the file.
        content: what was read; None when it could not be.
        vector: float32 (d,); None when it failed, or when the content has been met before.
        reason: why it failed; "" when it did not.
        heif: whether it failed for want of the HEIF reader.
        decision: the delegate's account of the batch.
    """

    path: Path
    content: Content | None = None
    vector: NDArray[np.float32] | None = None
    reason: str = ""
    heif: bool = False
    decision: Decision | None = None


@dataclass(slots=True, eq=False)
class _Prepared:
    outcome: Outcome
    pixels: NDArray[np.uint8] | None = None


class _Claims:
    """Which contents are taken care of, so that one thread takes care of each."""

    def __init__(self, known: Iterable[bytes]) -> None:
        self._taken = set(known)
        self._lock = threading.Lock()

    def take(self, digest: bytes) -> bool:
        with self._lock:
            if digest in self._taken:
                return False
            self._taken.add(digest)
            return True


def processed(
    paths: Iterable[Path],
    encoder: GalleryEncoder,
    known: set[bytes],
    *,
    workers: int | None = None,
    max_pixels: int | None,
) -> Generator[list[Outcome]]:
    """Give what becomes of each file, in lists to be stored together.

    The outcome of a file whose content is known, or the same as another's of this call, has no vector; it comes after
    the outcome that has it. Otherwise the order is roughly that of the paths.

    Args:
        paths: files to read.
        encoder: turns pictures into pixels (in several threads) and pixels into vectors (in one).
        known: digests of contents that need no vector.
        workers: threads that read and decode; None for one per processor.
        max_pixels: largest picture to decode; None for no limit.
    """
    workers = workers or os.cpu_count() or 1
    claims = _Claims(known)
    order = _Order(known)
    decoders = ThreadPoolExecutor(workers, thread_name_prefix="nearsight-decode")
    encoders = ThreadPoolExecutor(1, thread_name_prefix="nearsight-encode")
    decoding: deque[Future[_Prepared]] = deque()
    encoding: deque[Future[list[Outcome]]] = deque()
    batch: list[_Prepared] = []
    try:
        source = iter(paths)
        ended = False
        while not ended or decoding:
            while not ended and len(decoding) < workers + 2 * BATCH:
                path = next(source, None)
                if path is None:
                    ended = True
                    break
                decoding.append(decoders.submit(_prepare, path, encoder, claims, max_pixels))
            if not decoding:
                break
            prepared = decoding.popleft().result()
            if prepared.pixels is None:
                order.settle([prepared.outcome])
            else:
                batch.append(prepared)
            if len(batch) == BATCH:
                while len(encoding) >= BATCHES_IN_FLIGHT:
                    order.settle(encoding.popleft().result())
                encoding.append(encoders.submit(_encode, encoder, batch))
                batch = []
            while encoding and encoding[0].done():
                order.settle(encoding.popleft().result())
            if len(order.ready) >= BATCH:
                yield order.taken()
        if batch:
            encoding.append(encoders.submit(_encode, encoder, batch))
        while encoding:
            order.settle(encoding.popleft().result())
            yield order.taken()
        if order.ready:
            yield order.taken()
    finally:
        decoders.shutdown(wait=True, cancel_futures=True)
        encoders.shutdown(wait=True, cancel_futures=True)


class _Order:
    """Holds back a repeated content until the file that brings its vector is through."""

    def __init__(self, known: Iterable[bytes]) -> None:
        self.ready: list[Outcome] = []
        self._settled: dict[bytes, Outcome | None] = dict.fromkeys(known)
        self._waiting: dict[bytes, list[Outcome]] = {}

    def taken(self) -> list[Outcome]:
        ready, self.ready = self.ready, []
        return ready

    def settle(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        content = outcome.content
        if content is None:
            self.ready.append(outcome)
        elif outcome.vector is not None or outcome.reason:
            failed = outcome if outcome.reason else None
            self._settled[content.digest] = failed
            self.ready.append(outcome)
            for waiting in self._waiting.pop(content.digest, []):
                self._settle(waiting)
        elif content.digest not in self._settled:
            self._waiting.setdefault(content.digest, []).append(outcome)
        else:
            failed = self._settled[content.digest]
            self.ready.append(outcome if failed is None else replace(failed, path=outcome.path))


def _prepare(path: Path, encoder: GalleryEncoder, claims: _Claims, max_pixels: int | None) -> _Prepared:
    content: Content | None = None
    try:
        # Checked before opening: opening a pipe would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return _Prepared(Outcome(path=path, reason="not a file"))
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, _hash).digest()
            content = Content(digest=digest, size=before.st_size, mtime_ns=before.st_mtime_ns)
            if not claims.take(digest):
                return _Prepared(Outcome(path=path, content=content))
            picture, facts = read_with_facts(file, size_hint=encoder.size_hint, max_pixels=max_pixels)
            pixels = encoder.pixels(picture)
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            return _Prepared(Outcome(path=path, content=content, reason="it changed while it was read; add it again"))
        content = replace(content, captured_at=facts.captured_at, camera=facts.camera)
        return _Prepared(Outcome(path=path, content=content), pixels)
    except UnreadableFileError as error:
        heif = isinstance(error, HeifReaderMissingError)
        return _Prepared(Outcome(path=path, content=content, reason=error.reason, heif=heif))
    except InputError as error:
        return _Prepared(Outcome(path=path, content=content, reason=str(error)))
    except OSError as error:
        return _Prepared(Outcome(path=path, content=content, reason=error.strerror or str(error)))


def _hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=20)


def _encode(encoder: GalleryEncoder, batch: list[_Prepared]) -> list[Outcome]:
    pixels = [prepared.pixels for prepared in batch if prepared.pixels is not None]
    try:
        embeddings = encoder.encode_pixels(np.stack(pixels))
    except InputError as error:
        # One picture that the model makes no finite vector of must not cost the others theirs.
        if len(batch) > 1:
            return [outcome for prepared in batch for outcome in _encode(encoder, [prepared])]
        return [replace(batch[0].outcome, reason=str(error))]
    vectors = _checked(embeddings, len(batch), encoder)
    return [
        replace(prepared.outcome, vector=vector, decision=embeddings.decision)
        for prepared, vector in zip(batch, vectors, strict=True)
    ]


def _checked(embeddings: Embeddings, count: int, encoder: GalleryEncoder) -> NDArray[np.float32]:
    identity = encoder.identity
    if embeddings.space != identity.space or embeddings.vectors.shape != (count, identity.dimensions):
        raise GalleryError(
            f'encoder "{identity.model}" promised {count} x {identity.dimensions} in space "{identity.space}" '
            f'and gave {embeddings.vectors.shape} in "{embeddings.space}"; check it with: nearsight models verify'
        )
    return embeddings.vectors
