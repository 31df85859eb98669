"""What being watched costs a run: images a second without a page, with one reader, and with five, in turn.

    python benchmarks/watching.py [--repeats 5] [--images 3000] [--workers 2]

Every repeat begins the same search of the shipped model three times, each in a new folder: alone, beside
`trimpot watch` with one reader that listens to the run's page as a browser does, and with five, while two more load the
whole page every second. The order changes from repeat to repeat. Printed: the images a second of every run, the
medians, and the ratio to a run alone with its smallest and largest value over the repeats; and whether all runs have
one digest.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

READERS = {"alone": 0, "one reader": 1, "five readers": 5}
SEARCH = (
    "generations=100000 by_steps.steps=[] validation.num_prompts=16 validation.every=2 test.num_prompts=8 "
    "validation.patience=100000 keep=validation"
)


@contextmanager
def watched(folder: Path, readers: int) -> Iterator[None]:
    """The page of a folder in a process of its own, with so many readers in threads."""
    if not readers:
        yield
        return
    command = [sys.executable, "-m", "trimpot", "watch", "--store", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().split(" at ")[1].split()[0]
    stop = threading.Event()

    def listen() -> None:
        with (
            suppress(httpx.HTTPError),
            httpx.stream("GET", f"{address}events/run/shapes-1", trust_env=False, timeout=None) as answer,
        ):
            for _ in answer.iter_raw():
                if stop.is_set():
                    return

    def load() -> None:
        with httpx.Client(trust_env=False) as client:
            while not stop.wait(1.0):
                with suppress(httpx.HTTPError):
                    client.get(f"{address}run/shapes-1")

    work = [listen] * readers + [load] * (2 if readers > 1 else 0)
    for each in work:
        threading.Thread(target=each, daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        server.terminate()
        server.wait(10)


def run(folder: Path, images: int, workers: int, readers: int) -> tuple[float, str]:
    """Run a search; return its images a second, between its first and last evaluation, and its digest."""
    options = [*SEARCH.split(), f"budget.images={images}", f"workers={workers}"]
    with watched(folder, readers):
        command = [sys.executable, "-m", "trimpot", "calibrate", "shapes", "--store", str(folder), *options]
        subprocess.run(command, check=True, capture_output=True)
    from trimpot.storage import SqliteStore

    with SqliteStore(folder, create=False) as store:
        recorded = [each for each in store.history("shapes-1") if each.place.stage in ("search", "validation")]
        first, last = (datetime.datetime.fromisoformat(recorded[at].when) for at in (0, -1))
        made = sum(each.evaluation.num_images for each in recorded[1:])
        return made / (last - first).total_seconds(), str(store.totals("shapes-1")["digest"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    speeds: dict[str, list[float]] = {name: [] for name in READERS}
    digests = set()
    for repeat in range(asked.repeats):
        names = list(READERS)
        names = names[repeat % 3 :] + names[: repeat % 3]
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                speed, digest = run(Path(folder) / "runs", asked.images, asked.workers, READERS[name])
            speeds[name].append(speed)
            digests.add(digest)
            print(f"repeat {repeat + 1}, {name}: {speed:.2f} images a second", flush=True)
    for name, found in speeds.items():
        ratios = [one / alone for one, alone in zip(found, speeds["alone"], strict=True)]
        print(
            f"{name:>12}: median {statistics.median(found):.2f} images a second; ratio to alone "
            f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"
        )
    print(json.dumps({"digests": sorted(digests), "speeds": speeds}))
    if len(digests) > 1:
        sys.exit("being watched has changed a run")


if __name__ == "__main__":
    main()
