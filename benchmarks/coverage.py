"""How often the 95 % interval of a gain holds the true gain, by number of prompts and shape of the scores.

    python benchmarks/coverage.py [--trials 2000]

Each simulated comparison has 256 images of a given number of prompts; the differences have equal variance between
prompts and within them. `by image` treats the images as independent of each other, which they are not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from trimpot.engine.statistics import paired_gain

NUM_IMAGES = 256
COUNTS = (5, 10, 20, 34, 50, 256)
SHAPES: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "normal": lambda generator, size: generator.normal(size=size),
    "skewed": lambda generator, size: generator.exponential(size=size) - 1,
    "graded": lambda generator, size: generator.choice([0.0, 0.25, 0.5, -0.25], size, p=[0.6, 0.2, 0.1, 0.1]) - 0.075,
}


def coverage(count: int, shape: str, trials: int, *, by_image: bool = False) -> float:
    """Return the share of trials in which the interval of a gain holds the true gain, 0.

    Args:
        count: Number of different prompts among the images.
        shape: The distribution of the differences.
        trials: Number of simulated comparisons.
        by_image: Whether every image counts as a prompt of its own.
    """
    generator, draw = np.random.default_rng(count), SHAPES[shape]
    prompts = [str(index if by_image else index % count) for index in range(NUM_IMAGES)]
    held = 0
    for _ in range(trials):
        difference = np.resize(draw(generator, count), NUM_IMAGES) + draw(generator, NUM_IMAGES)
        gain = paired_gain(difference, np.zeros(NUM_IMAGES), prompts, num_resamples=999)
        held += gain.low <= 0 <= gain.high
    return held / trials


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    print("prompts  " + "".join(f"{shape:>10}" for shape in SHAPES) + "   by image (normal)")
    for count in COUNTS:
        shares = "".join(f"{coverage(count, shape, trials):>10.1%}" for shape in SHAPES)
        print(f"{count:>7}  {shares}   {coverage(count, 'normal', trials, by_image=True):>10.1%}", flush=True)


if __name__ == "__main__":
    main()
