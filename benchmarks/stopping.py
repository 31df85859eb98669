"""Which rule stops a search in time: outputs saved, gain lost, and what checking costs, on two simulations.

    python benchmarks/stopping.py --out DIR [--adapters simulated simulated-bounded] [--knobs 57 114]
        [--protocols grouped] [--seeds 10] [--per-knob 510] [--generations 100]
        [--population-size 64]

Every search goes on to the end of its outputs, `--per-knob` for each knob, and its recommendation is judged every 4
generations on 64 validation prompts, as a run does. DIR keeps a file per search. From these checks the table says where
each rule would have stopped each search, and what it would have chosen there. Every seed has a model of its own, whose
expected score is known exactly. A line takes a fraction of a second once its searches are done.

Columns: `spent`, the outputs of the search at its end, as a share of those of `--generations`; `at the end`, the share
of searches that no rule stopped before these; `whole`, what the result lacks of that after `--generations`, in shares
of the reachable gain, and `> .03`, the share of searches that lack more; `twice`, the same against a search with twice
the outputs; `validation`, its share of all outputs of search and validation. Medians with quartiles over searches.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from trimpot.adapters.spaces.simulation import Simulation
from trimpot.engine.bucket_sizing import BucketSizer
from trimpot.engine.checking import is_geometric
from trimpot.engine.search import group_size
from trimpot.engine.stopping import Plateau
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins

PROMPTS = 64  # of validation
DENSE = 4  # generations between two checks of a search; every rule's checks are among them
LEVEL = 0.03  # of the reachable gain


@dataclass(frozen=True)
class Task:
    """One search on one model."""

    adapter: str
    num_knobs: int
    protocol: str
    population_size: int | None
    seed: int
    outputs: int

    @property
    def kind(self) -> str:
        """The search, for a table."""
        return f"{self.protocol}, {self.population_size}" if self.population_size else self.protocol

    @property
    def file(self) -> str:
        """The name of the task's file."""
        name = f"{self.adapter}-{self.num_knobs}-{self.kind}-{self.seed}-{self.outputs}.npz"
        return name.replace(",", "").replace(" ", "-")


@dataclass(frozen=True)
class Rule:
    """When recommendations are judged, and when the search ends."""

    every: int | str
    patience: int
    significance: float

    def __str__(self) -> str:
        every = self.every if isinstance(self.every, str) else f"every {self.every}"
        return f"{every}, patience {self.patience}, level {self.significance:g}"

    def judges(self, generations: int) -> bool:
        """Whether a recommendation is judged after so many generations, at least 1."""
        return is_geometric(generations) if isinstance(self.every, str) else generations % self.every == 0


RULES = [
    Rule(4, 6, 0.1),
    *(Rule("geometric", patience, level) for patience in (4, 6, 8, 12) for level in (0.1, 0.2, 0.5)),
]


@dataclass(frozen=True)
class Judged:
    """The checks of one search, from neutral on.

    Attributes:
        generations: Generations before each check, shape (num_checks,).
        outputs: Outputs of the search before each check, shape (num_checks,).
        values: Values on the validation bucket, shape (num_checks, num_prompts).
        gains: Exact gains as shares of the reachable gain, shape (num_checks,).
        prompts: The validation prompts.
    """

    generations: NDArray[np.int64]
    outputs: NDArray[np.int64]
    values: NDArray[np.float64]
    gains: NDArray[np.float64]
    prompts: list[str]


def search(task: Task) -> Judged:
    """Search to the end, and judge a recommendation every `DENSE` generations."""
    config = load_config(
        {
            "adapter": {"name": task.adapter, "num_knobs": task.num_knobs, "world": task.seed},
            "objectives": "value",
            "prompts": "numbers",
            "protocol": task.protocol,
            "validation": {"num_prompts": PROMPTS},
            "seed": task.seed,
        },
        [f"optimizer.population_size={task.population_size}"] if task.population_size else [],
    )
    run = assemble("", config, plugins())
    reward = run.adapter
    assert isinstance(reward, Simulation)
    neutral = reward.space.defaults
    optimizer, bucket = run.optimizer(reward.space, neutral), run.validation_bucket
    sizer = BucketSizer(config.bucket_size, **dict(config.adaptive_bucket)) if config.adaptive_bucket else None
    checked, spent, values, points, outputs = [0], [0], reward.scores(neutral[None], bucket), [neutral], 0
    for generation in itertools.count():
        population, size = optimizer.ask(), sizer.size if sizer else config.bucket_size
        if outputs + len(population) * size > task.outputs:
            break
        together, scores = group_size(optimizer, config, len(population)), []
        for number, first in enumerate(range(0, len(population), together)):
            scores.append(reward.scores(population[first : first + together], run.bucket(generation, number, size)))
        worth = [each.mean(axis=1) for each in scores]
        optimizer.tell(population, np.concatenate([each - each.mean() for each in worth] if len(worth) > 1 else worth))
        if sizer:
            sizer.update(np.concatenate(scores))
        outputs += len(population) * size
        if (generation + 1) % DENSE == 0:
            points.append(optimizer.recommend())
            checked.append(generation + 1)
            spent.append(outputs)
            values = np.concatenate([values, reward.scores(points[-1][None], bucket)])
    exact = reward.exact(np.stack(points))
    gains = (exact - exact[0]) / reward.reachable_gain
    return Judged(np.array(checked), np.array(spent), values, gains, list(bucket.prompts))


def kept(task: Task, folder: Path) -> Judged:
    """Return the checks of a search, from its file if the file exists."""
    path = folder / task.file
    if not path.exists():
        with threadpool_limits(limits=1):
            found = search(task)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez_compressed(file, **vars(found))
        partial.replace(path)
    with np.load(path) as read:
        return Judged(**{**{name: read[name] for name in read.files}, "prompts": read["prompts"].tolist()})


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    """Return all tasks, shortest first."""
    for num_knobs, seed in itertools.product(sorted(options.knobs), range(options.seeds)):
        for adapter, protocol in itertools.product(options.adapters, options.protocols):
            yield Task(adapter, num_knobs, protocol, options.population_size, seed, options.per_knob * num_knobs)


@dataclass(frozen=True)
class Stopped:
    """Where a rule stops a search, and what that costs.

    Attributes:
        spent: The share of the outputs of the whole search.
        to_the_end: Whether the whole search was made.
        whole: The share of the reachable gain that the chosen setting lacks of that of the whole search.
        twice: The same against a search with at most twice the outputs.
        validation: The share of validation in all outputs.
    """

    spent: float
    to_the_end: bool
    whole: float
    twice: float
    validation: float


def stopped(rule: Rule, found: Judged, generations: int) -> Stopped:
    """Return where a rule stops a search of so many generations."""
    plateau, last = Plateau(found.prompts, rule.patience, rule.significance), len(found.generations) - 1
    end = int(np.searchsorted(found.generations, generations, side="right")) - 1

    def due(first: int, to: int) -> list[int]:
        return [at for at in range(first, to + 1) if at in (0, to) or rule.judges(int(found.generations[at]))]

    def gain(checks: list[int]) -> float:
        return float(found.gains[max(checks, key=lambda at: (found.values[at].mean(), -at))])

    judged = []
    for check in due(0, end):
        judged.append(check)
        plateau.add(found.values[check])
        if plateau.reason:
            break
    spent = int(found.outputs[judged[-1]])
    twice = int(np.searchsorted(found.outputs, min(2 * spent, found.outputs[last]), side="right")) - 1
    chosen, validated = gain(judged), PROMPTS * (len(judged) - 1)
    return Stopped(
        spent / int(found.outputs[end]),
        judged[-1] == end,
        gain(judged + due(judged[-1] + 1, end)) - chosen,
        gain(judged + due(judged[-1] + 1, twice)) - chosen,
        validated / (validated + spent),
    )


def report(found: dict[Task, Judged], generations: int) -> None:
    """Print a table for every simulation, number of knobs and searcher, and one over all."""
    cells = sorted({(task.adapter, task.num_knobs, task.kind) for task in found})
    for cell in [*cells, None]:
        here = [each for task, each in found.items() if cell in (None, (task.adapter, task.num_knobs, task.kind))]
        where = f"{cell[0]}, {cell[1]} knobs, {cell[2]}" if cell else "all of these"
        print(f"\n{where}: {len(here)} searches of {generations} generations")
        print(f"{'rule':<36} spent  at the end  {'whole':<20} > .03  {'twice':<20} > .03  validation")
        for rule in RULES:
            made = [stopped(rule, each, generations) for each in here]
            whole, twice = [each.whole for each in made], [each.twice for each in made]
            print(
                f"{rule!s:<36} {np.mean([each.spent for each in made]):>5.0%}  "
                f"{np.mean([each.to_the_end for each in made]):>10.0%}  "
                f"{_spread(whole)}  {np.mean(np.array(whole) > LEVEL):>5.0%}  "
                f"{_spread(twice)}  {np.mean(np.array(twice) > LEVEL):>5.0%}  "
                f"{np.median([each.validation for each in made]):>10.0%}"
            )


def _spread(values: Iterable[float]) -> str:
    low, middle, high = np.percentile(list(values), [25, 50, 75])
    return f"{f'{middle:.3f} [{low:.3f}, {high:.3f}]':<20}"


def main() -> None:
    """Do the missing searches, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--adapters", nargs="+", default=["simulated", "simulated-bounded"])
    parser.add_argument("--knobs", type=int, nargs="+", default=[57, 114])
    parser.add_argument("--protocols", nargs="+", default=["grouped"])
    parser.add_argument("--population-size", type=int, help="candidates of the other protocols, instead of their own")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--per-knob", type=int, default=510, help="outputs of a search for each knob")
    parser.add_argument("--generations", type=int, default=100, help="of the search that a rule may stop")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    report({task: kept(task, given.out) for task in tasks(given)}, given.generations)


if __name__ == "__main__":
    main()
