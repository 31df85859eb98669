"""The tables, the pictures and the sentences of scores by numbers of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ..engine.statistics import Gain, few
from ..reports.drawing import GREY, LINES, add_line, new_figure
from ..reports.words import gain_text, signed
from .analysis import Findings, Part, Table, drawn
from .crossing_findings import decimals, p_text, plain_score
from .curves import Curves, Point
from .differences import Difference

if TYPE_CHECKING:
    import plotly.graph_objects as go

NEUTRAL = "neutral"


def findings(curves: Curves, own: int, runs: Mapping[str, Sequence[str]]) -> Findings:
    """Return scores by steps as findings.

    Args:
        curves: What was measured.
        own: The number of steps that was calibrated for.
        runs: The runs or files of each kind.
    """
    best = curves.best
    equal = {kind: curves.equals_best(kind) for kind in curves.calibrated}
    beats = {kind: curves.beats_best(kind) for kind in curves.calibrated}
    parts = [
        Part(
            "Score against steps",
            "Mean score on test prompts. Neutral is at its best setting at every number of steps, chosen on validation "
            "prompts at that number. Bars are the 95 % interval by prompt of the paired difference to neutral at its "
            f"best steps, drawn around the score; calibrated for {own} steps. The same against passes of the "
            "transformer (NFE) and against measured seconds of generating one. A star marks the 5 % level after "
            "Holm's correction for all gains of the table.",
            tuple(drawn(figure(curves, by)) for by in ("steps", "passes", "seconds") if _has(curves, by)),
            (points_table(curves),),
        ),
        Part(
            "How few steps are enough",
            f"{_rule(curves)} 'Better from' is the first number of steps whose whole interval lies above 0.",
            (),
            (enough_table(curves, equal, beats),),
        ),
    ]
    if len(curves.calibrated) > 1:
        parts.append(
            Part(
                "What a further member is worth",
                "Ensembles against the smallest at the same number of steps, on the same outputs, with Holm's "
                "correction for all numbers of steps. A further member is a further pass in every step.",
                (),
                (members_table(curves),),
            )
        )
    parts.append(Part("The searches", "Each is a run of the store like any other.", (), (_runs_table(runs),)))
    return Findings(
        _headline(curves, equal),
        parts,
        sentences=(
            f"The best uncalibrated model is neutral at {best.steps} steps with {best.label}, the number of steps at "
            f"which the best neutral setting scored most on validation prompts; it scores {plain_score(best.score)} on "
            "test prompts.",
        ),
        cautions=_cautions(curves),
        stats={
            "calibrated for": f"{own} steps",
            "kinds": str(len(curves.calibrated)),
            "seeds": str(max(len(each) for each in runs.values())),
            "test prompts": str(len({*curves.prompts})),
        },
        numbers=_numbers(curves, own, equal, beats, runs),
    )


def points_table(curves: Curves) -> Table:
    """Return a row for every kind and number of steps."""
    columns = (
        *("kind", "steps", "nfe", "seconds", "score", "neutral_setting", "validation", "gain", "gain_low", "gain_high"),
        *("p", "p_holm", "to_best", "to_best_low", "to_best_high", "lowest_seed", "highest_seed"),
    )
    rows, shown = [], []
    for kind, point in _points(curves):
        gain = curves.gains.get((kind, point.steps))
        away = curves.to_best[kind, point.steps]
        seeds = [float(each.mean()) for each in point.values]
        rows.append(
            (
                *(kind, point.steps, point.passes, point.seconds, point.score, point.label or None, point.validation),
                *((gain.gain.mean, gain.gain.low, gain.gain.high, gain.p, gain.adjusted) if gain else (None,) * 5),
                *(away.mean, away.low, away.high, min(seeds), max(seeds)),
            )
        )
        shown.append(
            [
                kind if kind != NEUTRAL else f"{kind} ({point.label})",
                str(point.steps),
                "" if point.passes is None else str(point.passes),
                _time(point.seconds),
                plain_score(point.score),
                _told(gain) if gain else "",
                _gain(away),
            ]
        )
    head = ["", "steps", "NFE", "time of one", "score", "gain at these steps", "less neutral at its best"]
    return Table("steps", columns, rows, (head, shown), main=4)


def enough_table(curves: Curves, equal: Mapping[str, int | None], beats: Mapping[str, int | None]) -> Table:
    """Return the fewest steps at which each kind equals neutral at its best, and is better."""
    best, rows, shown = curves.best, [], []
    for kind, points in curves.calibrated.items():
        fewest = equal[kind]
        point = points[fewest] if fewest is not None else None
        ratio = None if point is None or not point.seconds else best.seconds / point.seconds
        away = curves.to_best[kind, point.steps] if point else None
        rows.append(
            (
                *(kind, best.steps, best.passes, fewest, point.passes if point else None, ratio, beats[kind]),
                *((away.mean, away.low, away.high) if away else (None,) * 3),
            )
        )
        shown.append(
            [
                kind,
                "at none of these" if fewest is None else str(fewest),
                f"{best.steps}",
                "" if point is None or point.passes is None else f"{point.passes} for {best.passes}",
                "" if ratio is None else f"{ratio:.3g} times as fast",
                _gain(away) if away else "",
                "at none of these" if beats[kind] is None else str(beats[kind]),
            ]
        )
    columns = (
        *("kind", "neutral_steps", "neutral_nfe", "equal_from", "nfe", "times_as_fast", "better_from"),
        *("difference", "low", "high"),
    )
    head = ["", "equal from steps", "neutral's best steps", "NFE", "measured", "difference there", "better from steps"]
    return Table("enough", columns, rows, (head, shown), main=1)


def members_table(curves: Curves) -> Table:
    """Return what larger ensembles score over the smallest at the same steps."""
    smallest, *others = curves.calibrated
    columns = ("kind", "less", "steps", "difference", "low", "high", "p", "p_holm")
    rows, shown = [], []
    for kind in others:
        for steps, found in curves.between(kind, smallest).items():
            gain = found.gain
            rows.append((kind, smallest, steps, gain.mean, gain.low, gain.high, found.p, found.adjusted))
            shown.append([kind, str(steps), _told(found), p_text(found.adjusted)])
    return Table("members", columns, rows, (["", "steps", f"less {smallest}", "p, Holm"], shown), main=2)


def figure(curves: Curves, by: str) -> go.Figure:
    """Draw the scores of every kind.

    Args:
        curves: What was measured.
        by: `steps`, `passes` or `seconds`.
    """
    titles = {
        "steps": "steps",
        "passes": "passes of the transformer (NFE)",
        "seconds": "seconds of generating one",
    }
    made = new_figure(400, f"{titles[by]}, logarithmic", "score on test prompts")
    for number, (kind, points) in enumerate({NEUTRAL: curves.neutral, **curves.calibrated}.items()):
        colour = GREY if kind == NEUTRAL else LINES[(number - 1) % len(LINES)]
        ordered = [points[steps] for steps in sorted(points)]
        away = [curves.to_best[kind, point.steps] for point in ordered]
        bars = {
            "type": "data", "symmetric": False, "thickness": 1.4, "width": 4, "color": colour,
            "array": [_finite(each.high - each.mean) for each in away],
            "arrayminus": [_finite(each.mean - each.low) for each in away],
        }  # fmt: skip
        add_line(made, [getattr(point, by) for point in ordered], [point.score for point in ordered], escape(kind),
                 colour, error_y=bars, text=[f"{point.steps} steps" for point in ordered],
                 hovertemplate="%{text}: %{y:.4g}<extra>" + escape(kind) + "</extra>")  # fmt: skip
    made.add_hline(curves.best.score, line={"color": GREY, "width": 1.2, "dash": "dash"})
    made.update_xaxes(type="log")
    if by != "seconds":
        ticks = sorted(curves.neutral) if by == "steps" else [f * 10**e for e in range(5) for f in (1, 2, 5)]
        made.update_xaxes(tickvals=ticks, ticktext=[f"{each:,}" for each in ticks])
    return made


def _points(curves: Curves) -> list[tuple[str, Point]]:
    kinds = {NEUTRAL: curves.neutral, **curves.calibrated}
    return [(kind, points[steps]) for kind, points in kinds.items() for steps in sorted(points)]


def _has(curves: Curves, by: str) -> bool:
    return all(getattr(point, by) for _, point in _points(curves))


def _rule(curves: Curves) -> str:
    if curves.margin:
        return (
            "Calibrated equals neutral at its best from the fewest steps at which the whole 95 % interval of the "
            f"paired difference lies above {signed(-curves.margin, 3)}, the margin that was asked for."
        )
    return (
        "Calibrated equals neutral at its best from the fewest steps at which the 95 % interval of the paired "
        "difference reaches 0 or lies above it; a wide interval reaches it easily, so look at its width too."
    )


def _headline(curves: Curves, equal: Mapping[str, int | None]) -> str:
    best, told = curves.best, []
    for kind, fewest in equal.items():
        told.append(f"{kind}, at {fewest} steps" if fewest is not None else f"{kind}, at none of these steps")
    return f"Neutral at its best ({best.steps} steps, {best.label}) is equalled by {'; by '.join(told)}."


def _cautions(curves: Curves) -> list[str]:
    found = []
    if sentence := few(len({*curves.prompts})):
        found.append(f"{sentence[0].upper()}{sentence[1:]}.")
    if max(curves.neutral) == curves.best.steps:
        found.append("Neutral is best at the most steps that were tried: with more it may be better still.")
    return found


def _runs_table(runs: Mapping[str, Sequence[str]]) -> Table:
    rows = [(kind, name) for kind, names in runs.items() for name in names]
    return Table("calibrations", ("kind", "calibration"), rows, (["", "calibration"], [list(row) for row in rows]))


def _numbers(
    curves: Curves,
    own: int,
    equal: Mapping[str, int | None],
    beats: Mapping[str, int | None],
    runs: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    best = curves.best
    return {
        "calibrated_for": own,
        "margin": curves.margin,
        "neutral_best": {"steps": best.steps, "setting": best.label, "score": best.score, "nfe": best.passes},
        "equal_from": dict(equal),
        "better_from": dict(beats),
        "points": [
            {
                "kind": kind,
                "steps": point.steps,
                "nfe": point.passes,
                "seconds": point.seconds,
                "score": point.score,
                "by_seed": [float(each.mean()) for each in point.values],
                "to_neutral_best": vars(curves.to_best[kind, point.steps]),
                "gain": found.to_json() if (found := curves.gains.get((kind, point.steps))) else None,
            }
            for kind, point in _points(curves)
        ],
        "runs": {kind: list(names) for kind, names in runs.items()},
    }


def _told(found: Difference) -> str:
    mark = "" if not found.beyond_noise else " *"
    return _gain(found.gain) + mark


def _gain(gain: Gain) -> str:
    return gain_text(vars(gain), decimals(gain))


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
