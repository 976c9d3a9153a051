"""From a checkpoint to the embedded files: graphs, vocabulary, golden sets, calibration, manifest."""

from __future__ import annotations

import logging
from pathlib import Path

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
    package.write(root, parameters, calibrate.fitted(folder, out))
    log.info("written to %s", root)
