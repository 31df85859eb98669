"""The keys of a configuration and their valid values.

An empty key is treated as a missing key. Truth values are not accepted as numbers, numbers must be finite, and counts
have limits far above any sensible value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..ground.plain import LARGEST
from .evaluation import COMBINED
from .identity import KEYS_CHANGE_NO_NUMBER
from .knobs import digest
from .nouns import by_stored_names

MOST = 1_000_000  # prompts, candidates: more would fill any memory before the first image
MOST_STEPS = 10_000  # of denoising, as many as a calibration file may name
MOST_IMAGES = 10**15
LARGEST_WEIGHT = 1e30  # so that weighted scores and their squares stay finite
LARGEST_SEED = 2**63 - 1


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _finite(value: object) -> object:
    try:
        finite = not isinstance(value, (int, float, str)) or math.isfinite(float(value))
    except (ValueError, OverflowError):  # a word is refused later, as not a number
        finite = isinstance(value, str)
    if not finite:
        raise ValueError("should be a finite number")
    return _no_truth_value(value)


Whole = Annotated[int, BeforeValidator(_no_truth_value)]
Real = Annotated[float, BeforeValidator(_finite), Field(ge=-LARGEST, le=LARGEST)]
Count = Annotated[Whole, Field(ge=1, le=MOST)]
Several = Annotated[Whole, Field(ge=2, le=MOST)]
Images = Annotated[Whole, Field(ge=1, le=MOST_IMAGES)]
Seed = Annotated[Whole, Field(ge=0, le=LARGEST_SEED)]
Positive = Annotated[Real, Field(ge=1e-9)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]


def listed(value: object) -> object:
    """Wrap a single value in a tuple, for a key that takes a list."""
    return value if value is None or isinstance(value, (list, tuple)) else (value,)


class Section(BaseModel):
    """A mapping with known keys only, some of which have two names; see `nouns.ALSO`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_left_out(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        values = by_stored_names(values, fields)
        return {k: v for k, v in values.items() if v is not None or k not in fields or fields[k].default is None}


class WithOptions(BaseModel):
    """A mapping whose unknown keys are the options of a plugin."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def options(self) -> dict[str, Any]:
        """The unknown keys; checked against the parameters of the plugin's factory when the part is made."""
        return dict(self.model_extra or {})


class Part(WithOptions):
    """A plugin by name, with its options.

    Attributes:
        name: The registered name.
    """

    name: str


class Reward(WithOptions):
    """An objective's part in the fitness.

    Attributes:
        name: The registered objective; defaults to the entry's key in `objectives`.
        weight: Factor of the score in the fitness; 0 only watches the objective.
    """

    name: str | None = None
    weight: Annotated[Real, Field(ge=-LARGEST_WEIGHT, le=LARGEST_WEIGHT)] = 1.0


class WatchedReward(WithOptions):
    """An objective that scores watched prompts.

    Attributes:
        name: The registered objective; defaults to the entry's key in `objectives`.
    """

    name: str | None = None

    @model_validator(mode="after")
    def _without_weight(self) -> WatchedReward:
        if "weight" in (self.model_extra or {}):
            raise ValueError("objectives of watched prompts have no weight, since nothing is optimised there")
        return self


class Tracked(WithOptions):
    """A tracker that shows the run.

    Attributes:
        name: The registered tracker; defaults to the entry's key in `trackers`.
    """

    name: str | None = None


def _by_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _cma_es_unless_named(value: object) -> object:
    return {"name": "cma-es", **value} if isinstance(value, Mapping) else value


def _by_key(value: object) -> object:
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, Mapping):
        return {key: {} if entry is None else entry for key, entry in value.items()}
    return value


def _by_key_or_listed(value: object) -> object:
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return {each: {} for each in value}
    return _by_key(value)


NamedPart = Annotated[Part, BeforeValidator(_by_name)]


class Validation(Section):
    """How recommendations are judged while the search runs.

    Attributes:
        num_prompts: Validation prompts, one seed each; the same for every check.
        every: Generations between two checks; or `geometric`, four checks a doubling, see `engine.checking`.
        every_images: Outputs of the search between two checks, instead of generations; also `every_outputs`.
        patience: The search stops after this many checks in a row without a significant gain over the best before.
        significance: One-sided level of that paired test.
        seed: Draws prompts and seeds; separate from the run's seed, so that runs can be compared.
    """

    num_prompts: Several = 64
    every: Count | Literal["geometric"] = "geometric"
    every_images: Images | None = None
    patience: Count = 12
    significance: Annotated[Real, Field(gt=0, lt=1)] = 0.2
    seed: Seed = 1


class Test(Section):
    """How the gain is measured, once, at the end.

    Attributes:
        num_prompts: Test prompts, each with a fresh seed.
        seed: Draws prompts and seeds.
    """

    num_prompts: Several = 256
    seed: Seed = 2


class BySteps(Section):
    """The same comparison at other numbers of denoising steps.

    Attributes:
        steps: Numbers of steps besides the calibrated one.
        num_prompts: Test prompts at each number of steps, the first of the test bucket.
        num_validation: Validation prompts on which the neutral setting is chosen at each number of steps.
    """

    steps: Annotated[tuple[Annotated[Count, Field(le=MOST_STEPS)], ...], BeforeValidator(listed)] = ()
    num_prompts: Several = 128
    num_validation: Several = 48


class AdaptiveBucket(Section):
    """A bucket that grows and shrinks with the noise of scores; see `engine.bucket_sizing`.

    Attributes:
        low: Below this F ratio the next bucket is larger.
        high: Above this F ratio the next bucket is smaller.
        rate: The relative change of the size.
        largest: The largest number of prompts.
    """

    low: Positive = 1.5
    high: Positive = 3.0
    rate: Annotated[Real, Field(gt=0, lt=1)] = 0.08
    largest: Several = 64

    @model_validator(mode="after")
    def _a_band(self) -> AdaptiveBucket:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} must not lie above high {self.high:g}")
        return self


class Sensitivity(Section):
    """A one-at-a-time ablation before the search; knobs that matter less get a wider first sample.

    Attributes:
        num_prompts: The number of training prompts used.
        step: How far each knob is moved up and down, in units of its spread.
        most: The largest factor of a spread; the smallest is its inverse.
        measured: The effect of each knob by its name, as an analysis has measured it (`sensitivity.file` names its
            file), so that nothing is measured here. A knob that is not named keeps its spread.
    """

    num_prompts: Count = 8
    step: Annotated[Positive, Field(le=1e6)] = 0.25
    most: Annotated[Real, Field(ge=1, le=1e6)] = 3.0
    measured: Annotated[dict[str, Annotated[Real, Field(ge=0)]], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _measured_once(self) -> Sensitivity:
        own = type(self).model_fields
        changed = [name for name in ("num_prompts", "step") if getattr(self, name) != own[name].default]
        if self.measured is not None and changed:
            raise ValueError(f"with what was measured before, nothing is measured here; leave {changed[0]} out")
        return self


class Budget(Section):
    """Limits that stop the search. No generation begins that would exceed `outputs`, or after the time is spent.

    Attributes:
        images: Outputs generated for the search; `outputs` says the same.
        seconds: Time of generating and scoring, over all stages and resumes.
        gpu_hours: The same time in hours, multiplied by `devices`.
        devices: The number of devices that `gpu_hours` counts.
    """

    images: Images | None = None
    seconds: Positive | None = None
    gpu_hours: Positive | None = None
    devices: Count = 1


class WatchedPrompts(Section):
    """Prompts on which calibrating could make something else worse; they are scored, and decide nothing.

    Attributes:
        prompts: The source of the prompts, of which the validation and the test prompts are used.
        objectives: The objectives that score them; if empty, those of the run.
        num_prompts: Test prompts, each with a fresh seed.
        num_validation: Validation prompts, scored at each check.
    """

    prompts: NamedPart
    objectives: Annotated[dict[str, WatchedReward], BeforeValidator(_by_key_or_listed)] = Field(default_factory=dict)
    num_prompts: Several = 128
    num_validation: Several = 48


class Workers(Section):
    """Who generates and scores: this process, several of this machine, or Ray's actors on any machines.

    Attributes:
        processes: The number of processes on this machine, one a GPU (or all on the CPU if there is no GPU); `auto`
            for all GPUs; 1 for this process itself.
        ray: The number of actors of a Ray cluster, one a GPU; `auto` for all of the cluster's GPUs.
        address: The address of the cluster; None starts a cluster on this machine.
        mixed: Whether workers may use devices of different names, whose results differ in the last bits.
    """

    processes: Literal["auto"] | Count = 1
    ray: Literal["auto"] | Count | None = None
    address: Annotated[str, Field(min_length=1)] | None = None
    mixed: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Workers:
        if self.ray is not None and self.processes != 1:
            raise ValueError("workers are processes or Ray's actors; leave one of the two empty")
        if self.address is not None and self.ray is None:
            raise ValueError("address is that of a Ray cluster; give ray as well, such as ray: auto")
        return self

    @property
    def alone(self) -> bool:
        """Whether this process works by itself."""
        return self.ray is None and self.processes == 1


def _by_number(value: object) -> object:
    return {"processes": value} if isinstance(value, (int, str)) and not isinstance(value, bool) else value


class Config(Section):
    """One calibration.

    Attributes:
        name: Prefix of the run's name; defaults to the adapter's name.
        adapter: The backbone and its options.
        objectives: The rewards by name; a single name stands for itself with weight 1.
        combine: How the objectives become one number: `weighted`, `winrate`, `pareto`, `constrained`.
        plugins: Python files that register parts for this run, besides the installed plugins.
        prompts: The source of prompts; `files` takes `train`, `validation` and `test` paths.
        protocol: A named set of search keys (`trimpot plugins` lists the names). Keys in the file override the
            protocol; a protocol given on the command line overrides the file's keys. Defaults to
            `setup.config.DEFAULT_PROTOCOL` if neither a protocol nor an optimizer is named.
        optimizer: The searcher and its options.
        generations: The most generations to search; 0 measures the setting of `start`, without a search.
        bucket_size: Outputs a candidate makes in a generation; with `adaptive_bucket`, in the first one.
        seeds_per_prompt: How many outputs of a bucket share a prompt, each with its own seed.
        group_size: Candidates that share a bucket; None for the whole population.
        adaptive_bucket: Makes the bucket grow and shrink with the noise.
        start: A calibration file, or the folder of a finished run, to begin the search from.
        ladder: Coarser granularities to search first, each with its number of generations, coarse to fine; the
            last is the adapter's own.
        sensitivity: An ablation that scales the knobs' spreads.
        budget: Limits on outputs and time that stop the search.
        keep: Which images or answers are kept, so that later rewards can score them.
        seed: Drives the optimizer and the training buckets.
        validation: How recommendations are judged.
        test: How the gain is measured.
        by_steps: The comparison at other numbers of steps.
        watch: Sets of other prompts by name, scored at each check and on the test, and optimised nowhere.
        workers: Who generates and scores; a number or `auto` sets `processes`.
        trackers: Where the run's curves are shown: trackers by name, each with its options, or only a name or names.
    """

    name: Name | None = None
    plugins: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(listed)] = ()
    adapter: NamedPart
    objectives: Annotated[dict[str, Reward], BeforeValidator(_by_key)] = Field(min_length=1)
    combine: NamedPart = Part(name="weighted")
    prompts: NamedPart
    protocol: str | None = None
    optimizer: Annotated[NamedPart, BeforeValidator(_cma_es_unless_named)] = Part(name="cma-es")
    generations: Annotated[Whole, Field(ge=0, le=MOST_IMAGES)] = 200
    bucket_size: Count = 16
    seeds_per_prompt: Count = 1
    group_size: Several | None = None
    adaptive_bucket: AdaptiveBucket | None = None
    start: Annotated[str, Field(min_length=1)] | None = None
    ladder: dict[str, Images] = Field(default_factory=dict)
    sensitivity: Sensitivity | None = None
    budget: Budget = Budget()
    keep: Literal["none", "validation", "all"] = "validation"
    seed: Seed = 0
    validation: Validation = Validation()
    test: Test = Test()
    by_steps: BySteps = BySteps()
    watch: dict[Name, WatchedPrompts] = Field(default_factory=dict)
    workers: Annotated[Workers, BeforeValidator(_by_number)] = Workers()
    trackers: Annotated[dict[str, Tracked], BeforeValidator(_by_key_or_listed)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something_to_optimize(self) -> Config:
        if all(reward.weight == 0 for reward in self.objectives.values()):
            raise ValueError("every objective has weight 0, so there is nothing to optimize")
        if self.measures and (self.start is None or self.ladder):
            given = "name it with start, or give at least 1" if self.start is None else "leave ladder empty"
            raise ValueError(f"generations: 0 measures the setting of a calibration, without a search; {given}")
        if COMBINED in self.objectives:
            raise ValueError(f"no objective can be called {COMBINED!r}: combined values are kept under that name")
        for name, each in self.watch.items():
            for key in each.objectives:
                if f"{name}/{key}" in self.objectives:
                    raise ValueError(f"no objective can be called {name}/{key}: scores of watch.{name} are kept so")
        if self.adaptive_bucket and self.group_size:
            raise ValueError("adaptive_bucket sizes the one bucket of a generation; leave group_size empty")
        if self.adaptive_bucket and not 2 <= self.bucket_size <= self.adaptive_bucket.largest:
            raise ValueError("with adaptive_bucket, bucket_size must lie between 2 and adaptive_bucket.largest")
        if self.bucket_size % self.seeds_per_prompt:
            raise ValueError("bucket_size must be a multiple of seeds_per_prompt")
        watched = [size for each in self.watch.values() for size in (each.num_prompts, each.num_validation)]
        if max(self.validation.num_prompts, self.test.num_prompts, *watched) * self.seeds_per_prompt > MOST:
            raise ValueError(f"num_prompts times seeds_per_prompt must be at most {MOST:,}")
        return self

    @property
    def measures(self) -> bool:
        """Whether the run measures the setting of `start`, and searches nothing."""
        return not self.generations

    @property
    def weights(self) -> dict[str, float]:
        """Objective name to its weight in the fitness, without watched objectives."""
        return {name: reward.weight for name, reward in self.objectives.items() if reward.weight}

    @property
    def watching(self) -> dict[str, dict[str, Reward | WatchedReward]]:
        """For each set of watched prompts, in order of name, its objectives by the name under which scores are kept.

        An objective that is given as the run's own is the run's own. Any other has the name of its set before it, such
        as `cities/perplexity`.
        """
        return {name: self._scoring(name, self.watch[name].objectives) for name in sorted(self.watch)}

    def _scoring(self, name: str, given: Mapping[str, WatchedReward]) -> dict[str, Reward | WatchedReward]:
        own = {key: (reward.name or key, reward.options) for key, reward in self.objectives.items()}
        return {
            key if own.get(key) == (reward.name or key, reward.options) else f"{name}/{key}": reward
            for key, reward in (given or self.objectives).items()
        }

    @property
    def only_watching(self) -> dict[str, WatchedReward]:
        """The objectives that score nothing but watched prompts, by the name under which their scores are kept."""
        return {
            key: WatchedReward(name=reward.name or key.partition("/")[2], **reward.options)
            for scoring in self.watching.values()
            for key, reward in scoring.items()
            if key not in self.objectives
        }

    @property
    def fingerprint(self) -> str:
        """A digest of every key that can change a number.

        Parts count here only by their names. Their options and code count in their identities once they are made (see
        `engine.identity`), so that files may be in another place when a run is resumed.
        """
        parts = {"adapter", "objectives", "combine", "prompts", "optimizer"}
        values = self.model_dump(mode="json", exclude={*parts, "watch", *KEYS_CHANGE_NO_NUMBER})
        if self.watch:
            scoring = {n: {k: each.name or k for k, each in own.items()} for n, own in self.watching.items()}
            values["watch"] = {n: [each.num_prompts, each.num_validation, scoring[n]] for n, each in self.watch.items()}
        rewards = {name: [reward.name, reward.weight] for name, reward in self.objectives.items()}
        return digest([values, rewards, self.adapter.name, self.combine.name, self.optimizer.name])
