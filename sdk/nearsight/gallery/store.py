"""The truth of a gallery: one SQLite database, written by one process at a time and read by many.

The only module that touches SQLite itself: layout, opening, the writer's lock, and what its errors mean.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from nearsight.errors import GalleryBusyError, GalleryDamagedError, GalleryError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATABASE = "gallery.sqlite"
APPLICATION_ID = 0x4E534721  # "NSG!"
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0
RETRY_S = 0.02
LOCK = "writer.lock"
LOCK_WAIT_S = 5.0

Connection: TypeAlias = sqlite3.Connection
DatabaseError: TypeAlias = sqlite3.DatabaseError

# Vectors have a table of their own, so that a filter reads no vectors. Ids are never used twice and a vector never
# changes under its id: an index that knows the greatest id it holds can fetch just what is new.
SCHEMA = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE encoders (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, space TEXT NOT NULL, dimensions INTEGER NOT NULL,
    precision TEXT NOT NULL, preprocessing TEXT NOT NULL, model_hash TEXT NOT NULL,
    UNIQUE (model, space, dimensions, precision, preprocessing, model_hash));
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path NOT NULL UNIQUE,
    hash BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    captured_at TEXT, captured_s REAL, captured_zoned INTEGER NOT NULL,
    camera TEXT, exif_camera TEXT, metadata TEXT NOT NULL,
    encoder INTEGER NOT NULL REFERENCES encoders (id), added_at TEXT NOT NULL);
CREATE INDEX items_hash ON items (hash);
CREATE INDEX items_camera ON items (camera);
CREATE INDEX items_captured ON items (captured_s);
CREATE TABLE vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE staged (
    id INTEGER PRIMARY KEY, hash BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    captured_at TEXT, captured_s REAL, captured_zoned INTEGER NOT NULL, exif_camera TEXT);
CREATE INDEX staged_hash ON staged (hash);
CREATE TABLE staged_vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


def path_key(path: str | os.PathLike[str]) -> str | bytes:
    """Give a path as it stands in the database: text, or bytes where it is not valid Unicode."""
    text = os.fspath(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def connect(database: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the database file; writable, it is made if need be, and every commit reaches the disk."""
    # As an address, because a folder may have any name, even one that is not Unicode.
    address = database.absolute().as_uri()
    connection = _opened(f"{address}?mode={'ro' if read_only else 'rwc'}")
    try:
        if read_only:
            version(connection)
        else:
            # A vector of 512 numbers and its row would waste half of a page of 4096 bytes.
            for setting in ("page_size = 16384", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                _set(connection, setting)
            _set(connection, "journal_size_limit = 67108864")
    except sqlite3.OperationalError:
        connection.close()
        log = database.with_name(database.name + "-wal")
        if not read_only or (log.exists() and log.stat().st_size):
            raise
        # In a folder that cannot be written SQLite finds no place for its shared memory. Nobody writes there.
        return _opened(f"{address}?immutable=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _set(connection: sqlite3.Connection, setting: str) -> None:
    """Make a setting; SQLite itself does not wait where two processes turn to the write-ahead log at once."""
    ends = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute(f"PRAGMA {setting}")
        except sqlite3.OperationalError as error:
            if not _busy(error) or time.monotonic() > ends:
                raise
            time.sleep(RETRY_S)
        else:
            return


def _opened(address: str) -> sqlite3.Connection:
    return sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def version(connection: sqlite3.Connection) -> int:
    """Give the layout's version; 0 for a database that holds nothing yet."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into Nearsight's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if _busy(error):
            raise GalleryBusyError(
                f"the gallery {folder} is locked by another process; wait for it to finish, then try again"
            ) from error
        if _primary(error) == sqlite3.SQLITE_READONLY:
            raise GalleryError(f"the gallery {folder} cannot be written; check its permissions") from error
        raise GalleryError(
            f"the gallery {folder} could not be used: {error}; check the disk and permissions"
        ) from error
    except sqlite3.DatabaseError as error:
        raise GalleryDamagedError(
            f"the gallery {folder} is damaged: {error}; move the folder away and index the pictures again"
        ) from error
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object!r} is not valid Unicode; use another camera name or metadata value") from error
    except OverflowError as error:
        raise InputError(f"a number does not fit the database ({error}); give it as text") from error


@contextmanager
def writer_lock(folder: Path, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Be the only writer of a gallery, over many transactions.

    The lock is SQLite's own on an empty database beside the real one: it works on every system that SQLite works on,
    and a killed process lets go of it.

    Raises:
        GalleryBusyError: when another writer holds it longer than the wait.
    """
    try:
        connection = sqlite3.connect(folder / LOCK, timeout=wait_s, isolation_level=None, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise GalleryError(f"the gallery {folder} cannot be written ({error}); check its permissions") from error
    try:
        try:
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) != sqlite3.SQLITE_BUSY:
                raise GalleryError(
                    f"the gallery {folder} cannot be written ({error}); check its permissions"
                ) from error
            raise GalleryBusyError(
                f"another process is writing the gallery {folder}, still after {wait_s:g} s; "
                "wait for it to finish, then run this again"
            ) from error
        yield
    finally:
        connection.close()


def _busy(error: sqlite3.OperationalError) -> bool:
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _primary(error: sqlite3.OperationalError) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
