"""The ablation: what every block, layer or gate is worth, and which scale of it is best.

After Calibri (section 3.2): the outputs of one block after the other are multiplied by 0 (Figure 3a) and by other
factors (Figure 3b), all on the same prompts and seeds, and the scores are compared with those of the backbone as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from ..engine.heldout import best_neutral
from ..engine.knobs import Vector
from ..engine.nouns import noun
from ..engine.schema import MOST, Real, Section, Whole
from ..engine.seams import Adapter, Population
from ..ground.errors import ConfigError
from ..setup.plan import plan
from ..setup.yaml_text import read_yaml
from .ablation_findings import Ablated, found
from .analysis import Analysis, Findings
from .bench import Bench
from .buckets import test_buckets
from .groups import Group, groups_of

NUM_SEEDS = 5  # as in Calibri
FEWEST_PROMPTS = 4  # two halves with an interval each
SCALES = (0.0, 0.5, 0.75, 1.25, 1.5)


def _several(value: object) -> object:
    if isinstance(value, str):
        return [read_yaml(word, "scales") for word in value.split(",")]
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


class AblationOptions(Section):
    """The options of an ablation.

    Attributes:
        granularity: What is scaled together: a block, a layer or a gate of the backbone (in all its members), or a
            single `knob` of any space.
        scales: The factors, besides 1.
        seeds: The number of seeds of each prompt; `test.num_prompts` is the number of prompts.
    """

    granularity: Literal["block", "layer", "gate", "knob"] = "block"
    scales: Annotated[tuple[Real, ...], BeforeValidator(_several), Field(min_length=1, max_length=50)] = SCALES
    seeds: Annotated[Whole, Field(ge=1, le=1000)] = NUM_SEEDS

    @field_validator("scales")
    @classmethod
    def _each_once(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if 1.0 in scales:
            raise ValueError("should leave 1 out, which is the backbone as it is and always measured")
        if len(set(scales)) < len(scales):
            raise ValueError("should name each scale once")
        return tuple(sorted(scales))


class Ablation(Analysis):
    """Scales one group of knobs at a time, and compares the scores with those of the backbone as it is."""

    kind = "ablation"
    question = "what is each block worth, and which scale of it is best"
    Options = AblationOptions

    def examine(self, bench: Bench) -> Findings:
        """See `Analysis.examine`."""
        options = self.options
        assert isinstance(options, AblationOptions)
        [target] = self.targets
        with bench.opened(target) as evaluator:
            run = evaluator.run
            groups = groups_of(run.adapter, options.granularity)
            buckets = test_buckets(run, options.seeds)
            if (num_prompts := buckets[0].num_prompts) < FEWEST_PROMPTS:
                raise ConfigError(
                    f"one half of the test prompts chooses a scale and the other judges it, and {num_prompts} are too "
                    f"few for an interval; give test.num_prompts={FEWEST_PROMPTS} or more, such as 64"
                )
            for setting in run.adapter.neutrals().values():  # refused before anything is evaluated
                scaled(run.adapter, run.adapter.space.to_vector(setting), groups, options.scales)
            images = len(buckets) * len(buckets[0]) * (1 + len(groups) * len(options.scales))
            outputs = noun(run.adapter.makes)
            if images > MOST * 1000:
                raise ConfigError(
                    f"an ablation of {images:,} {outputs} would never end; give fewer scales"
                    f"{' or seeds' * run.adapter.uses_seed}"
                )
            bench.expect((images + plan(run).images["baseline"]) * (run.adapter.num_steps or 1))
            baseline, _ = best_neutral(evaluator)
            neutral = run.adapter.space.to_vector(baseline.setting)
            population = scaled(run.adapter, neutral, groups, options.scales)
            made = [evaluator.evaluate("test", number, population, bucket) for number, bucket in enumerate(buckets)]
            weights, rewards = run.config.weights, list(run.config.objectives)
        ablated = Ablated(
            granularity=options.granularity,
            groups=groups,
            scales=options.scales,
            baseline=baseline,
            evaluations=made,
            weights=weights,
            rewards=rewards,
            outputs=outputs,
        )
        return found(ablated)


def scaled(adapter: Adapter, neutral: Vector, groups: Sequence[Group], scales: Sequence[float]) -> Population:
    """Return the settings of an ablation: the neutral one, then every group at every scale.

    Args:
        adapter: The backbone.
        neutral: The neutral setting, shape (num_knobs,).
        groups: The groups of knobs.
        scales: The factors of the neutral values.

    Returns:
        Shape (1 + num_groups * num_scales, num_knobs).

    Raises:
        ConfigError: If a factor takes a knob out of its bounds, or changes nothing since the knob is 0.
    """
    space = adapter.space
    index = {name: position for position, name in enumerate(space.names)}
    rows = [neutral]
    for group in groups:
        members = [index[name] for name in group.knobs]
        for scale in scales:
            row = neutral.copy()
            row[members] *= scale
            for member in members:
                knob = space[member]
                if not knob.low <= row[member] <= knob.high:
                    raise ConfigError(
                        f"scale {scale:g} takes knob {knob.name} to {row[member]:g}, outside of its bounds from "
                        f"{knob.low:g} to {knob.high:g}; leave it out of scales"
                    )
            if (row == neutral).all():
                raise ConfigError(
                    f"{group.name} is 0 where it is neutral, so that no scale changes it; this analysis is of factors"
                )
            rows.append(row)
    return np.stack(rows)
