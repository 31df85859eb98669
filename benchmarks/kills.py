"""Runs killed with SIGKILL at random moments and resumed: every digest must be equal.

    python benchmarks/kills.py shapes [--kills 20] [--seed 0] [--workers 2]
    python benchmarks/kills.py fast [--kills 200] [--seed 0]

`shapes` kills short runs of the shipped model, each started from the command line; with `--workers`, it kills the
driver of that many worker processes. `fast` kills runs of a closed-form backbone under five searches, each in a process
forked after everything is imported. Every run has a store of its own, so that it cannot find another run's results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHORT = [
    "generations=4",
    "optimizer.population_size=8",
    "bucket_size=6",
    "validation.num_prompts=16",
    "validation.every=2",
    "test.num_prompts=16",
    "by_steps.steps=[]",
]
SEARCHES: dict[str, dict[str, Any]] = {
    "the default": {},
    "cma-es": {"optimizer": "cma-es", "bucket_size": 4},
    "random": {"optimizer": "random", "bucket_size": 4},
    "nevergrad DE": {"optimizer": {"name": "nevergrad:DE", "population_size": 12}, "bucket_size": 4},
    "nevergrad PSO": {"optimizer": {"name": "nevergrad:PSO", "population_size": 12}, "bucket_size": 4},
}
FAST = {
    "adapter": {"name": "sphere", "num_knobs": 57},
    "objectives": "value",
    "prompts": "numbers",
    "generations": 12,
    "validation": {"num_prompts": 16, "every": 3},
    "test": {"num_prompts": 16},
}


def trimpot(*arguments: str) -> subprocess.Popen[bytes]:
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trimpot", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def digest_of(store: str, run: str) -> str:
    """Return the digest of a finished run."""
    found = json.loads(trimpot("show", run, "--json", "--store", store).communicate()[0])
    assert found["status"] == "finished", found["status"]
    return str(found["digest"])


def shapes(folder: Path, kills: int, moments: random.Random, workers: int) -> int:
    """Kill and resume runs of the shipped model; return how many ended at the digest of an undisturbed run."""
    begin = ["calibrate", "shapes", *SHORT]
    store = str(folder / "undisturbed")
    begun = time.monotonic()
    trimpot(*begin, "workers=1", "--store", store).communicate()
    length = time.monotonic() - begun
    expected = digest_of(store, "shapes-1")
    print(f"undisturbed: {length:.1f} s, digest {expected}", flush=True)
    begin += [f"workers={workers}"]
    equal = 0
    for number in range(kills):
        store = str(folder / str(number))
        process = trimpot(*begin, "--store", store)
        moment = moments.uniform(0, length)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        resumed = trimpot("resume", "--store", store)
        if resumed.wait() != 0:  # killed before the run began, so nothing can be resumed
            trimpot(*begin, "--store", store).communicate()
        resumed.communicate()
        found = digest_of(store, "shapes-1")
        equal += found == expected
        print(f"killed after {moment:5.1f} s: digest {found}", flush=True)
    return equal


def fast(folder: Path, kills: int, moments: random.Random) -> int:
    """Kill and resume runs on the closed form, under each search in turn."""
    from trimpot.ground.errors import StoreError
    from trimpot.runs.results import summary
    from trimpot.runs.session import resume, start
    from trimpot.setup.config import load_config
    from trimpot.storage import SqliteStore

    def told(store: Path) -> str:
        with SqliteStore(store, create=False) as opened:
            [row] = opened.runs()
            assert row.status == "finished", row.status
            return str(summary(opened, row)["digest"])

    def begin_or_go_on(store: Path, config: Any) -> None:
        try:
            with SqliteStore(store, create=False) as opened:
                rows = opened.runs()
        except StoreError:  # killed before the store existed
            rows = []
        if not rows:
            start(config, store)
        elif rows[0].status != "finished":
            resume(None, store)

    known: dict[str, tuple[str, float]] = {}
    equal, landed = 0, 0
    for number, name in zip(range(kills), itertools.cycle(SEARCHES), strict=False):
        config = load_config({**FAST, **SEARCHES[name]})
        if name not in known:
            begun = time.monotonic()
            _forked(lambda config=config, name=name: start(config, folder / name), None)
            known[name] = told(folder / name), time.monotonic() - begun
            print(f"{name}: undisturbed {known[name][1]:.1f} s, digest {known[name][0]}", flush=True)
        store, (expected, length) = folder / str(number), known[name]
        landed += _forked(lambda config=config, store=store: start(config, store), moments.uniform(0, length))
        _forked(lambda config=config, store=store: begin_or_go_on(store, config), None)
        equal += told(store) == expected
    print(f"{landed} of the kills came before the run had ended")
    return equal


def _forked(work: Callable[[], object], seconds: float | None) -> bool:
    """Do work in a process of its own, kill it after some seconds, and return whether it was killed."""
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    if seconds is None:
        assert os.waitpid(child, 0)[1] == 0, "it failed"
        return False
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] != 0


def main() -> None:
    """Kill and resume runs, and print how many digests are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["shapes", "fast"], default="shapes")
    parser.add_argument("--kills", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    moments, kills = random.Random(given.seed), given.kills or {"shapes": 20, "fast": 200}[given.what]
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "fast":
            equal = fast(Path(folder), kills, moments)
        else:
            equal = shapes(Path(folder), kills, moments, given.workers)
    print(f"{equal} of {kills} digests equal")


if __name__ == "__main__":
    main()
