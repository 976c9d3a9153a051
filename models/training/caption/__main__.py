"""`python -m training.caption --data DATA --work WORK --resume`: caches, trains, writes the embedded files."""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import replace
from pathlib import Path

import torch

from training.caption import critic, export, train

TAUGHT = "student"


def main() -> None:
    """Parse the arguments and run what is not done yet."""
    parser = argparse.ArgumentParser(prog="training.caption", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder (its layout: ../README.md)")
    parser.add_argument("--work", type=Path, required=True, help="caches and checkpoints, outside the repository; 7 GB")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoints")
    parser.add_argument("--device", default="cpu", help="where to train, as torch calls it: cpu, cuda")
    parser.add_argument("--epochs", type=int, default=train.Recipe().epochs)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long, to be resumed")
    parser.add_argument("--write-only", action="store_true", help="only write the files of what is trained")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    logging.getLogger().addFilter(lambda record: record.name == "training")
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(args.work / "train.log")],
    )
    ends = time.monotonic() + 60 * args.minutes
    recipes = {f"teacher{at}": recipe for at, recipe in enumerate(train.TEACHERS)} | {TAUGHT: train.STUDENT}
    for name, recipe in recipes.items():
        trainer = train.Trainer(args.data, args.work, name, replace(recipe, epochs=args.epochs), args.device)
        if (args.resume or args.write_only) and trainer.checkpoint.exists():
            trainer.load(trainer.checkpoint)
        if name == TAUGHT:
            trainer.learn_from([args.work / f"{other}.best.pt" for other in recipes if other != TAUGHT])
        if not args.write_only:
            trainer.run((ends - time.monotonic()) / 60)
        if trainer.step < trainer.steps:
            raise SystemExit(f"{name} is at step {trainer.step} of {trainer.steps}; go on with --resume")
    tuned = args.work / "critic.pt"
    if not tuned.exists():
        trainer.teachers.clear()
        trainer.averaged.load_state_dict(trainer.read(trainer.best))
        critic.run(trainer, critic.Recipe())
    trainer.averaged.load_state_dict(trainer.read(tuned))
    export.write(args.data, args.work, trainer.averaged.cpu())


if __name__ == "__main__":
    main()
