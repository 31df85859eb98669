"""Searches of several granularities and rewards, each with every seed, and what all of them gain by all rewards.

Both `granularity` (Calibri, table 1 and figure 5) and `rewards` (table 7) are such a crossing: the first has one reward
to optimise, the second usually one granularity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..engine.nouns import common
from ..ground.errors import ConfigError, near_misses
from ..reports.nouns import seeded
from ..setup.config import Config, plugins_of
from ..storage import SqliteStore
from .bench import Bench
from .equal_images import on_equal_images, planned, searched
from .gains import VALUE, Array, Cell, Tested, cell, corrected, rewards_of, tested
from .target import Target

GRANULARITIES = ("block", "layer", "gate")


class Member(NamedTuple):
    """A search of a crossing.

    Attributes:
        granularity: How sites are tied into knobs; empty for what the configuration says.
        reward: The one reward that is optimised; empty for what the configuration says.
        seed: The seed of the search.
    """

    granularity: str
    reward: str
    seed: int

    @property
    def row(self) -> tuple[str, str]:
        """What its seeds share."""
        return self.granularity, self.reward


class Crossing:
    """The searches of a crossing.

    Args:
        config: The configuration that all share.
        images: Number of outputs of each search.
        seeds: The seeds.
        granularities: How sites are tied, coarse to fine; empty for what the configuration says.
        rewards: The rewards that are optimised one by one; empty for what the configuration optimises, all together.

    Raises:
        ConfigError: If the configuration cannot be crossed so.
    """

    def __init__(
        self,
        config: Config,
        images: int,
        seeds: Sequence[int],
        granularities: Sequence[str] = (),
        rewards: Sequence[str] = (),
    ) -> None:
        self.config, self.images, self.seeds = config, images, tuple(dict.fromkeys(seeds))
        self.granularities = tuple(dict.fromkeys(granularities)) or ("",)
        self.rewards = tuple(dict.fromkeys(rewards)) or ("",)
        if granularities:
            _check_granularities(config)
        if rewards:
            _check_rewards(config, self.rewards)

    def check(self, target: Target) -> None:
        """Refuse searches that cannot be run, without loading a backbone.

        Raises:
            TrimpotError: If one of them cannot begin.
        """
        self.work(target)

    def work(self, target: Target) -> int:
        """Return the most work of all searches, in denoising steps of their outputs."""
        firsts = {member.row: self.configured(member) for member in self.members}
        return sum(planned(target, config) for config in firsts.values()) * len(self.seeds)

    @property
    def members(self) -> list[Member]:
        """The searches in working order: those of one backbone follow each other, and a seed at a time."""
        return [
            Member(granularity, reward, seed)
            for granularity in self.granularities
            for seed in self.seeds
            for reward in self.rewards
        ]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Granularity and reward of every row of the table."""
        return [(granularity, reward) for granularity in self.granularities for reward in self.rewards]

    def optimised(self, reward: str) -> tuple[str, ...]:
        """Return the rewards that a row optimises."""
        return (reward,) if reward else tuple(self.config.weights)

    def configured(self, member: Member) -> Config:
        """Return the configuration of a search.

        Raises:
            ConfigError: If it cannot be run, for example because the adapter knows no such granularity.
        """
        changes: dict[str, Any] = {"adapter.granularity": member.granularity} if member.granularity else {}
        if member.reward:
            for name, reward in self.config.objectives.items():
                changes[f"objectives.{name}.weight"] = (reward.weight or 1.0) if name == member.reward else 0.0
        return on_equal_images(self.config, self.images, member.seed, changes)


def _check_granularities(config: Config) -> None:
    name = config.adapter.name
    if "granularity" not in plugins_of(config).options("adapters", name):
        raise ConfigError(f"adapter {name!r} has no option 'granularity': its knobs are not tied into blocks")
    if config.ladder:
        raise ConfigError("a ladder searches several granularities in one run; leave 'ladder' empty to compare them")


def _check_rewards(config: Config, rewards: Sequence[str]) -> None:
    for name in rewards:
        if name not in config.objectives:
            raise ConfigError(f"the configuration has no reward {name!r}; {near_misses(name, config.objectives)}")
    if len(config.objectives) < 2:
        raise ConfigError(
            f"the configuration has one reward, {next(iter(config.objectives))!r}; name others under 'objectives', "
            "such as objectives.saturation.weight=0"
        )
    if falling := next((name for name, reward in config.objectives.items() if reward.weight < 0), None):
        raise ConfigError(
            f"objectives.{falling}.weight is negative, and a gain is told in the reward's own direction; "
            "give the reward its own direction, or leave it out"
        )
    if config.combine.name != "weighted":
        raise ConfigError(
            f"combine: {config.combine.name} makes one number of all rewards, and here each is optimised by itself; "
            "leave 'combine' out"
        )


@dataclass(frozen=True)
class Crossed:
    """The finished searches of a crossing.

    Attributes:
        crossing: The searches.
        tested: The test evaluations of each.
        images: Outputs of each run, made or found.
        searched: Outputs of each search, made or found.
        generations: Generations of each search.
        outputs: What the outputs are called.
        seeded: Whether they depend on seeds.
    """

    crossing: Crossing
    tested: Mapping[Member, Tested]
    images: Mapping[Member, int]
    searched: Mapping[Member, int]
    generations: Mapping[Member, int]
    outputs: str = "images"
    seeded: bool = True

    @property
    def measures(self) -> tuple[str, ...]:
        """The rewards that every row is measured by, and first what was optimised, if that is several together."""
        rewards = rewards_of(list(self.tested.values()))
        together = not self.crossing.rewards[0] and len(self.crossing.config.weights) > 1
        return (VALUE, *rewards) if together else rewards

    def of(self, row: tuple[str, str]) -> list[Tested]:
        """Return the finished searches of a row, by seed."""
        return [self.tested[each] for each in self.crossing.members if each.row == row and each in self.tested]

    def num_knobs(self, row: tuple[str, str]) -> int:
        """Return the number of knobs of a row."""
        return len(self.of(row)[0].calibrated.setting)

    def neutral(self, row: tuple[str, str], measure: str) -> tuple[str, Array]:
        """Return the uncalibrated setting at its best for a reward, by name, with its scores on the test outputs.

        It is the neutral setting that was best on validation prompts *by this reward*, if a search of this granularity
        optimised the reward; else the one that was best by what the row optimised.
        """
        granularity, _ = row
        best = (granularity, measure) if measure in self.crossing.rewards and self.of((granularity, measure)) else row
        found = self.of(best)[0]
        return found.label, found.scores(measure, calibrated=False)

    @cached_property
    def cells(self) -> dict[tuple[str, ...], Cell]:
        """What each row gains by each reward, by (granularity, optimised, measured), corrected for all of them."""
        found: dict[tuple[str, ...], Cell] = {}
        for row, measure in self._places():
            several = self.of(row)
            _, neutral = self.neutral(row, measure)
            calibrated = [each.scores(measure, calibrated=True) for each in several]
            found[row[0], row[1], measure] = cell(calibrated, [neutral] * len(several), several[0].prompts)
        return corrected(found)

    def cell(self, row: tuple[str, str], measure: str) -> Cell:
        """Return what a row gains by a reward."""
        return self.cells[row[0], row[1], measure]

    @cached_property
    def pairs(self) -> dict[tuple[str, ...], Cell]:
        """How much a granularity gains over another by each reward, by (finer, coarser, optimised, measured)."""
        found: dict[tuple[str, ...], Cell] = {}
        for number, fine in enumerate(self.crossing.granularities):
            for coarse in self.crossing.granularities[:number]:
                for reward in self.crossing.rewards:
                    one, other = self.of((fine, reward)), self.of((coarse, reward))
                    for measure in self.measures if one and other else ():
                        after = [each.scores(measure, calibrated=True) for each in one]
                        before = [each.scores(measure, calibrated=True) for each in other]
                        count = min(len(after), len(before))
                        found[fine, coarse, reward, measure] = cell(after[:count], before[:count], one[0].prompts)
        return corrected(found)

    def consistency(self, granularity: str) -> dict[str, Any]:
        """Return how a granularity does by the rewards that a row did not optimise.

        Returns:
            `better`, `uncertain` and `worse`: numbers of cells; `mean` and `lowest`: effects in standard deviations
            between uncalibrated outputs.
        """
        others = [
            each
            for (tied, reward, measure), each in self.cells.items()
            if tied == granularity and measure != VALUE and measure not in self.crossing.optimised(reward)
        ]
        told = {kind: sum(each.standing == kind for each in others) for kind in ("better", "uncertain", "worse")}
        effects = [each.effect for each in others]
        return {**told, "mean": float(np.mean(effects)), "lowest": min(effects)} if effects else {}

    def _places(self) -> Iterator[tuple[tuple[str, str], str]]:
        for row in self.crossing.rows:
            if self.of(row):
                yield from ((row, measure) for measure in self.measures)


def gather(store: SqliteStore, crossing: Crossing, runs: Mapping[Member, str]) -> Crossed:
    """Read the searches of a crossing, as far as they have finished.

    Args:
        store: An open store.
        crossing: The searches.
        runs: The run of each finished search.
    """
    found = {member: tested(store, run) for member, run in runs.items()}
    images = {member: store.num_images(run) for member, run in runs.items()}
    spent = {member: searched(store, run) for member, run in runs.items()}
    outcomes = {member: store.run(run).outcome or {} for member, run in runs.items()}
    generations = {member: int(each["num_generations"]) for member, each in outcomes.items()}
    outputs = common(each.get("makes", "image") for each in outcomes.values())
    return Crossed(crossing, found, images, spent, generations, outputs, all(map(seeded, outcomes.values())))


def search(bench: Bench, target: Target, crossing: Crossing) -> dict[Member, str]:
    """Have every search of a crossing done that is not in the store yet, and return the run of each.

    Raises:
        TrimpotError: If a search cannot begin, or stops early; those before it are finished.
    """
    configs = {member: crossing.configured(member) for member in crossing.members}
    bench.expect(crossing.work(target))
    return {member: bench.calibrated(_label(member), target, config).id for member, config in configs.items()}


def _label(member: Member) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", each) for each in member.row if each) or "search"
