"""Whether every image depends on its candidate, prompt and seed alone, by pipeline and scheduler.

    python benchmarks/schedulers.py [--pipelines flux sd3]

The benchmark makes the proof that every run makes before it begins, on tiny checkpoints of the same classes. A star
marks the scheduler class of a published checkpoint. Then every scheduler class of diffusers steps a toy model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))
from scheduler_classes import class_table
from schedulers import PUBLISHED, table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipelines", nargs="*", default=list(PUBLISHED), choices=list(PUBLISHED))
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as home:
        for name, title, published, found in table(parser.parse_args().pipelines, Path(home)):
            counts[found.partition(":")[0]] += 1
            print(f"{name:<15}{'*' if published else ' '} {title:<46} {found}", flush=True)
    print(", ".join(f"{count} {what}" for what, count in counts.items()), end="\n\n")
    verdicts = dict(class_table())
    for name, found in verdicts.items():
        print(f"{name:<40} {found}")
    for what, count in Counter(verdicts.values()).most_common():
        print(f"{count} of {len(verdicts)}: {what}")


if __name__ == "__main__":
    main()
