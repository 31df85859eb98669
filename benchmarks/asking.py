"""The cost of a searcher itself: ask + tell of a generation, as a share of the time to generate its images.

    python benchmarks/asking.py [--knobs 57 114 216 482] [--generations 60]

The images are those of the shipped model at 4 steps, the cheapest of all backbones. Their rate is measured in the same
run on one core, like the searchers. Searchers are told noisy values of a sphere. Times are medians over generations; a
generation has `images` images, with the adaptive bucket at its smallest.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from trimpot.engine.bucket import draw_bucket
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config, protocols
from trimpot.setup.plugins import plugins

SEARCHERS = {
    **{name: [f"protocol={name}"] for name in protocols()},
    "nevergrad:DiagonalCMA": ["optimizer.name=nevergrad:DiagonalCMA", "bucket_size=16"],
    "nevergrad:TwoPointsDE": ["optimizer.name=nevergrad:TwoPointsDE", "bucket_size=16"],
}


def seconds_an_image(repeats: int = 5) -> float:
    """Measure the seconds to generate an image, in batches of the size that a run uses."""
    run = assemble("", load_config("shapes"), plugins())
    bucket = draw_bucket(run.prompts.train, 16, 0, 0)
    run.adapter.prepare(bucket.prompts)
    population = np.stack([run.adapter.space.defaults] * max(1, run.adapter.outputs_per_call // len(bucket)))
    seconds = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        list(run.adapter.generate(population, bucket))
        seconds.append((time.perf_counter() - begun) / (len(population) * len(bucket)))
    return float(np.median(seconds[1:]))


def asking(name: str, num_knobs: int, generations: int) -> tuple[float, int]:
    """Return the median seconds of ask + tell, and the images of a generation."""
    space = KnobSpace([Knob(f"knob.{number:03d}", low=-1, high=2, default=1) for number in range(num_knobs)])
    config = load_config(
        {
            "adapter": {"name": "simulated", "num_knobs": num_knobs},
            "objectives": "value",
            "prompts": "numbers",
            "optimizer": "cma-es",
        },
        SEARCHERS[name],
    )
    part, generator = config.optimizer, np.random.default_rng(0)
    optimizer = plugins().make("optimizers", part.name, part.options, space, start=space.defaults, seed=0)
    seconds, size = [], 0
    for _ in range(generations):
        begun = time.perf_counter()
        population = optimizer.ask()
        asked = time.perf_counter() - begun
        size = len(population)
        fitness = -np.square(population - 0.8).sum(axis=1) + generator.standard_normal(size)
        begun = time.perf_counter()
        optimizer.tell(population, fitness)
        seconds.append(asked + time.perf_counter() - begun)
    return float(np.median(seconds)), size * config.bucket_size


def main() -> None:
    """Print a line for every searcher and number of knobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--knobs", type=int, nargs="+", default=[57, 114, 216, 482], choices=[57, 76, 114, 216, 482])
    parser.add_argument("--generations", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rate = seconds_an_image()
    print(f"generating: {rate * 1e3:.1f} ms an image\n")
    print(f"{'knobs':>5}  {'searcher':<22} {'ask + tell':>10}  {'images':>6}  {'generating':>10}  share")
    with threadpool_limits(limits=1):
        for num_knobs in options.knobs:
            for name in SEARCHERS:
                seconds, images = asking(name, num_knobs, options.generations)
                print(
                    f"{num_knobs:>5}  {name:<22} {seconds * 1e3:>7.1f} ms  {images:>6}  {rate * images:>8.1f} s  "
                    f"{seconds / (rate * images):.2%}"
                )


if __name__ == "__main__":
    main()
