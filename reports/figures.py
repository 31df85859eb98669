"""The report's figures, made with plotly from a run's facts.

Names are escaped, because plotly reads them as HTML. `drawing` has the common style.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from .drawing import BLUE, GREY, LINES, TEAL, VIOLET, add_level, add_line, dress, new_figure
from .facts import Facts
from .knob_groups import group_knobs

if TYPE_CHECKING:
    import plotly.graph_objects as go

PANEL_HEIGHT, CROWDED_HEIGHT = 260, 150
MAX_POINTS = 100  # in one panel; more lines would hide each other
MAX_LABELS = 40  # most knobs without a depth that are labelled with their names
MEMBER_TITLES = {"member1": "member 1", "member2": "member 2"}


def figures(facts: Facts) -> dict[str, go.Figure]:
    """Return every figure for which there are enough facts, by name."""
    makers = {
        "search": search_figure,
        "knobs": knobs_figure,
        "singles": singles_figure,
        "steps": steps_figure,
        "gains": gains_figure,
        "grid": grid_figure,
        "differences": differences_figure,
        "watched": watched_figure,
    }
    made = {name: make(facts) for name, make in makers.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def search_figure(facts: Facts) -> go.Figure | None:
    """Draw fitness by generation with the validation checks, and sigma on a second axis."""
    checks = facts.record.checks
    if not facts.generations and not checks:
        return None
    figure = new_figure(340, "generations told", "score")
    numbers = [each.number for each in facts.generations]
    best = [each.best for each in facts.generations]
    add_line(figure, numbers, best, "training, best candidate", BLUE, width=1, dash="dot", mode="lines")
    add_line(figure, numbers, [each.mean for each in facts.generations], "training, mean", BLUE, mode="lines")
    add_line(figure, [c.generation for c in checks], [c.score for c in checks], "validation", TEAL, width=3)
    if checks:
        add_level(figure, checks[0].score, "neutral, validation")
    if facts.reference is not None:
        marker = {"symbol": "diamond-open", "size": 9, "color": GREY}
        add_line(figure, [0], [facts.reference], "neutral, first training bucket", GREY, mode="markers", marker=marker)
    sigmas = [(each.number, each.sigma) for each in facts.generations if each.sigma is not None]
    if sigmas:
        x, y = (list(values) for values in zip(*sigmas, strict=True))
        add_line(figure, x, y, "sigma (right)", VIOLET, width=1.5, dash="dash", mode="lines", yaxis="y2")
        axis = {"overlaying": "y", "side": "right", "showgrid": False, "zeroline": False, "automargin": True}
        reach = [0, 1.1 * max(y)]  # the axis starts at 0, so that half a value has half the height
        ticks = {"range": reach, "nticks": 5, "tickmode": "auto", "tickformat": ".2~g"}
        figure.update_layout(yaxis2={"title": {"text": "sigma", "standoff": 12}, **axis, **ticks})
    return figure


def knobs_figure(facts: Facts) -> go.Figure | None:
    """Draw the knobs of the setting that is shown by depth; see `depth_figure`."""
    return None if facts.shown is None else depth_figure(facts.shown.setting, facts.neutral)


def depth_figure(
    setting: Mapping[str, float], neutral: Mapping[str, float] | None, title: str = "value"
) -> go.Figure | None:
    """Draw knob values by depth: a panel per member, a line per branch and stream, the neutral value dashed.

    If there are too many points, every branch and stream gets a panel of its own, with the members side by side.

    Args:
        setting: Knob name to value, in vector order.
        neutral: The neutral value of every knob, if it is known.
        title: The title of the axis of values.

    Returns:
        The figure; None if no knob has a depth.
    """
    groups = group_knobs(setting)
    members = groups.by_depth
    if not members:
        return None
    from plotly.subplots import make_subplots

    branches = list(dict.fromkeys(line for lines in members.values() for line in lines))
    palette = {line: LINES[number % len(LINES)] for number, line in enumerate(branches)}
    crowded = max(sum(map(len, lines.values())) for lines in members.values()) > MAX_POINTS
    rows, columns = (len(branches), len(members)) if crowded else (len(members), 1)
    titles = [MEMBER_TITLES.get(member, member) for member in members] if len(members) > 1 else []
    if crowded:
        titles = [f"{line}, {title}".rstrip(", ") for line in branches for title in titles or [""]]
    figure = make_subplots(
        rows=rows, cols=columns, shared_xaxes=True, shared_yaxes="all", horizontal_spacing=0.05,
        vertical_spacing=0.16 / rows, subplot_titles=[escape(title) for title in titles] or None,
    )  # fmt: skip
    if not crowded:
        figure.update_annotations(x=0, xanchor="left")
    for place, lines in enumerate(members.values(), start=1):
        for line, points in lines.items():
            names = [name for _, name in points]
            where: dict[str, Any] = (
                {"row": branches.index(line) + 1, "col": place} if crowded else {"row": place, "col": 1}
            )
            add_line(
                figure, [depth for depth, _ in points], [setting[name] for name in names],
                escape(line), palette[line], width=1.5, marker={"size": 4 if crowded else 6, "color": palette[line]},
                text=[escape(name) for name in names], hovertemplate="%{text}: %{y:.3f}<extra></extra>",
                legendgroup=line, showlegend=not crowded and place == 1, **where,
            )  # fmt: skip
            levels = {neutral[name] for name in names} if neutral else set()
            if len(levels) == 1 and (crowded or line == next(iter(lines))):
                add_level(figure, levels.pop(), None, **where)
    for kind, start in groups.starts.items():
        if start:  # depth at which another kind of block begins
            figure.add_vline(start - 0.5, line={"color": GREY, "width": 1, "dash": "dot"}, opacity=0.6,
                             annotation={"text": escape(kind), "font": {"size": 11}})  # fmt: skip
    dress(figure, 90 + (CROWDED_HEIGHT if crowded else PANEL_HEIGHT) * rows, None, None)
    figure.update_layout(legend={"x": 1, "xanchor": "right"})
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text="block, first to last", row=rows, col=column)
    return figure


def singles_figure(facts: Facts) -> go.Figure | None:
    """Draw every knob without a depth, from its neutral to its calibrated value."""
    names = group_knobs(facts.shown.setting).single if facts.shown else []
    if facts.shown is None or facts.neutral is None or not names:
        return None
    before = [facts.neutral[name] for name in names]
    after = [facts.shown.setting[name] for name in names]
    labels = [escape(name) for name in names]
    if len(names) > MAX_LABELS:
        figure = new_figure(340, "knob, in order", "value")
        order = list(range(len(names)))
        hover: dict[str, Any] = {"text": labels, "hovertemplate": "%{text}: %{y:.4g}<extra></extra>"}
        add_line(figure, order, before, "neutral", GREY, mode="lines", dash="dash", **hover)
        add_line(figure, order, after, "calibrated", TEAL, mode="markers", **hover)
        return figure
    figure = new_figure(110 + 30 * len(names), "value", None)
    for label, start, end in zip(labels, before, after, strict=True):
        add_line(figure, [start, end], [label, label], "", GREY, mode="lines", showlegend=False, hoverinfo="skip")
    for title, values, colour in (("neutral", before, GREY), ("calibrated", after, TEAL)):
        add_line(figure, values, labels, title, colour, mode="markers", marker={"size": 11, "color": colour},
              hovertemplate="%{y}: %{x:.4g}<extra>" + title + "</extra>")  # fmt: skip
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    return figure


def steps_figure(facts: Facts) -> go.Figure | None:
    """Draw the test scores of the neutral and the calibrated side by number of steps."""
    if len(facts.comparisons) < 2:
        return None
    figure = new_figure(330, "denoising steps", "test score")
    ordered = sorted(facts.comparisons, key=lambda each: each["num_steps"])
    steps = [str(each["num_steps"]) for each in ordered]
    gains = [each["gain"] for each in ordered]
    labels = [escape(each["baseline"]["label"]) for each in ordered]
    add_line(figure, steps, [each["neutral"] for each in ordered], "neutral at its best", GREY,
          text=labels, hovertemplate="%{text}: %{y:.4f}<extra>neutral</extra>")  # fmt: skip
    # The sides are paired, so only their difference has a meaningful interval; it is drawn on one side.
    bars = {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 5, "color": TEAL,
        "array": [gain["high"] - gain["mean"] for gain in gains],
        "arrayminus": [gain["mean"] - gain["low"] for gain in gains],
    }  # fmt: skip
    add_line(figure, steps, [each["calibrated"] for each in ordered], "calibrated", TEAL, width=2.5, error_y=bars)
    figure.update_xaxes(type="category")
    return figure


def gains_figure(facts: Facts) -> go.Figure | None:
    """Draw the gain by number of steps, and the gain of the first number of steps over neutral at the others."""
    if len(facts.comparisons) < 2:
        return None
    figure = new_figure(330, "denoising steps of the neutral side", "gain")
    ordered = sorted(facts.comparisons, key=lambda each: each["num_steps"])
    first = facts.comparisons[0]["num_steps"]
    kinds = (
        ("gain", "at the same steps", TEAL, -0.08),
        ("gain_at_calibrated_steps", f"calibrated stays at {first} steps", "#e0823d", 0.08),
    )
    for key, title, colour, shift in kinds:
        gains = [each[key] for each in ordered]
        bars = {
            "type": "data", "symmetric": False, "thickness": 2, "width": 6, "color": colour,
            "array": [gain["high"] - gain["mean"] for gain in gains],
            "arrayminus": [gain["mean"] - gain["low"] for gain in gains],
        }  # fmt: skip
        add_line(figure, [number + shift for number in range(len(ordered))], [gain["mean"] for gain in gains], title,
              colour, mode="markers", marker={"size": 10, "color": colour}, error_y=bars)  # fmt: skip
    figure.update_xaxes(tickvals=list(range(len(ordered))), ticktext=[str(each["num_steps"]) for each in ordered],
                        range=[-0.5, len(ordered) - 0.5])  # fmt: skip
    add_level(figure, 0.0, None)
    return figure


def grid_figure(facts: Facts) -> go.Figure | None:
    """Draw the validation score of every neutral setting that was tried."""
    grids = {steps: grid for steps, grid in facts.record.grids.items() if len(grid) > 1}
    if not grids:
        return None
    figure = new_figure(300, "neutral setting", "validation score")
    values = {label: _last_number(label) for grid in grids.values() for label in grid}
    numeric = len({label.rpartition(" ")[0] for label in values}) == 1 and None not in values.values()
    if numeric:
        figure.update_xaxes(title_text=escape(next(iter(values)).rpartition(" ")[0]))
    for number, (steps, grid) in enumerate(grids.items()):
        labels = sorted(grid, key=lambda label: values[label] or 0) if numeric else list(grid)
        best = max(labels, key=lambda label: grid[label])
        colour = LINES[number % len(LINES)]
        marker = {
            "size": [13 if label == best else 7 for label in labels],
            "color": colour,
            "symbol": ["star" if label == best else "circle" for label in labels],
        }
        x = [values[label] if numeric else escape(label) for label in labels]
        title = f"{steps} steps" if steps else "neutral"
        add_line(figure, x, [grid[label] for label in labels], title, colour, marker=marker)
    return figure


def differences_figure(facts: Facts) -> go.Figure | None:
    """Draw calibrated minus neutral by prompt; several rewards have a panel each."""
    if facts.record.pair is None:
        return None
    from plotly.subplots import make_subplots

    before, after = facts.record.pair
    differences: dict[str, list[float]] = {"": [float(value) for value in after.values - before.values]}
    rewards = [name for name in facts.row.config["objectives"] if name in before.scores]
    if len(rewards) > 1 or facts.combined != "weighted":
        title = "weighted sum" if facts.combined == "weighted" else facts.combined
        differences = {title: differences[""]} | {
            name: [b - a for a, b in zip(before.scores[name], after.scores[name], strict=True)] for name in rewards
        }
    figure = make_subplots(
        rows=len(differences), vertical_spacing=0.3 / len(differences),
        subplot_titles=[escape(name) for name in differences] if len(differences) > 1 else None,
    )  # fmt: skip
    figure.update_annotations(x=0, xanchor="left")
    for row, (name, values) in enumerate(differences.items(), start=1):
        reach = max(map(abs, values)) or 1.0
        bins = {"start": -reach * 31 / 30, "end": reach * 31 / 30, "size": reach / 15}  # one bin straddles 0
        figure.add_histogram(
            x=values, xbins=bins, marker={"color": TEAL, "line": {"width": 0}}, opacity=0.85, showlegend=False,
            name=escape(name), hovertemplate="%{x}: %{y} " + facts.noun + "<extra></extra>", row=row, col=1,
        )  # fmt: skip
        figure.add_vline(0, line={"color": GREY, "width": 1.5, "dash": "dash"}, row=row, col=1)
        mean = sum(values) / len(values)
        figure.add_vline(mean, line={"color": "#e0823d", "width": 2}, row=row, col=1,
                         annotation={"text": f"mean {mean:+.3g}", "yanchor": "bottom", "y": 1})  # fmt: skip
        figure.update_yaxes(title_text=facts.noun, row=row, col=1)
    figure.update_xaxes(title_text="calibrated \N{MINUS SIGN} neutral", row=len(differences), col=1)
    return dress(figure, 90 + 200 * len(differences), None, None)


def watched_figure(facts: Facts) -> go.Figure | None:
    """Draw the mean score of every objective on watched prompts by check; the first point is neutral."""
    courses = [each for each in facts.on_watched if len(each.course) > 1]
    if not courses:
        return None
    from plotly.subplots import make_subplots

    titles = [escape(f"{each.objective} on {each.prompts}") for each in courses]
    figure = make_subplots(rows=len(courses), shared_xaxes=True, vertical_spacing=0.3 / len(courses),
                           subplot_titles=titles)  # fmt: skip
    figure.update_annotations(x=0, xanchor="left")
    for row, each in enumerate(courses, start=1):
        generations, means = list(each.course), list(each.course.values())
        add_line(figure, generations, means, titles[row - 1], TEAL, showlegend=False, row=row, col=1)
        if 0 in each.course:
            add_level(figure, each.course[0], None, row=row, col=1)
    figure.update_xaxes(title_text="generations told", row=len(courses), col=1)
    return dress(figure, 80 + 120 * len(courses), None, None)


def _last_number(label: str) -> float | None:
    try:
        return float(label.rpartition(" ")[2])
    except ValueError:
        return None
