"""How far one call of `quantize` has come, told to a plain function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a call is doing.

    Attributes:
        stage: in words, such as "measuring precisions of groups".
        done: how many of the stage's parts are done.
        total: how many there are; None where that is not known, or nothing is counted.
    """

    stage: str
    done: int = 0
    total: int | None = None


OnProgress: TypeAlias = Callable[[Progress], None]


def untold(_: Progress) -> None:
    """Tell nobody."""


def counted(items: Iterable[Item], stage: str, told: OnProgress, total: int | None = None) -> Iterator[Item]:
    """Hand items on, and tell before each how many are done, and behind the last that all are.

    Args:
        items: what the stage goes through.
        stage: what it does with them.
        told: takes the news.
        total: how many there are, where that is known.

    Yields:
        The items.
    """
    done = 0
    told(Progress(stage=stage, done=done, total=total))
    for done, item in enumerate(items, 1):
        yield item
        told(Progress(stage=stage, done=done, total=total))
