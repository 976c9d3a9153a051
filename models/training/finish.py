"""From a checkpoint to the embedded files: graphs, vocabulary, golden sets, calibration, manifest."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from nearsight_npu import prove
from training import calibrate, export, golden, package, train

log = logging.getLogger("training")
ROOT = Path(__file__).parent.parent / "nearsight_models"


def write(folder: Path, work: Path, trainer: train.Trainer, root: Path = ROOT) -> None:
    """Write everything that ships to `root`."""
    out = root / "embedded" / "nano"
    export.write_all(folder, work, out, trainer)
    golden.write(work, out)
    parameters = sum(
        p.numel() for p in (*trainer.picture.parameters(), *trainer.text.parameters())
    ) + export.lower_parameters(out)
    for role, precision in (("image", "int8"), ("image", "fp16"), ("text", "w4")):
        report = prove(out / f"{role}.{precision}.onnx", out / f"{role}.golden.npz", precision)
        if not report.passed:
            raise SystemExit(f"{role} {precision} does not give its golden answers: {report.reason}")
    whole = hashlib.sha256(b"".join((work / name).read_bytes() for name in ("image.fp32.onnx", "text.reference.onnx")))
    package.write(root, parameters, calibrate.fitted(folder, out), f"nano-{whole.hexdigest()[:8]}")
    log.info("written to %s", root)
