"""The sentences of a comparison: result, verdict, failures and descriptions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ..engine.statistics import few
from ..reports.words import signed
from .gains import SIGNIFICANCE, Interval, Pair, smallest_adjusted
from .results import Course
from .summary import Summary

FEWEST, MOST = 2, 4  # decimals


def headline(summary: Summary) -> str:
    """Return the result in a sentence."""
    if summary.leader is None:
        return f"No result yet: none of {len(summary.results.courses)} runs has finished."
    gain = interval_text(summary.gains[summary.leader])
    num_seeds = len(summary.results.of(summary.leader))
    results = summary.results
    runs = results.counted(num_seeds) if num_seeds > 1 else f"one {results.seed}"
    how = f"the interquartile mean of {runs}" if num_seeds > 1 else f"on {runs}"
    outputs = f"With {results.budget:,} {results.noun} of search"
    if summary.gains[summary.leader].value <= 0:
        return f"{outputs} no contender gains on test prompts; the best, {summary.leader}, has {gain}, {how}."
    return f"{outputs}, {summary.leader} gains most on test prompts: {gain}, {how}."


def verdict(summary: Summary) -> str:
    """Return what the tests allow to be claimed of the leader."""
    leader = summary.leader
    if leader is None or len(summary.gains) < 2:
        return ""
    num, count, results = summary.num_paired, len(summary.gains), summary.results
    if smallest_adjusted(num, count) > SIGNIFICANCE:
        of = "two contenders" if count == 2 else f"all pairs of {count} contenders"
        return (
            f"{results.counted(num)} cannot settle who is ahead: tests of {of}, {results.seed} by {results.seed}, need "
            f"at least {results.counted(seeds_needed(count))} before any of them can reach the 5 % level."
        )
    beaten = [loser for pair in summary.pairs for winner, loser in [_decided(pair)] if winner == leader]
    open_ = [label for label in summary.gains if label not in (leader, *beaten)]
    if not beaten:
        return f"No test can tell {leader} from {listed(open_)} at the 5 % level."
    text = f"{results.seed.capitalize()} by {results.seed} it is ahead of {listed(beaten)} beyond noise"
    return text + (f"; {listed(open_)} cannot be told from it." if open_ else ".")


def failures(summary: Summary) -> list[str]:
    """Return sentences on contenders that failed, on too few test prompts, and on runs that have not finished."""
    courses = summary.results.courses.values()
    told = []
    for label in summary.results.labels:
        failed = [each for each in courses if each.contender == label and each.error and not each.finished]
        failed = [each for each in failed if each.status == "failed"]
        if failed:
            seeds = listed([str(each.seed) for each in failed])
            told.append(f"{label} failed with {summary.results.seed} {seeds}: {failed[0].error}")
    rough = few(summary.num_prompts) if summary.num_prompts else ""
    if rough:
        told.append(f"{rough[0].upper()}{rough[1:]}.")
    left = sum(not each.finished and each.status != "failed" for each in courses)
    if left:
        told.append(f"{left} of {len(courses)} runs have not finished; what is said here holds for the others.")
    return told


def seeds_needed(num_contenders: int) -> int:
    """Return the fewest seeds with which the tests of all pairs can reach the 5 % level after correction."""
    return next(n for n in range(1, 1000) if smallest_adjusted(n, num_contenders) <= SIGNIFICANCE)


def interval_text(found: Interval) -> str:
    """Return a number as text, with its 95 % interval if it has one."""
    decimals = decimals_of(found)
    value = signed(found.value, decimals)
    if not math.isfinite(found.low):
        return value
    return f"{value} [{signed(found.low, decimals)}, {signed(found.high, decimals)}]"


def decimals_of(found: Interval) -> int:
    """Return the decimals to show: two significant digits of the interval, between FEWEST and MOST."""
    width = found.high - found.low
    return min(max(1 - math.floor(math.log10(width)), FEWEST), MOST) if width > 0 else 3


def description(summary: Summary, label: str) -> list[str]:
    """Return clauses that describe a contender: its optimizer, its protocol, and the course of its searches."""
    config, begun = summary.results.design.contenders[label], _begun(summary, label)
    options = ", ".join(f"{name} {value}" for name, value in config.optimizer.options.items() if value is not None)
    told = [config.optimizer.name + (f" ({options})" if options else ""), _protocol(summary, label)]
    for key in ("start", "sensitivity", "ladder"):
        value = getattr(config, key)
        if value:
            told.append(f"{key} {value if isinstance(value, str) else config.model_dump(mode='json')[key]}")
    if begun:
        told.append(f"{_span([each.population_size for each in begun])} candidates a generation")
        told.append(f"{_span([each.generations for each in begun])} generations")
        told.append(f"{_span([each.spent for each in begun])} {summary.results.noun} of search")
    reasons = [f"{reason} ({count})" for reason, count in stop_reasons(summary, label).most_common()]
    return told + ([f"stopped because {listed(reasons)}"] if reasons else [])


def stop_reasons(summary: Summary, label: str) -> Counter[str]:
    """Count the reasons why a contender's searches ended."""
    return Counter(each.stop_reason for each in summary.results.of(label) if each.stop_reason)


def listed(names: Sequence[str]) -> str:
    """Join names as `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _begun(summary: Summary, label: str) -> list[Course]:
    return [each for each in summary.results.courses.values() if each.contender == label and each.population_size]


def _protocol(summary: Summary, label: str) -> str:
    config, begun = summary.results.design.contenders[label], _begun(summary, label)
    prompts = f"{config.bucket_size} prompt{'s' * (config.bucket_size > 1)}"
    if config.adaptive_bucket:
        grown = f", {_span([each.bucket_sizes[1] for each in begun])} in the end" if begun else ""
        return f"an adaptive bucket, {prompts} at first{grown}"
    groups = max((each.groups for each in begun), default=1)
    if groups > 1:
        return f"{groups} groups a generation, each on {prompts} of its own"
    return f"every candidate of a generation on the same {prompts}"


def _span(values: Sequence[int]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _decided(pair: Pair) -> tuple[str, str]:
    """Return winner and loser of a pair, both empty if the test cannot tell."""
    if pair.adjusted >= SIGNIFICANCE:
        return "", ""
    return (pair.first, pair.second) if pair.difference.value > 0 else (pair.second, pair.first)
