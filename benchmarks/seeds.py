"""A preset with several optimizer seeds: what each gains, on the same test prompts, and against more steps.

    python benchmarks/seeds.py shapes [--seeds 10] [--first 0] [--store DIR] [--done] [KEY=VALUE ...]

For each seed: the gain over the best neutral setting at the calibrated number of steps, and, for every other number of
steps that the preset compares, the difference between the calibrated setting at its own steps and the best neutral
setting at that number. Differences are paired, with 95 % intervals whose unit is the prompt. The second table gives
the medians of both sides by steps.

The runs share one store, so the images of the neutral model are generated once. A seed that the store holds is not
run again, and one that was stopped is continued, so an interrupted benchmark goes on where it stopped. `--done` prints
the seeds that have finished, and runs nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimpot.runs.results import summary
from trimpot.runs.session import resume, start
from trimpot.setup.config import Config, load_config
from trimpot.storage import SqliteStore
from trimpot.storage.runs import RunRow

NO_MATTER = ("name", "protocol", "keep", "workers")  # keys that change no number; see `engine.identity`


def same(row: RunRow, config: Config) -> bool:
    """Return whether a run of the store has a configuration, except for keys that change no number."""
    wanted = config.model_dump(mode="json")
    return all(row.config.get(key) == value for key, value in wanted.items() if key not in NO_MATTER)


def finished(config: Config, folder: Path, *, only_done: bool) -> Mapping[str, Any] | None:
    """Return the summary of a configuration's run, which is run or continued first unless `only_done`."""
    with SqliteStore(folder) as store:
        row = next((row for row in store.runs() if same(row, config)), None)
    if not only_done:
        name = start(config, folder) if row is None else resume(row.id, folder)
    elif row is None or row.outcome is None:
        return None
    else:
        name = row.id
    with SqliteStore(folder) as store:
        return summary(store, store.run(name))


def shown(gain: Mapping[str, float]) -> str:
    """Return a difference with its interval."""
    return f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


def by_steps(found: list[Mapping[str, Any]]) -> None:
    """Print the medians over the runs, by number of steps."""
    print("\nmedians  steps  neutral  calibrated    gain  calibrated at its own steps, less neutral")
    for compared in zip(*(each["outcome"]["comparisons"] for each in found), strict=True):

        def median(*path: str, compared: tuple[Any, ...] = compared) -> float:
            values = []
            for value in compared:
                for key in path:
                    value = value[key]
                values.append(value)
            return statistics.median(values)

        print(
            f"{'':7}  {compared[0]['num_steps']:>5}  {median('neutral'):>7.3f}  {median('calibrated'):>10.3f}  "
            f"{median('gain', 'mean'):>+6.3f}  {median('gain_at_calibrated_steps', 'mean'):>+6.3f}"
        )


def main() -> None:
    """Do the missing runs and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--store", type=Path, default=Path("trimpot-runs/seeds"))
    parser.add_argument("--done", action="store_true", help="print finished seeds only, and run nothing")
    options = parser.parse_intermixed_args()
    others = load_config(options.preset, options.overrides).by_steps.steps
    against = "".join(f"  {f'against neutral at {steps}':<23}" for steps in others)
    print(f"seed  {'gain':<23}{against}  {'images':>6}  seconds")
    every: list[Mapping[str, Any]] = []
    for seed in range(options.first, options.first + options.seeds):
        config = load_config(options.preset, [*options.overrides, f"seed={seed}"])
        found = finished(config, options.store, only_done=options.done)
        if found is None:
            continue
        every.append(found)
        own, *rest = found["outcome"]["comparisons"]
        differences = "".join(f"  {shown(each['gain_at_calibrated_steps']):<23}" for each in rest)
        print(
            f"{seed:>4}  {shown(own['gain']):<23}{differences}  {found['num_images']:>6,}  {found['seconds']:>7.0f}",
            flush=True,
        )
    if every:
        gains = [each["gain"] for each in every]
        above = sum(gain["low"] > 0 for gain in gains)
        median = statistics.median(gain["mean"] for gain in gains)
        print(f"median gain {median:+.3f} of {len(gains)} seeds; lower end above 0 in {above}")
        by_steps(every)


if __name__ == "__main__":
    main()
