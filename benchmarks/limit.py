"""What no search by mirrored pairs can beat: the images of an oracle that knows the shape of the reward.

    python benchmarks/limit.py [--knobs 57 114 216 482] [--variants default bounded] [--steps 0.03 0.1 0.15 0.25]
        [--seeds 10]

The derivation is in docs/limit.md. The oracle scores mirrored pairs, each on one prompt and one seed, whose steps have
the same standard deviation along every knob; it knows the curvature of the expected score at the best setting and the
prior of the best setting, and uses all information of every pair. Measured half way to the best setting: `noise`, the
standard deviation of half the difference of a pair over prompts and seeds; `seen`, the share of the slope that steps of
this length still see; `drop / half`, how far candidates score below the centre, in units of half the difference of a
pair, which is what the optimizer `grouped` steers. Further columns: thousands of images to each share of the reachable
gain. Medians of the models, quartiles in brackets.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import numpy as np
from search import PUBLISHED_IMAGES, Task, reward_of
from searches import quartiles
from trimpot.adapters.spaces import make_numbers
from trimpot.adapters.spaces.simulated import VARIANTS
from trimpot.adapters.spaces.simulation import Simulation
from trimpot.engine.bucket import draw_bucket
from trimpot.engine.knobs import Vector

SHARES = (0.7, 0.84, 0.9)
NUM_PAIRS = 200  # mirrored pairs on which noise and slope are measured


@dataclass(frozen=True)
class Pairs:
    """What mirrored pairs of one length tell about one model.

    Attributes:
        curvatures: The eigenvalues of the negative Hessian at the best setting, shape (num_knobs,).
        length: Standard deviation of a knob's step.
        noise: Variance of half the difference of a pair, over prompts and seeds.
        seen: The share of the slope that pairs of this length see.
        drop: The expected drop of a candidate below the centre, in units of the root mean square of half a difference.
        gain: The reachable gain.
    """

    curvatures: Vector
    length: float
    noise: float
    seen: float
    drop: float
    gain: float

    def lost(self, images: float) -> float:
        """Return the expected share of the reachable gain that is still missing after `images` images."""
        variance = 2 * self.gain / self.curvatures.sum()  # of the prior, so that neutral lacks the whole gain
        told = images / 2 * (self.seen * self.curvatures * self.length) ** 2 / self.noise
        return float((0.5 * self.curvatures / (1 / variance + told)).sum() / self.gain)

    def images_to(self, share: float) -> float:
        """Return the images after which the expected gain is `share` of the reachable one."""
        low, high = 1.0, 1e12
        for _ in range(100):
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if self.lost(middle) > 1 - share else (low, middle)
        return high


def hessian(reward: Simulation) -> np.ndarray:
    """Return the negative Hessian of the expected score at the best setting, shape (num_knobs, num_knobs)."""
    best, size = reward.best, 1e-3
    rows = []
    for knob in range(len(best)):
        step = np.zeros(len(best))
        step[knob] = size
        rows.append((reward.slope(best - step) - reward.slope(best + step)) / (2 * size))
    found = np.stack(rows)
    return (found + found.T) / 2


def pairs_of(reward: Simulation, length: float, seed: int) -> Pairs:
    """Measure pairs of one length half way between the neutral and the best setting."""
    curved, draw = hessian(reward), np.random.default_rng(seed)
    curvatures = np.linalg.eigvalsh(curved)
    steps = length * draw.standard_normal((NUM_PAIRS, len(curved)))
    centre = (reward.space.defaults + reward.best) / 2
    pairs = [np.clip(centre + sign * steps, *reward.space.bounds) for sign in (1, -1)]
    plus, minus = (reward.exact(each) for each in pairs)
    slopes = steps @ (curved @ (reward.best - centre))
    bucket = draw_bucket(make_numbers().train, 64, seed)
    halves = np.stack([np.subtract(*reward.scores(np.stack(pair), bucket)) / 2 for pair in zip(*pairs, strict=True)])
    return Pairs(
        np.maximum(curvatures, 1e-6 * curvatures.max()),  # ripples bend a flat direction upwards
        length,
        noise=float(np.square(halves - (plus - minus)[:, None] / 2).mean()),
        seen=min(1.0, float((plus - minus) / 2 @ slopes / (slopes @ slopes))),
        drop=float((reward.exact(centre[None])[0] - (plus + minus) / 2).mean() / np.sqrt(np.square(halves).mean())),
        gain=reward.reachable_gain,
    )


def main() -> None:
    """Print a table for every number of knobs and variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--knobs", type=int, nargs="+", default=[57, 114, 216, 482], choices=sorted(PUBLISHED_IMAGES))
    parser.add_argument("--variants", nargs="+", default=["default", "bounded"], choices=[*sorted(VARIANTS), "bounded"])
    parser.add_argument("--steps", type=float, nargs="+", default=[0.03, 0.1, 0.15, 0.25])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    for num_knobs, variant in itertools.product(options.knobs, options.variants):
        print(f"\n{num_knobs} knobs, {variant}, {options.seeds} models: thousands of images to")
        heads = ("steps", "noise", "seen", "drop / half", *(f"{share:.0%}" for share in SHARES))
        print(" ".join(f"{head:<20}" for head in heads))
        rewards = [reward_of(Task("limit", num_knobs, variant, seed, 0)) for seed in range(options.seeds)]
        for length in options.steps:
            each = [pairs_of(reward, length, seed) for seed, reward in enumerate(rewards)]
            columns = [
                *([getattr(pairs, name) for pairs in each] for name in ("seen", "drop")),
                *([pairs.images_to(share) / 1e3 for pairs in each] for share in SHARES),
            ]
            cells = [quartiles((pairs.noise**0.5 for pairs in each), ".3f", np.inf)]
            cells += [quartiles(column, ".2f", np.inf) for column in columns]
            print(" ".join(f"{cell:<20}" for cell in (f"{length:g}", *cells)), flush=True)


if __name__ == "__main__":
    main()
