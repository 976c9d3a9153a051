"""`nearsight doctor`: what this machine can run, what was measured and proven on it, whether the models are whole."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from nearsight.__about__ import __version__
from nearsight.cli.terminal import console, for_a_person, write_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from nearsight_npu import Choice
    from nearsight_npu.placement import Trial

HELP = "say what this machine can run, what was measured and proven on it, and whether the models are whole"
LIBRARIES = ("numpy", "onnxruntime", "faiss-cpu", "pillow", "sentencepiece", "platformdirs", "rich")
OPTIONAL = {
    "pillow-heif": "heif",
    "av": "video",
    "onnx": "quantize",
    "openvino": "openvino",
    "onnxruntime-qnn": "qnn",
    "gradio": "demo",
}
ENDPOINT = "NEARSIGHT_ENDPOINT"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the only option of its own."""
    parser.add_argument(
        "--measure", action="store_true", help="load every graph first, so that choices are measured and answers proven"
    )


def run(args: argparse.Namespace) -> int:
    """Examine the machine and print the findings.

    Returns:
        0; 1 if a model's files are not whole, its answers were refused here, a graph cannot be loaded, or no target is
        available.
    """
    findings = examine(_load_all() if args.measure else ())
    if args.json:
        write_json(findings)
    else:
        for line in _lines(findings):
            _show(*line)
    return 0 if findings["ok"] else 1


def _load_all() -> list[dict[str, Any]]:
    """Load every graph of every model as answers do, so that a choice is measured, and say where its operators run."""
    import nearsight_models
    from nearsight.engine import Engine
    from nearsight.errors import NearsightError

    placed = []
    for name in nearsight_models.names():
        graph = name
        try:
            engine = Engine(name, capability=nearsight_models.load(name).capability)
            for role in engine.roles:
                graph = f"{name}.{role}"
                placed.append({"graph": graph, "ok": True, "words": engine.session(role).placement})
        except (nearsight_models.ModelError, NearsightError) as error:
            placed.append({"graph": graph, "ok": False, "words": str(error)})
    return placed


def examine(placed: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Gather everything that `nearsight doctor` shows, as JSON-able values.

    Args:
        placed: graphs that were just loaded, and where their operators run.
    """
    from platformdirs import user_cache_dir

    import nearsight_models
    from nearsight_npu import probe, remembered_choices, remembered_proofs
    from nearsight_npu.targets.host import host_costs

    targets = [availability.to_dict() for availability in probe()]
    models = [_model(name) for name in nearsight_models.names()]
    proofs = remembered_proofs()
    whole = bool(models) and all(model["ok"] for model in models)
    ours = {graph for model in models for graph in model.get("sha256", ())}
    # Oldest first, so that what counts for a graph is how its last proof ended.
    newest = {(proof.model_hash, proof.precision, proof.target): proof for proof in proofs}
    # The same graph may have been measured before with other libraries or settings: the last choice counts.
    choices = {
        choice.name: choice
        for choice in remembered_choices()
        if choice.trials and not ours.isdisjoint(digest for digest, _ in choice.files.values())
    }
    refused = any(not proof.passed and key[0] in ours for key, proof in newest.items())
    return {
        "ok": whole
        and not refused
        and any(target["available"] for target in targets)
        and all(graph["ok"] for graph in placed),
        "nearsight": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "optional": {name: _version(name) for name in OPTIONAL},
        "host": [cost.to_dict() for cost in host_costs()],
        "targets": targets,
        "placements": [*placed],
        "choices": [_choice(choice) for choice in choices.values()],
        "proofs": [proof.to_dict() for proof in newest.values()],
        "models": models,
        "cache": user_cache_dir("nearsight"),
        "network": _network(),
    }


def _choice(choice: Choice) -> dict[str, Any]:
    """Give what was taken for a graph, what it left, and what was refused."""

    def way(trial: Trial) -> dict[str, Any]:
        return {
            "precision": trial.precision,
            "target": trial.target,
            "setup": str(trial.setup) if trial.setup else "",
            "latency_ms": trial.latency_ms if trial.times_ms else None,
            "mb": choice.files[trial.precision][1],
        }

    taken, *others = map(way, choice.trials)
    refused = [{"precision": one.precision, "target": one.target, "reason": one.reason} for one in choice.refused]
    return {
        "name": choice.name,
        "taken": taken,
        "others": others,
        "refused": refused,
        "measured_at": choice.measured_at,
        "doubtful": choice.doubtful,
        "words": str(choice),
    }


def _network() -> str:
    if not os.environ.get(ENDPOINT):
        return "nothing leaves this machine: no endpoint is configured"
    return f"nothing leaves this machine unless a policy says cloud=True; {ENDPOINT} names where it would go"


def _model(name: str) -> dict[str, Any]:
    """Check one model's files against the hashes in its manifest; its answers are proven when it is first loaded."""
    import nearsight_models

    try:
        manifest = nearsight_models.load(name)
        manifest.check()
    except nearsight_models.ModelError as error:
        return {"name": name, "ok": False, "state": str(error)}
    return {
        "name": name,
        "ok": True,
        "state": f"{manifest.bytes / 1e6:.1f} MB, every file as its manifest states",
        "space": manifest.space,
        "licence": manifest.licence,
        "research_only": manifest.research_only,
        "sha256": [file.sha256 for files in manifest.files.values() for file in files.values()],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _lines(findings: dict[str, Any]) -> Iterator[tuple[str, bool | None, str]]:
    """Give the findings as (subject, good or bad or neither, words)."""
    yield "nearsight", None, f"{findings['nearsight']} on Python {findings['python']}, {findings['platform']}"
    for name, found in findings["libraries"].items():
        yield "library", found is not None, f"{name} {found or 'is missing; pip install nearsight'}"
    for name, found in findings["optional"].items():
        missing = f"not installed; pip install 'nearsight[{OPTIONAL[name]}]' where you need it"
        yield "optional", None, f"{name} {found or missing}"
    for cost in findings["host"]:
        yield "host", None, f"{cost['subject']}: {cost['state']}{_then(cost['remedy'])}"
    for target in findings["targets"]:
        yield "target", True if target["available"] else None, _target_words(target)
    for model in findings["models"]:
        yield "model", model["ok"], f"{model['name']}: {model['state']}"
    if not findings["models"]:
        yield "model", False, "no model is installed; reinstall the wheel"
    for choice in findings["choices"]:
        yield "choice", True, choice["words"]
    for placed in findings["placements"]:
        yield "placed", placed["ok"], f"{placed['graph']}: {placed['words']}"
    if not findings["choices"]:
        yield "choice", None, "none measured yet; a graph is when it is first loaded, or: nearsight doctor --measure"
    ours = {graph for model in findings["models"] for graph in model.get("sha256", ())}
    # Proofs of files that are not installed (any more) are in --json.
    proofs = [proof for proof in findings["proofs"] if proof["model_hash"] in ours]
    for proof in proofs:
        yield "proof", proof["passed"], _proof_words(proof)
    if not proofs:
        yield (
            "proof",
            None,
            "none remembered yet; a model is proven when it is first loaded, or: nearsight models verify",
        )
    yield "cache", None, findings["cache"]
    yield "network", True, findings["network"]


def _target_words(target: dict[str, Any]) -> str:
    by_name = "; used by name only" if target["available"] and target["simulator"] else ""
    remedy = "" if target["available"] else _then(target["remedy"])
    return f"{target['target']}: {target['reason']}{by_name}{remedy}"


def _then(remedy: str) -> str:
    return f"; {remedy}" if remedy else ""


def _proof_words(proof: dict[str, Any]) -> str:
    outcome = f"proven{_pace(proof['latency_ms'])}" if proof["passed"] else f"refused: {proof['reason']}"
    return f"{proof['name']} {proof['precision']} on {proof['target']}: {outcome} ({proof['proven_at'][:16]})"


def _pace(latency_ms: float | None) -> str:
    return "" if latency_ms is None else f", {latency_ms:.1f} ms a run"


def _show(subject: str, good: bool | None, words: str) -> None:
    mark = {True: "ok", False: "BAD", None: "-"}[good]
    if not for_a_person():
        print(f"{subject:9}  {mark:3}  {words}")
        return
    from rich.text import Text

    style = {True: "green", False: "bold red", None: "dim"}[good]
    console().print(Text.assemble((f"{subject:9}  ", "bold"), (f"{mark:3}  ", style), words), soft_wrap=True)
