"""What the tour asks: fixed questions for photographs that are known, and for a stranger's, questions about them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight_demos.senses import LABELS
from nearsight_demos.subjects import CLASSES, RARE, SCENES, absent, shown, things_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import nearsight as ns

# Of a stranger's folder: pictures that are looked into, things and scenes asked for, pictures shown, labels looked for.
LOOKED_INTO, THINGS, PLACES, SHOWN, LABELLED = 64, 7, 4, 8, 12
# Every photograph is one; where there are more than this, those that are most so are chosen from.
ANYTHING, CHOSEN_FROM = "a photograph", 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query of the tour.

    Attributes:
        text: what is asked.
        right: names of the pictures that answer it; empty where nothing should match; None where nobody knows.
        thing: the class by which the detector may judge the answer; empty where it has none for it.
    """

    text: str
    right: tuple[str, ...] | None = None
    thing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """What a tour does.

    Attributes:
        questions: what is searched for.
        scenes: pictures that are looked into; the first are captioned.
        labels: what is looked for in them.
        to_ask: what the agent is asked.
    """

    questions: tuple[Question, ...]
    scenes: tuple[Path, ...]
    labels: tuple[str, ...]
    to_ask: tuple[str, ...]


CARRIED_QUESTIONS: tuple[Question, ...] = (
    Question(text="an astronaut in an orange suit", right=("astronaut.png", "astronaut.jpg")),
    Question(text="a cup of coffee", right=("coffee.png", "coffee.jpg")),
    Question(text="a red motorcycle", right=("motorcycle_left.png",)),
    Question(text="a man with a camera on a tripod", right=("camera.png", "photographer.jpg")),
    Question(text="a rocket before launch", right=("rocket.jpg",)),
    Question(text="a wall of bricks", right=("brick.png", "brick-wall.jpg")),
    Question(text="一只猫", right=("chelsea.png", "cat.jpg")),
    Question(text="狮子", right=("lion.jpg",)),
    Question(text="一朵花", right=("flower.jpg",)),
    Question(text="奔跑的猎豹", right=("cheetah.jpg",)),
    Question(text="铁塔", right=("tower.jpg",)),
    Question(text="湖边的中国古塔", right=("china.jpg",)),
    Question(text="a plate of sushi", right=()),
    Question(text="two children playing football on a beach", right=()),
    Question(text="在雪山上滑雪的人", right=()),
)
# In these, things of the detector's classes are seen; the first are captioned.
CARRIED_SCENES = (
    "chelsea.png",
    "coffee.png",
    "astronaut.png",
    "motorcycle_left.png",
    "camera.png",
    "lion.jpg",
    "china.jpg",
)
OUR_SCENES = ("cat.jpg", "coffee.jpg", "astronaut.jpg", "photographer.jpg", "rocket.jpg")
CARRIED_TO_ASK = ("How many pictures of a cat are there?", "有没有咖啡的照片？")


def known(folder: Path) -> Programme:
    """Make the programme for the photographs that packages carry; what could not be fetched is not asked for."""
    return Programme(
        questions=tuple(q for q in CARRIED_QUESTIONS if not q.right or any((folder / n).exists() for n in q.right)),
        scenes=tuple(folder / name for name in (*CARRIED_SCENES, *OUR_SCENES) if (folder / name).exists()),
        labels=LABELS,
        to_ask=CARRIED_TO_ASK,
    )


def fitted(gallery: ns.Gallery, detector: ns.Detector) -> Programme:
    """Make a programme for photographs that nobody knows: it asks for what the detector sees most there.

    Args:
        gallery: holds the photographs; not empty.
        detector: looks into a few of them.
    """
    pictures = _sample(gallery)
    found = things_in(detector, pictures)
    things = [name for name in found if name in CLASSES]
    scenes = shown(gallery, SCENES, "en", PLACES)
    rare, kinds = absent(gallery, "en"), [CLASSES[name] for name in things]
    # The agent looks by searching: best it is asked for what a search finds, too.
    first = next(iter((*shown(gallery, kinds, "en", 1), *kinds, *scenes, *RARE)))
    found_too = (*shown(gallery, kinds, "zh", 2), *kinds, *scenes, *RARE)
    second = next(subject for subject in found_too if subject != first)
    return Programme(
        questions=(
            *(
                Question(text=CLASSES[name].said(language), thing=name)
                for name, language in zip(things[:THINGS], cycle(("en", "zh")), strict=False)
            ),
            *(
                Question(text=scene.said(language))
                for scene, language in zip(scenes, cycle(("en", "en", "zh")), strict=False)
            ),
            Question(text=rare.en),
            Question(text=rare.zh),
        ),
        scenes=_telling(found) or tuple(pictures[:SHOWN]),
        labels=tuple(things[:LABELLED]) or LABELS,
        to_ask=(f"How many pictures of {first.en} are there?", f"有没有{second.zh}的照片？"),
    )


def _sample(gallery: ns.Gallery) -> list[Path]:
    """Take pictures that are there, evenly over the folders."""
    hits = gallery.search(ANYTHING, k=CHOSEN_FROM, min_relevance=0)
    paths = sorted(hit.path for hit in hits if hit.exists)
    step = max(1, -(-len(paths) // LOOKED_INTO))
    return paths[::step]


def _telling(found: Mapping[str, Sequence[Path]]) -> tuple[Path, ...]:
    """Choose pictures in which something is seen: the first of each class, then the second of each, and so on."""
    turns = (path for turn in zip_longest(*found.values()) for path in turn if path is not None)
    return tuple(dict.fromkeys(turns))[:SHOWN]
