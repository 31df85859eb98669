"""The held-out prompts and seeds of an analysis: the same prompts with several seeds each."""

from __future__ import annotations

import numpy as np

from ..engine.bucket import Bucket
from ..engine.run import Run
from ..ground.errors import ConfigError


def test_buckets(run: Run, num_seeds: int, num_prompts: int | None = None) -> list[Bucket]:
    """Return a bucket for each seed, all with the same test prompts.

    The first is the run's own test bucket (or, with `num_prompts`, its beginning, as at other numbers of steps), so
    that what any run or analysis of the store has measured there is found. A further seed adds a bucket and changes
    none before it.

    Args:
        run: The run whose configuration says which prompts, how many, and how seeds are drawn.
        num_seeds: The number of buckets.
        num_prompts: Takes the first outputs of the test bucket only.

    Raises:
        ConfigError: If the backbone uses no seed, and more than one is asked for.
    """
    if num_seeds > 1 and not run.adapter.uses_seed:
        name = run.config.adapter.name
        raise ConfigError(f"adapter {name!r} uses no seed, so a prompt has one output only; give seeds=1")
    own = run.test_bucket
    if num_prompts is not None:
        own = own.head(num_prompts * run.config.seeds_per_prompt)
    others = []
    for number in range(1, num_seeds):
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((run.config.test.seed, 0, number))))
        seeds = generator.integers(0, 2**31, size=len(own))
        others.append(Bucket(own.prompts, tuple(int(seed) for seed in seeds)))
    return [own, *others]
