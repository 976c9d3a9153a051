"""Picks a model for a capability, a language and a memory: by figures that somebody published, and by size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nearsight_models import catalogue, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nearsight_models.catalogue import Entry, Published
    from nearsight_models.manifest import Manifest

# What models of a capability are compared by; only figures on the same data set may be, and zero-shot is another one.
YARDSTICKS = {
    ("search", "en"): ("R@1 text to image", "MSCOCO 5k test"),
    ("search", "zh"): ("R@1 text to image", "COCO-CN test"),
    ("detect", "en"): ("AP, boxes", "COCO 2017 val"),
    ("detect", "zh"): ("AP, boxes", "COCO 2017 val"),
    ("caption", "en"): ("CIDEr", "COCO Karpathy test"),
}
ANY_LANGUAGE = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A model in the light of what was asked for.

    Attributes:
        name: Its name.
        precision: The finest one that fits; the smallest one where none does.
        megabytes: Memory of its weights in that precision.
        run_mb: Memory of a run in that precision, which the limit is then for; None where nobody measured it.
        way: How it is had: `pull`, `export` or `wheel`.
        figure: The published figure it is ranked by; None where there is none on that data set.
        others: Its other published figures.
        languages: ISO 639-1 codes.
        licence: SPDX expression.
        research_only: Whether it is for research only.
        left_out: Why it is not recommended; empty where it is.
    """

    name: str
    precision: str
    megabytes: float
    way: str
    figure: Published | None
    others: tuple[Published, ...]
    languages: tuple[str, ...]
    licence: str
    research_only: bool
    left_out: str
    run_mb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is to be known of a model to choose it.

    Attributes:
        name: Its name.
        capability: What it serves.
        architecture: Which family of the SDK reads it.
        languages: ISO 639-1 codes.
        licence: SPDX expression.
        research_only: Whether it is for research only.
        megabytes: Precision -> memory of its weights in MB, the preferred precision first.
        way: How it is had.
        published: Figures.
        run_mb: Precision -> memory of a run in MB, where it was measured.
    """

    name: str
    capability: str
    architecture: str
    languages: tuple[str, ...]
    licence: str
    research_only: bool
    megabytes: dict[str, float]
    way: str
    published: tuple[Published, ...] = ()
    run_mb: dict[str, float] = field(default_factory=dict)

    def needs_mb(self, precision: str) -> float:
        """Give what a limit of memory is held against: a run where one was measured, else the weights."""
        return self.run_mb.get(precision, self.megabytes[precision])


def candidate(entry: Entry) -> Candidate:
    """See a page of the catalogue as a candidate.

    A run takes more than its weights: what a graph keeps in between, which grows with the batch, and the runtime.
    """
    precisions = entry.hub.precisions() if entry.hub else ["fp32"]
    sizes = {one: entry.hub.bytes(one) if entry.hub else None for one in precisions}
    return Candidate(
        name=entry.name,
        capability=entry.capability,
        architecture=entry.architecture,
        languages=entry.languages,
        licence=entry.licence,
        research_only=entry.research_only,
        megabytes={one: size / 1e6 if size else entry.weights_mb(one) for one, size in sizes.items()},
        way="pull" if entry.hub else "export",
        published=entry.published,
        run_mb=entry.memory_mb,
    )


def carried(manifest: Manifest) -> Candidate:
    """See a model that is here as a candidate; who carries it published no figure on a common data set."""
    precisions = [one for variants in manifest.files.values() for one in variants]
    return Candidate(
        name=manifest.name,
        capability=manifest.capability,
        architecture=manifest.architecture,
        languages=manifest.languages,
        licence=manifest.licence,
        research_only=manifest.research_only,
        megabytes={precisions[0]: manifest.bytes / 1e6},
        way="wheel",
    )


def candidates() -> Iterator[Candidate]:
    """Give what is in the wheel and what is in the catalogue."""
    for name in store.embedded():
        yield carried(store.load(name))
    for entry in catalogue.entries():
        yield candidate(entry)


def recommended(
    candidates: Iterable[Candidate],
    *,
    capability: str,
    language: str | None = None,
    memory_mb: float | None = None,
    any_licence: bool = False,
    runs: Callable[[str], bool] = bool,
) -> list[Choice]:
    """Rank the models of a capability.

    First those that fit, with the best published figure on top; then those that fit and have no figure on that data
    set, the smallest on top; at the end those left out, each with the reason.

    Args:
        candidates: What there is to choose from.
        capability: What it shall serve.
        language: ISO 639-1 code that it must know; None asks for none.
        memory_mb: Most memory in MB: of a run where it was measured, else of its weights; None asks for nothing.
        any_licence: Whether models for research only may be chosen as well.
        runs: Whether an architecture can be run; by default all can.
    """
    yardstick = YARDSTICKS.get((capability, language or ANY_LANGUAGE))
    choices = [
        _choice(one, yardstick, language, memory_mb, any_licence=any_licence, runs=runs)
        for one in candidates
        if one.capability == capability
    ]
    return sorted(choices, key=_rank)


def _rank(choice: Choice) -> tuple[bool, bool, float, float, str]:
    value = choice.figure.value if choice.figure else 0.0
    return bool(choice.left_out), choice.figure is None, -value, choice.megabytes, choice.name


def _choice(
    one: Candidate,
    yardstick: tuple[str, str] | None,
    language: str | None,
    memory_mb: float | None,
    *,
    any_licence: bool,
    runs: Callable[[str], bool],
) -> Choice:
    fitting = [name for name in one.megabytes if memory_mb is None or one.needs_mb(name) <= memory_mb]
    precision = fitting[0] if fitting else min(one.megabytes, key=one.needs_mb)
    figure = next((row for row in one.published if (row.measure, row.data) == yardstick), None)
    reason = ""
    if not runs(one.architecture):
        reason = "not run by this version yet"
    elif language is not None and language not in one.languages:
        reason = f"does not know {language}"
    elif not fitting:
        reason = f"needs {one.needs_mb(precision):.0f} MB"
    elif one.research_only and not any_licence:
        reason = "for research only"
    return Choice(
        name=one.name,
        precision=precision,
        megabytes=one.megabytes[precision],
        run_mb=one.run_mb.get(precision),
        way=one.way,
        figure=figure,
        others=tuple(row for row in one.published if row is not figure),
        languages=one.languages,
        licence=one.licence,
        research_only=one.research_only,
        left_out=reason,
    )
