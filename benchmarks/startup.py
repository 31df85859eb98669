"""The time to start: seconds of `import trimpot`, `trimpot --help` and a completion, medians of fresh processes.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

RUNS = 9


COMPLETING = {"_TRIMPOT_COMPLETE": "complete_bash", "COMP_WORDS": "trimpot show ", "COMP_CWORD": "2"}


def seconds(*command: str, environment: dict[str, str]) -> float:
    """Return the wall time of one process."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    return time.perf_counter() - begun


def main() -> None:
    """Measure alternately, so that a change of the machine's speed affects all equally."""
    commands = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "import trimpot": (sys.executable, "-c", "import trimpot"),
        "trimpot --help": (sys.executable, "-m", "trimpot", "--help"),
        "completion": (
            sys.executable,
            "-c",
            "import sys; sys.argv = ['trimpot']; from trimpot.cli import main; main()",
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS + 1):  # the first round warms the file cache
        for name, command in commands.items():
            times[name].append(seconds(*command, environment=COMPLETING if name == "completion" else {}))
    for name, measured in times.items():
        print(f"{name:<16} {statistics.median(measured[1:]):.3f} s")


if __name__ == "__main__":
    main()
