"""A preset with several optimizer seeds: the gain of each, on the same test prompts.

    python benchmarks/seeds.py shapes --seeds 10 [--store DIR] [KEY=VALUE ...]

The runs share one store, so the images of the neutral model are generated once. Seeds already in the store are not
run again, so an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from trimpot.runs.results import summary
from trimpot.runs.session import resume, start
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore


def main() -> None:
    """Do the missing runs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--store", type=Path, default=Path("trimpot-runs/seeds"))
    options = parser.parse_intermixed_args()
    print(
        f"{'seed':>4}  {'neutral':>7}  {'calibrated':>10}  {'gain':>6}  {'95 % interval':<18}  {'images':>7}  seconds"
    )
    gains = []
    for seed in range(options.first, options.first + options.seeds):
        config = load_config(options.preset, [*options.overrides, f"seed={seed}"])
        with SqliteStore(options.store) as store:
            done = next((row for row in store.runs() if row.config == config.model_dump(mode="json")), None)
        run_id = start(config, options.store) if done is None else resume(done.id, options.store)
        with SqliteStore(options.store) as store:
            found = summary(store, store.run(run_id))
        gain, comparison = found["gain"], found["outcome"]["comparisons"][0]
        gains.append(gain)
        print(
            f"{seed:>4}  {comparison['neutral']:>7.3f}  {comparison['calibrated']:>10.3f}  {gain['mean']:>+6.3f}  "
            f"[{gain['low']:+.3f}, {gain['high']:+.3f}]    {found['num_images']:>7,}  {found['seconds']:.0f}",
            flush=True,
        )
    above = sum(gain["low"] > 0 for gain in gains)
    median = statistics.median(gain["mean"] for gain in gains)
    print(f"median gain {median:+.3f}; lower end above 0 in {above} of {len(gains)}")


if __name__ == "__main__":
    main()
