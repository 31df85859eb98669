"""The alarm on the shapes preset: planted hacks must raise it, honest runs must not.

    python benchmarks/alarm.py [--seeds 10] [--first 0] [--store DIR] [KEY=VALUE ...]

A planted hack is a run whose reward pays for darkness or for bytes; its search has a large first step so that it
succeeds. For every run, the benchmark prints the largest movement of each watched score, in standard deviations between
neutral outputs, over the checks at which the optimised score had risen. The thresholds of `engine.alarm` lie between
the movements of honest and of hacked runs. With --store, an interrupted benchmark goes on where it stopped. Keys after
the options change the configuration of every run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from trimpot.engine.alarm import LARGE, RISE, Watch, standardised
from trimpot.engine.hooks import hookimpl
from trimpot.engine.seams import Objective
from trimpot.engine.statistics import is_better
from trimpot.runs.session import resume, start
from trimpot.setup.assembly import STATISTICS
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins
from trimpot.setup.recorded import record_of
from trimpot.storage import SqliteStore

SMALL = [
    "generations=8",
    "optimizer.population_size=16",
    "optimizer.mirrored=false",
    "group_size=null",
    "bucket_size=8",
    "validation.num_prompts=48",
    "validation.every=2",
    "test.num_prompts=16",
    "by_steps.steps=[]",
    "adapter.guidance_grid=[3]",
    "adapter.granularity=block",
    "adapter.batch_size=256",
    "workers=1",  # this process, which knows the planted objective
]
HACKS = {
    "darkness": ["objectives={darkness: {}}", "optimizer.sigma0=0.3"],
    "darkness, the prompt watched": ["objectives={darkness: {}, shapes: {weight: 0}}", "optimizer.sigma0=0.3"],
    "bytes": ["objectives=jpeg-size", "optimizer.sigma0=0.3"],
}


class Darkness(Objective):
    """A reward that pays for dark pixels."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> np.ndarray:
        """Return one minus the mean luma of each image."""
        return np.array([1 - np.asarray(picture.convert("L")).mean() / 255 for picture in outputs])


class Planted:
    """The plugin of the objective `darkness`."""

    @hookimpl
    def register_objectives(self, register: Any) -> None:
        """Register the objective."""

        def make() -> Objective:
            return Darkness()

        register("darkness", make)


def main() -> None:
    """Run the hacks, then the honest seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--first", type=int, default=0, help="the first honest seed; thresholds were set on seeds up to 10"
    )
    parser.add_argument("--store", type=Path)
    options = parser.parse_intermixed_args()
    plugins().add(Planted(), name="planted", origin="benchmarks")
    with tempfile.TemporaryDirectory() as temporary:
        folder, common = options.store or Path(temporary), [*SMALL, *options.overrides]
        names = [*STATISTICS, "shapes"]
        print(f"{'':<34}{'gain':>7}  " + "".join(f"{name:>14}" for name in names) + "  alarms")
        for title, overrides in HACKS.items():
            _report(f"pays for {title}", *_run(folder, [*common, *overrides]))
        most, flagged = dict.fromkeys(STATISTICS, 0.0), 0
        for seed in range(options.first, options.first + options.seeds):
            own = [f"seed={seed}", f"validation.seed={100 + seed}"]
            gain, moved, alarms = _run(folder, [*common, *own])
            _report(f"honest, seed {seed}", gain, {name: moved[name] for name in STATISTICS}, alarms)
            flagged += bool(alarms)
            most = {name: max(most[name], moved[name], key=abs) for name in most}
        print(f"{'the most of any honest run':<43}" + "".join(f"{value:>+14.2f}" for value in most.values()))
        print(f"{flagged} of {options.seeds} honest runs flagged; {LARGE['moves']:g} is allowed")


def _run(folder: Path, overrides: list[str]) -> tuple[float, dict[str, float], list[str]]:
    """Return a run's gain on test prompts, the largest movement of each score, and the scores its alarms name."""
    config = load_config("shapes", overrides)
    with SqliteStore(folder) as store:
        done = next((row for row in store.runs() if row.config == config.model_dump(mode="json")), None)
    run_id = start(config, folder) if done is None else resume(done.id, folder)
    with SqliteStore(folder) as store:
        row = store.run(run_id)
        record = record_of(row, store.evaluations(run_id))
    neutral = record.neutral
    assert neutral is not None and row.outcome is not None
    risen = [
        check for check in record.judged.values() if is_better(check.values, neutral.values, check.bucket.prompts, RISE)
    ]
    moved = {}
    for name, scores in neutral.scores.items():
        kind: Watch = "moves" if name in STATISTICS else "falls"
        changes = [standardised(np.array(scores), np.array(check.scores[name]), kind) for check in risen]
        moved[name] = max(changes, key=abs, default=0.0)
    alarms = [alarm.objective for alarm in record.alarms]
    return row.outcome["comparisons"][0]["gain"]["mean"], moved, alarms


def _report(title: str, gain: float, moved: dict[str, float], alarms: list[str]) -> None:
    cells = "".join(f"{moved[name]:>+14.2f}" if name in moved else f"{'':>14}" for name in [*STATISTICS, "shapes"])
    print(f"{title:<34}{gain:>+7.3f}  {cells}  {', '.join(alarms) or 'none'}", flush=True)


if __name__ == "__main__":
    main()
