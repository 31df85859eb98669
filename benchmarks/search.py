"""Which search saves images: methods against the published protocol, on a simulated reward of known expectation.

    python benchmarks/search.py --out DIR [--knobs 57 114] [--variants default bounded] [--methods adaptive grouped]
        [--references published "published, sigma0 0.1"] [--seeds 10] [--first-seed 0] [--processes 2] [--share 0.33]
        [--quick]

Every seed has a different model; the variant `bounded` is the second simulation, `simulated-bounded`. DIR keeps a file
per search, so an interrupted benchmark goes on where it stopped and the table can be printed again; after a change to a
searcher, use another DIR. The references are the published protocol (full covariance, one bucket of 16 prompts a
generation) with its own first step, and with the step that is best for it on other models (`--first-seed 100`). They
have the published number of images, the other methods `--share` of that number. The protocols are the shipped ones.
All images count: those of the search, and 64 of validation for every check, at the default's ever rarer checks (for a
method whose buckets grow, as many as if they did not).

Columns: `gain`, the share of the reachable gain that the last recommendation has; `saving`, how many times fewer images
than a reference a method needs until every later recommendation has the score of the reference's last mean; `to 84 %`,
images until every later recommendation has this share of the reachable gain; `chosen`, the gain lost if the best
training score chooses the result instead of the recommendation. Numbers are medians, with quartiles in brackets; a dash
means not reached.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from searches import images_to, in_processes, quartiles, with_validation
from threadpoolctl import threadpool_limits
from trimpot.adapters.spaces import make_numbers
from trimpot.adapters.spaces.bounded import BoundedReward
from trimpot.adapters.spaces.simulated import VARIANTS, SimulatedReward
from trimpot.adapters.spaces.simulation import Simulation
from trimpot.engine.bucket import draw_bucket
from trimpot.engine.bucket_sizing import BucketSizer
from trimpot.engine.schema import AdaptiveBucket
from trimpot.setup.config import load_config, protocols
from trimpot.setup.plugins import plugins

LEVELS = (0.7, 0.84, 0.9)  # shares of the reachable gain
PUBLISHED_IMAGES = {57: 51_200, 76: 104_960, 114: 276_480, 216: 729_600, 482: 221_760}


@dataclass(frozen=True)
class Method:
    """A searcher with its buckets.

    Attributes:
        optimizer: Registered name of the optimizer.
        options: Options of the optimizer.
        bucket_size: Number of prompts in a bucket; of the first bucket, if its size adapts.
        group_size: Number of candidates that share a bucket, unless the optimizer sets it; None for all.
        adaptive: The options of the adaptive bucket size, or None for a fixed size.
    """

    optimizer: str
    options: dict[str, Any] = field(default_factory=dict)
    bucket_size: int = 16
    group_size: int | None = None
    adaptive: AdaptiveBucket | None = None


def of_protocol(name: str) -> Method:
    """Return the method of a shipped protocol."""
    told = load_config({"adapter": "simulated", "objectives": "value", "prompts": "numbers", "protocol": name})
    return Method(told.optimizer.name, told.optimizer.options, told.bucket_size, told.group_size, told.adaptive_bucket)


BEST_STEP = "published, sigma0 0.05"  # of 0.25, 0.1, 0.05 and 0.03
DIAGONAL = {"diagonal": True, "mirrored": True, "sigma0": 0.1}
LARGE = {**DIAGONAL, "population_factor": 4}
METHODS = {
    **{name: of_protocol(name) for name in protocols()},
    **{
        f"published, sigma0 {step}": Method("cma-es", {**of_protocol("published").options, "sigma0": step})
        for step in (0.03, 0.05, 0.1)
    },
    "adaptive, sigma0 0.25": Method("cma-es", {**LARGE, "sigma0": 0.25}, 2, adaptive=AdaptiveBucket()),
    "adaptive, not mirrored": Method("cma-es", {**LARGE, "mirrored": False}, 2, adaptive=AdaptiveBucket()),
    "cma-es, diagonal": Method("cma-es", {"diagonal": True, "sigma0": 0.1}),
    "cma-es, diagonal mirrored": Method("cma-es", DIAGONAL),
    "grouped-cma, 64": Method("cma-es", {**DIAGONAL, "population_size": 64}, 1, group_size=8),
    "grouped-cma, 256": Method("cma-es", {**DIAGONAL, "population_size": 256}, 1, group_size=8),
    **{f"grouped, sigma0 {step}": Method("grouped", {"sigma0": step}, 1) for step in (0.02, 0.4)},
    "nevergrad DiagonalCMA": Method("nevergrad:DiagonalCMA"),
    "nevergrad TBPSA": Method("nevergrad:TBPSA", {}, 4),
}


@cache
def generation_size(method: str, num_knobs: int) -> int:
    """Return the images of a method's generation; of its first, if its buckets grow."""
    space = SimulatedReward(num_knobs).space
    made = METHODS[method]
    optimizer = plugins().make("optimizers", made.optimizer, made.options, space, start=space.defaults, seed=0)
    return len(optimizer.ask()) * made.bucket_size


@dataclass(frozen=True)
class Task:
    """One search on one model."""

    method: str
    num_knobs: int
    variant: str
    seed: int
    images: int

    @property
    def file(self) -> str:
        """The name of the task's file; it changes if the definition of the method changes."""
        return f"{self.method}-{self.num_knobs}-{self.variant}-{self.seed}-{self.images}.json".replace(" ", "_")


def reward_of(task: Task) -> Simulation:
    """Return the simulated model of a task."""
    if task.variant == "bounded":
        return BoundedReward(task.num_knobs, task.seed)
    return SimulatedReward(task.num_knobs, task.variant, task.seed)


def search(task: Task) -> dict[str, Any]:
    """Search, and evaluate the exact reward from time to time.

    Returns:
        `curve`, a list of [images, gain of the recommendation, gain of the candidate with the best training score],
        the gains as shares of the reachable gain; and `seconds`.
    """
    method, reward = METHODS[task.method], reward_of(task)
    neutral = float(reward.exact(reward.space.defaults[None])[0])
    train = make_numbers().train
    optimizer = plugins().make(
        "optimizers", method.optimizer, method.options, reward.space, start=reward.space.defaults, seed=task.seed
    )
    sizer = BucketSizer(method.bucket_size, **dict(method.adaptive)) if method.adaptive else None
    images, next_look, curve = 0, 0.0, []
    chosen, best_training = reward.space.defaults, -np.inf
    for generation in itertools.count():
        population = optimizer.ask()
        group_size = optimizer.group_size or method.group_size or len(population)
        bucket_size = sizer.size if sizer else method.bucket_size
        over = images + len(population) * bucket_size > task.images
        if over or images >= next_look:
            points = np.stack([optimizer.recommend(), chosen])
            curve.append([images, *((reward.exact(points) - neutral) / reward.reachable_gain).tolist()])
            next_look = 1.02 * images
        if over:
            return {"curve": curve}
        fitness, scores = np.empty(len(population)), []
        for group, first in enumerate(range(0, len(population), group_size)):
            rows = slice(first, first + group_size)
            bucket = draw_bucket(train, bucket_size, task.seed, generation, group)
            scores.append(reward.scores(population[rows], bucket))
            fitness[rows] = scores[-1].mean(axis=1)
        if fitness.max() > best_training:
            chosen, best_training = population[fitness.argmax()], fitness.max()
        if group_size < len(population):
            fitness = (fitness.reshape(-1, group_size) - fitness.reshape(-1, group_size).mean(axis=1)[:, None]).ravel()
        optimizer.tell(population, fitness)
        if sizer:
            sizer.update(np.concatenate(scores))
        images += len(population) * bucket_size
    raise AssertionError


def kept(task: Task, folder: Path) -> dict[str, Any]:
    """Return the result of a search, from its file if the file exists."""
    path = folder / task.file
    definition = repr(METHODS[task.method])
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["definition"] == definition:
            return found
    with threadpool_limits(limits=1):
        found = {"definition": definition, **search(task)}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found))
    partial.replace(path)
    return found


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    """Return all tasks, shortest first."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for num_knobs, variant, seed in itertools.product(options.knobs, options.variants, seeds):
        images = PUBLISHED_IMAGES[num_knobs] // (8 if options.quick else 1)
        for method in dict.fromkeys([*options.references, *options.methods]):
            share = 1 if method in options.references else options.share
            yield Task(method, num_knobs, variant, seed, int(images * share))


def report(found: dict[Task, dict[str, Any]], options: argparse.Namespace) -> None:
    """Print a table for every number of knobs and variant."""
    heads = [f"saving, {name.removeprefix('published, ')}" for name in options.references]
    heads += [*(f"to {level:.0%}" for level in LEVELS), "chosen"]
    for num_knobs, variant in itertools.product(options.knobs, options.variants):
        curves: dict[str, dict[int, list[list[float]]]] = {}
        for task, each in found.items():
            if (task.num_knobs, task.variant) == (num_knobs, variant):
                of_method = curves.setdefault(task.method, {})
                size = generation_size(task.method, num_knobs)
                generations = [int(images) // size for images, *_ in each["curve"]]
                of_method[task.seed] = with_validation(each["curve"], generations)
        print(f"\n{num_knobs} knobs, {variant}, {options.seeds} models")
        print(f"{'method':<24} {'images':>8}  {'gain':<20} " + " ".join(f"{head:<24}" for head in heads))
        for method in dict.fromkeys([*options.references, *options.methods]):
            mine = curves[method]
            cells = []
            for reference in options.references:
                theirs = {seed: curves[reference][seed][-1] for seed in mine}
                needed = {seed: images_to(curve, theirs[seed][1]) for seed, curve in mine.items()}
                saved = (theirs[seed][0] / images if images else None for seed, images in needed.items())
                cells.append(quartiles(saved, ".1f", 0))
            cells += [quartiles((images_to(each, level) for each in mine.values()), ",.0f", np.inf) for level in LEVELS]
            cells.append(quartiles((curve[-1][2] - curve[-1][1] for curve in mine.values()), "+.2f", np.nan))
            gain = quartiles((curve[-1][1] for curve in mine.values()), ".2f", np.nan)
            spent = max(curve[-1][0] for curve in mine.values())
            print(f"{method:<24} {spent:>8,.0f}  {gain:<20} " + " ".join(f"{cell:<24}" for cell in cells))


def main() -> None:
    """Do the missing searches and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--knobs", type=int, nargs="+", default=[57, 114], choices=sorted(PUBLISHED_IMAGES))
    parser.add_argument("--variants", nargs="+", default=["default", "bounded"], choices=[*sorted(VARIANTS), "bounded"])
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["grouped", "grouped-cma", "adaptive"],
        choices=sorted(METHODS),
    )
    parser.add_argument(
        "--references",
        nargs="+",
        default=["published", BEST_STEP],
        choices=[name for name in METHODS if "published" in name],
        help="methods that the others must reach; each is searched with all of its images",
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="the first model; a grid is searched on other models")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.33, help="share of the images, for the other methods")
    parser.add_argument("--quick", action="store_true", help="use an eighth of the images, for a trial")
    options = parser.parse_args()
    report(in_processes(kept, tasks(options), options.out, options.processes), options)


if __name__ == "__main__":
    main()
