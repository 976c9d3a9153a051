"""What can be asked of a gallery's database."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nearsight.errors import GalleryError, GalleryNotFoundError
from nearsight.gallery.index import Stamp
from nearsight.gallery.store import (
    APPLICATION_ID,
    DATABASE,
    SCHEMA,
    SCHEMA_VERSION,
    Connection,
    DatabaseError,
    connect,
    path_key,
    translated,
    version,
)
from nearsight.values import EncoderIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What the database keeps of a file's content.

    Attributes:
        digest: BLAKE2b of the bytes, 20 bytes.
        size: length in bytes.
        mtime_ns: time of change in nanoseconds.
        captured_at: EXIF time.
        camera: EXIF camera model.
    """

    digest: bytes
    size: int
    mtime_ns: int
    captured_at: datetime | None = None
    camera: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One picture as the database holds it, without its vector."""

    id: int
    path: Path
    digest: bytes
    size: int
    mtime_ns: int
    captured_at: datetime | None
    camera: str | None
    exif_camera: str | None
    metadata: dict[str, Any]
    encoder: int


_ROW = "id, path, hash, size, mtime_ns, captured_at, camera, exif_camera, metadata, encoder"


def _path(key: str | bytes) -> Path:
    return Path(os.fsdecode(key))


def _row(values: Sequence[Any]) -> Row:
    captured = values[5]
    return Row(
        id=values[0],
        path=_path(values[1]),
        digest=values[2],
        size=values[3],
        mtime_ns=values[4],
        captured_at=None if captured is None else datetime.fromisoformat(captured),
        camera=values[6],
        exif_camera=values[7],
        metadata=json.loads(values[8]),
        encoder=values[9],
    )


class Reader:
    """One connection to a gallery's database; used by one thread at a time."""

    def __init__(self, folder: Path, connection: Connection) -> None:
        self.folder = folder
        self._db = connection

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> Self:
        """Open an existing gallery.

        Raises:
            GalleryNotFoundError: when there is none.
            GalleryDamagedError: when the file is not a database.
            GalleryError: when it is of a newer version, or not of Nearsight.
        """
        database = folder / DATABASE
        if not database.is_file():
            raise GalleryNotFoundError(
                f"there is no gallery at {folder}; make one with: nearsight index FOLDER --gallery {folder}"
            )
        with translated(folder):
            store = cls(folder, connect(database, read_only=read_only))
        store.check()
        return store

    @classmethod
    def create(cls, folder: Path, identity: EncoderIdentity) -> Self:
        """Open a gallery, and make it if there is none yet; safe when two processes do it at once."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GalleryError(f"the gallery {folder} cannot be made: {error.strerror}; name another folder") from error
        with translated(folder):
            connection = connect(folder / DATABASE, read_only=False)
            try:
                connection.execute("BEGIN IMMEDIATE")
                if not version(connection):
                    _require_empty(connection, folder)
                    for statement in SCHEMA.split(";"):
                        connection.execute(statement)
                    facts = {
                        "gallery": secrets.token_hex(8),
                        "space": identity.space,
                        "dimensions": identity.dimensions,
                        "model": identity.model,
                        "epoch": 1,
                        "generation": 1,
                    }
                    connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
        store = cls(folder, connection)
        store.check()
        return store

    def check(self) -> None:
        """Make sure that the database is a gallery of a layout that is read here; close it otherwise."""
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        with translated(self.folder):
            layout = version(self._db)
            application = self._db.execute("PRAGMA application_id").fetchone()[0]
        if not layout:
            raise GalleryNotFoundError(
                f"the gallery at {self.folder} is still empty; "
                f"fill it with: nearsight index FOLDER --gallery {self.folder}"
            )
        if application != APPLICATION_ID:
            raise GalleryError(f"{self.folder / DATABASE} is no Nearsight gallery; name another folder")
        if layout > SCHEMA_VERSION:
            raise GalleryError(
                f"the gallery {self.folder} has layout {layout}, this Nearsight reads up to {SCHEMA_VERSION}; "
                "pip install -U nearsight"
            )

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the database throughout, whatever a writer does meanwhile."""
        with translated(self.folder):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                # Some errors have ended it already.
                if self._db.in_transaction:
                    self._db.execute("COMMIT")

    def fact(self, name: str) -> Any:
        """Give one of the gallery's own facts: gallery, space, dimensions, model, epoch, generation."""
        with translated(self.folder):
            found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else found[0]

    def stamp(self) -> Stamp:
        """Name the state that the database is in."""
        return Stamp(
            gallery=self.fact("gallery"),
            epoch=self.fact("epoch"),
            generation=self.fact("generation"),
            dimensions=self.fact("dimensions"),
        )

    def count(self) -> int:
        """Count the pictures."""
        with translated(self.folder):
            return int(self._db.execute("SELECT COUNT(*) FROM items").fetchone()[0])

    def row(self, path: Path) -> Row | None:
        """Find a picture by its path."""
        with translated(self.folder):
            found = self._db.execute(f"SELECT {_ROW} FROM items WHERE path = ?", (path_key(path),)).fetchone()
        return None if found is None else _row(found)

    def rows_of(self, digest: bytes) -> list[Row]:
        """Find the pictures with this content."""
        with translated(self.folder):
            return [
                _row(found)
                for found in self._db.execute(f"SELECT {_ROW} FROM items WHERE hash = ? ORDER BY id", (digest,))
            ]

    def rows(self, ids: Sequence[int]) -> dict[int, Row]:
        """Find pictures by their ids."""
        found: dict[int, Row] = {}
        with translated(self.folder):
            for start in range(0, len(ids), 500):
                some = [int(identifier) for identifier in ids[start : start + 500]]
                marks = ",".join("?" * len(some))
                for values in self._db.execute(f"SELECT {_ROW} FROM items WHERE id IN ({marks})", some):
                    found[values[0]] = _row(values)
        return found

    def paths(self) -> list[tuple[int, Path]]:
        """List id and path of every picture, by id."""
        with translated(self.folder):
            return [
                (identifier, _path(key))
                for identifier, key in self._db.execute("SELECT id, path FROM items ORDER BY id")
            ]

    def digests(self) -> set[bytes]:
        """List the content of every picture."""
        with translated(self.folder):
            return {digest for (digest,) in self._db.execute("SELECT DISTINCT hash FROM items")}

    def ids(self) -> NDArray[np.int64]:
        """List all ids, int64 (n,), ascending."""
        return self.select("", ())

    def select(self, condition: str, parameters: Sequence[Any]) -> NDArray[np.int64]:
        """List the ids that a condition of `filters` keeps, int64 (n,), ascending."""
        where = f"WHERE {condition}" if condition else ""
        with translated(self.folder):
            found = self._db.execute(f"SELECT id FROM items {where} ORDER BY id", parameters)
            return np.fromiter((identifier for (identifier,) in found), np.int64)

    def vector(self, identifier: int) -> bytes | None:
        """Give a picture's vector as float32 bytes."""
        with translated(self.folder):
            found = self._db.execute("SELECT vector FROM vectors WHERE id = ?", (identifier,)).fetchone()
        return None if found is None else bytes(found[0])

    def vectors_after(self, identifier: int) -> Iterator[tuple[list[int], list[bytes]]]:
        """Give the vectors of all greater ids, in blocks, ascending."""
        with translated(self.folder):
            found = self._db.execute("SELECT id, vector FROM vectors WHERE id > ? ORDER BY id", (identifier,))
            while block := found.fetchmany(_ROWS_AT_ONCE):
                yield [row[0] for row in block], [row[1] for row in block]

    def encoder(self, identifier: int) -> EncoderIdentity:
        """Give the identity of the encoder that a row names."""
        with translated(self.folder):
            model, space, dimensions, precision, preprocessing, model_hash = self._db.execute(
                "SELECT model, space, dimensions, precision, preprocessing, model_hash FROM encoders WHERE id = ?",
                (identifier,),
            ).fetchone()
        return EncoderIdentity(
            model=model,
            space=space,
            dimensions=dimensions,
            precision=precision,
            preprocessing=preprocessing,
            model_hash=model_hash,
        )

    def counts(self, what: str) -> dict[str, int]:
        """Count pictures by "camera" or by "model" (with its precision)."""
        query = {
            "camera": "SELECT COALESCE(camera, ''), COUNT(*) FROM items GROUP BY camera ORDER BY 1",
            "model": (
                "SELECT model || '/' || precision, COUNT(*) FROM items JOIN encoders ON encoders.id = items.encoder "
                "GROUP BY 1 ORDER BY 1"
            ),
        }[what]
        with translated(self.folder):
            return dict(self._db.execute(query).fetchall())

    def span(self) -> tuple[datetime | None, datetime | None]:
        """Give the earliest and the latest capture time."""
        with translated(self.folder):
            ends = [
                self._db.execute(
                    "SELECT captured_at FROM items WHERE captured_s IS NOT NULL "
                    f"ORDER BY captured_s {order}, id LIMIT 1"
                ).fetchone()
                for order in ("ASC", "DESC")
            ]
        oldest, newest = (None if end is None else datetime.fromisoformat(end[0]) for end in ends)
        return oldest, newest

    def problems(self) -> tuple[str, ...]:
        """Let SQLite check its file; empty when it is sound."""
        try:
            found = [str(line) for (line,) in self._db.execute("PRAGMA integrity_check(20)")]
            orphans = self._db.execute(
                "SELECT (SELECT COUNT(*) FROM items WHERE id NOT IN (SELECT id FROM vectors)), "
                "(SELECT COUNT(*) FROM vectors WHERE id NOT IN (SELECT id FROM items))"
            ).fetchone()
        except DatabaseError as error:
            return (str(error),)
        lines = [line for line in found if line != "ok"]
        if orphans != (0, 0):
            lines.append(f"{orphans[0]} pictures without a vector, {orphans[1]} vectors without a picture")
        return tuple(lines)


def _require_empty(connection: Connection, folder: Path) -> None:
    if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        raise GalleryError(f"{folder / DATABASE} is no Nearsight gallery; name another folder")
