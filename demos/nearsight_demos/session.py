"""What one run of the demo holds: its galleries, its models, and what each answer decided."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nearsight as ns
from nearsight_demos.models import NANO, Models
from nearsight_demos.subjects import Offer, offered, things_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nearsight_demos.watching import Watching

GIVEN, UPLOADS, WATCHED = "given", "uploads", "watched"
OWN = "nearsight demo --folder ~/Pictures"
# What every photograph is, more or less: searched for without a threshold, it lists a gallery.
ANYTHING = "a photograph"
# What the detector has classes for.
LIKELY = ("a person", "an animal", "a car or a motorcycle in a street", "a cup on a table")
SAMPLES, SAMPLE_SIDE = 8, 1600
# Pictures that are looked into for things to ask for; how many such things are offered.
LOOKED_INTO, OFFERED = 24, 4
VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One answer that was given.

    Attributes:
        time: when.
        tab: key of the tab's name.
        asked: what was asked, in short.
        decision: `Decision.to_dict()` of the answer.
    """

    time: datetime
    tab: str
    asked: str
    decision: dict[str, Any]


class Session:
    """Everything behind the pages; one for a run of the program, whoever looks.

    Args:
        home: a folder of the run's own; `pages` in it is the only one that is served.
        gallery: a gallery to search; never changed unless a folder is given with it.
        folder: pictures to index, into the gallery if one is given, else into one that ends with the run.
        lent: whether the folder's pictures are not the user's own, but something to begin with.

    Raises:
        GalleryError: If there is no such gallery.
        ModelError: If the gallery was made with a model that is not here.
        InputError: If there is no such folder.
    """

    def __init__(
        self, home: Path, *, gallery: Path | None = None, folder: Path | None = None, lent: bool = False
    ) -> None:
        if folder is not None and not folder.is_dir():
            raise ns.InputError(f"no folder {folder}; give one that is there: nearsight demo --folder DIR")
        self.home, self.folder, self.lent = home, folder, lent
        self.pages = home / "pages"
        self.pages.mkdir(exist_ok=True)
        self.models = Models()
        self.model = NANO
        self.told: deque[Told] = deque(maxlen=200)
        self.watching: Watching | None = None
        self._galleries: dict[str, ns.Gallery] = {}
        self._made_with: dict[str, str] = {}
        # What other models have encoded: kept open, since a tab may still be searching in it.
        self._resting: dict[Path, ns.Gallery] = {}
        self._offers: dict[tuple[str, str], tuple[int, Offer]] = {}
        self.title = (gallery or folder or home).resolve().name
        if gallery is not None or folder is not None:
            self.open(GIVEN, gallery or self._own(GIVEN), read_only=folder is None)

    def open(self, key: str, place: Path, *, read_only: bool = False) -> ns.Gallery:
        """Open a gallery, with the model it was made with, in place of the one that stood under this key."""
        old = self._galleries.get(key)
        gallery = self._put(key, place, read_only=read_only)
        if old is not None:
            old.close()
        return gallery

    def _put(self, key: str, place: Path, *, read_only: bool = False) -> ns.Gallery:
        model = made_with(place) or self.model
        gallery = self._resting.pop(place, None) or ns.Gallery.open(
            place, encoder=self.models.encoder(model), read_only=read_only
        )
        self._galleries[key], self._made_with[key] = gallery, model
        self._offers = {}
        return gallery

    def gallery(self, key: str) -> ns.Gallery:
        """Return the gallery of a key.

        Raises:
            InputError: If nothing is there yet.
        """
        if key not in self._galleries:
            raise ns.InputError("nothing is indexed there yet; add photographs on the tab Search first")
        return self._galleries[key]

    def choices(self, say: Callable[..., str]) -> list[tuple[str, str]]:
        """Give (title, key) of every gallery that holds pictures; the one given stands there even when empty."""
        return [
            (say("pictures", name=self.title if key == GIVEN else say(key), count=len(gallery)), key)
            for key, gallery in self._galleries.items()
            if key == GIVEN or len(gallery)
        ]

    def add(self, key: str, paths: Sequence[Path], progress: Callable[[ns.Progress], None]) -> ns.AddReport:
        """Index pictures into the gallery of a key, made when it is not there."""
        gallery = self._galleries.get(key) or self.open(key, self._own(key))
        report = gallery.add(*paths, progress=progress)
        self.record("index", say_paths(paths), report.decision)
        return report

    def use(self, model: str, progress: Callable[[ns.Progress], None]) -> list[ns.AddReport]:
        """Search with another model: the folder's and the uploaded pictures are encoded anew, unless they were before.

        A gallery of the user's own stays as it is. What each model encoded is kept until the run ends.
        """
        if model == self.model:
            return []
        # Before anything is changed: a model that cannot be had leaves all as it was.
        self.models.encoder(model)
        own = {
            key: [self.folder] if key == GIVEN and self.folder else self.pictures(key)
            for key, gallery in self._galleries.items()
            if gallery.path == self._own(key)
        }
        self._resting |= {self._galleries[key].path: self._galleries[key] for key in own}
        self.model = model
        for key in own:
            self._put(key, self._own(key))
        return [self.add(key, paths, progress) for key, paths in own.items() if paths]

    def made_with(self, key: str | None) -> str:
        """Give the name of the model that a gallery is searched with; of none, the chosen one."""
        return self._made_with.get(key or "", self.model)

    def usual_relevance(self, key: str | None) -> float:
        """Give the relevance from which a gallery's pictures are shown unless something else is asked for."""
        return self.models.encoder(self.made_with(key)).default_min_relevance

    def _own(self, key: str) -> Path:
        return self.home / f"{key}.{self.model}.nsg"

    def pictures(self, key: str, query: str = ANYTHING, k: int | None = None) -> list[Path]:
        """List the pictures of a gallery, those that are nearest to a query first."""
        gallery = self._galleries.get(key)
        if gallery is None or not len(gallery):
            return []
        return [hit.path for hit in gallery.search(query, k=k or len(gallery), min_relevance=0)]

    def samples(self) -> list[Path]:
        """Choose a few pictures that the tabs for one picture offer."""
        found = [self.pictures(key, query, SAMPLES) for key in (UPLOADS, GIVEN) for query in LIKELY]
        # The best of each, then the second best of each, and so on.
        turns = (path for turn in zip_longest(*found) for path in turn if path is not None)
        return [path for path in dict.fromkeys(turns) if path.exists()][:SAMPLES]

    def offer(self, key: str | None, language: str) -> Offer | None:
        """Choose what to ask the gallery of a key for; None where it holds no picture."""
        gallery = self._galleries.get(key or "")
        if key is None or gallery is None or not len(gallery):
            return None
        generation = gallery.stats().generation
        known = self._offers.get((key, language))
        if known is None or known[0] != generation:
            classes = things_in(self.detector, self.pictures(key, k=LOOKED_INTO))
            known = (generation, offered(gallery, classes, language, OFFERED))
            self._offers[key, language] = known
        return known[1]

    def served(self, path: Path) -> Path:
        """Put a copy of a picture where pages may fetch it: upright, JPEG, at most 1600 pixels."""
        picture = ns.read_image(path, size_hint=(SAMPLE_SIDE, SAMPLE_SIDE))
        picture.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
        folder = self.pages / "samples"
        folder.mkdir(exist_ok=True)
        copy = folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', path.stem)}.jpg"
        picture.save(copy, quality=92)
        return copy

    def picture_named(self, key: str, name: str) -> Path:
        """Find a picture of a gallery by its path or file name; no other file of the machine is looked at.

        Raises:
            InputError: If the gallery has none of this name.
        """
        for path in self.pictures(key):
            if name in {str(path), path.name}:
                return path
        raise ns.InputError(f"no picture {name} in this gallery; name one of its files")

    def clips(self) -> list[Path]:
        """List the video files of the folder."""
        return sorted(path for path in self.folder.iterdir() if path.suffix.lower() in VIDEOS) if self.folder else []

    @property
    def detector(self) -> ns.Detector:
        """The wheel's detector: what looks into pictures for things to ask for, and serves the agent."""
        return self.models.detector(NANO)

    @property
    def captioner(self) -> ns.Captioner:
        """The wheel's captioner: it serves the agent."""
        return self.models.captioner(NANO)

    def record(self, tab: str, asked: str, decision: ns.Decision | dict[str, Any] | None) -> None:
        """Remember what an answer decided; nothing where nothing was computed."""
        if decision is not None:
            plain = decision if isinstance(decision, dict) else decision.to_dict()
            self.told.appendleft(Told(time=datetime.now().astimezone(), tab=tab, asked=asked, decision=plain))

    def close(self) -> None:
        """Let go of the galleries, and end what still watches."""
        if self.watching is not None:
            self.watching.stop()
        for gallery in (*self._galleries.values(), *self._resting.values()):
            gallery.close()
        self._galleries, self._resting = {}, {}


class Glasses:
    """Detector and captioner for an agent that may look at the pictures of one gallery only."""

    def __init__(self, session: Session, key: str) -> None:
        self._session, self._key = session, key

    def detect(self, image: str, labels: Sequence[str]) -> ns.Detections:
        """Find things in a picture of the gallery."""
        return self._session.detector.detect(self._session.picture_named(self._key, image), labels)

    def caption(self, image: str, language: str = "en") -> ns.Caption:
        """Describe a picture of the gallery."""
        return self._session.captioner.caption(self._session.picture_named(self._key, image), language)


def made_with(place: Path) -> str:
    """Give the name of the model that a gallery's pictures are encoded with; empty where there is no gallery yet."""
    try:
        with ns.Gallery.open(place, encoder=None, read_only=True) as gallery:
            return gallery.stats().model
    except ns.GalleryNotFoundError:
        return ""


def say_paths(paths: Sequence[Path]) -> str:
    """Name the first of some files and how many more there are."""
    more = f" +{len(paths) - 1}" if len(paths) > 1 else ""
    return f"{paths[0].name}{more}" if paths else ""
