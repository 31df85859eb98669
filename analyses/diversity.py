"""The diversity: how far apart the pictures of one prompt are, neutral against calibrated.

After Calibri (supplementary, Table 6), whose measure is the mean DINO distance between pictures of the same prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from ..engine.bucket import Bucket
from ..engine.evaluation import Evaluation
from ..engine.heldout import Baseline, best_neutral
from ..engine.run import Run
from ..engine.schema import Config, Section, Whole
from ..engine.statistics import few
from ..ground.errors import ConfigError
from ..reports.drawing import GREY, LINES, new_figure
from ..reports.words import signed
from ..setup.config import load_config
from ..setup.starting import start_of
from .analysis import Analysis, Findings, Part, Table, drawn
from .bench import Bench
from .differences import COLUMNS, Difference, corrected, difference, error_bars
from .target import Target

Array = NDArray[np.float64]
NUM_SEEDS = 4
PROMPTS_AT_ONCE = 8  # in an evaluation, which is the most that an interruption loses
DINO = "dino-diversity"
OF_A_WORLD = {"shapes": "shapes-diversity"}  # a reward of a world that has a measure of its own, to the measure


def _by_name(value: object) -> object:
    if isinstance(value, str):
        value = [word.strip() for word in value.split(",") if word.strip()]
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return {each: {} for each in value}
    return value


class DiversityOptions(Section):
    """The options of a diversity analysis.

    Attributes:
        measures: Objectives that compare the pictures of a prompt, each with its options; by default those of the
            configuration, else that of the shapes world, else `dino-diversity`.
        seeds: The number of pictures of each prompt; `test.num_prompts` is the number of prompts.
    """

    measures: Annotated[dict[str, dict[str, Any]], BeforeValidator(_by_name), Field(min_length=1)] | None = None
    seeds: Annotated[Whole, Field(ge=2, le=1000)] = NUM_SEEDS


class Diversity(Analysis):
    """Compares calibrations with the neutral setting by the distances between the pictures of each prompt."""

    kind = "diversity"
    question = "how far apart are the pictures of one prompt, neutral and calibrated"
    Options = DiversityOptions
    wants = "calibration"
    several = True
    instead: ClassVar[Mapping[str, str]] = {"seeds_per_prompt": "seeds"}

    def examine(self, bench: Bench) -> Findings:
        """See `Analysis.examine`."""
        options = self.options
        assert isinstance(options, DiversityOptions)
        first = self.targets[0]
        _refuse_twice(self.targets)
        config = measuring(first.config, options)
        with bench.opened(first) as evaluator:
            baseline, tried = best_neutral(evaluator)
        with bench.opened(first, config) as evaluator:
            run = evaluator.run
            measures = [name for name, objective in run.objectives.items() if objective.scores_sets]
            for name in options.measures or ():
                if name not in measures:
                    raise ConfigError(
                        f"{name!r} does not compare the pictures of a prompt, so it measures no diversity; give "
                        f"measures such as {DINO} or shapes-diversity"
                    )
            settings = {"neutral": baseline.setting}
            for target in self.targets:
                label = target.name if target.name not in settings else f"{target.name} ({target.text})"
                settings[label] = start_of(str(target.calibration), run.adapter, exactly=True)
            buckets = buckets_of(run)
            images = len(settings) * len(run.test_bucket)
            bench.expect(images * (run.adapter.num_steps or 1) + sum(each.work for each in tried.values()))
            population = np.stack([run.adapter.space.to_vector(setting) for setting in settings.values()])
            made = [evaluator.evaluate("test", number, population, bucket) for number, bucket in enumerate(buckets)]
            rewards = [name for name in config.objectives if name not in measures]
        return found(Measured(list(settings), baseline, made, measures, rewards, options.seeds))


def _refuse_twice(targets: Sequence[Target]) -> None:
    files = [target.calibration.resolve() for target in targets if target.calibration]
    for number, target in enumerate(targets):
        if files[number] in files[:number]:
            raise ConfigError(f"calibration {target.text} is named twice; leave it out once")


def measuring(config: Config, options: DiversityOptions) -> Config:
    """Return the configuration that also watches the measures of diversity, with several pictures of each prompt.

    Raises:
        ConfigError: If what is to measure diversity does not compare pictures, or cannot be made.
    """
    values = config.model_dump(mode="json")
    objectives: dict[str, Any] = dict(values["objectives"])
    named = {reward.name or key for key, reward in config.objectives.items()}
    if options.measures is None:
        worlds = [measure for reward, measure in OF_A_WORLD.items() if reward in named]
        measures: Mapping[str, Mapping[str, Any]] = {} if DINO in named else {each: {} for each in worlds or [DINO]}
    else:
        measures = options.measures
    for name, given in measures.items():
        objectives[name] = {**given, "weight": objectives.get(name, {}).get("weight", 0)}
    return load_config(
        {**values, "objectives": objectives, "seeds_per_prompt": options.seeds, "bucket_size": options.seeds}
    )


def buckets_of(run: Run) -> list[Bucket]:
    """Return the test bucket in parts of a few prompts each, with all pictures of a prompt in one part."""
    whole, size = run.test_bucket, PROMPTS_AT_ONCE * run.config.seeds_per_prompt
    parts = [slice(begin, begin + size) for begin in range(0, len(whole), size)]
    return [Bucket(whole.prompts[part], whole.seeds[part]) for part in parts]


@dataclass(frozen=True)
class Measured:
    """The evaluations of a diversity analysis.

    Attributes:
        labels: Neutral first, then the calibrations.
        baseline: The best neutral setting.
        evaluations: For each part of the test bucket, the evaluations in the order of the labels.
        measures: The objectives that measure diversity.
        rewards: The other configured objectives.
        seeds: The number of pictures of each prompt.
    """

    labels: Sequence[str]
    baseline: Baseline
    evaluations: Sequence[Sequence[Evaluation]]
    measures: Sequence[str]
    rewards: Sequence[str]
    seeds: int

    @property
    def prompts(self) -> list[str]:
        """The prompt of every picture."""
        return [prompt for made in self.evaluations for prompt in made[0].bucket.prompts]

    def scores(self, objective: str, label: int) -> Array:
        """Return the scores of the pictures of a setting by an objective, shape (num_images,)."""
        return np.concatenate([np.asarray(made[label].scores[objective]) for made in self.evaluations])

    def differences(self, objectives: Sequence[str]) -> dict[str, list[Difference]]:
        """Return for each objective the difference of every calibration from neutral, corrected for all of them."""
        pairs = [(name, label) for name in objectives for label in range(1, len(self.labels))]
        tested = iter(corrected([difference(self.scores(n, k), self.scores(n, 0), self.prompts) for n, k in pairs]))
        return {name: [next(tested) for _ in self.labels[1:]] for name in objectives}


def found(measured: Measured) -> Findings:
    """Return the findings of a diversity analysis."""
    differences = measured.differences(measured.measures)
    others = measured.differences(measured.rewards)
    num_prompts = len(set(measured.prompts))
    rough = few(num_prompts)
    return Findings(
        headline=_headline(measured, differences),
        parts=[_measures_part(measured, differences), _rewards_part(measured, others)],
        sentences=[
            f"Neutral is the best neutral setting ({measured.baseline.label}, chosen on validation prompts). All are "
            f"compared on the same {len(measured.prompts)} images of {num_prompts} test prompts with {measured.seeds} "
            f"seeds each; the unit of every interval and test is the prompt."
        ],
        cautions=[rough[0].upper() + rough[1:] + "."] if rough else [],
        stats={
            "calibrations": str(len(measured.labels) - 1),
            "prompts": str(num_prompts),
            "pictures of each": str(measured.seeds),
        },
        numbers={
            "baseline": measured.baseline.label,
            **{
                kind: {
                    name: {
                        "neutral": float(measured.scores(name, 0).mean()),
                        **{label: each.to_json() for label, each in zip(measured.labels[1:], row, strict=True)},
                    }
                    for name, row in found.items()
                }
                for kind, found in (("diversity", differences), ("rewards", others))
            },
        },
    )


def _headline(measured: Measured, differences: Mapping[str, Sequence[Difference]]) -> str:
    measure = measured.measures[0]
    neutral = float(measured.scores(measure, 0).mean())
    each = differences[measure][0]
    share = f", {signed(100 * each.gain.mean / neutral, 1)} %" if neutral else ""
    said = "differ" if each.beyond_noise else "cannot be told apart"
    text = (
        f"By {measure}, the pictures of one prompt are {neutral:.4f} apart for neutral and "
        f"{neutral + each.gain.mean:.4f} for {measured.labels[1]}: {each.text}{share}; the two {said}"
    )
    left = len(measured.labels) - 2
    return text + (f"; {left} more calibration{'s' * (left > 1)} below." if left else ".")


def _measures_part(measured: Measured, differences: Mapping[str, Sequence[Difference]]) -> Part:
    return Part(
        title="Between pictures of one prompt",
        note="The change of the mean distance between the pictures of a prompt, in per cent of neutral's, with its "
        "95 % interval by prompt: left of the line, calibrated pictures are more alike. Full marks differ from neutral "
        "beyond noise: the p-value of a paired t-test over prompts, after Holm's correction for all calibrations and "
        "measures, is below 5 %. That a difference is not beyond noise does not show that there is none: its interval "
        "says how large it can be.",
        figures=[_figure(measured, differences)],
        tables=[_table("diversity", measured, differences)],
    )


def _rewards_part(measured: Measured, differences: Mapping[str, Sequence[Difference]]) -> Part:
    return Part(
        title="What the same pictures score",
        note="Every reward of the configuration on the same pictures: diversity is worth little without quality.",
        tables=[_table("rewards", measured, differences)],
    )


def _table(name: str, measured: Measured, differences: Mapping[str, Sequence[Difference]]) -> Table:
    columns = ["objective", "setting", "mean", *COLUMNS]
    rows: list[list[Any]] = []
    shown: list[list[str]] = []
    for objective, row in differences.items():
        neutral = float(measured.scores(objective, 0).mean())
        rows.append([objective, "neutral", neutral, *[None] * len(COLUMNS)])
        shown.append([objective, "neutral", f"{neutral:.4f}", "", "", ""])
        for label, each in zip(measured.labels[1:], row, strict=True):
            gain, mean = each.gain, neutral + each.gain.mean
            rows.append([objective, label, mean, *each.cells])
            share = f"{signed(100 * gain.mean / neutral, 1)} %" if neutral else ""
            shown.append([objective, label, f"{mean:.4f}", each.text, share, each.told])
    return Table(name, columns, rows, (["", "", "mean", "against neutral", "", "p, Holm"], shown), 3)


def _figure(measured: Measured, differences: Mapping[str, Sequence[Difference]]) -> str:
    """Draw the changes in per cent of neutral's mean, a row for each calibration and a colour for each measure."""
    labels = [escape(label) for label in measured.labels[1:]]
    figure = new_figure(130 + 44 * len(labels) * len(differences), "change of the distance, % of neutral's", None)
    for number, (measure, row) in enumerate(differences.items()):
        neutral = float(measured.scores(measure, 0).mean())
        unit = 100 / neutral if neutral else 0.0
        colour = LINES[number % len(LINES)]
        figure.add_scatter(
            x=[each.gain.mean * unit for each in row],
            y=[f"{label}<br>{escape(measure)}" for label in labels],
            error_x=error_bars(row, unit),
            mode="markers",
            name=escape(measure),
            marker={"size": 10, "color": colour, "symbol": [each.symbol for each in row]},
            hovertemplate="%{x:.2f} %<extra></extra>",
        )
    figure.add_vline(0.0, line={"color": GREY, "width": 1.2, "dash": "dash"})
    figure.update_yaxes(type="category")
    figure.update_layout(showlegend=len(differences) > 1)
    return drawn(figure)
