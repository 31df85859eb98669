"""Writes evaluations into the store named on the command line, and says after each that it is safe."""

from __future__ import annotations

import sys
from pathlib import Path

from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Evaluation, Place
from trimpot.storage import SqliteStore


def main(folder: Path, limit: int) -> None:
    """Write until killed or stopped by an error."""
    with SqliteStore(folder) as store:
        run = store.add_run("writer", "identity", {}, {})
        with store.lock(run):
            print(run, flush=True)
            for number in range(limit):
                seeds = tuple(range(number, number + 16))
                bucket = Bucket(tuple(f"prompt {seed} {'x' * 100}" for seed in seeds), seeds)
                scores = {"reward": tuple(seed / 7 for seed in seeds)}
                evaluation = Evaluation({"knob": number / 3}, bucket, None, scores, {"reward": 1.0})
                store.record(run, [(Place("search", number, 0), f"{run}/{number}", evaluation)])
                print(number, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
