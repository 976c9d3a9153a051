"""`python -m bench`: speed and size, in ratios to a peer or a limit measured in the same run."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import detect, ingest, look, query, start


def main() -> None:
    """Run the asked parts."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--part", choices=("detect", "ingest", "look", "query", "start"), action="append")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="where Flickr8k dev lies, to enlarge its pictures"
    )
    parser.add_argument(
        "--fp32", type=Path, help="the picture tower in FP32 for the plain loop; else FP16 weights computed in FP32"
    )
    args = parser.parse_args()
    parts = {
        "detect": lambda: detect.main(args.data, args.fp32),
        "ingest": lambda: ingest.main(args.data, args.fp32),
        "look": look.main,
        "query": query.main,
        "start": start.main,
    }
    for part in args.part or parts:
        parts[part]()


if __name__ == "__main__":
    main()
