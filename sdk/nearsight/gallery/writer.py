"""Changes to a gallery's database, by the one process that holds the writer's lock."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nearsight.errors import InputError
from nearsight.gallery.reader import Content, Reader
from nearsight.gallery.store import path_key, translated
from nearsight.gallery.times import stamp as time_stamp

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight.values import EncoderIdentity


def metadata_text(metadata: Mapping[str, Any] | None) -> str | None:
    """Give metadata as JSON text; None stays None.

    Raises:
        InputError: when a name is not text or a value is not JSON.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise InputError(f"metadata must be a dict whose names are text; got {metadata!r}")
    try:
        return json.dumps(dict(metadata), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"metadata must be JSON values: {error}; convert them to text or numbers") from error


class Writer(Reader):
    """A store that may also be changed; every change stands inside `writing()`."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make one durable change of everything inside; nothing of it stays if it fails."""
        with translated(self.folder):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("UPDATE facts SET value = value + 1 WHERE name = 'generation'")
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def encoder_id(self, identity: EncoderIdentity) -> int:
        """Give the number of an encoder, and enter it if it is new."""
        values = tuple(asdict(identity).values())
        names = ", ".join(asdict(identity))
        self._db.execute(f"INSERT OR IGNORE INTO encoders ({names}) VALUES (?, ?, ?, ?, ?, ?)", values)
        where = " AND ".join(f"{name} = ?" for name in asdict(identity))
        return int(self._db.execute(f"SELECT id FROM encoders WHERE {where}", values).fetchone()[0])

    def put(
        self, path: Path, content: Content, *, camera: str | None, metadata: str, encoder: int, vector: bytes
    ) -> int:
        """Enter a picture under a new id, in the place of what stood at its path; without a camera EXIF's is taken."""
        key = path_key(path)
        old = self._db.execute("SELECT id FROM items WHERE path = ?", (key,)).fetchone()
        if old is not None:
            self.delete([old[0]])
        captured, seconds, zoned = time_stamp(content.captured_at)
        cursor = self._db.execute(
            "INSERT INTO items (path, hash, size, mtime_ns, captured_at, captured_s, captured_zoned, camera, "
            "exif_camera, metadata, encoder, added_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                content.digest,
                content.size,
                content.mtime_ns,
                captured,
                seconds,
                zoned,
                content.camera if camera is None else camera,
                content.camera,
                metadata,
                encoder,
                datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
        identifier = int(cursor.lastrowid or 0)
        self._db.execute("INSERT INTO vectors (id, vector) VALUES (?, ?)", (identifier, vector))
        return identifier

    def move(self, identifier: int, path: Path, size: int, mtime_ns: int) -> None:
        """Note another path, size and time of a picture whose content is the same."""
        self._db.execute(
            "UPDATE items SET path = ?, size = ?, mtime_ns = ? WHERE id = ?",
            (path_key(path), size, mtime_ns, identifier),
        )

    def describe(self, identifier: int, camera: str | None, metadata: str) -> None:
        """Note another camera name and other metadata."""
        self._db.execute("UPDATE items SET camera = ?, metadata = ? WHERE id = ?", (camera, metadata, identifier))

    def delete(self, ids: Sequence[int]) -> None:
        """Take pictures out, with whatever a re-encoding had prepared for them."""
        some = [(identifier,) for identifier in ids]
        for table in ("items", "vectors", "staged", "staged_vectors"):
            self._db.executemany(f"DELETE FROM {table} WHERE id = ?", some)

    def begin_staging(self, identity: EncoderIdentity) -> None:
        """Go on with a prepared re-encoding by this encoder; one by another encoder is thrown away."""
        text = json.dumps(asdict(identity), sort_keys=True)
        if self.fact("staging") != text:
            self._db.execute("DELETE FROM staged")
            self._db.execute("DELETE FROM staged_vectors")
            self._db.execute("INSERT OR REPLACE INTO facts VALUES ('staging', ?)", (text,))

    def staged(self) -> dict[int, tuple[int, int]]:
        """List what is prepared: id to size and time of the file it was made from."""
        return {
            identifier: (size, mtime_ns)
            for identifier, size, mtime_ns in self._db.execute("SELECT id, size, mtime_ns FROM staged")
        }

    def staged_digests(self) -> set[bytes]:
        """List the contents that are prepared."""
        return {digest for (digest,) in self._db.execute("SELECT DISTINCT hash FROM staged")}

    def staged_twin(self, digest: bytes) -> tuple[datetime | None, str | None, bytes] | None:
        """Give capture time, EXIF camera and prepared vector of a content."""
        found = self._db.execute(
            "SELECT captured_at, exif_camera, vector FROM staged JOIN staged_vectors USING (id) WHERE hash = ? LIMIT 1",
            (digest,),
        ).fetchone()
        if found is None:
            return None
        return None if found[0] is None else datetime.fromisoformat(found[0]), found[1], bytes(found[2])

    def stage(self, identifier: int, content: Content, vector: bytes) -> None:
        """Prepare a picture's vector of another encoder."""
        captured, seconds, zoned = time_stamp(content.captured_at)
        self._db.execute(
            "INSERT OR REPLACE INTO staged VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (identifier, content.digest, content.size, content.mtime_ns, captured, seconds, zoned, content.camera),
        )
        self._db.execute("INSERT OR REPLACE INTO staged_vectors VALUES (?, ?)", (identifier, vector))

    def adopt_staging(self, identity: EncoderIdentity) -> None:
        """Put the prepared vectors in the place of the old ones, all at once."""
        encoder = self.encoder_id(identity)
        self._db.execute(
            "UPDATE items SET hash = staged.hash, size = staged.size, mtime_ns = staged.mtime_ns, "
            "camera = CASE WHEN camera IS items.exif_camera THEN staged.exif_camera ELSE camera END, "
            "exif_camera = staged.exif_camera, captured_at = staged.captured_at, captured_s = staged.captured_s, "
            "captured_zoned = staged.captured_zoned, encoder = ? FROM staged WHERE staged.id = items.id",
            (encoder,),
        )
        # Renaming a table moves no vector.
        self._db.execute("DROP TABLE vectors")
        self._db.execute("ALTER TABLE staged_vectors RENAME TO vectors")
        self._db.execute("CREATE TABLE staged_vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
        self._db.execute("DELETE FROM staged")
        self._db.execute("DELETE FROM facts WHERE name = 'staging'")
        self._db.execute("DELETE FROM encoders WHERE id <> ?", (encoder,))
        new = {"space": identity.space, "dimensions": identity.dimensions, "model": identity.model}
        for name, value in new.items():
            self._db.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))
        self._db.execute("UPDATE facts SET value = value + 1 WHERE name = 'epoch'")


def below(path: Path, roots: Sequence[Path]) -> bool:
    """Whether a path is one of the roots, or inside one."""
    text = os.fspath(path)
    return any(text == os.fspath(root) or text.startswith(os.path.join(root, "")) for root in roots)
