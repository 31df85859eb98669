"""A short run of the shapes preset, killed with SIGKILL at random moments and resumed: every digest must be equal.

    python benchmarks/kills.py [--kills 20] [--seed 0]

Each killed run has a store of its own, so nothing is found that another run left.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHORT = [
    "generations=4",
    "optimizer.population_size=8",
    "bucket_size=6",
    "validation.num_prompts=16",
    "validation.every=2",
    "test.num_prompts=16",
    "by_steps.steps=[]",
]


def trimpot(*arguments: str) -> subprocess.Popen[bytes]:
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trimpot", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def digest_of(store: str, run: str) -> str:
    """The digest of a run."""
    found = json.loads(trimpot("show", run, "--json", "--store", store).communicate()[0])
    assert found["status"] == "finished", found["status"]
    return str(found["digest"])


def main() -> None:
    """Measure an undisturbed run, then kill and resume."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "undisturbed")
        begun = time.monotonic()
        trimpot("calibrate", "shapes", *SHORT, "--store", store).communicate()
        length = time.monotonic() - begun
        expected = digest_of(store, "shapes-1")
        print(f"undisturbed: {length:.1f} s, digest {expected}", flush=True)
        equal = 0
        for number in range(options.kills):
            store = str(Path(folder) / str(number))
            process = trimpot("calibrate", "shapes", *SHORT, "--store", store)
            moment = moments.uniform(0, length)
            try:
                process.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            process.communicate()
            resumed = trimpot("resume", "--store", store)
            if resumed.wait() != 0:  # killed before the run had begun: there is nothing to resume
                trimpot("calibrate", "shapes", *SHORT, "--store", store).communicate()
            resumed.communicate()
            found = digest_of(store, "shapes-1")
            equal += found == expected
            print(f"killed after {moment:5.1f} s: digest {found}", flush=True)
    print(f"{equal} of {options.kills} digests equal")


if __name__ == "__main__":
    main()
