"""A comparison's figures, made with plotly."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ..reports.drawing import GREY, LINES, add_level, add_line, new_figure
from .gains import Array, Ranking, band, level_at, restarted, share_reached, targets_between
from .results import Course
from .summary import Summary

if TYPE_CHECKING:
    import plotly.graph_objects as go

NUM_POINTS = 121
NUM_RESTARTS = 200  # simulated restarts for each target
BEYOND = 3.0  # restarts are shown up to this multiple of the budget


def figures(summary: Summary) -> dict[str, go.Figure]:
    """Return every figure for which there are enough results, by name."""
    made = {
        "gains": gains_figure(summary),
        "chosen": curves_figure(summary, "chosen"),
        "recommended": curves_figure(summary, "validation"),
        "targets": targets_figure(summary),
        "ranks": ranks_figure(summary),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def colours(summary: Summary) -> dict[str, str]:
    """Return a colour for every contender, the same in all figures."""
    return {label: LINES[number % len(LINES)] for number, label in enumerate(summary.results.labels)}


def gains_figure(summary: Summary) -> go.Figure | None:
    """Draw the gain on test prompts: a ring for every seed, and the interquartile mean with its interval."""
    if not summary.gains:
        return None
    figure = new_figure(112 + 44 * len(summary.gains), "gain on test prompts", None)
    ordered = list(summary.gains)[::-1]
    for label in ordered:
        colour, found, name = colours(summary)[label], summary.gains[label], escape(label)
        values = [float(value) for value in summary.results.gains(label)]
        ring = {"symbol": "circle-open", "size": 8, "color": colour, "line": {"width": 1.4}}
        seeds = [f"{summary.results.seed} {course.seed}" for course in summary.results.of(label)]
        add_line(figure, values, [name] * len(values), name, colour, mode="markers", marker=ring, opacity=0.75,
                 showlegend=False, text=seeds,
                 hovertemplate="%{text}: %{x:.4g}<extra>" + name + "</extra>")  # fmt: skip
        bars = {"type": "data", "symmetric": False, "thickness": 2.5, "width": 7, "color": colour,
                "array": [found.high - found.value], "arrayminus": [found.value - found.low]}  # fmt: skip
        add_line(figure, [found.value], [name], name, colour, mode="markers", showlegend=False, error_x=bars,
                 marker={"symbol": "diamond", "size": 12, "color": colour},
                 hovertemplate="interquartile mean %{x:.4g}<extra>" + name + "</extra>")  # fmt: skip
    figure.add_vline(0, line={"color": GREY, "width": 1.2, "dash": "dash"})
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=[escape(label) for label in ordered])
    figure.update_layout(margin={"t": 20}, showlegend=False)
    return figure


def curves_figure(summary: Summary, which: str) -> go.Figure | None:
    """Draw the validation score by images of search, with a band over seeds.

    Args:
        summary: The summary of the comparison.
        which: `chosen` for the best recommendation so far, `validation` for the latest.
    """
    if not summary.gains:
        return None
    outputs = summary.results.noun
    figure = new_figure(380, f"{outputs} of search", "validation score")
    grid = np.linspace(0, summary.results.budget, NUM_POINTS)
    for label in summary.gains:
        courses, colour, name = summary.results.of(label), colours(summary)[label], escape(label)
        low, middle, high = band(np.stack([level_at(each.images, getattr(each, which), grid) for each in courses]))
        if np.isfinite(low).all():
            _band(figure, grid, low, high, name, colour)
        add_line(figure, _plain(grid), _plain(middle), name, colour, width=2.5, mode="lines", legendgroup=name,
                 line_shape="hv", hovertemplate=f"%{{x:,.0f}} {outputs}: %{{y:.4g}}<extra>{name}</extra>")  # fmt: skip
    if summary.start is not None:
        add_level(figure, summary.start, "neutral at its best")
    figure.update_xaxes(tickformat=",")
    return figure


def targets_figure(summary: Summary) -> go.Figure | None:
    """Draw the share of all runs' targets reached by number of images: COCO's cumulative distribution."""
    if summary.start is None or summary.best is None or summary.best <= summary.start:
        return None
    outputs = summary.results.noun
    figure = new_figure(380, f"{outputs} of search (logarithmic)", "share of targets reached")
    targets = targets_between(summary.start, summary.best)
    budget = summary.results.budget
    first = min(course.images[1] for label in summary.gains for course in summary.results.of(label))
    inside = np.unique(np.append(np.geomspace(max(first * 0.8, 1), budget, NUM_POINTS), _checked(summary)))
    beyond = np.geomspace(budget, BEYOND * budget, 40)[1:]
    for label in summary.gains:
        times = summary.times(label, targets)
        colour, name = colours(summary)[label], escape(label)
        reached = share_reached(times, inside)
        hover = {"hovertemplate": f"%{{x:,.0f}} {outputs}: %{{y:.1%}}<extra>{name}</extra>", "legendgroup": name}
        add_line(figure, _plain(inside), _plain(reached), name, colour, width=2.5, mode="lines", line_shape="hv",
                 **hover)  # fmt: skip
        later = share_reached(_restarts(times, summary.spent(label)), beyond)
        joined = np.maximum.accumulate(np.append(reached[-1], np.maximum(later, reached[-1])))
        add_line(figure, _plain(np.append(budget, beyond)), _plain(joined), name, colour, width=1.5, dash="dot",
                 mode="lines", showlegend=False, **hover)  # fmt: skip
    figure.add_vline(budget, line={"color": GREY, "width": 1.2, "dash": "dash"},
                     annotation={"text": "with restarts", "xanchor": "left", "font": {"size": 11}})  # fmt: skip
    figure.update_xaxes(type="log", tickformat=",", dtick="D2")
    figure.update_yaxes(range=[-0.02, 1.03], tickformat=".0%")
    return figure


def ranks_figure(summary: Summary) -> go.Figure | None:
    """Draw average ranks; a bar joins those within the critical difference of each other (Demsar 2006, figure 1)."""
    found = summary.ranking
    if found is None:
        return None
    ordered = sorted(found.ranks, key=lambda label: found.ranks[label])
    half = (len(ordered) + 1) // 2
    depth = 0.8 + 0.32 * len(found.groups)
    figure = new_figure(round(150 + 30 * (half + depth)), None, None)
    last = len(ordered)
    for number, label in enumerate(ordered):
        left = number < half
        level = -(depth + 0.8 * (number if left else last - 1 - number))
        edge = 0.7 if left else last + 0.3
        rank, colour = found.ranks[label], colours(summary)[label]
        add_line(figure, [rank, rank, edge], [0, level, level], escape(label), GREY, width=1.2, mode="lines",
                 showlegend=False, hoverinfo="skip")  # fmt: skip
        figure.add_annotation(x=edge, y=level, text=f"<b>{escape(label)}</b>  {rank:.2f}", showarrow=False,
                              xanchor="right" if left else "left", xshift=-6 if left else 6)  # fmt: skip
        add_line(figure, [rank], [0], escape(label), colour, mode="markers", showlegend=False,
                 marker={"size": 12, "color": colour},
                 hovertemplate="average rank %{x:.2f}<extra>" + escape(label) + "</extra>")  # fmt: skip
    for number, group in enumerate(found.groups):
        ends = [found.ranks[group[0]] - 0.04, found.ranks[group[-1]] + 0.04]
        height = [-(0.4 + 0.32 * number)] * 2
        add_line(figure, ends, height, "", GREY, width=6, mode="lines", showlegend=False, hoverinfo="skip")
    _critical(figure, found, last)
    figure.update_xaxes(range=[0.7, last + 0.3], tickvals=list(range(1, last + 1)), side="top", showline=False)
    figure.update_yaxes(visible=False, range=[-(depth + 0.8 * half), 1.6])
    beside = min(60 + 8 * max(map(len, ordered)), 190)  # pixels for the names
    figure.update_layout(margin={"t": 46, "b": 12, "l": beside, "r": beside}, showlegend=False)
    return figure


def _critical(figure: go.Figure, found: Ranking, last: int) -> None:
    """Draw the axis, and above it the critical difference to scale."""
    add_line(figure, [1, last], [0, 0], "", GREY, width=1.5, mode="lines", showlegend=False, hoverinfo="skip")
    ends = [1.0, 1.0 + found.critical]
    add_line(figure, ends, [0.75, 0.75], "", GREY, width=1.5, mode="lines+markers", showlegend=False,
             hoverinfo="skip", marker={"symbol": "line-ns", "size": 9, "color": GREY,
                                       "line": {"width": 1.5, "color": GREY}})  # fmt: skip
    figure.add_annotation(x=sum(ends) / 2, y=0.8, yanchor="bottom", showarrow=False, font={"size": 11},
                          text=f"critical difference {found.critical:.2f}")  # fmt: skip


def _restarts(times: Array, spent: Array) -> Array:
    generator = np.random.default_rng(0)
    return np.stack([restarted(column, spent, NUM_RESTARTS, generator) for column in times.T])


def _checked(summary: Summary) -> list[int]:
    """Return every number of images at which any run made a check; at most a thousand of them."""
    courses: list[Course] = [course for label in summary.gains for course in summary.results.of(label)]
    found = sorted({images for course in courses for images in course.images[1:]})
    return found[:: max(1, len(found) // 1000)]


def _band(figure: go.Figure, grid: Array, low: Array, high: Array, name: str, colour: str) -> None:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    hidden: dict[str, Any] = {"mode": "lines", "line_shape": "hv", "showlegend": False, "hoverinfo": "skip"}
    figure.add_scatter(x=_plain(grid), y=_plain(low), line={"width": 0}, legendgroup=name, **hidden)
    figure.add_scatter(x=_plain(grid), y=_plain(high), line={"width": 0}, legendgroup=name, fill="tonexty",
                       fillcolor=f"rgba({red},{green},{blue},0.16)", **hidden)  # fmt: skip


def _plain(values: Array | Sequence[float]) -> list[float]:
    """Return numbers as a list, which plotly writes as text that a person or a test can read."""
    return [round(float(value), 10) for value in values]
