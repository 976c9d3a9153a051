"""`nearsight models`: what models there are, and whether their files and answers are still right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nearsight.cli.terminal import console, for_a_person, write_json
from nearsight.errors import InputError

if TYPE_CHECKING:
    import argparse

    from nearsight.engine import Verified
    from nearsight_models import Manifest
    from nearsight_npu import ProofReport

HELP = "list the models, or verify their files and prove their answers (models list | verify)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight models`."""
    parser.add_argument("action", choices=("list", "verify"), help="list them, or verify files and answers")
    parser.add_argument("name", nargs="?", help="one model; all by default")


def run(args: argparse.Namespace) -> int:
    """List or verify.

    Returns:
        0; 1 if a model did not verify.
    """
    import nearsight_models

    known = nearsight_models.names()
    if args.name is not None and args.name not in known:
        raise InputError(f"no model {args.name!r}; there are {', '.join(known)}; see: nearsight models list")
    chosen = [args.name] if args.name is not None else known
    return _list(chosen, as_json=args.json) if args.action == "list" else _verify(chosen, as_json=args.json)


def _list(names: list[str], *, as_json: bool) -> int:
    import nearsight_models

    described = [describe(nearsight_models.load(name)) for name in names]
    if as_json:
        write_json({"models": described})
        return 0
    for model in described:
        space = f"  space {model['space']} ({model['dimensions']})" if model["space"] else ""
        languages = ", ".join(model["languages"])
        print(f"{model['name']}  {model['capability']}{space}  {model['megabytes']:.1f} MB  {languages}")
        for role, precisions in model["files"].items():
            print(f"  {role}: {', '.join(precisions)}")
        print(f"  licence: {model['licence']}")
        for line in model["trained_on"]:
            print(f"  trained on: {line}")
        if model["research_only"]:
            print("  some of what it was trained on is for research only")
    return 0


def describe(manifest: Manifest) -> dict[str, Any]:
    """Give what a manifest says as JSON-able values."""
    return {
        "name": manifest.name,
        "capability": manifest.capability,
        "space": manifest.space or None,
        "dimensions": manifest.dimensions or None,
        "languages": list(manifest.languages),
        "licence": manifest.licence,
        "trained_on": list(manifest.trained_on),
        "research_only": manifest.research_only,
        "megabytes": manifest.bytes / 1e6,
        "files": {
            role: {precision: {"sha256": file.sha256, "bytes": file.bytes} for precision, file in files.items()}
            for role, files in manifest.files.items()
        },
    }


def _verify(names: list[str], *, as_json: bool) -> int:
    from nearsight.engine import verify_model

    found = [graph for name in names for graph in verify_model(name)]
    sound = bool(found) and all(graph.ok for graph in found)
    if as_json:
        write_json({"ok": sound, "graphs": [graph.to_dict() for graph in found]})
    elif for_a_person():
        _print_table(found)
    else:
        for graph in found:
            print("  ".join(_cells(graph)))
    return 0 if sound else 1


def _cells(graph: Verified) -> tuple[str, str, str, str, str, str]:
    """Return model, part, precision, target, verdict, and the reason or what was measured."""
    told = graph.reason or _proof_in_words(graph.proof)
    return graph.model, graph.role, graph.precision, graph.target, "ok" if graph.ok else "REFUSED", told


def _proof_in_words(proof: ProofReport | None) -> str:
    """Say what the proof measured, the worst output first in every figure."""
    if proof is None:
        return "file as the manifest states; it has no golden set to be proven by"
    told = []
    if proof.findings:
        told.append(f"cosine {min(finding.cosine for finding in proof.findings):.4f}")
        worst = max(proof.findings, key=lambda finding: finding.spread - finding.golden_spread)
        told.append(f"spread {worst.spread:.3f} (golden {worst.golden_spread:.3f})")
    if proof.order is not None:
        told.append(f"rank order {proof.order:.0%}")
    if proof.latency_ms is not None:
        told.append(f"{proof.latency_ms:.1f} ms")
    return ", ".join((*told, *proof.flags))


def _print_table(found: list[Verified]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "part", "precision", "target", "verdict", "what was found", box=None, pad_edge=False)
    for graph in found:
        *facts, verdict, told = _cells(graph)
        table.add_row(*facts, Text(verdict, "green" if graph.ok else "bold red"), Text(told))
    console().print(table)
