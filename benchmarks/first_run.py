"""Where the seconds of the first command go: a run of a preset, by stage.

    python benchmarks/first_run.py [PRESET] [KEY=VALUE ...]

The run has a fresh store in a temporary folder. `wall` is the time until the last evaluation of a stage is recorded,
since the one before; `generating` and `scoring` are the workers' seconds in it, which pass at the same time. `start`
holds what comes before the first evaluation: the workers' processes with their imports, and the model. CPU time is
printed too, because a busy machine changes it least.
"""

from __future__ import annotations

import time

BEGUN = time.perf_counter()

import argparse  # noqa: E402  # the imports are part of what is measured
import resource  # noqa: E402
import tempfile  # noqa: E402
from collections import Counter  # noqa: E402
from pathlib import Path  # noqa: E402

from trimpot.engine.evaluation import Evaluation, Place  # noqa: E402
from trimpot.engine.run import Run  # noqa: E402
from trimpot.engine.watcher import Watcher  # noqa: E402
from trimpot.runs.results import summary  # noqa: E402
from trimpot.runs.session import start  # noqa: E402
from trimpot.setup.config import load_config  # noqa: E402
from trimpot.storage import SqliteStore  # noqa: E402

STAGES = ("import", "start", "baseline", "search", "checks", "test", "by steps", "report")


def stage_of(place: Place) -> str:
    """Return the row of the table that an evaluation belongs to."""
    if place.stage in ("baseline", "test") and place.generation > 0:
        return "by steps"
    return "checks" if place.stage == "validation" else place.stage


class Clock(Watcher):
    """Adds up the time between recorded evaluations by stage."""

    def __init__(self) -> None:
        self.wall: Counter[str] = Counter()
        self.generating: Counter[str] = Counter()
        self.scoring: Counter[str] = Counter()
        self.images: Counter[str] = Counter()
        self._last = BEGUN

    def passed(self, stage: str) -> None:
        """Count the time since the last call for a stage."""
        now = time.perf_counter()
        self.wall[stage] += now - self._last
        self._last = now

    def stage_started(self, run: Run, stage: str) -> None:
        """See `Watcher.stage_started`."""
        if "start" not in self.wall:
            self.passed("start")

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        """See `Watcher.evaluation_recorded`."""
        stage = stage_of(place)
        self.passed(stage)
        self.generating[stage] += evaluation.generate_seconds
        self.scoring[stage] += evaluation.score_seconds
        self.images[stage] += len(evaluation.bucket)


def cpu_seconds(whose: int) -> float:
    """Return the CPU time of this process, or of its finished children."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the preset once and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("preset", nargs="?", default="shapes")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    clock = Clock()
    config = load_config(options.preset, options.overrides)
    clock.passed("import")
    with tempfile.TemporaryDirectory() as folder:
        name = start(config, Path(folder), (clock,))
        clock.passed("report")
        with SqliteStore(Path(folder)) as store:
            found = summary(store, store.run(name))
    total = sum(clock.wall.values())
    print(f"{'stage':<9}  {'wall':>6}  {'share':>5}  {'images':>6}  {'generating':>10}  {'scoring':>7}")
    for stage in STAGES:
        made = f"{clock.images[stage]:>6,}  {clock.generating[stage]:>10.1f}  {clock.scoring[stage]:>7.1f}"
        made = made if clock.images[stage] else ""
        print(f"{stage:<9}  {clock.wall[stage]:>6.1f}  {clock.wall[stage] / total:>5.0%}  {made}".rstrip())
    print(f"{'all':<9}  {total:>6.1f}  {'':>5}  {clock.images.total():>6,}")
    gain = found["gain"]
    own, workers = map(cpu_seconds, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"CPU seconds: {own:.1f} of this process, {workers:.1f} of its workers")
    print(f"gain {gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}], digest {found['digest']}")


if __name__ == "__main__":
    main()
