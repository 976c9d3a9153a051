"""`nearsight doctor`: what this machine can run, what was proven on it, and whether the embedded models are whole."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from nearsight.__about__ import __version__
from nearsight.cli.terminal import console, for_a_person, write_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

HELP = "say what this machine can run, what was proven on it, and whether the models are whole"
LIBRARIES = ("numpy", "onnxruntime", "faiss-cpu", "pillow", "sentencepiece", "platformdirs", "rich")
OPTIONAL = {"pillow-heif": "heif", "av": "video", "onnx": "quantize", "gradio": "demo"}
ENDPOINT = "NEARSIGHT_ENDPOINT"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `nearsight doctor` takes only `--json` and `--debug`."""


def run(args: argparse.Namespace) -> int:
    """Examine the machine and print the findings.

    Returns:
        0; 1 if a model's files are not whole, its answers were refused here, or no target is available.
    """
    findings = examine()
    if args.json:
        write_json(findings)
    else:
        for line in _lines(findings):
            _show(*line)
    return 0 if findings["ok"] else 1


def examine() -> dict[str, Any]:
    """Gather everything that `nearsight doctor` shows, as JSON-able values."""
    from platformdirs import user_cache_dir

    import nearsight_models
    from nearsight_npu import probe, remembered_proofs

    targets = [availability.to_dict() for availability in probe()]
    models = [_model(name) for name in nearsight_models.names()]
    proofs = remembered_proofs()
    whole = bool(models) and all(model["ok"] for model in models)
    ours = {graph for model in models for graph in model.get("sha256", ())}
    # Oldest first, so that what counts for a graph is how its last proof ended.
    newest = {(proof.model_hash, proof.precision, proof.target): proof for proof in proofs}
    refused = any(not proof.passed and key[0] in ours for key, proof in newest.items())
    return {
        "ok": whole and not refused and any(target["available"] for target in targets),
        "nearsight": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "optional": {name: _version(name) for name in OPTIONAL},
        "targets": targets,
        "proofs": [proof.to_dict() for proof in newest.values()],
        "models": models,
        "cache": user_cache_dir("nearsight"),
        "network": _network(),
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
    for target in findings["targets"]:
        remedy = f"; {target['remedy']}" if target["remedy"] and not target["available"] else ""
        yield "target", True if target["available"] else None, f"{target['target']}: {target['reason']}{remedy}"
    for model in findings["models"]:
        yield "model", model["ok"], f"{model['name']}: {model['state']}"
    if not findings["models"]:
        yield "model", False, "no model is installed; reinstall the wheel"
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
