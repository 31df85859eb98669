"""The page's sections on watched scores and on rewards that scored the outputs after the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from html import escape

from .facts import Facts, decimals_for
from .skeleton import table
from .watched import Moved, OnWatched, movements
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
    raised = _raised(facts, elsewhere=False)
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


def prompts_section(facts: Facts, charts: Mapping[str, str]) -> str:
    """Return the section on watched prompts: what calibrating changed there, and how it went from check to check."""
    if not facts.on_watched:
        return ""
    raised = _raised(facts, elsewhere=True)
    rows = {
        "validation": [_row(each, each.shown) for each in facts.on_watched if each.shown],
        "test": [_row(each, each.test) for each in facts.on_watched if each.test],
    }
    head = ["prompts", "objective", "neutral", "calibrated", "change"]
    tables = "".join(f"<h3>On {pool} prompts</h3>{table(head, found)}" for pool, found in rows.items() if found)
    title = "Alarms and watched prompts" if raised else "Watched prompts"
    return (
        f'<section id="watched-prompts"><h2>{title}</h2>{raised}'
        '<p class="note">Other prompts, which the search never saw and which decided nothing: what calibrating for the '
        "optimised score changes elsewhere. A change is significant where its interval leaves out 0; a loss is "
        f"negative. Intervals are those of the paired change, 95 %.{'' if raised else ' No alarm was raised.'}</p>"
        f"{tables}{charts.get('watched', '')}</section>"
    )


def _row(each: OnWatched, change: Moved | None) -> list[str]:
    assert change is not None
    return [each.prompts, f"{each.objective} (alarm)" if each.alarmed else each.objective, *_cells(change)]


def _raised(facts: Facts, *, elsewhere: bool) -> str:
    """Return the alarms of watched scores, or those of watched prompts, as paragraphs."""
    alarms = [alarm for alarm in facts.record.alarms if bool(alarm.prompts) == elsewhere]
    return "".join(f'<p class="verdict">Alarm: {escape(alarm.told(facts.noun))}.</p>' for alarm in alarms)


def _rows(facts: Facts, moved: Mapping[str, Moved]) -> list[list[str]]:
    alarmed = {alarm.objective for alarm in facts.record.alarms if not alarm.prompts}
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
