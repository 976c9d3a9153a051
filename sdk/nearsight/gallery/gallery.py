"""A folder that remembers pictures by their vectors, and finds them by words or by example."""

from __future__ import annotations

import os
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nearsight.errors import GalleryBusyError, GalleryError, InputError, SpaceMismatchError
from nearsight.folders import EXCLUDED_FOLDERS
from nearsight.gallery.cache import Cache
from nearsight.gallery.checkup import checked
from nearsight.gallery.encoder import GalleryEncoder, resolved
from nearsight.gallery.filters import condition
from nearsight.gallery.reader import Reader
from nearsight.gallery.search import Term, encoded, folded, ranked, whole
from nearsight.gallery.store import DATABASE, LOCK, LOCK_WAIT_S, SCHEMA_VERSION, writer_lock
from nearsight.gallery.writer import Writer, below
from nearsight.values import DEFAULT_MAX_PIXELS, AddReport, GalleryStats, Hit, Hits, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from types import TracebackType

    from nearsight.gallery.ingest import OnProgress, OnStored

_OWN_FILES = (DATABASE, LOCK, "index.")


class Gallery:
    """Pictures that can be searched; open one with `Gallery.open`.

    One process may write at a time, any number may read meanwhile and see what is committed. One object may be used
    from several threads.
    """

    def __init__(
        self, path: Path, store: Reader, encoder: GalleryEncoder | None, read_only: bool, wait_s: float
    ) -> None:
        self.path = path
        self.read_only = read_only
        self._store = store
        self._encoder = encoder
        self._wait_s = wait_s
        self._cache = Cache(path)
        self._lock = threading.RLock()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        encoder: str | GalleryEncoder | None = "nano",
        *,
        read_only: bool = False,
        wait_s: float = LOCK_WAIT_S,
    ) -> Gallery:
        """Open a gallery, and make it if there is none.

        Args:
            path: its folder, such as "photos.nsg".
            encoder: a model's name or an encoder; None to look after a gallery (`stats`, `verify`, `remove`) without.
            read_only: never make or change anything.
            wait_s: how long a change waits for another writer, in seconds.

        Raises:
            GalleryNotFoundError: when there is none, and it is opened to read or without an encoder.
            SpaceMismatchError: when its vectors belong to another space than the encoder's.
            InputError: when the path is something else than a gallery.
        """
        folder = Path(os.path.abspath(os.path.expanduser(path)))
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; a gallery is a folder, such as photos.nsg")
        model = None if encoder is None else resolved(encoder)
        if read_only or model is None:
            store = Reader.open(folder, read_only=read_only)
        else:
            _require_own_folder(folder)
            store = Reader.create(folder, model.identity)
        gallery = cls(folder, store, model, read_only, wait_s)
        try:
            gallery._check_space(store)
        except BaseException:
            gallery.close()
            raise
        return gallery

    def add(
        self,
        *paths: str | os.PathLike[str],
        camera: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        recursive: bool = True,
        hidden: bool = False,
        exclude: Sequence[str] = EXCLUDED_FOLDERS,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
        workers: int | None = None,
        progress: OnProgress | None = None,
        on_stored: OnStored | None = None,
    ) -> AddReport:
        """Add picture files and folders of them; call it again to bring the gallery up to date.

        Files of unchanged size and time are skipped, else those of unchanged content. A moved file keeps its entry.
        Nothing is ever taken out: files that are gone are counted as `missing` and stay until `remove(missing=True)`.
        The call can be interrupted at any moment; the next one goes on from what was stored.

        Args:
            paths: files and folders; a file is read whatever its extension.
            camera: name of the camera for all of them; without it EXIF's model is taken.
            metadata: JSON values by name, kept with each picture; replaces what was kept.
            recursive: whether to enter sub-folders.
            hidden: whether to take names that start with a dot.
            exclude: names of folders to pass over.
            max_pixels: largest picture to decode; None for no limit.
            workers: threads that read and decode; None for one per processor.
            progress: called now and then, and at the end.
            on_stored: called with each path once it is durable.

        Raises:
            InputError: when a path does not exist, or camera or metadata cannot be kept.
            GalleryBusyError: when another process is writing, still after `wait_s`.
        """
        from nearsight.gallery.ingest import AddOptions, add

        encoder = self._need_encoder()
        if not paths:
            raise InputError("nothing to add; give files or folders of pictures")
        options = AddOptions(
            camera=camera,
            metadata=metadata,
            recursive=recursive,
            hidden=hidden,
            exclude=tuple(exclude),
            max_pixels=max_pixels,
            workers=workers,
            progress=progress,
            on_stored=on_stored,
        )
        with self._writer() as store:
            self._check_space(store)
            report = add(store, encoder, paths, options)
            self._save_cache()
        return report

    def search(
        self,
        query: Term | None = None,
        k: int = 5,
        *,
        offset: int = 0,
        camera: str | None = None,
        after: str | date | None = None,
        before: str | date | None = None,
        where: Mapping[str, Any] | None = None,
        min_relevance: float | None = None,
        plus: Iterable[Term] = (),
        minus: Iterable[Term] = (),
        group: bool = False,
        both: tuple[Term, Term] | None = None,
    ) -> Hits:
        """Find the pictures that answer a query best.

        Args:
            query: a text (a str is always a text), or a picture: path object, bytes, Pillow image or array.
            k: hits wanted.
            offset: better hits to pass over, for the next page.
            camera: only pictures of this camera.
            after: only pictures taken at this time or later; ISO 8601 text or datetime, local time without a zone.
            before: only pictures taken earlier than this. Pictures without a time pass neither bound.
            where: only pictures whose metadata equal these values; None asks for the absence of a name.
            min_relevance: leave out hits below it; None for the encoder's calibrated threshold, 0 for everything.
            plus: more texts or pictures to add; (weight, text) counts them more or less than 1.
            minus: texts or pictures to take away.
            group: fold near duplicates (cosine from .97) into the best of them.
            both: a text and a picture, in place of the query.

        Returns:
            Hits, best first. `hits.weak` says that nothing in the gallery matches.

        Raises:
            InputError: when a value makes no sense; PictureUnreadableError when a picture does.
        """
        k, offset = whole(k, "k", 1), whole(offset, "offset", 0)
        encoder = self._need_encoder()
        narrowed, parameters = condition(camera=camera, after=after, before=before, where=where)
        asked = encoded(encoder, query, both, plus, minus)
        with self._lock, self._open_store().reading():
            self._check_space(self._store)
            index = self._cache.refreshed(self._store)
            allowed = self._store.select(narrowed, parameters) if narrowed else None
            ranking = ranked(
                index, encoder, asked, wanted=offset + k, allowed=allowed, min_relevance=min_relevance, group=group
            )
            shown = ranking.ids[ranking.places[offset:]]
            near = folded(index, shown, allowed) if group else [[] for _ in shown]
            rows = self._store.rows([*shown.tolist(), *(number for numbers in near for number in numbers)])
            considered = len(index) if allowed is None else len(allowed)
        self._heal()
        relevance = ranking.judgement.relevance
        items = tuple(
            Hit(
                path=rows[number].path,
                score=float(ranking.scores[place]),
                relevance=float(relevance[place]),
                captured_at=rows[number].captured_at,
                camera=rows[number].camera,
                metadata=rows[number].metadata,
                duplicates=tuple(rows[other].path for other in others),
            )
            for number, place, others in zip(shown.tolist(), ranking.places[offset:], near, strict=True)
        )
        return Hits(
            items=items,
            query=asked.label,
            decision=asked.decision,
            total_considered=considered,
            best_relevance=float(relevance[0]) if len(relevance) else None,
            min_relevance=ranking.judgement.min_relevance,
            weak=ranking.judgement.weak,
        )

    def remove(self, *paths: str | os.PathLike[str], missing: bool = False) -> int:
        """Take pictures out of the gallery; the files themselves are not touched.

        Args:
            paths: files, or folders for all that is in them.
            missing: take out only pictures whose file is gone; without paths, wherever they were.

        Returns:
            How many were taken out.

        Raises:
            InputError: when nothing is named, or nothing in the gallery is at a named path.
        """
        if not paths and not missing:
            raise InputError("nothing to remove; give paths, or missing=True for all pictures whose file is gone")
        roots = [Path(os.path.abspath(os.path.expanduser(path))) for path in paths]
        with self._writer() as store:
            entries = store.paths()
            for root in roots:
                if not missing and not any(below(path, [root]) for _, path in entries):
                    raise InputError(f"the gallery {self.path} holds nothing at {root}; nothing was removed")
            ids = [
                number
                for number, path in entries
                if (not roots or below(path, roots)) and not (missing and os.path.lexists(path))
            ]
            if ids:
                with store.writing():
                    store.delete(ids)
                self._save_cache()
        return len(ids)

    def reindex(
        self,
        encoder: str | GalleryEncoder,
        *,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
        workers: int | None = None,
        progress: OnProgress | None = None,
    ) -> AddReport:
        """Encode all pictures anew with another encoder, and use it from then on.

        Until the last picture is done the gallery answers as before. An interrupted call goes on where it stopped.

        Raises:
            GalleryError: when pictures are gone or cannot be read; nothing is changed then.
        """
        from nearsight.gallery.ingest import AddOptions, reindex

        fresh = resolved(encoder)
        with self._writer() as store:
            report = reindex(store, fresh, AddOptions(max_pixels=max_pixels, workers=workers, progress=progress))
            with self._lock:
                self._encoder = fresh
            self._save_cache()
        return report

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Check the database, every vector, the index against them, and that the files are there.

        Args:
            repair: write the index anew from the database when it is absent, damaged, behind or wrong.
        """
        with self._lock:
            report = checked(self._open_store(), self.path)
        if not repair or (report.index_state == "current" and not report.index_wrong) or report.bad_vectors:
            return report
        with self._writer() as store, self._lock:
            self._cache = Cache(self.path, from_file=False)
            repaired = self._cache.save(store, always=True)
        return replace(report, index_repaired=repaired)

    def stats(self) -> GalleryStats:
        """Give the figures of the gallery."""
        with self._lock, self._open_store().reading():
            store = self._store
            oldest, newest = store.span()
            return GalleryStats(
                path=self.path,
                items=store.count(),
                model=store.fact("model"),
                space=store.fact("space"),
                dimensions=store.fact("dimensions"),
                models=store.counts("model"),
                cameras=store.counts("camera"),
                oldest=oldest,
                newest=newest,
                disk_bytes=sum(entry.stat().st_size for entry in os.scandir(self.path) if entry.is_file()),
                generation=store.fact("generation"),
                schema_version=SCHEMA_VERSION,
            )

    def close(self) -> None:
        """Let go of the database; what was added is durable already."""
        with self._lock:
            self._closed = True
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        with self._lock:
            return self._open_store().count()

    def __bool__(self) -> bool:
        # An empty gallery is a gallery.
        return True

    def __repr__(self) -> str:
        return f"Gallery({os.fspath(self.path)!r})"

    def _open_store(self) -> Reader:
        if self._closed:
            raise GalleryError(f"the gallery {self.path} is closed; open it again with Gallery.open")
        return self._store

    def _need_encoder(self) -> GalleryEncoder:
        if self._encoder is None:
            raise GalleryError(f'{self.path} was opened without an encoder; open it with encoder="nano"')
        return self._encoder

    def _check_space(self, store: Reader) -> None:
        if self._encoder is None:
            return
        identity = self._encoder.identity
        space, dimensions, model = store.fact("space"), store.fact("dimensions"), store.fact("model")
        if (identity.space, identity.dimensions) != (space, dimensions):
            other = f'open it with encoder="{model}", or ' if model != identity.model else ""
            raise SpaceMismatchError(
                f'the gallery {self.path} holds vectors of space "{space}" ({dimensions} numbers, model "{model}"), '
                f'encoder "{identity.model}" makes "{identity.space}" ({identity.dimensions}); {other}encode it anew: '
                f"nearsight index FOLDER --gallery {self.path} --encoder {identity.model}, or reindex() in Python"
            )

    @contextmanager
    def _writer(self) -> Iterator[Writer]:
        self._open_store()
        if self.read_only:
            raise GalleryError(f"{self.path} was opened read-only; open it without read_only=True to change it")
        with writer_lock(self.path, self._wait_s), closing(Writer.open(self.path)) as store:
            yield store

    def _save_cache(self) -> None:
        with self._lock:
            self._cache.save(self._open_store())

    def _heal(self) -> None:
        """Write the index file if it was found absent or damaged, unless somebody else is writing."""
        if self.read_only or not self._cache.file_is_bad:
            return
        try:
            with writer_lock(self.path, 0.0):
                self._save_cache()
        except GalleryBusyError:
            # The writer that is at work saves it.
            return


def _require_own_folder(folder: Path) -> None:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise GalleryError(f"the gallery {folder} cannot be opened: {error.strerror}; check its permissions") from error
    if DATABASE not in names and any(not name.startswith(_OWN_FILES) for name in names):
        raise InputError(f"the folder {folder} holds other files and is no gallery; name another, such as photos.nsg")
