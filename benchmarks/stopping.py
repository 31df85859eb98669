"""Images saved and gain lost by stopping early: runs to the end of a budget, and the check at which a rule stops each.

    python benchmarks/stopping.py [--seeds 10] [--images 12000] [--knobs 57] [--protocols adaptive] [--every 4]

The runs are on the simulated reward, whose expected score is known exactly; seeds share nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from searches import images_spent
from trimpot.engine.evaluation import Evaluation
from trimpot.engine.loop import calibrate
from trimpot.engine.stopping import plateau
from trimpot.engine.watcher import Watcher
from trimpot.setup.assembly import assemble
from trimpot.setup.config import DEFAULT_PROTOCOL, load_config
from trimpot.setup.plugins import plugins
from trimpot.setup.recorded import record_of
from trimpot.storage import SqliteStore

PATIENCES = (3, 4, 6, 8, 12)


def run(
    knobs: int, images: int, protocol: str, every: int, seed: int
) -> tuple[list[Evaluation], list[int], list[float]]:
    """Return the evaluation, the images of the search and the exact gain at every check of one run."""
    config = load_config(
        {
            "adapter": {"name": "simulated", "num_knobs": knobs, "world": seed},
            "objectives": "value",
            "prompts": "numbers",
            "protocol": protocol,
            "generations": 10_000,
            "budget": {"images": images},
            "validation": {"num_prompts": 64, "every": every, "patience": 10_000},
            "test": {"num_prompts": 2},
            "seed": seed,
        }
    )
    assembled = assemble("", config, plugins())
    with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder)) as store:
        identity = store.add_run("stopping", assembled.identity, config.model_dump(mode="json"), {})
        outcome = calibrate(replace(assembled, id=identity), store, Watcher())
        record = record_of(store.run(identity), store.evaluations(identity))
    spent = images_spent(record.evaluations.items(), outcome.num_generations)
    space, adapter = assembled.adapter.space, assembled.adapter
    vectors = np.stack([space.to_vector(check.setting) for check in record.checks])
    gains = adapter.exact(vectors) - adapter.exact(space.defaults[None])
    return list(record.judged.values()), [spent[number] for number in record.judged], [float(gain) for gain in gains]


def main() -> None:
    """Print medians and quartiles over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--knobs", type=int, default=57)
    parser.add_argument("--every", type=int, default=4, help="generations between two checks")
    parser.add_argument("--protocols", nargs="+", default=[DEFAULT_PROTOCOL])
    given = parser.parse_args()
    for protocol in given.protocols:
        runs = [run(given.knobs, given.images, protocol, given.every, seed) for seed in range(given.seeds)]
        print(
            f"\n{protocol}, {given.seeds} runs of {given.images:,} images on the simulated reward, "
            f"{given.knobs} knobs, a check every {given.every} generations"
        )
        report(runs)


def report(runs: list[tuple[list[Evaluation], list[int], list[float]]]) -> None:
    """Print a line for every value of `patience`."""
    print("patience  images saved        share of the final gain lost")
    for patience in PATIENCES:
        saved, lost = [], []
        for judged, spent, gains in runs:
            values, prompts = [each.values for each in judged], judged[0].bucket.prompts
            checks = range(1, len(values) + 1)
            stop = next((k for k in checks if plateau(values[:k], prompts, patience, 0.1)), len(values))
            scores = [float(each.mean()) for each in values]
            chosen, final = int(np.argmax(scores[:stop])), int(np.argmax(scores))
            saved.append(1 - spent[stop - 1] / spent[-1])
            lost.append(1 - gains[chosen] / gains[final])
        print(f"{patience:8}  {_quartiles(saved)}   {_quartiles(lost)}")


def _quartiles(values: list[float]) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:5.0%} [{low:4.0%}, {high:4.0%}]"


if __name__ == "__main__":
    main()
