"""The speedup by several workers, and by scoring while the next outputs are generated.

    python benchmarks/workers.py overlap [--generations 4] [--rows 8] [--seconds 0.02]
    python benchmarks/workers.py sleeping [--workers 1 2 8] [--generations 4] [--rows 4] [--seconds 0.05]
    python benchmarks/workers.py shapes [--workers 1 2] [--generations 4]
    python benchmarks/workers.py batches [--generations 4]

`overlap` and `sleeping` use a backbone and a reward that only sleep, each for some seconds per output, and the default
protocol: 57 knobs, 64 candidates a generation in groups of 8, one prompt and seed per group. `overlap` prints the wall
time of the search, and the seconds spent generating and spent scoring. `sleeping` prints how many times faster several
workers are than one, without their start, which happens once. `shapes` does the same for the shipped model with the
default protocol; there the workers share the machine's cores. Ratios compare runs of one call of this command, and all
runs must have the same digest. `batches` generates with the shipped model, alternately in jobs that hold one group of
8 rows and in jobs that hold 16 rows of any groups, and prints medians of images a second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Place
from trimpot.engine.hooks import Register, hookimpl
from trimpot.engine.jobs import Job, Piece, cut
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.seams import Adapter, Objective
from trimpot.engine.watcher import Watcher
from trimpot.engine.worker import Worker
from trimpot.runs.work import work
from trimpot.setup.assembly import assemble
from trimpot.setup.config import Config, load_config
from trimpot.setup.plugins import Plugins
from trimpot.storage import SqliteStore
from trimpot.workshops import hired


class Sleeper(Adapter):
    """A backbone that sleeps; its outputs are a quadratic function of its knobs."""

    mixes_buckets = True

    def __init__(self, seconds: float, rows: int) -> None:
        self.space = KnobSpace([Knob(f"knob.{number}") for number in range(57)])
        self.outputs_per_call, self._seconds = rows, seconds

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        """See `Adapter.generate`."""
        return self.generate_each(population, [bucket] * len(population))

    def generate_each(self, population: NDArray[np.float64], buckets: Sequence[Bucket]) -> Iterator[list[float]]:
        """See `Adapter.generate_each`."""
        time.sleep(self._seconds * sum(len(bucket) for bucket in buckets))
        for vector, bucket in zip(population, buckets, strict=True):
            yield [-float(np.square(vector - 1.1).sum()) + 1e-3 * (seed % 7) for seed in bucket.seeds]

    def describe(self) -> dict[str, Any]:
        """See `Adapter.describe`."""
        return {"id": "sleeper"}


class Sleepy(Objective):
    """A reward that sleeps and returns the output as its score."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        """See `Objective.score`."""
        time.sleep(self._seconds * len(outputs))
        return np.array(outputs)


class Sleepers:
    """The plugin of the sleeping backbone and reward."""

    @hookimpl
    def register_adapters(self, register: Register) -> None:
        """Register the backbone."""

        def sleeper(*, seconds: float, rows: int) -> Adapter:
            return Sleeper(seconds, rows)

        register("sleeper", sleeper)

    @hookimpl
    def register_objectives(self, register: Register) -> None:
        """Register the reward."""

        def sleepy(*, seconds: float) -> Objective:
            return Sleepy(seconds)

        register("sleepy", sleepy)


def known() -> Plugins:
    """Return the plugins; a worker process calls this too."""
    found = Plugins()
    found.add(Sleepers(), name="sleepers", origin="benchmarks")
    return found


class Clock(Watcher):
    """A watcher that measures the time from the end of the first generation to the end of the last."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.generating = self.scoring = 0.0

    def evaluation_recorded(self, run: Any, place: Any, evaluation: Any) -> None:
        """See `Watcher.evaluation_recorded`."""
        if place.stage == "search" and self.ends:
            self.generating += evaluation.generate_seconds
            self.scoring += evaluation.score_seconds

    def generation_told(self, run: Any, generation: int, evaluations: Any, sigma: Any) -> None:
        """See `Watcher.generation_told`."""
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Seconds from the end of the first generation to the end of the last."""
        return self.ends[-1] - self.ends[0]


def timed(config: Config) -> tuple[Clock, str]:
    """Do a run; return its clock and its digest."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder)) as store:
        with hired(config, store.keeper, known=known) as crew:
            if crew.workshop is not None:
                _wait_for_all(crew.workshop)
            run = assemble("run", config, known(), sharing=crew.parts)
            store.add_run("run", run.identity, config.model_dump(mode="json"), run.versions, run.prompts)
            object.__setattr__(run, "id", "run-1")
            work(run, store, known(), (clock,), illustrated=False, workshop=crew.workshop)
        return clock, store.totals("run-1")["digest"]


def _wait_for_all(crew: Any) -> None:
    """Wait until every worker has started."""
    begun = time.monotonic()
    while time.monotonic() - begun < 300:
        names = {future.result() for future in [crew.call("pid") for _ in range(4 * crew.width)]}
        if len(names) == crew.width:
            return
        time.sleep(0.2)


def sleeping(seconds: float, rows: int, generations: int, score_seconds: float) -> dict[str, Any]:
    """Return a configuration of the sleeping parts with the default protocol."""
    return {
        "adapter": {"name": "sleeper", "seconds": seconds, "rows": rows},
        "objectives": {"sleepy": {"seconds": score_seconds}},
        "prompts": "numbers",
        "generations": generations + 1,
        "validation": {"num_prompts": 2, "every": 1000},
        "test": {"num_prompts": 2},
    }


def batches(rounds: int) -> None:
    """Print the images per second of the shipped model, in jobs of one group and in jobs of any groups."""
    config = load_config("shapes", ["adapter.batch_size=16"])
    run = assemble("", config, known())
    adapter, worker = run.adapter, Worker(run.adapter, run.objectives)
    generator = np.random.default_rng(0)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * (rounds + 1)):
        vectors = adapter.space.defaults + 0.05 * generator.standard_normal((64, len(adapter.space)))
        pieces = [
            Piece(Place("search", number, row), vector, run.bucket(number, row // 8, 1))
            for row, vector in enumerate(np.clip(vectors, *adapter.space.bounds))
        ]
        across = bool(number % 2)
        begun = time.perf_counter()
        for jobs in cut(pieces, 16, across=across, whole=False):
            for job in jobs:
                worker.generate(Job(job, None, ()))
        if number > 1:  # the first of each warms up
            seconds[across].append(time.perf_counter() - begun)
    for across, name in ((False, "8 rows, one group"), (True, "16 rows, any groups")):
        print(f"{name:>20}: {64 / float(np.median(seconds[across])):.1f} images a second")
    ratios = np.array(seconds[False]) / np.array(seconds[True])
    print(f"x {np.median(ratios):.2f} [{np.quantile(ratios, 0.25):.2f}, {np.quantile(ratios, 0.75):.2f}]")


def main() -> None:
    """Measure `overlap`, `sleeping`, `shapes` or `batches`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overlap", "sleeping", "shapes", "batches"])
    parser.add_argument("--workers", nargs="+", default=None)
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=None)
    given = parser.parse_args()
    if given.what == "batches":
        batches(given.generations)
        return
    if given.what == "overlap":
        seconds = given.seconds or 0.02
        clock, _ = timed(load_config(sleeping(seconds, given.rows or 8, given.generations, seconds)))
        larger = max(clock.generating, clock.scoring)
        print(
            f"generating {clock.generating:.2f} s, scoring {clock.scoring:.2f} s, wall {clock.seconds:.2f} s: ", end=""
        )
        print(f"{clock.seconds / larger:.2f} x the larger")
        return
    digests, first = set(), None
    for workers in given.workers or (["1", "2", "8"] if given.what == "sleeping" else ["1", "2"]):
        source: Any = (
            sleeping(given.seconds or 0.05, given.rows or 4, given.generations, 0.001)
            if given.what == "sleeping"
            else {
                **load_config("shapes").model_dump(mode="json", exclude={"optimizer", "bucket_size", "by_steps"}),
                "protocol": "grouped-cma", "generations": given.generations + 1,
                "validation": {"num_prompts": 2, "every": 1000}, "test": {"num_prompts": 2},
            }
        )  # fmt: skip
        clock, digest = timed(load_config(source, [f"workers={workers}"]))
        first = first or clock.seconds
        digests.add(digest)
        print(
            f"{workers:>4} workers: {clock.seconds:7.2f} s, x {first / clock.seconds:.2f}, digest {digest}", flush=True
        )
    if len(digests) > 1:
        raise SystemExit("the digests differ")


if __name__ == "__main__":
    main()
