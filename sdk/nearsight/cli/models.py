"""`nearsight models`: which models there are, how to get more, which to take, and whether they are still right."""

from __future__ import annotations

import logging
import re
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nearsight.cli.described import describe, describe_entry, is_read, lines, recommendation
from nearsight.cli.terminal import console, for_a_person, say, write_json
from nearsight.errors import InputError, ModelError, translated

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from nearsight.engine import Verified
    from nearsight_models import Entry, Manifest, Progress
    from nearsight_npu import ProofReport

HELP = "list the models, pull or export more, have one recommended, verify files and answers"
EPILOG = """examples:
  nearsight models list
  nearsight models recommend --capability search --language zh --memory-mb 500
  nearsight models pull clip-vit-b32                        (ready graphs from the hub: pip install 'nearsight[hub]')
  nearsight models pull clip-vit-b32 --from /media/stick    (from a folder laid out as on the hub; no network)
  nearsight models export blip-base                         (made here with torch: pip install 'nearsight[export]')
  nearsight models export clip-vit-b32 --from ./mine --name my-clip                     (weights of your own)
  nearsight models verify clip-vit-b32"""
# Which option is whose; every other use is a mistake that is told.
OPTIONS = {
    "precision": ("pull",),
    "revision": ("pull",),
    "source": ("pull", "export"),
    "batch": ("export",),
    "canvas": ("export",),
    "int8": ("export",),
    "new_name": ("export",),
    "replace": ("pull", "export"),
    "capability": ("list", "recommend"),
    "language": ("recommend",),
    "memory_mb": ("recommend",),
    "any_licence": ("recommend",),
}
NOWHERE = "-"  # stands for the precision and the target of a file that is no graph
_NAME = re.compile("[a-z0-9][a-z0-9._-]*")
CAPABILITIES = ("search", "detect", "caption", "plan")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight models`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "action",
        choices=("list", "pull", "export", "verify", "recommend"),
        help="list them; get one ready or make one here; verify files and answers; have one recommended",
    )
    parser.add_argument("name", nargs="?", help="one model; list and verify take all by default")
    parser.add_argument("--from", dest="source", metavar="SOURCE", help="pull, export: a folder, or another origin")
    parser.add_argument("--precision", metavar="P", help="pull: fp32, fp16, int8, q4, ... where there is one")
    parser.add_argument("--revision", metavar="COMMIT", help="pull: another commit than the one that is pinned")
    parser.add_argument("--batch", type=_count, metavar="N", help="export: pictures or texts of a run (any number)")
    parser.add_argument("--canvas", type=_size, metavar="WxH", help="export: pixels that a detector looks at")
    parser.add_argument("--int8", action="store_true", default=None, help="export: also INT8, for search models")
    parser.add_argument(
        "--name", dest="new_name", metavar="OTHER", help="export: what your own weights are called here"
    )
    parser.add_argument(
        "--replace", action="store_true", default=None, help="pull, export: also what came by the other of the two"
    )
    parser.add_argument("--capability", choices=CAPABILITIES, help="list, recommend: what it shall serve")
    parser.add_argument("--language", metavar="CODE", help="recommend: a language it must know, such as zh")
    parser.add_argument(
        "--memory-mb", type=_megabytes, metavar="MB", help="recommend: most memory, of its weights or of a run"
    )
    parser.add_argument(
        "--any-licence", action="store_true", default=None, help="recommend: also weights for research only"
    )


def run(args: argparse.Namespace) -> int:
    """Do what the action says.

    Returns:
        0; 1 if a model did not verify, or nothing can be recommended.
    """
    for option, actions in OPTIONS.items():
        if getattr(args, option) is not None and args.action not in actions:
            named = {"source": "--from", "new_name": "--name"}.get(option, f"--{option.replace('_', '-')}")
            raise InputError(f"{named} belongs to {' and '.join(actions)}, not to {args.action}; see --help")
    with translated(), _the_users_own():
        match args.action:
            case "list":
                return _list(args)
            case "pull":
                return _pull(args)
            case "export":
                return _export(args)
            case "recommend":
                return _recommend(args)
            case _:
                return _verify(_chosen(args.name), as_json=args.json)


@contextmanager
def _the_users_own() -> Iterator[None]:
    """Let what was asked for or set wrongly end with exit code 2."""
    import nearsight_models

    try:
        yield
    except nearsight_models.UsageError as error:
        raise InputError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def _megabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no number of megabytes")
    return value


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ArgumentTypeError(f"{text!r} is no size; give WIDTHxHEIGHT, such as 960x960")
    return int(width), int(height)


def _chosen(name: str | None) -> list[str]:
    """Give the models that are here: the named one, or all."""
    import nearsight_models

    known = nearsight_models.names()
    if name is None:
        return known
    if name not in known:
        if name in nearsight_models.available():
            way = "pull" if nearsight_models.entry(name).hub else "export"
            raise InputError(f"model {name!r} is not installed; get it: nearsight models {way} {name}")
        raise InputError(f"no model {name!r}; there are {', '.join(known)}; see: nearsight models list")
    return [name]


def _entry(args: argparse.Namespace) -> Entry:
    import nearsight_models

    known = nearsight_models.available()
    if args.name not in known:
        asked = f"no model {args.name!r} to {args.action}" if args.name else f"{args.action} wants the name of a model"
        raise InputError(f"{asked}; there are {', '.join(known)}; see: nearsight models list")
    return nearsight_models.entry(args.name)


def _list(args: argparse.Namespace) -> int:
    import nearsight_models

    here = nearsight_models.names()
    more = [name for name in nearsight_models.available() if name not in here]
    if args.name is not None:
        here, more = ([], [args.name]) if args.name in more else (_chosen(args.name), [])
    described = [*_described(here), *(describe_entry(nearsight_models.entry(name)) for name in more)]
    wanted = [model for model in described if args.capability in (None, model["capability"])]
    if args.json:
        write_json({"models": wanted})
        return 0
    for model in wanted:
        print("\n".join(lines(model)))
    return 0


def _described(names: list[str]) -> Iterable[dict[str, Any]]:
    """Describe the models that are here; one that is damaged is told of, and hides no other."""
    import nearsight_models

    for name in names:
        try:
            yield describe(nearsight_models.load(name))
        except nearsight_models.ModelError as error:
            say(f"{name} is damaged: {error}")


def _pull(args: argparse.Namespace) -> int:
    import nearsight_models

    entry = _entry(args)
    # The client tells of every second try on stderr; what matters of it is in our own lines.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        manifest = nearsight_models.pull(
            entry.name,
            precision=args.precision,
            folder=args.source,
            revision=args.revision,
            told=_say_progress,
            replace=bool(args.replace),
        )
    except nearsight_models.MissingFilesError as error:
        if args.source is None:
            raise
        raise InputError(str(error)) from error  # the folder is the user's
    if not is_read(entry.architecture):
        say(f"{entry.name} is here, but no part of this version runs the architecture {entry.architecture} yet")
    return _installed(manifest, as_json=args.json)


def _say_progress(progress: Progress) -> None:
    size = f" ({progress.bytes / 1e6:.1f} MB)" if progress.bytes else ""
    words = {"fetching": "fetching", "copied": "copied", "kept": "already here:", "again": "once more:"}
    say(f"{words[progress.state]} {progress.file}{size}")


def _export(args: argparse.Namespace) -> int:
    import nearsight_models
    from nearsight.exporting import export_model

    entry = _entry(args)
    source = args.source or _origin(entry)
    if args.new_name is not None:
        entry = _of_ones_own(entry, args)
    export_model(entry, source, batch=args.batch, canvas=args.canvas, int8=bool(args.int8), replace=bool(args.replace))
    return _installed(nearsight_models.load(entry.name), as_json=args.json)


def _of_ones_own(entry: Entry, args: argparse.Namespace) -> Entry:
    """Describe weights that are not the catalogue's: its licence and data are not theirs."""
    import nearsight_models

    if args.source is None:
        raise InputError("--name is for weights of your own; say where they are: --from FOLDER")
    pages = [nearsight_models.load(name) for name in nearsight_models.embedded()]
    taken = {*nearsight_models.available(), *(page.name for page in pages), *(page.family for page in pages)}
    if not _NAME.fullmatch(args.new_name) or args.new_name in taken:
        why = "the wheel or the catalogue has it" if args.new_name in taken else "small letters, digits, '.', '-', '_'"
        raise InputError(f"a model of your own cannot be called {args.new_name!r} ({why}); give another --name")
    folder = re.split(r"[/\\]", args.source.rstrip("/\\"))[-1]
    owner = f"as the owner of the weights says; exported from {folder}'s own files"
    return replace(
        entry,
        name=args.new_name,
        summary=f"weights of your own in the shape of {entry.name}",
        licence=owner,
        trained_on=(owner,),
        published=(),
    )


def _origin(entry: Entry) -> str:
    """Name what a model is exported from, as its library calls it."""
    weights = entry.weights
    if weights is None:
        raise InputError(f"model {entry.name!r} is not exported but pulled: nearsight models pull {entry.name}")
    if weights.library == "open_clip":
        return f"open_clip:{weights.model}/{weights.tag}"
    return f"{weights.repo}@{weights.revision}" if weights.revision else weights.repo


def _installed(manifest: Manifest, *, as_json: bool) -> int:
    import nearsight_models

    folder = nearsight_models.models_folder() / manifest.name
    if as_json:
        write_json({"model": describe(manifest), "folder": str(folder)})
        return 0
    print("\n".join(lines(describe(manifest))))
    print(f"  in {folder}")
    return 0


def _recommend(args: argparse.Namespace) -> int:
    import nearsight_models

    if args.name is not None:
        raise InputError(f"recommend takes no name, but --capability; {args.name!r} was given")
    if args.capability is None:
        raise InputError(f"recommend wants --capability: {', '.join(CAPABILITIES)}")
    offered = list(nearsight_models.candidates())
    ranked = nearsight_models.recommended(
        offered,
        capability=args.capability,
        language=_language(args.language, {code for one in offered for code in one.languages}),
        memory_mb=args.memory_mb,
        any_licence=bool(args.any_licence),
        runs=is_read,
    )
    return recommendation(ranked, as_json=args.json)


def _language(asked: str | None, known: set[str]) -> str | None:
    """Give the code as pages write it: `zh` for `zh-CN` and `ZH`."""
    code = re.split("[-_]", asked.strip().casefold())[0] if asked is not None else None
    if code is not None and code not in known:
        raise InputError(f"no model knows the language {asked!r}; give one of {', '.join(sorted(known))}")
    return code


def _verify(names: list[str], *, as_json: bool) -> int:
    found = [graph for name in names for graph in _verified(name)]
    sound = bool(found) and all(graph.ok for graph in found)
    if as_json:
        write_json({"ok": sound, "graphs": [graph.to_dict() for graph in found]})
    elif for_a_person():
        _print_table(found)
    else:
        for graph in found:
            print("  ".join(_cells(graph)))
    return 0 if sound else 1


def _verified(name: str) -> Iterable[Verified]:
    """Prove a model's graphs, and hash what lies beside them, such as its tokenizer."""
    import nearsight_models
    from nearsight.engine import Verified, verify_model

    def seen(part: str, reason: str) -> Verified:
        return Verified(
            model=name, role=part, precision=NOWHERE, target=NOWHERE, ok=not reason, reason=reason, proof=None
        )

    try:
        yield from verify_model(name)
        assets = nearsight_models.load(name).assets
    except (ModelError, nearsight_models.ModelError) as error:
        yield seen("page", str(error))  # one that is damaged hides no other
        return
    for asset, file in assets.items():
        try:
            file.check()
        except nearsight_models.ModelError as error:
            yield seen(asset, str(error))
        else:
            yield seen(asset, "")


def _cells(graph: Verified) -> tuple[str, str, str, str, str, str]:
    """Return model, part, precision, target, verdict, and the reason or what was measured."""
    told = graph.reason or ("file as the manifest states" if graph.target == NOWHERE else _proof_in_words(graph.proof))
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
