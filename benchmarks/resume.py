"""The time to replay a long run to its end and to show it, and a comparison with Optuna's SQLite storage.

    python benchmarks/resume.py [--generations 2280] [--knobs 216] [--trials 100]

A run is recorded on a closed-form space and stopped before its test. By default it is as long as the paper's longest:
2,280 generations of 20 candidates with 216 knobs on 16 prompts, 45,600 evaluations and 730,000 scores. Resuming it
generates nothing of the search again. Only the last lines need Optuna: pip install optuna
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Evaluation, Place
from trimpot.engine.knobs import Setting
from trimpot.engine.run import Run
from trimpot.engine.watcher import Watcher
from trimpot.runs.results import summary
from trimpot.runs.session import resume, start
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore

BUCKET = Bucket(tuple(f"number {number}" for number in range(16)), tuple(range(16)))


class Stopped(Watcher):
    """A watcher that stops a run when its search is done."""

    def stage_started(self, run: Run, stage: str) -> None:
        """See `Watcher.stage_started`."""
        if stage == "test":
            raise KeyboardInterrupt


class Clock(Watcher):
    """A watcher that notes the time when the test begins."""

    replayed = (0.0, 0.0)

    def stage_started(self, run: Run, stage: str) -> None:
        """See `Watcher.stage_started`."""
        if stage == "test" and not self.replayed[0]:
            self.replayed = _now()


@contextlib.contextmanager
def said(what: str) -> Iterator[None]:
    """Print the wall and CPU time that a `with` block takes."""
    begun = _now()
    yield
    _print(what, begun, _now())


def _now() -> tuple[float, float]:
    """Return wall and CPU time in seconds."""
    return time.perf_counter(), time.process_time()


def _print(what: str, begun: tuple[float, float], ended: tuple[float, float]) -> None:
    wall, cpu = (end - begin for begin, end in zip(begun, ended, strict=True))
    print(f"{what:<44}{wall:8.2f} s{cpu:8.2f} s of CPU time", flush=True)


def long_run(folder: Path, generations: int, knobs: int) -> None:
    """Record a run up to its test, resume it, and show it."""
    config = {
        "adapter": {"name": "sphere", "num_knobs": knobs},
        "objectives": "value",
        "prompts": "numbers",
        "optimizer": {"name": "cma-es", "population_size": 20},
        "generations": generations,
        "bucket_size": len(BUCKET),
        "validation": {"num_prompts": 64, "every": 4, "patience": 10_000},
        "test": {"num_prompts": 256},
    }
    with said("recorded, up to the test"), contextlib.suppress(KeyboardInterrupt):
        start(load_config(config), folder, (Stopped(),))
    with SqliteStore(folder, create=False) as store:
        [row] = store.runs()
        with said("show, unfinished"):
            before = summary(store, row)
    clock, begun = Clock(), _now()
    resume(row.id, folder, (clock,))
    _print("resumed: all generations replayed", begun, clock.replayed)
    _print("resumed: the test, totals and the report", clock.replayed, _now())
    with SqliteStore(folder, create=False) as store:
        row = store.run(row.id)
        with said("show, finished"):
            after = summary(store, row)
        with said("everything read"):
            scores = sum(each.num_images for _, each in store.evaluations(row.id))
        size = store.path.stat().st_size
    assert after["num_evaluations"] == before["num_evaluations"] + 2
    each = size / after["num_evaluations"]
    print(
        f"{after['num_evaluations']:,} evaluations, {scores:,} scores: {size / 2**20:.1f} MiB, {each:,.0f} bytes each"
    )


def beside_optuna(folder: Path, knobs: int, trials: int) -> None:
    """Write and read the same settings and scores, one commit each, with this store and with Optuna's."""
    try:
        import optuna
    except ImportError:
        print("Optuna is not installed, so its storage is not measured; install it with: pip install optuna")
        return
    import numpy as np

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    generator = np.random.default_rng(0)
    settings = [
        {f"knob.{index:03d}": float(value) for index, value in enumerate(row)}
        for row in generator.uniform(-1, 2, (trials, knobs))
    ]
    scores = generator.standard_normal((trials, len(BUCKET))).tolist()
    values = trials * (knobs + len(BUCKET))

    url = f"sqlite:///{folder / 'optuna.sqlite'}"
    study = optuna.create_study(storage=url, direction="maximize")
    distributions = {name: optuna.distributions.FloatDistribution(-1.0, 2.0) for name in settings[0]}
    begun = time.perf_counter()
    for setting, each in zip(settings, scores, strict=True):
        attributes, fitness = {"scores": each}, float(np.mean(each))
        study.add_trial(
            optuna.trial.create_trial(params=setting, distributions=distributions, user_attrs=attributes, value=fitness)
        )
    written = time.perf_counter()
    loaded = optuna.load_study(study_name=study.study_name, storage=url)
    assert [trial.params for trial in loaded.get_trials()] == settings
    read = time.perf_counter()
    theirs = values / (written - begun), values / (read - written)

    spent, begun = _recorded(folder / "trimpot", settings, scores), time.perf_counter()
    with SqliteStore(folder / "trimpot", create=False) as store:
        assert [each.setting for _, each in store.evaluations("ours-1")] == settings
    ours = values / spent, values / (time.perf_counter() - begun)
    for what, mine, other in zip(("written", "read"), ours, theirs, strict=True):
        print(f"values {what} a second:{mine:14,.0f} here,{other:12,.0f} by Optuna's storage: x {mine / other:.1f}")


def _recorded(folder: Path, settings: list[Setting], scores: list[list[float]]) -> float:
    """Record settings one by one, and return the seconds taken."""
    with SqliteStore(folder) as store:
        run = store.add_run("ours", "identity", {}, {})
        with store.working_on(run):
            begun = time.perf_counter()
            for number, (setting, each) in enumerate(zip(settings, scores, strict=True)):
                evaluation = Evaluation(setting, BUCKET, None, {"value": tuple(each)}, {})
                store.record(run, [(Place("search", number, 0), f"{number:016x}", evaluation)])
            return time.perf_counter() - begun


def main() -> None:
    """Print seconds, sizes and rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generations", type=int, default=2280)
    parser.add_argument("--knobs", type=int, default=216)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    with tempfile.TemporaryDirectory() as folder:
        long_run(Path(folder) / "long", options.generations, options.knobs)
        beside_optuna(Path(folder), options.knobs, options.trials)


if __name__ == "__main__":
    main()
