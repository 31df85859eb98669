"""The page's sections on watched scores and on rewards that scored the images after the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from html import escape

from .facts import Facts, decimals_for
from .skeleton import table
from .watched import Moved, movements
from .words import gain_text

#: How outputs change where a search finds a hole in its reward, as far as statistics that are always watched show it.
CHANGES: Mapping[str, str] = defaultdict(
    lambda: "other than they were",
    images="darker, flatter or busier",
    answers="longer, shorter, repetitive, or refusals",
)


def watched_section(facts: Facts) -> str:
    """Return the section on alarms and on every watched score of the neutral and the calibrated outputs."""
    if not facts.record.watched:
        return ""
    raised = "".join(f'<p class="verdict">Alarm: {escape(str(alarm))}.</p>' for alarm in facts.record.alarms)
    title = "Alarms and watched scores" if raised else "Watched scores"
    tables = "".join(
        table([images, "neutral", "calibrated", "change"], rows)
        for images, rows in (
            (f"validation {facts.noun}", _rows(facts, movements(facts.validation_pair, list(facts.record.watched)))),
            (f"test {facts.noun}", _rows(facts, movements(facts.record.pair, list(facts.record.watched)))),
        )
        if rows
    )
    return (
        f'<section id="watched"><h2>{title}</h2>{raised}'
        '<p class="note">None of these was optimised. A search that found a hole in its reward, rather than better '
        f"{facts.noun}, shows here: a watched reward falls, or the {facts.noun} as a whole become "
        f"{CHANGES[facts.noun]}. "
        f"Intervals are those of the paired change, 95 %.{'' if raised else ' No alarm was raised.'}</p>"
        f"{tables}</section>"
    )


def _rows(facts: Facts, moved: Mapping[str, Moved]) -> list[list[str]]:
    alarmed = {alarm.objective for alarm in facts.record.alarms}
    return [[f"{name} (alarm)" if name in alarmed else name, *_cells(each)] for name, each in moved.items()]


def rescores_section(facts: Facts) -> str:
    """Return the section on rewards that scored the kept images after the run."""
    if not facts.rescores:
        return ""
    rows = [
        [label, stage, *_cells(moved)] for label, stages in facts.rescores.items() for stage, moved in stages.items()
    ]
    return (
        '<section id="rescored"><h2>Scored later</h2><p class="note">Rewards that the search did not have, on '
        f"{facts.noun} that were kept. The validation {facts.noun} chose the calibration by the optimised score, not "
        "by these.</p>"
        f"{table(['', facts.noun, 'neutral', 'calibrated', 'change'], rows)}</section>"
    )


def _cells(moved: Moved) -> list[str]:
    change = moved.change
    decimals = decimals_for(change.high - change.low)
    gain: Mapping[str, float] = {"mean": change.mean, "low": change.low, "high": change.high}
    return [f"{moved.neutral:.{decimals}f}", f"{moved.calibrated:.{decimals}f}", gain_text(gain, decimals)]
