"""What an ablation found: its tests, tables, pictures and sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.evaluation import COMBINED, Evaluation
from ..engine.heldout import Baseline
from ..engine.statistics import FEW_PROMPTS, few
from ..reports.drawing import LINES, TEAL, add_level, new_figure
from .analysis import Findings, Part, Table, drawn
from .differences import COLUMNS, Difference, corrected, difference, error_bars, p_text
from .groups import Group

Array = NDArray[np.float64]
VALUE = COMBINED  # what is optimised, beside the rewards; no reward can have this name


@dataclass(frozen=True)
class Best:
    """The scale of a group that one half of the prompts chose, judged on the other half.

    Attributes:
        group: The group.
        scale: The scale with the highest mean on the first half; 1 is the backbone as it is.
        judged: The difference from scale 1 on the second half; None if scale 1 was chosen.
    """

    group: Group
    scale: float
    judged: Difference | None


@dataclass(frozen=True)
class Ablated:
    """The evaluations of an ablation.

    Attributes:
        granularity: What was scaled together.
        groups: The groups of knobs.
        scales: The factors, ascending.
        baseline: The best neutral setting, which every setting is compared with.
        evaluations: For each bucket, the evaluations of the neutral setting and of every group at every scale.
        weights: Objective name to its weight in the value.
        rewards: The names of the configured rewards.
        outputs: What the outputs are called.
    """

    granularity: str
    groups: Sequence[Group]
    scales: Sequence[float]
    baseline: Baseline
    evaluations: Sequence[Sequence[Evaluation]]
    weights: Mapping[str, float]
    rewards: Sequence[str]
    outputs: str = "images"

    @cached_property
    def prompts(self) -> list[str]:
        """The prompt of every output, bucket by bucket."""
        return [prompt for made in self.evaluations for prompt in made[0].bucket.prompts]

    @cached_property
    def scored(self) -> list[str]:
        """The value, and every objective that scored the outputs."""
        return [VALUE, *(name for name in self.evaluations[0][0].scores if name != COMBINED)]

    def scores(self, reward: str, position: int) -> Array:
        """Return the scores of a setting's outputs, bucket by bucket, shape (num_outputs,).

        Args:
            reward: `combined` or the name of an objective.
            position: The setting: 0 is neutral.
        """
        made = [each[position] for each in self.evaluations]
        return np.concatenate([each.values if reward == VALUE else np.asarray(each.scores[reward]) for each in made])

    def position(self, group: int, scale: int) -> int:
        """Return the position of a group at a scale, both by their indices."""
        return 1 + group * len(self.scales) + scale

    def differences(self, reward: str) -> list[list[Difference]]:
        """Return the difference from scale 1 of every group at every scale, corrected for the number of all."""
        neutral = self.scores(reward, 0)
        num = len(self.groups) * len(self.scales)
        tested = corrected(
            [difference(self.scores(reward, position), neutral, self.prompts) for position in range(1, 1 + num)]
        )
        width = len(self.scales)
        return [tested[begin : begin + width] for begin in range(0, num, width)]

    def best(self) -> list[Best]:
        """Return the best scale of every group: chosen on one half of the prompts, judged on the other."""
        different = list(dict.fromkeys(self.prompts))
        first = set(different[: len(different) // 2])
        choosing = np.array([prompt in first for prompt in self.prompts])
        judging = [prompt for prompt in self.prompts if prompt not in first]
        neutral = self.scores(VALUE, 0)
        chosen: list[tuple[Group, float, Difference | None]] = []
        for number, group in enumerate(self.groups):
            tried = [self.scores(VALUE, self.position(number, scale)) for scale in range(len(self.scales))]
            means = [float((each - neutral)[choosing].mean()) for each in tried]
            top = int(np.argmax(means))
            if means[top] <= 0:
                chosen.append((group, 1.0, None))
            else:
                judged = difference(tried[top][~choosing], neutral[~choosing], judging)
                chosen.append((group, self.scales[top], judged))
        tested = iter(corrected([judged for _, _, judged in chosen if judged is not None]))
        return [Best(group, scale, None if judged is None else next(tested)) for group, scale, judged in chosen]


def found(ablated: Ablated) -> Findings:
    """Return the findings of an ablation."""
    differences = {reward: ablated.differences(reward) for reward in ablated.scored}
    best, first = ablated.best(), differences[VALUE]
    removed = [each[ablated.scales.index(0.0)] for each in first] if 0.0 in ablated.scales else None
    parts = []
    if removed is not None:
        parts.append(_removed_part(ablated, removed))
    parts.append(_scales_part(ablated, first))
    parts.append(_best_part(ablated, best))
    if len(ablated.rewards) > 1:
        parts.append(_rewards_part(ablated, differences))
    parts[-1] = Part(**{**vars(parts[-1]), "tables": [*parts[-1].tables, _table(ablated, differences)]})
    num_prompts, num_outputs = len(set(ablated.prompts)), len(ablated.prompts)
    seeds = num_outputs // num_prompts
    on = f"{num_outputs} {ablated.outputs} of {num_prompts} test prompts with {seeds} seeds each"
    on = on if seeds > 1 else f"{num_prompts} test prompts"
    judging = num_prompts - num_prompts // 2
    return Findings(
        headline=_headline(ablated, removed, best),
        parts=parts,
        sentences=[
            f"Every setting is compared with the backbone as it is, at its best neutral setting "
            f"({ablated.baseline.label}, chosen on validation prompts), on the same {on}. The unit of "
            "every interval and test is the prompt."
        ],
        cautions=[
            f"The best scales are judged on {judging} prompts, and the removals on {num_prompts}; take at least "
            f"{2 * FEW_PROMPTS} test prompts before believing them."
        ]
        if few(judging)
        else [],
        stats={
            f"{ablated.granularity}s": str(len(ablated.groups)),
            "scales": ", ".join(f"{scale:g}" for scale in ablated.scales),
            "prompts": str(num_prompts),
            **({"seeds each": str(seeds)} if seeds > 1 else {}),
        },
        outputs=ablated.outputs,
        numbers={
            "baseline": ablated.baseline.label,
            "neutral": float(ablated.scores(VALUE, 0).mean()),
            "removed": None
            if removed is None
            else {group.name: each.to_json() for group, each in zip(ablated.groups, removed, strict=True)},
            "best": {
                each.group.name: {"scale": each.scale, "judged": each.judged and each.judged.to_json()} for each in best
            },
            "scales": {
                group.name: {f"{scale:g}": each.to_json() for scale, each in zip(ablated.scales, row, strict=True)}
                for group, row in zip(ablated.groups, first, strict=True)
            },
        },
        files={"sensitivity.json": json.dumps(sensitivities(ablated), indent=1) + "\n"},
    )


def sensitivities(ablated: Ablated) -> dict[str, Any]:
    """Return how much each knob changes an output, for `sensitivity.file` of a search.

    Of a group it is the root mean square change of an output's value by unit of scale, over the scales nearest to 1 on
    either side. The knobs of a group share its square evenly, as if they moved the output independently.
    """
    neutral = ablated.scores(VALUE, 0)
    below = [scale for scale in ablated.scales if scale < 1][-1:]
    above = [scale for scale in ablated.scales if scale > 1][:1]
    knobs: dict[str, float] = {}
    for number, group in enumerate(ablated.groups):
        squares = [
            np.square(
                (ablated.scores(VALUE, ablated.position(number, ablated.scales.index(scale))) - neutral) / (scale - 1)
            ).mean()
            for scale in (*below, *above)
        ]
        each = float(np.sqrt(np.mean(squares) / len(group.knobs)))
        knobs |= dict.fromkeys(group.knobs, each)
    return {"trimpot": "sensitivity", "granularity": ablated.granularity, "knobs": knobs}


def _headline(ablated: Ablated, removed: Sequence[Difference] | None, best: Sequence[Best]) -> str:
    of = f"{len(ablated.groups)} {ablated.granularity}s"
    better = [each for each in best if each.judged and each.judged.beyond_noise and each.judged.gain.mean > 0]
    tuned = (
        f"{len(better)} {'has' if len(better) == 1 else 'have'} a scale that scores higher than 1 beyond noise, on "
        f"prompts that did not choose it"
    )
    if removed is None:
        return f"Of {of}, {tuned}."
    helps = [number for number, each in enumerate(removed) if each.beyond_noise and each.gain.mean > 0]
    hurts = [number for number, each in enumerate(removed) if each.beyond_noise and each.gain.mean < 0]
    text = f"Of {of}, {len(hurts)} score lower without their output, beyond noise, and {len(helps)} higher"
    if helps:
        most = max(helps, key=lambda number: removed[number].gain.mean)
        text += f" (most {ablated.groups[most].name}, {removed[most].text})"
    return f"{text}; {tuned}."


def _removed_part(ablated: Ablated, removed: Sequence[Difference]) -> Part:
    rows = [
        [group.name, each.text, p_text(each.p), each.told] for group, each in zip(ablated.groups, removed, strict=True)
    ]
    columns = ["group", *COLUMNS]
    numbers = [[group.name, *each.cells] for group, each in zip(ablated.groups, removed, strict=True)]
    return Part(
        title=f"Without one {ablated.granularity}",
        note="The change of the score when the output of one after the other is multiplied by 0, which bypasses it; "
        "with its 95 % interval by prompt. Full marks differ from no change beyond noise: the p-value of a paired "
        "t-test over prompts, after Holm's correction for every tested scale of every "
        f"{ablated.granularity}, is below 5 %. Above the line, the backbone scores higher without it.",
        figures=[_by_depth(ablated.groups, removed, "change of the score at scale 0")],
        tables=[Table("removed", columns, numbers, (["", "change at 0", "p", "p, Holm"], rows), 1)],
    )


def _scales_part(ablated: Ablated, differences: Sequence[Sequence[Difference]]) -> Part:
    import plotly.graph_objects as go

    scales = sorted([*ablated.scales, 1.0])
    means = [
        [0.0 if scale == 1 else row[ablated.scales.index(scale)].gain.mean for row in differences] for scale in scales
    ]
    told = [
        [
            f"{escape(group.name)} at {scale:g}: "
            + ("as it is" if scale == 1 else row[ablated.scales.index(scale)].text)
            for group, row in zip(ablated.groups, differences, strict=True)
        ]
        for scale in scales
    ]
    reach = max(abs(value) for row in means for value in row) or 1.0
    figure = new_figure(90 + 34 * len(scales), None, "scale")
    figure.add_trace(
        go.Heatmap(
            x=[escape(group.name) for group in ablated.groups],
            y=[f"{scale:g}" for scale in scales],
            z=means,
            zmin=-reach,
            zmax=reach,
            colorscale=[[0.0, "#d14b4b"], [0.5, "rgba(139,147,161,0.12)"], [1.0, TEAL]],
            text=told,
            hovertemplate="%{text}<extra></extra>",
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "change"}, "thickness": 12},
        )
    )
    figure.update_xaxes(type="category", tickangle=-60)
    figure.update_yaxes(type="category")
    figure.update_layout(height=figure.layout.height + 60)
    beyond = sum(each.beyond_noise for row in differences for each in row)
    total = len(ablated.groups) * len(ablated.scales)
    return Part(
        title="At other scales",
        note="The mean change of the score when one is scaled and all others are left at 1: green scores higher, red "
        f"lower. {beyond} of {total} differ from 1 beyond noise after Holm's correction for all {total}; hover for the "
        "intervals.",
        figures=[drawn(figure)],
    )


def _best_part(ablated: Ablated, best: Sequence[Best]) -> Part:
    rows, numbers = [], []
    for each in best:
        judged = each.judged
        shown = ["as it is", "", ""] if judged is None else [judged.text, p_text(judged.p), judged.told]
        rows.append([each.group.name, f"{each.scale:g}", *shown])
        cells = [None] * 6 if judged is None else judged.cells
        numbers.append([each.group.name, each.scale, *cells])
    changed = [each for each in best if each.judged is not None]
    figures = (
        [_by_depth([each.group for each in changed], [each.judged for each in changed if each.judged],
                   "change of the score at the best scale", [each.scale for each in changed])]
        if changed
        else []
    )  # fmt: skip
    return Part(
        title="The best scale of each",
        note="One half of the prompts chose the scale with the highest mean score (1 included); the other half, which "
        "had no part in the choice, says what it is worth, so that being the best of several flatters nothing. Full "
        "marks differ from scale 1 beyond noise, after Holm's correction for all that are judged here.",
        figures=figures,
        tables=[
            Table(
                "best-scales",
                ["group", "scale", *COLUMNS],
                numbers,
                (["", "best scale", "change on the other half", "p", "p, Holm"], rows),
                1,
            )
        ],
    )


def _rewards_part(ablated: Ablated, differences: Mapping[str, Sequence[Sequence[Difference]]]) -> Part:
    rows = []
    for reward in ablated.scored:
        tested = [each for row in differences[reward] for each in row]
        rows.append(
            [
                reward,
                str(sum(each.beyond_noise and each.gain.mean > 0 for each in tested)),
                str(sum(each.beyond_noise and each.gain.mean < 0 for each in tested)),
                str(len(tested)),
            ]
        )
    head = ["", "higher than at 1", "lower than at 1", "tested"]
    return Part(
        title="By reward",
        note="How many scaled groups differ from scale 1 beyond noise, for the value that is optimised and for every "
        "objective by itself, each with Holm's correction for all that are tested with it.",
        tables=[Table("rewards", ["reward", "higher", "lower", "tested"], rows, (head, rows))],
    )


def _table(ablated: Ablated, differences: Mapping[str, Sequence[Sequence[Difference]]]) -> Table:
    """Return every number: a row for each reward, group and scale."""
    rows = [
        [reward, group.name, group.depth, scale, *each.cells]
        for reward, all_ in differences.items()
        for group, row in zip(ablated.groups, all_, strict=True)
        for scale, each in zip(ablated.scales, row, strict=True)
    ]
    columns = ["reward", "group", "depth", "scale", *COLUMNS]
    return Table("ablation", columns, rows)


def _by_depth(
    groups: Sequence[Group], differences: Sequence[Difference], title: str, scales: Sequence[float] | None = None
) -> str:
    """Draw differences with their intervals by depth, a colour for each branch."""
    figure = new_figure(360, None, title)
    lines = list(dict.fromkeys(group.line for group in groups))
    for number, line in enumerate(lines):
        members = [index for index, group in enumerate(groups) if group.line == line]
        colour = LINES[number % len(LINES)]
        figure.add_scatter(
            x=[escape(groups[index].name) for index in members],
            y=[differences[index].gain.mean for index in members],
            error_y=error_bars([differences[index] for index in members]),
            mode="markers+text" if scales else "markers",
            name=escape(line),
            marker={"size": 9, "color": colour, "symbol": [differences[index].symbol for index in members]},
            texttemplate="%{customdata}",
            textposition="top center",
            customdata=[f"{scales[index]:g}" if scales else "" for index in members],
            text=[
                f"{escape(groups[index].name)}"
                + (f" at {scales[index]:g}" if scales else "")
                + f": {differences[index].text}, p {p_text(differences[index].adjusted)}"
                for index in members
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    add_level(figure, 0.0, None)
    order = [escape(group.name) for group in groups]
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, tickangle=-60)
    figure.update_layout(showlegend=len(lines) > 1)
    return drawn(figure)
