"""A run in a notebook: its curve as rows, a card that shows it, and a bar that moves while it is at work.

The card is HTML with its own pictures and without scripts. It takes the notebook's colour of text, so that it can be
read on light and on dark ground.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from ..engine.evaluation import Evaluation, Place
from ..engine.run import Run
from ..engine.watcher import Watcher
from ..setup.plan import planned_work
from .console import STAGE_TITLES, duration
from .drawing import BLUE, FONT, GREY, TEAL
from .facts import Facts
from .gallery import Picture, read_pictures
from .page import RunFiles
from .sections import image_tag
from .words import alarm_verdict, caution, gain_text, headline, signed, silence, verdict

WIDTH, HEIGHT = 560, 210  # of the curve, in pixels
MOST_PICTURES = 3
SECONDS_BETWEEN_UPDATES = 0.5
Row = dict[str, Any]
_FEW_TICKS = 5
_WARNING = "border-left:3px solid #c98a1b;padding:.3em .8em;margin:.5em 0"


def curve_of(facts: Facts) -> list[Row]:
    """Return the course of a search, a row a generation; the first row is the neutral setting, before any.

    Each row has `generation` (how many are done), `images` (generated for the search so far), `best` and `mean` (the
    fitness of the generation's candidates, flattered by luck), `sigma` (the step size after it), `validation` (the
    score of the recommendation made after it, if it was judged), `admitted` (whether that may be chosen) and `chosen`
    (whether it is the result, or would be if the run ended now). What is unknown is None.
    """
    checks = {check.generation: check for check in facts.record.checks}
    told = {each.number: each for each in facts.generations}
    images = dict.fromkeys(told, 0)
    for place, evaluation in facts.record.evaluations.items():
        if place.stage == "search" and place.generation + 1 in images:
            images[place.generation + 1] += evaluation.num_images
    chosen = facts.record.chosen
    rows, total = [], 0
    for number in sorted({*checks, *told}):
        total += images.get(number, 0)
        generation, check = told.get(number), checks.get(number)
        rows.append(
            {
                "generation": number,
                "images": total,
                "best": generation.best if generation else None,
                "mean": generation.mean if generation else None,
                "sigma": generation.sigma if generation else None,
                "validation": check.score if check else None,
                "admitted": check.admitted if check else None,
                "chosen": chosen is not None and check is not None and chosen.generation == number,
            }
        )
    return rows


def card(facts: Facts, files: RunFiles, going_on: str) -> str:
    """Return a run as HTML for a notebook.

    Args:
        facts: The facts of the run.
        files: The paths of the run's results.
        going_on: How to go on with the run, if it has not finished.
    """
    sentence = escape(headline(facts))
    rough = ""
    if facts.comparisons:
        gain = facts.comparisons[0]["gain"]
        number, rough = escape(gain_text(gain, facts.decimals)), caution(gain)
        colour = f";color:{TEAL}" if gain["low"] > 0 and not facts.record.alarms else ""
        sentence = sentence.replace(number, f'<b style="white-space:nowrap{colour}">{number}</b>')
    error = facts.row.error if not facts.finished else None
    said = (alarm_verdict(facts), verdict(facts), rough, silence(facts.row.outcome), error)
    warnings = "".join(f'<div style="{_WARNING}">{escape(text)}</div>' for text in said if text)
    size = f"{facts.totals['num_images']:,} {facts.noun} in {duration(facts.row.seconds)}"
    last = f"report: <code>{escape(str(files.report))}</code>" if facts.finished else f"<code>{escape(going_on)}</code>"
    return (
        f'<div style="font-family:{escape(FONT)};font-size:14px;line-height:1.5;color:inherit;max-width:720px">'
        f'<div style="opacity:.7;font-size:12px">trimpot calibration of {escape(facts.row.config["adapter"]["name"])}'
        f" &middot; {escape(facts.status)} &middot; {escape(size)}</div>"
        f'<div style="font-size:16px;font-weight:600">{escape(facts.row.id)}</div>'
        f"<div>{sentence}</div>{warnings}{_curve(curve_of(facts))}"
        f"{_pictures(read_pictures(files.images)[:MOST_PICTURES])}"
        f'<div style="opacity:.7;font-size:12px;overflow-wrap:anywhere">{last}</div></div>'
    )


def _curve(rows: Sequence[Row]) -> str:
    """Return the course of the search as a drawing, or nothing if there is no course yet."""
    judged = [(row["generation"], row["validation"]) for row in rows if row["validation"] is not None]
    means = [(row["generation"], row["mean"]) for row in rows if row["mean"] is not None]
    heights = [float(score) for _, score in (*judged, *means)]
    if len(rows) < 2 or not heights:
        return ""
    low, high = min(heights), max(heights)
    margin = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    low, high, last = low - margin, high + margin, int(rows[-1]["generation"])
    left, right, top, bottom = 58, WIDTH - 12, 26, HEIGHT - 36

    def x(generation: float) -> float:
        return left + (right - left) * generation / last

    def y(score: float) -> float:
        return bottom - (bottom - top) * (score - low) / (high - low)

    def line(points: Sequence[tuple[int, float]], colour: str, width: float) -> str:
        path = " ".join(f"{x(number):.1f},{y(score):.1f}" for number, score in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    def text(at: float, height: float, words: str, anchor: str = "middle", colour: str = "currentColor") -> str:
        return (
            f'<text x="{at:.1f}" y="{height:.1f}" text-anchor="{anchor}" font-size="11" fill="{colour}" '
            f'opacity=".85">{escape(words)}</text>'
        )

    step = max(1, -(-last // _FEW_TICKS))
    decimals = 3 if high - low < 1 else 2 if high - low < 10 else 0
    parts = [text(x(number), bottom + 15, str(number)) for number in range(0, last + 1, step)]
    parts += [text(left - 6, y(score) + 4, f"{score:.{decimals}f}", "end") for score in (low + margin, high - margin)]
    parts.append(text((left + right) / 2, HEIGHT - 5, "generations"))
    parts.append(f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="currentColor" opacity=".35"/>')
    if judged:
        neutral = y(judged[0][1])
        parts.append(
            f'<path d="M{left} {neutral:.1f}H{right}" stroke="{GREY}" stroke-dasharray="5 4" fill="none"/>'
            + text(right, neutral - 4, "neutral", "end")
        )
    parts += [line(means, BLUE, 1.2), line(judged, TEAL, 2.5)]
    parts += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{TEAL}"/>' for a, b in judged]
    parts += [text(left, 14, "validation", "start", TEAL), text(left + 64, 14, "training, mean", "start", BLUE)]
    return (
        f'<svg role="img" aria-label="score by generation" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'style="max-width:100%;height:auto;color:inherit;background:transparent">{"".join(parts)}</svg>'
    )


def _pictures(pictures: Sequence[Picture]) -> str:
    """Return before-and-after pictures, or nothing if there are none."""
    shown = []
    for picture in pictures:
        sides = "".join(
            f'<div style="flex:1 1 0;min-width:0;font-size:11px">{image_tag(path, name, "width:100%;height:auto")}'
            f"<div>{name}</div></div>"
            for name, path in (("neutral", picture.neutral), ("calibrated", picture.calibrated))
        )
        shown.append(
            f'<div style="width:210px"><div style="display:flex;gap:4px">{sides}</div>'
            f'<div style="font-size:12px;line-height:1.3;opacity:.85">{escape(picture.prompt)}</div></div>'
        )
    return f'<div style="display:flex;flex-wrap:wrap;gap:14px;margin:.4em 0">{"".join(shown)}</div>' if shown else ""


def notebook_display() -> Callable[..., Any] | None:
    """Return IPython's `display` if this process is a notebook's, else None."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from importlib import import_module

    display: Callable[..., Any] = import_module("IPython.display").display
    return display


class Markup:
    """HTML that a notebook displays."""

    def __init__(self, html: str) -> None:
        self._html = html

    def _repr_html_(self) -> str:
        return self._html


class NotebookProgress(Watcher):
    """A watcher that shows a run's progress in a notebook, in one place that is drawn anew.

    Args:
        display: IPython's `display`.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None
        self._done = self._found = self._total = 0
        self._begun = self._last = time.monotonic()
        self._stage, self._facts, self._name = "", "", ""

    def run_started(self, run: Run, work_done: int) -> None:
        """Draw the bar."""
        self._begun, self._name = time.monotonic(), run.id
        self._done, self._found, self._total = work_done, work_done, max(planned_work(run), 1)
        self._handle = self._display(Markup(self._bar()), display_id=True)

    def stage_started(self, run: Run, stage: str) -> None:
        """Show the name of the stage."""
        self._stage = STAGE_TITLES.get(stage, stage)
        self._draw(at_once=True)

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        """Move the bar."""
        self._done += evaluation.work
        self._draw()

    def generation_told(
        self, run: Run, generation: int, evaluations: Sequence[Evaluation], sigma: float | None
    ) -> None:
        """Show the generation and its mean fitness."""
        mean = sum(each.fitness for each in evaluations) / len(evaluations)
        self._facts = f"generation {generation + 1}/{run.config.generations}, mean {signed(mean, 3).removeprefix('+')}"
        self._draw(at_once=True)

    def ended(self) -> None:
        """Remove the bar: the result follows it."""
        if self._handle is not None:
            self._handle.update(Markup(""))

    def _draw(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._handle is not None and (at_once or now - self._last >= SECONDS_BETWEEN_UPDATES):
            self._last = now
            self._handle.update(Markup(self._bar()))

    def _bar(self) -> str:
        share, made = min(self._done / self._total, 1.0) if self._total else 0.0, self._done - self._found
        left = (time.monotonic() - self._begun) * max(self._total - self._done, 0) / made if made > 0 else None
        told = [self._stage, self._facts, f"at most {duration(left)} left" if left is not None else ""]
        return (
            f'<div style="color:inherit;font-size:13px"><b>{escape(self._name)}</b> {share:.0%} '
            f"{escape(' · '.join(filter(None, told)))}"
            f'<div style="border:1px solid {GREY};border-radius:4px;height:8px;max-width:420px">'
            f'<div style="background:{TEAL};height:8px;border-radius:3px;width:{100 * share:.1f}%"></div></div></div>'
        )
