"""The tables, the pictures and the sentences of searches crossed with granularities and rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ..engine.statistics import Gain, few
from ..reports.drawing import GREY, LINES, add_line, new_figure
from ..reports.words import gain_text, signed
from .analysis import Part, Table, drawn
from .crossing import Crossed
from .gains import VALUE, Cell

if TYPE_CHECKING:
    import plotly.graph_objects as go

MARKS = {
    "better": " \N{BLACK UP-POINTING SMALL TRIANGLE}",
    "worse": " \N{BLACK DOWN-POINTING SMALL TRIANGLE}",
    "uncertain": "",
}
TINY = 1e-9  # an interval as narrow as this comes of rounding
LEGEND = (
    "A mean over {several} with its 95 % interval by prompt; in brackets, the gain of the lowest and of the highest "
    "{one}. \N{BLACK UP-POINTING SMALL TRIANGLE} is better and \N{BLACK DOWN-POINTING SMALL TRIANGLE} worse than the "
    "best uncalibrated setting: in all {several}, and at the 5 % level by a paired t-test by prompt with Holm's "
    "correction for all cells."
)


def row_name(row: tuple[str, str]) -> str:
    """Return the name of a row: granularity and optimised reward, as far as they differ between rows."""
    return ", ".join(filter(None, row)) or "calibrated"


def matrix(crossed: Crossed) -> Table:
    """Return the gain of every row by every reward."""
    columns = (
        *("granularity", "optimised", "measured", "uncalibrated", "neutral", "calibrated", "gain", "low", "high"),
        *("p", "p_holm", "standing", "effect", "seeds", "lowest_seed", "highest_seed", "prompts", "images"),
    )
    rows = []
    for (granularity, reward, measure), cell in crossed.cells.items():
        label, neutral = crossed.neutral((granularity, reward), measure)
        gain, base = cell.gain, float(neutral.mean())
        rows.append(
            (
                *(granularity or None, reward or None, measure, label, base, base + gain.mean),
                *(gain.mean, gain.low, gain.high, cell.difference.p, cell.difference.adjusted, cell.standing),
                *(cell.effect, len(cell.by_seed), min(cell.by_seed), max(cell.by_seed)),
                *(gain.num_prompts, gain.num_images),
            )
        )
    head = ["calibrated for" if crossed.crossing.rewards[0] else "", *map(_titled, crossed.measures)]
    shown = [["best uncalibrated", *(_best(crossed, measure) for measure in crossed.measures)]]
    shown += [
        [row_name(row), *(told(crossed.cell(row, measure)) for measure in crossed.measures)]
        for row in crossed.crossing.rows
        if crossed.of(row)
    ]
    return Table("gains", columns, rows, (head, shown))


def searches_table(crossed: Crossed) -> Table:
    """Return a row for every search."""
    columns = ("granularity", "optimised", "seed", "run", "knobs", "generations", "images", "measured", "gain")
    rows = [
        (
            *(member.granularity or None, member.reward or None, member.seed, found.run),
            *(len(found.calibrated.setting), crossed.generations[member], crossed.searched[member], measure),
            crossed.cell(member.row, measure).by_seed[number],
        )
        for row in crossed.crossing.rows
        for number, (member, found) in enumerate(
            (member, found) for member, found in crossed.tested.items() if member.row == row
        )
        for measure in crossed.measures
    ]
    head = ["", "knobs", "generations", f"{crossed.outputs} of search", "runs"]
    shown = []
    for row in crossed.crossing.rows:
        members = [member for member in crossed.tested if member.row == row]
        if members:
            shown.append(
                [
                    row_name(row),
                    str(crossed.num_knobs(row)),
                    _span([crossed.generations[each] for each in members]),
                    _span([crossed.searched[each] for each in members]),
                    ", ".join(crossed.tested[each].run for each in members),
                ]
            )
    return Table("searches", columns, rows, (head, shown))


def pairs_table(crossed: Crossed) -> Table:
    """Return how much a granularity gains over another."""
    columns = (
        *("granularity", "less", "optimised", "measured", "difference", "low", "high"),
        *("p", "p_holm", "standing", "effect", "lowest_seed", "highest_seed"),
    )
    rows, shown = [], []
    for (fine, coarse, reward, measure), cell in crossed.pairs.items():
        gain = cell.gain
        rows.append(
            (
                *(fine, coarse, reward or None, measure, gain.mean, gain.low, gain.high, cell.difference.p),
                *(cell.difference.adjusted, cell.standing, cell.effect, min(cell.by_seed), max(cell.by_seed)),
            )
        )
        what = f"{fine} \N{MINUS SIGN} {coarse}" + (f", {reward}" if reward else "")
        shown.append([what, _titled(measure), told(cell), p_text(cell.difference.adjusted)])
    return Table("granularities", columns, rows, (["", "measured by", "difference", "p, Holm"], shown), main=2)


def consistency_table(crossed: Crossed) -> Table | None:
    """Return how each granularity does by the rewards that were not optimised; None without such rewards."""
    found = {each: crossed.consistency(each) for each in crossed.crossing.granularities}
    columns = ("granularity", "better", "uncertain", "worse", "mean_effect", "lowest_effect")
    keys = ("better", "uncertain", "worse", "mean", "lowest")
    rows = [(each or None, *(told[key] for key in keys)) for each, told in found.items() if told]
    if not rows:
        return None
    head = ["", "better", "uncertain", "worse", "mean effect", "lowest effect"]
    shown = [
        [
            each or "calibrated",
            *(str(told[key]) for key in keys[:3]),
            *(signed(float(told[key]), 2) for key in keys[3:]),
        ]
        for each, told in found.items()
        if told
    ]
    return Table("consistency", columns, rows, (head, shown))


def gains_figure(crossed: Crossed) -> go.Figure:
    """Draw what every row gains by every reward: a ring for each seed, the mean with its interval."""
    rows = [row for row in crossed.crossing.rows if crossed.of(row)]
    several = len(crossed.measures) > 1
    figure = new_figure(
        120 + 26 * len(rows) * max(2, len(crossed.measures)),
        "gain, in standard deviations" if several else "gain on test prompts",
        None,
    )
    names = [escape(row_name(row)) for row in rows]
    for number, measure in enumerate(crossed.measures):
        colour, title = LINES[number % len(LINES)], escape(_titled(measure))
        offset = (number - (len(crossed.measures) - 1) / 2) * 0.8 / max(1, len(crossed.measures))
        cells = [crossed.cell(row, measure) for row in rows]
        units = [_unit(each) if several else 1.0 for each in cells]
        heights = [len(rows) - 1 - place - offset for place in range(len(rows))]
        for cell, unit, height, name in zip(cells, units, heights, names, strict=True):
            ring = {"symbol": "circle-open", "size": 7, "color": colour, "line": {"width": 1.3}}
            add_line(figure, [each * unit for each in cell.by_seed], [height] * len(cell.by_seed), title, colour,
                     mode="markers", marker=ring, opacity=0.75, showlegend=False, legendgroup=title,
                     hovertemplate=f"a {_seeds(crossed, 1)}: %{{x:.3g}}<extra>{name}, {title}</extra>")  # fmt: skip
        means = [each.gain.mean * unit for each, unit in zip(cells, units, strict=True)]
        bars = {
            "type": "data", "symmetric": False, "thickness": 2.2, "width": 5, "color": colour,
            "array": [_finite((c.gain.high - c.gain.mean) * u) for c, u in zip(cells, units, strict=True)],
            "arrayminus": [_finite((c.gain.mean - c.gain.low) * u) for c, u in zip(cells, units, strict=True)],
        }  # fmt: skip
        add_line(figure, means, heights, title, colour, mode="markers", error_x=bars, legendgroup=title,
                 showlegend=several, marker={"symbol": "diamond", "size": 10, "color": colour},
                 text=names, hovertemplate="%{text}: %{x:.3g}<extra>" + title + "</extra>")  # fmt: skip
    figure.add_vline(0, line={"color": GREY, "width": 1.2, "dash": "dash"})
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=names[::-1], range=[-0.6, len(rows) - 0.4], zeroline=False
    )
    return figure


def parts(crossed: Crossed, note: str) -> list[Part]:
    """Return the sections that every crossing has."""
    several = len(crossed.measures) > 1
    unit = f" The picture shows them in standard deviations between uncalibrated {crossed.outputs}." if several else ""
    legend = LEGEND.format(several=_seeds(crossed), one=_seeds(crossed, 1))
    found = [Part("What each gains", f"{note} {legend}{unit}", (drawn(gains_figure(crossed)),), (matrix(crossed),))]
    if crossed.pairs:
        found.append(
            Part(
                "One granularity against another",
                "The same test outputs, calibrated against calibrated; marks and Holm's correction as above, for all "
                "rows here.",
                (),
                (pairs_table(crossed),),
            )
        )
    consistent = consistency_table(crossed)
    if consistent is not None:
        found.append(
            Part(
                "By the rewards that were not optimised",
                "How many cells of the table above, without those of the optimised rewards themselves, are better, "
                "uncertain and worse; and their mean and lowest effect, in standard deviations between uncalibrated "
                f"{crossed.outputs}.",
                (),
                (consistent,),
            )
        )
    found.append(Part("The searches", "Each is a run of the store like any other.", (), (searches_table(crossed),)))
    return found


def uncalibrated(crossed: Crossed) -> str:
    """Return a sentence that says what the best uncalibrated setting is."""
    if crossed.crossing.rewards[0]:
        labels = {
            measure: crossed.neutral(crossed.crossing.rows[0], measure)[0] for measure in crossed.crossing.rewards
        }
        told = ", ".join(f"{label} for {measure}" for measure, label in labels.items())
        return (
            "The best uncalibrated setting is, for each reward, the neutral setting that was best by this reward on "
            f"validation prompts: {told}."
        )
    labels = {row_name(row): crossed.of(row)[0].label for row in crossed.crossing.rows if crossed.of(row)}
    told = (
        next(iter(labels.values()))
        if len(set(labels.values())) == 1
        else ", ".join(f"{label} for {name}" for name, label in labels.items())
    )
    return (
        "The best uncalibrated setting is the neutral setting that was best by the optimised value on validation "
        f"prompts: {told}."
    )


def cautions(crossed: Crossed) -> list[str]:
    """Return what limits the table."""
    found = []
    first = next(iter(crossed.cells.values()), None)
    if first and (sentence := few(first.gain.num_prompts)):
        found.append(f"{sentence[0].upper()}{sentence[1:]}.")
    if len(crossed.crossing.seeds) < 3:
        found.append(f"With fewer than three {_seeds(crossed)}, how far searches differ by chance is not known.")
    return found


def told(cell: Cell) -> str:
    """Return a cell as text: the gain with its interval and its mark; in a second line, the spread of its seeds."""
    places = decimals(cell.gain)
    text = gain_text(vars(cell.gain), places) + MARKS[cell.standing]
    if len(cell.by_seed) < 2:
        return text
    return f"{text}\n({signed(min(cell.by_seed), places)} to {signed(max(cell.by_seed), places)})"


def decimals(gain: Gain) -> int:
    """Return the number of decimals at which an interval has two significant digits."""
    width = gain.high - gain.low
    return 3 if not math.isfinite(width) or width < TINY else int(min(6, max(0, 1 - math.floor(math.log10(width)))))


def plain_score(value: float) -> str:
    """Return a score as text, with four significant digits and a real minus sign."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def p_text(value: float) -> str:
    """Return a p-value as text with two significant digits."""
    return "<\N{NO-BREAK SPACE}0.0001" if value < 0.0001 else f"{value:.2g}"


def _best(crossed: Crossed, measure: str) -> str:
    label, scores = crossed.neutral(next(row for row in crossed.crossing.rows if crossed.of(row)), measure)
    return f"{plain_score(float(scores.mean()))} ({label})"


def _titled(measure: str) -> str:
    return "what is optimised" if measure == VALUE else measure


def _unit(cell: Cell) -> float:
    """Return the factor from scores to standard deviations between uncalibrated outputs."""
    return cell.effect / cell.gain.mean if cell.gain.mean else 0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _seeds(crossed: Crossed, number: int = 2) -> str:
    """Return what searches of one row differ by: seeds, or searches where the backbone uses no seed."""
    return ("seed" if number == 1 else "seeds") if crossed.seeded else ("search" if number == 1 else "searches")


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def stats(crossed: Crossed) -> dict[str, str]:
    """Return the numbers for the head of the page."""
    return {
        "searches": str(len(crossed.tested)),
        _seeds(crossed): str(len(crossed.crossing.seeds)),
        f"{crossed.outputs} of search each": f"{crossed.crossing.images:,}",
        f"{crossed.outputs} of all these runs": f"{sum(crossed.images.values()):,}",
        "test prompts": str(next((cell.gain.num_prompts for cell in crossed.cells.values()), 0)),
    }


def numbers(crossed: Crossed) -> dict[str, Any]:
    """Return the findings for programs."""
    keys = ("granularity", "optimised", "measured")
    others = ("granularity", "less", "optimised", "measured")
    return {
        "images": crossed.crossing.images,
        "seeds": list(crossed.crossing.seeds),
        "gains": [
            {
                **{name: part or None for name, part in zip(keys, key, strict=True)},
                "uncalibrated": crossed.neutral((key[0], key[1]), key[2])[0],
                "standing": cell.standing,
                **cell.to_json(),
            }
            for key, cell in crossed.cells.items()
        ],
        "granularities": [
            {
                **{name: part or None for name, part in zip(others, key, strict=True)},
                "standing": cell.standing,
                **cell.to_json(),
            }
            for key, cell in crossed.pairs.items()
        ],
        "consistency": {
            each or "calibrated": found
            for each in crossed.crossing.granularities
            if (found := crossed.consistency(each))
        },
        "runs": {
            "-".join(filter(None, (*member.row, str(member.seed)))): found.run
            for member, found in crossed.tested.items()
        },
    }


def joined(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
