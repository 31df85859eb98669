"""Would cheap images save dear ones: how alike mirrored pairs score at fewer steps, on the shipped model.

    python benchmarks/correlation.py [--granularities block layer gate] [--steps 4 20] [--cheap 2 4] [--length 0.1]
        [--pairs 400]

A search could make most images at fewer denoising steps, and use a few at the calibrated number to correct them: a
control variate. Each pair of mirrored settings is scored on one prompt and one seed at both numbers of steps.
`correlation` is that of half the difference of a pair; `cost`, the cheap image's share of the dear one's steps. If
all pairs are scored cheaply, and the best share of them dearly too, the same precision costs less by the factor
1 / (sqrt(1 - r^2) + r sqrt(c))^2 for a correlation r and a cost c (a control variate whose mean is estimated: Giles
2013, arXiv:1304.5472, section 1.1); that is `saving`, or 1 where it does not pay. `from` is the correlation
2 sqrt(c) / (1 + c) from which it pays. Intervals are 95 % bootstrap intervals over pairs.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from shapes import PRESETS, worth
from trimpot.engine.bucket import draw_bucket
from trimpot.engine.knobs import Vector
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins

RESAMPLES = 2_000


def halves(granularity: str, steps: int, length: float, num_pairs: int) -> Vector:
    """Return half the score difference of mirrored pairs about neutral, the same pairs at every number of steps."""
    config = load_config(
        "shapes", [*PRESETS["shapes"], f"adapter.granularity={granularity}", f"adapter.num_inference_steps={steps}"]
    )
    run = assemble("", config, plugins())
    space = run.adapter.space
    moves = length * space.spreads * np.random.default_rng(0).standard_normal((num_pairs, len(space)))
    points = np.clip(np.stack([space.defaults + moves, space.defaults - moves], axis=1), *space.bounds)
    buckets = [draw_bucket(run.prompts.train, 1, 0, pair) for pair in range(num_pairs) for _ in range(2)]
    made = run.adapter.generate_each(points.reshape(-1, len(space)), buckets)
    values = [worth(run, outputs, bucket) for outputs, bucket in zip(made, buckets, strict=True)]
    half: Vector = np.reshape(values, (num_pairs, 2)) @ (0.5, -0.5)
    return half


def saving(correlation: float, cost: float) -> float:
    """Return how many times less a given precision costs with cheap images, at least 1."""
    spread = math.sqrt(1 - correlation**2) + abs(correlation) * math.sqrt(cost)
    return max(1.0, spread**-2)


def main() -> None:
    """Print a row for every granularity and every two numbers of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--granularities", nargs="+", default=["block", "layer", "gate"])
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 20], help="steps that are calibrated")
    parser.add_argument("--cheap", type=int, nargs="+", default=[2, 4], help="fewer steps")
    parser.add_argument("--length", type=float, default=0.1, help="standard deviation of a knob's step, in spreads")
    parser.add_argument("--pairs", type=int, default=400)
    options = parser.parse_args()
    resamples = np.random.default_rng(0).integers(0, options.pairs, (RESAMPLES, options.pairs))
    print("knobs   steps  cheap  cost  correlation          saving  from")
    for granularity in options.granularities:
        made = {
            steps: halves(granularity, steps, options.length, options.pairs)
            for steps in sorted({*options.steps, *options.cheap})
        }
        for steps in options.steps:
            for cheap in (each for each in options.cheap if each < steps):
                correlation = float(np.corrcoef(made[steps], made[cheap])[0, 1])
                drawn = [float(np.corrcoef(made[steps][each], made[cheap][each])[0, 1]) for each in resamples]
                low, high = np.quantile(drawn, (0.025, 0.975))
                cost = cheap / steps
                pays = 2 * math.sqrt(cost) / (1 + cost)
                print(
                    f"{granularity:<7} {steps:>5}  {cheap:>5}  {cost:>4.2f}  "
                    f"{correlation:.2f} [{low:+.2f}, {high:+.2f}]  {saving(correlation, cost):>6.2f}  {pays:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
