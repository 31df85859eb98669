"""The charts of a run: its search, its step size, and its knobs by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..engine.knobs import Setting
from ..reports.facts import Facts
from ..reports.knob_groups import group_knobs
from ..reports.skeleton import table
from .course import Course
from .drawing import COLOURS, Level, Line, chart

MOST_SINGLES = 40  # knobs without a depth that are listed
MOST_LINES = 8  # of knobs in one chart; more are drawn in several


def curves(facts: Facts) -> str:
    """Return the section on the course of the search."""
    numbers = [each.number for each in facts.generations]
    checks = facts.record.checks
    lines = [
        Line("training, best candidate", numbers, [each.best for each in facts.generations], "c1", thin=True),
        Line("training, mean", numbers, [each.mean for each in facts.generations], "c1"),
        Line("validation", [each.generation for each in checks], [each.score for each in checks], "c0", dots=True),
    ]
    levels = [Level("neutral, validation", checks[0].score)] if checks else []
    search = chart(lines, "generations", "scores of training and validation by generation", levels)
    told = [(each.number, each.sigma) for each in facts.generations if each.sigma is not None]
    sigma = ""
    if told:
        x, y = zip(*told, strict=True)
        sigma = chart(
            [Line("sigma", x, y, "c2")], "generations", "step size by generation", shape="low", from_zero=True
        )
    if not search:
        return ""
    return (
        '<section><h2>The search</h2><p class="note">Every generation is scored on prompts of its own, so training '
        "scores wander with them; validation always uses the same prompts. The dashed line is the best neutral setting "
        f"on those prompts.</p>{search}{sigma}</section>"
    )


def knobs(facts: Facts, course: Course) -> str:
    """Return the section on the knobs: where the search is now, and the best recommendation so far."""
    best = facts.shown.setting if facts.shown is not None and facts.shown.generation else None
    if facts.finished and facts.shown is not None:
        best = facts.shown.setting
    now = None if facts.finished else course.now()
    shown = now or best
    if shown is None:
        return ""
    neutral = facts.neutral or {}
    groups = group_knobs(shown)
    plots = []
    several = sum(-(-len(lines) // MOST_LINES) for lines in groups.by_depth.values()) > 1
    shape = "half" if several else "whole"
    for member, lines in groups.by_depth.items():
        names = list(lines)
        for first in range(0, len(names), MOST_LINES):
            some = {name: lines[name] for name in names[first : first + MOST_LINES]}
            label = f"knobs by depth {member}".strip()
            plot = chart(_by_depth(some, shown), "depth", label, _levels(some, neutral), shape=shape)
            title = f"<h3>{member.replace('member', 'member ')}</h3>" if member and not first else ""
            plots.append(f"<div>{title}{plot}</div>")
    what = "the mean of the latest candidates" if now else "the setting chosen" if facts.finished else "the best so far"
    singles = _singles(groups.single, neutral, now, best)
    return (
        f'<section class="plots"><h2>The knobs{" now" if now else ""}</h2><p class="note">By depth in the model: '
        f"{what}. The dashed line is the neutral value.</p>"
        f'<div class="{"two" if len(plots) > 1 else "one"}">{"".join(plots)}</div>{singles}</section>'
    )


def _by_depth(lines: Mapping[str, Sequence[tuple[int, str]]], setting: Setting) -> list[Line]:
    titled = len(lines) > 1 or next(iter(lines)) != "knob"
    return [
        Line(
            name if titled else "",
            [depth for depth, _ in points],
            [setting[knob] for _, knob in points],
            f"c{number % COLOURS}",
            dots=True,
        )
        for number, (name, points) in enumerate(lines.items())
    ]


def _levels(lines: Mapping[str, Sequence[tuple[int, str]]], neutral: Mapping[str, float]) -> list[Level]:
    values = {neutral[knob] for points in lines.values() for _, knob in points if knob in neutral}
    return [Level("neutral", value) for value in values] if len(values) == 1 else []


def _singles(names: Sequence[str], neutral: Mapping[str, float], now: Setting | None, best: Setting | None) -> str:
    """Return the table of knobs without a depth."""
    if not names:
        return ""
    columns = {"neutral": neutral, "now": now, "best on validation": best}
    told = {title: setting for title, setting in columns.items() if setting}
    rows = [
        [name, *(f"{setting[name]:.4g}" if name in setting else "" for setting in told.values())]
        for name in names[:MOST_SINGLES]
    ]
    more = f'<p class="note">and {len(names) - MOST_SINGLES} more</p>' if len(names) > MOST_SINGLES else ""
    return table(["", *told], rows) + more
