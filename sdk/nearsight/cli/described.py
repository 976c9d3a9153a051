"""Models in words and in JSON: what a page says, and which of them is recommended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nearsight.cli.terminal import console, for_a_person, say, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nearsight_models import Choice, Entry, Manifest, Published


def lines(model: dict[str, Any]) -> Iterable[str]:
    """Say what `describe` or `describe_entry` gave, a line each."""
    size = f"{model['megabytes']:.1f} MB" if model["megabytes"] else f"{model['parameters'] / 1e6:.0f} M weights"
    space = f"  space {model['space']} ({model['dimensions']})" if model["space"] else ""
    how = {"embedded": "", "installed": "  installed"}.get(model["state"], f"  not installed: {model.get('way')}")
    yield f"{model['name']}  {model['capability']}{how}{space}  {size}  {_some(model['languages'])}"
    for role, precisions in model["files"].items():
        yield f"  {role}: {', '.join(precisions)}"
    yield f"  licence: {model['licence']}"
    if model["state"] == "available":
        sizes = ", ".join(f"{one} {size:.0f} MB" for one, size in model["megabytes_by_precision"].items())
        yield f"  weights: {sizes}"
        yield f"  {model['summary']}"
    else:
        yield from (f"  trained on: {line}" for line in model["trained_on"])
    if model["research_only"]:
        yield "  its weights, or some of what they were trained on, are for research only"
    yield from (f"  note: {line}" for line in model.get("notes", ()))


def describe(manifest: Manifest) -> dict[str, Any]:
    """Give what a manifest says as JSON-able values."""
    source = manifest.source
    return {
        "name": manifest.name,
        "state": "installed" if source else "embedded",
        "capability": manifest.capability,
        "architecture": manifest.architecture,
        "summary": manifest.summary,
        "space": manifest.space or None,
        "dimensions": manifest.dimensions or None,
        "languages": list(manifest.languages),
        "licence": manifest.licence,
        "trained_on": list(manifest.trained_on),
        "research_only": manifest.research_only,
        "parameters": manifest.parameters,
        "megabytes": manifest.bytes / 1e6,
        "source": {"repo": source.repo, "revision": source.revision, "how": source.how} if source else None,
        "files": {
            role: {precision: {"sha256": file.sha256, "bytes": file.bytes} for precision, file in files.items()}
            for role, files in manifest.files.items()
        },
    }


def describe_entry(entry: Entry) -> dict[str, Any]:
    """Give what a page of the catalogue says as JSON-able values."""
    from nearsight_models.choosing import candidate

    hub, weights = entry.hub, entry.weights
    size = hub.bytes() if hub else None
    notes = list(entry.notes)
    if hub and not hub.confirmed:
        notes.append("where it is on the hub, or what its files are called, could not be confirmed")
    if not is_read(entry.architecture):
        notes.append(f"no part of this version runs the architecture {entry.architecture} yet")
    return {
        "name": entry.name,
        "state": "available",
        "way": " or ".join(way for way, there in (("pull", hub), ("export", weights)) if there),
        "capability": entry.capability,
        "architecture": entry.architecture,
        "summary": entry.summary,
        "space": None,
        "dimensions": entry.dimensions or None,
        "languages": list(entry.languages),
        "licence": entry.licence,
        "trained_on": list(entry.trained_on),
        "research_only": entry.research_only,
        "parameters": entry.parameters,
        "megabytes": size / 1e6 if size else None,
        "megabytes_by_precision": candidate(entry).megabytes,
        "memory_mb": entry.memory_mb,
        "confirmed": bool((hub and hub.confirmed) or (hub is None and weights and weights.confirmed)),
        "hub": {"repo": hub.repo, "revision": hub.revision or None} if hub else None,
        "weights": {"library": weights.library, "repo": weights.repo, "revision": weights.revision or None}
        if weights
        else None,
        "files": {
            role: {precision: {"sha256": file.sha256 or None, "bytes": file.bytes} for precision, file in files.items()}
            for role, files in (hub.files if hub else {}).items()
        },
        "published": [_figure(row) for row in entry.published],
        "notes": notes,
    }


def is_read(architecture: str) -> bool:
    """Whether a part of this version runs models of an architecture."""
    from nearsight.families.lookup import LEAVES

    return architecture in LEAVES


def _some(languages: Sequence[str]) -> str:
    """Name the first languages, and say how many more there are."""
    return ", ".join(languages[:4]) + (f" and {len(languages) - 4} more" if languages[4:] else "")


def _figure(row: Published) -> dict[str, Any]:
    return {
        "measure": row.measure,
        "data": row.data,
        "language": row.language or None,
        "value": row.value,
        "source": row.source,
    }


def recommendation(ranked: list[Choice], *, as_json: bool) -> int:
    """Show the trade between what models can do and what they need.

    Returns:
        0; 1 if nothing can be recommended.
    """
    best = next((choice for choice in ranked if not choice.left_out), None)
    if as_json:
        write_json({"recommended": best.name if best else None, "models": [_choice(choice) for choice in ranked]})
        return 0 if best else 1
    if for_a_person():
        _print_trade(ranked)
    else:
        for choice in ranked:
            print("  ".join(cell for cell in _cells(choice) if cell))
    if best is None:
        say("nothing fits what was asked for; allow more: --memory-mb, --any-licence, or leave out --language")
        return 1
    if best.way != "wheel":
        say(f"get it: nearsight models {best.way} {best.name}{_precision(best)}")
    return 0


def _precision(choice: Choice) -> str:
    return f" --precision {choice.precision}" if choice.way == "pull" and choice.precision != "fp32" else ""


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "name": choice.name,
        "precision": choice.precision,
        "megabytes": choice.megabytes,
        "run_mb": choice.run_mb,
        "way": choice.way,
        "figure": _figure(choice.figure) if choice.figure else None,
        "other_figures": [_figure(row) for row in choice.others],
        "languages": list(choice.languages),
        "licence": choice.licence,
        "research_only": choice.research_only,
        "left_out": choice.left_out or None,
    }


def _cells(choice: Choice) -> tuple[str, str, str, str, str, str, str]:
    """Give name, precision, size, figure with its source, languages, licence, and verdict."""
    figure = "no figure on that data set"
    if choice.figure or choice.others:
        row = choice.figure or choice.others[0]
        finer = "" if choice.precision == "fp32" else "of fp32: "
        apart = "" if choice.figure else "not compared: "
        figure = f"{apart}{finer}{row.value:.3f} {row.measure}, {row.data} ({row.source})"
    verdict = f"left out: {choice.left_out}" if choice.left_out else choice.way
    return (
        choice.name,
        choice.precision,
        f"{choice.megabytes:.0f} MB" + (f", a run {choice.run_mb:.0f} MB" if choice.run_mb else ""),
        figure,
        _some(choice.languages),
        choice.licence,
        verdict,
    )


def _print_trade(ranked: list[Choice]) -> None:
    from rich.table import Table
    from rich.text import Text

    heads = ("model", "precision", "weights", "published figure", "languages", "licence", "how to get it")
    table = Table(*heads, box=None, pad_edge=False)
    for choice in ranked:
        table.add_row(*(Text(cell, "dim" if choice.left_out else "") for cell in _cells(choice)))
    console().print(table)
