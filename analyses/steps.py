"""How few steps a calibrated model needs: score against steps, for ensembles of members (Calibri, figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BeforeValidator, Field

from ..engine.evaluation import Evaluation
from ..engine.evaluator import Evaluator
from ..engine.heldout import best_neutral
from ..engine.knobs import Setting
from ..engine.nouns import noun
from ..engine.run import Run
from ..engine.schema import MOST_STEPS, Config, Count, Images, Real, Section
from ..ground.errors import ConfigError
from ..setup.assembly import assemble
from ..setup.config import plugins_of
from ..setup.starting import start_of
from ..storage import RunRow, SqliteStore
from .analysis import Analysis, Findings
from .bench import Bench
from .curves import Curves, Point
from .equal_images import images_of, on_equal_images, planned, seeds_from
from .options import Seeds, several
from .steps_findings import findings
from .target import Target

MOST_ENSEMBLE = 16
Numbers = Annotated[tuple[Annotated[Count, Field(le=MOST_STEPS)], ...], BeforeValidator(several), Field(min_length=1)]
Sizes = Annotated[tuple[Annotated[Count, Field(le=MOST_ENSEMBLE)], ...], BeforeValidator(several), Field(min_length=1)]


class StepsOptions(Section):
    """What is measured.

    Attributes:
        steps: Numbers of steps.
        ensembles: How many calibrated members that see the prompt; a guided model has its unconditional one besides.
            Default: 1, 2 and 3, or 1 for a backbone that has no ensembles.
        images: Outputs of each search, also called `outputs`; default: `budget.outputs`, or as many as a finished run's
            search made.
        seeds: The number of searches of each ensemble, or their seeds; a target that is calibrated already is the
            first of those of its size.
        margin: How much worse than neutral at its best still counts as equal, in units of the score.
    """

    steps: Numbers = (2, 3, 4, 6, 8, 12, 20, 28)
    ensembles: Sizes | None = None
    images: Images | None = None
    seeds: Seeds = 3
    margin: Annotated[Real, Field(ge=0)] = 0.0


class _Given(NamedTuple):
    """A calibration that is there already: its name, its setting and the seed of its search."""

    name: str
    setting: Setting
    seed: int | None


@dataclass(frozen=True)
class _Kind:
    """Calibrated models of one size.

    Attributes:
        size: Members that see the prompt.
        members: What each member sees.
        config: The configuration that they are measured with.
        given: A calibration that is there already, or None.
        searches: The configurations of those that have to be searched.
    """

    size: int
    members: Sequence[str]
    config: Config
    given: _Given | None
    searches: Sequence[Config]

    @property
    def name(self) -> str:
        return f"calibrated, M = {self.size}"

    @property
    def count(self) -> int:
        return len(self.searches) + (self.given is not None)


class Steps(Analysis):
    """See the module."""

    kind = "steps"
    question = "How few steps does a calibrated model need?"
    Options = StepsOptions
    wants = "backbone"
    searches = True

    options: StepsOptions

    def check(self, store: SqliteStore) -> None:
        """Refuse ensembles and searches that cannot be. See `Analysis.check`."""
        [target] = self.targets
        run = assemble("", target.config, target.plugins, outline=True, prompts=target.prompts)
        _work(target, run, self.options.steps, self._kinds(store, target, run, _given(target, store)))

    def examine(self, bench: Bench) -> Findings:
        """Calibrate what is not calibrated yet, and measure all at every number of steps. See `Analysis.examine`."""
        [target], steps = self.targets, sorted({*self.options.steps})
        with bench.opened(target) as evaluator:
            run = evaluator.run
            members, given = _seen(run), _given(target, bench.store, run)
            kinds = self._kinds(bench.store, target, run, given)
            bench.expect(_work(target, run, steps, kinds))
            neutral = {
                num_steps: _neutral(evaluator, number, num_steps, _passes(members, num_steps))
                for number, num_steps in enumerate(steps)
            }
            prompts = run.test_bucket.prompts
        calibrated, runs = dict[str, dict[int, Point]](), dict[str, list[str]]()
        for place, kind in enumerate(kinds, start=1):
            found = [(kind.given.name, kind.given.setting)] if kind.given else []
            for config in kind.searches:
                row = bench.calibrated(f"ensemble{kind.size}", target, config)
                assert row.outcome is not None, "a calibrated run has finished"
                found.append((row.id, row.outcome["calibrated"]))
            with bench.opened(target, kind.config) as evaluator:
                calibrated[kind.name] = {
                    num_steps: _calibrated(
                        evaluator,
                        place * len(steps) + number,
                        num_steps,
                        [setting for _, setting in found],
                        _passes(kind.members, num_steps),
                    )
                    for number, num_steps in enumerate(steps)
                }
            runs[kind.name] = [name for name, _ in found]
        curves = Curves(prompts, neutral, calibrated, self.options.margin)
        found_runs = {row.id for row in bench.store.runs()}
        rests = [name for names in runs.values() for name in names if name in found_runs]
        return replace(findings(curves, run.adapter.num_steps or 0, runs), runs=rests, outputs=noun(run.adapter.makes))

    def _sizes(self, config: Config) -> tuple[int, ...]:
        """Return the sizes of the ensembles, ascending.

        Raises:
            ConfigError: If the backbone has no ensembles, and some are asked for.
        """
        able = "members" in plugins_of(config).options("adapters", config.adapter.name)
        asked = self.options.ensembles or ((1, 2, 3) if able else (1,))
        if not able and asked != (1,):
            raise ConfigError(f"adapter {config.adapter.name!r} makes no ensembles; ask for ensembles=1")
        return tuple(sorted({*asked}))

    def _kinds(self, store: SqliteStore, target: Target, run: Run, given: _Given | None) -> list[_Kind]:
        """Return what has to be calibrated and measured, by size.

        Raises:
            ConfigError: If the backbone has no steps to vary, or something cannot be searched.
        """
        if run.adapter.num_steps is None:
            raise ConfigError(f"adapter {target.config.adapter.name!r} has no denoising steps to vary")
        members = _seen(run)
        return [self._kind(store, target, members, size, given) for size in self._sizes(target.config)]

    def _kind(
        self, store: SqliteStore, target: Target, members: Sequence[str], size: int, given: _Given | None
    ) -> _Kind:
        seeds = seeds_from(self.options.seeds)
        if size == max(1, members.count("conditional")):
            if given:  # it is one of them, and must not count twice
                others = tuple(seed for seed in seeds if seed != given.seed)
                seeds = others if len(others) < len(seeds) else seeds[1:]
            images = images_of(target, self.options.images, store) if seeds else 0
            searches = [on_equal_images(target.config, images, seed) for seed in seeds]
            return _Kind(size, members, target.config, given, searches)
        images, sees = images_of(target, self.options.images, store), _members_of(members, size)
        searches = [on_equal_images(target.config, images, seed, {"adapter.members": sees}) for seed in seeds]
        return _Kind(size, sees, searches[0], None, searches)


def _seen(run: Run) -> list[str]:
    """Return what each member of a backbone sees; empty for one that has no members."""
    return [str(each) for each in run.adapter.describe().get("members", ())]


def _given(target: Target, store: SqliteStore, run: Run | None = None) -> _Given | None:
    """Return a target that is calibrated already, or None.

    Args:
        target: The target.
        store: The open store.
        run: Has the backbone, which a calibration's file must fit; None to read nothing but its seed.
    """
    if target.calibration is not None:
        setting = start_of(str(target.calibration), run.adapter, exactly=True) if run else {}
        seed = target.made.provenance.config.get("seed")
        return _Given(target.name, setting, seed if isinstance(seed, int) else None)
    row = _finished(target, store)
    return None if row is None or row.outcome is None else _Given(row.id, row.outcome["calibrated"], row.config["seed"])


def _finished(target: Target, store: SqliteStore) -> RunRow | None:
    """Return the finished run that a target names, with the parts that it had; None if there is no such run."""
    row = next((row for row in store.runs() if row.id == target.text and row.outcome is not None), None)
    now = target.config.model_dump(mode="json")
    return row if row and all(row.config.get(key) == now[key] for key in ("adapter", "objectives", "combine")) else None


def _work(target: Target, run: Run, steps: Sequence[int], kinds: Sequence[_Kind]) -> int:
    """Return the work in all: searches, and denoising steps of all pictures that are measured."""
    config = run.config
    head = config.by_steps.num_validation * config.seeds_per_prompt * len(run.adapter.neutrals())
    measured = head + len(run.test_bucket) * (1 + sum(kind.count for kind in kinds))
    searched = sum(planned(target, kind.searches[0]) * len(kind.searches) for kind in kinds if kind.searches)
    return searched + measured * sum(steps)


def _members_of(members: Sequence[str], size: int) -> list[str]:
    """Return the members of an ensemble: so many that see the prompt, then those of the model that do not."""
    return ["conditional"] * size + [each for each in members if each == "unconditional"]


def _passes(members: Sequence[str], num_steps: int) -> int | None:
    """Return the passes of the transformer for an image; None if the pipeline guides by itself."""
    return None if "all" in members or not members else len(members) * num_steps


def _neutral(evaluator: Evaluator, number: int, num_steps: int, passes: int | None) -> Point:
    """Measure the best neutral setting at a number of steps, chosen on validation prompts at these steps."""
    run = evaluator.run
    asked = None if num_steps == run.adapter.num_steps else num_steps
    baseline, tried = best_neutral(evaluator, number, asked)
    head = run.config.by_steps.num_validation * run.config.seeds_per_prompt
    chosen = next(each for each in tried.values() if dict(each.setting) == dict(baseline.setting))
    validation = float(chosen.values[:head].mean())
    [found] = _evaluated(evaluator, number, num_steps, [baseline.setting])
    return Point(num_steps, passes, found.values[None], _seconds([found]), baseline.label, validation)


def _calibrated(
    evaluator: Evaluator, number: int, num_steps: int, settings: Sequence[Setting], passes: int | None
) -> Point:
    """Measure the calibrations of every seed at a number of steps."""
    found = _evaluated(evaluator, number, num_steps, settings)
    return Point(num_steps, passes, np.stack([each.values for each in found]), _seconds(found))


def _evaluated(evaluator: Evaluator, number: int, num_steps: int, settings: Sequence[Setting]) -> list[Evaluation]:
    run = evaluator.run
    asked = None if num_steps == run.adapter.num_steps else num_steps
    population = np.stack([run.adapter.space.to_vector(setting) for setting in settings])
    evaluator.watch.stage_started(run=run, stage="test")
    return evaluator.evaluate("test", number, population, run.test_bucket, asked)


def _seconds(found: Sequence[Evaluation]) -> float:
    return sum(each.generate_seconds for each in found) / sum(each.num_images for each in found)
