"""`python -m training --data DATA --work WORK --resume`: caches, trains and writes the embedded files."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from training import finish, polish, train


def main() -> None:
    """Parse the arguments and run what is not done yet."""
    parser = argparse.ArgumentParser(prog="training", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="the data folder (its layout: models/training/README.md)"
    )
    parser.add_argument("--work", type=Path, required=True, help="caches and checkpoints, outside the repository; 5 GB")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--epochs", type=int, default=train.Recipe().epochs)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long, to be resumed")
    parser.add_argument(
        "--write-only", type=Path, metavar="CHECKPOINT", help="train nothing; write the files of this checkpoint"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    logging.getLogger().addFilter(lambda record: record.name == "training")
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(args.work / "train.log")],
    )
    trainer = train.Trainer(args.data, args.work, train.Recipe(epochs=args.epochs))
    checkpoint = args.work / "checkpoint.pt"
    if args.write_only:
        trainer.load(args.write_only)
        finish.write(args.data, args.work, trainer)
        return
    if args.resume and checkpoint.exists():
        trainer.load(checkpoint)
    elif args.resume and (args.work / "warm.pt").exists():
        trainer.load(args.work / "warm.pt", weights_only=True)
    else:
        trainer.warm()
        trainer.save(args.work / "warm.pt")
    trainer.run(args.minutes)
    if trainer.step == trainer.steps:
        polish.run(trainer, polish.Polish())
        finish.write(args.data, args.work, trainer)


if __name__ == "__main__":
    main()
