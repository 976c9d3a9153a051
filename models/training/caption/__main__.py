"""`python -m training.caption --data DATA --work WORK --resume`: caches, trains, writes the embedded files."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from training.caption import critic, export, train


def main() -> None:
    """Parse the arguments and run what is not done yet."""
    parser = argparse.ArgumentParser(prog="training.caption", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder (its layout: ../README.md)")
    parser.add_argument("--work", type=Path, required=True, help="caches and checkpoints, outside the repository; 5 GB")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--epochs", type=int, default=train.Recipe().epochs)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long, to be resumed")
    parser.add_argument("--write-only", action="store_true", help="only write the files of the best checkpoint")
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
    trainer = train.Trainer(args.data, args.work, train.Recipe(epochs=args.epochs))
    checkpoint = args.work / "checkpoint.pt"
    if args.resume and checkpoint.exists():
        trainer.load(checkpoint)
    if not args.write_only:
        trainer.run(args.minutes)
    if args.write_only or trainer.step == trainer.steps:
        if not (args.work / "critic.pt").exists():
            trainer.averaged.load_state_dict(torch.load(args.work / "best.pt", weights_only=True))
            critic.run(trainer, critic.Recipe())
        trainer.averaged.load_state_dict(torch.load(args.work / "critic.pt", weights_only=True))
        export.write(args.data, args.work, trainer)


if __name__ == "__main__":
    main()
