"""The sentences of a study's result."""

from __future__ import annotations

import math

from ..reports.words import signed
from .design import ALIGNMENT, OVERALL, Design
from .estimates import Estimate
from .results import Match, Result

TITLES = {OVERALL: "Overall preference", ALIGNMENT: "Text alignment"}
_VERBS = {
    OVERALL: ("was preferred to {}", "people prefer {}"),
    ALIGNMENT: ("was found to follow the text better than {}", "people find that {} follows the text better"),
}


def percent(estimate: Estimate) -> str:
    """Return a share with its interval, such as `54.6 % [47.2, 61.8]`."""
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def net(estimate: Estimate) -> str:
    """Return wins minus losses in percentage points, with the interval if there is one."""
    if not math.isfinite(estimate.low):
        return f"{signed(100 * estimate.value, 1)} (no interval: one rater and one prompt)"
    return f"{signed(100 * estimate.value, 1)} [{signed(100 * estimate.low, 1)}, {signed(100 * estimate.high, 1)}]"


def headline(result: Result) -> str:
    """Return the result in one sentence."""
    found = result.verdicts.get(OVERALL)
    if found is None:
        return "Nobody has answered yet." if not result.rated else "No rater whose answers count has answered yet."
    if len(found.matches) > 1:
        order = sorted(range(len(found.strengths)), key=lambda each: -found.strengths[each].value)
        names = [result.design.entrants[each] for each in order]
        return f"By overall preference, the strongest first: {', '.join(names)}."
    return sentence(result.design, found.matches[0], OVERALL)


def sentence(design: Design, match: Match, question: str) -> str:
    """Return what a match allows to be said of a question."""
    first, second = design.entrants[match.first], design.entrants[match.second]
    found, prefer = _VERBS[question]
    told = (
        f"{first} {found.format(second)} in {100 * match.wins.value:.1f} % of {match.wins.num_answers} answers, "
        f"{second} in {100 * match.losses.value:.1f} %"
    )
    said = {
        "better": prefer.format(first),
        "worse": prefer.format(second),
        "uncertain": "which one is better cannot be told from these answers",
    }
    return f"{told}: {said[match.standing]}."


def progress(result: Result) -> str:
    """Return how far the raters are, as a sentence."""
    raters, design = result.raters, result.design
    done = sum(rater.num_pairs == rater.num_shown for rater in raters)
    begun = sum(0 < rater.num_pairs < rater.num_shown for rater in raters)
    pairs = f"{design.pairs} pair{'s' if design.pairs > 1 else ''} and {len(design.checks)} checks each"
    return f"{done} of {len(raters)} raters have finished, {begun} are under way; {pairs}."


def left_out(result: Result) -> str:
    """Return which raters do not count and why, and the rule, as a sentence."""
    design, out = result.design, result.left_out
    if not design.checks:
        return "There were no checks, so all raters count."
    rule = f"at least {'two thirds' if abs(design.passed - 2 / 3) < 1e-9 else f'{design.passed:.0%}'} of the checks"
    if not out:
        return f"Every rater counts: each answered {rule} rightly, the rule that was set before the first answer."
    told = ", ".join(f"{rater.number} ({rater.passed} of {rater.checks})" for rater in out)
    many = "rater does not count" if len(out) == 1 else "raters do not count"
    return f"{len(out)} {many}, by the rule that was set before the first answer, {rule} answered rightly: {told}."
