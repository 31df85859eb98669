"""The sentences of a report: result, verdict, alarms and warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..engine.statistics import few, sums_by_prompt
from .facts import Facts

MUCH_SILENCE = 0.25  # of the groups of a search; less is usual where a reward has steps


def headline(facts: Facts) -> str:
    """Return the result in one sentence, or the progress of an unfinished run."""
    measures = not facts.row.config["generations"]
    if facts.comparisons:
        first = facts.comparisons[0]
        gain, decimals = first["gain"], facts.decimals
        kind = "a gain of" if gain["low"] > 0 else "a difference of"  # "gain" is said only of a difference beyond noise
        return (
            f"On {taken_on(gain, facts.noun)}{'' if measures else ' the search never saw'}, calibrated scores "
            f"{first['calibrated']:.{decimals}f}, {neutral_side(first)} {first['neutral']:.{decimals}f}: "
            f"{kind} {gain_text(gain, decimals)}."
        )
    if measures:
        return "No result yet: the given setting is not measured on all test prompts."
    done, most = len(facts.generations), facts.row.config["generations"]
    if not done:
        return f"The search has not begun: none of at most {most} generations is done."
    text = f"No result yet: {done} of at most {most} generations are done."
    if facts.shown is not None:
        text += (
            f" On validation prompts the best recommendation so far scores {facts.shown.score:.3f}, "
            f"neutral at its best {facts.record.checks[0].score:.3f}. "
            f"Only the test prompts, at the end, will say what that is worth."
        )
    return text


def verdict(facts: Facts) -> str:
    """Return what the interval allows to be claimed; empty if the headline says everything."""
    if not facts.comparisons or facts.row.outcome is None:
        return ""
    return facts.standing.sentence


def taken_on(gain: Mapping[str, Any], noun: str) -> str:
    """Return the numbers of outputs and prompts that a gain was measured on, as text."""
    outputs, prompts = gain["num_images"], gain.get("num_prompts")
    if prompts is None:  # a run of an earlier version
        return f"{outputs} {noun}"
    return f"{outputs} prompts" if prompts == outputs else f"{outputs} {noun} of {prompts} prompts"


def caution(gain: Mapping[str, Any]) -> str:
    """Return a warning if a gain rests on too few prompts, else an empty string."""
    sentence = few(gain.get("num_prompts") or gain["num_images"])
    return sentence and f"{sentence[0].upper()}{sentence[1:]}."


def alarm_verdict(facts: Facts) -> str:
    """Return the sentence of the alarms, or an empty string if there are none."""
    if not facts.record.alarms:
        return ""
    alarms = facts.record.alarms
    moved = ", ".join(f"{alarm.objective} by {signed(alarm.change, 1)}" for alarm in alarms if not alarm.prompts)
    fell = ", ".join(f"{alarm.what} from {alarm.neutral:.3g} to {alarm.now:.3g}" for alarm in alarms if alarm.prompts)
    hacked = (
        f"ALARM: while the optimised score rose, watched scores moved away, in standard deviations between neutral "
        f"{facts.noun}: {moved}. The search may have found a hole in its reward; look at the {facts.noun} before "
        f"believing the score."
    )
    lost = f"ALARM: while the optimised score rose, other prompts got worse: {fell}."
    return " ".join([*([hacked] if moved else []), *([lost] if fell else [])])


def silence(outcome: Mapping[str, Any] | None) -> str:
    """Return a warning if many groups of a finished run told its search nothing, else an empty string."""
    silent = (outcome or {}).get("silent", 0.0)
    if silent < MUCH_SILENCE:
        return ""
    return (
        f"{silent:.0%} of the groups told the search nothing, because all their candidates scored the same: "
        "take a smoother reward or a larger bucket."
    )


def neutral_side(comparison: Mapping[str, Any]) -> str:
    """Return the name and value of the neutral setting that calibrated was compared with."""
    baseline = comparison["baseline"]
    label = str(baseline["label"])
    kind, _, value = label.rpartition(" ")
    if len(baseline["grid"]) < 2:
        return "neutral" if label == "neutral" else f"neutral ({label})"
    return f"neutral at its best {kind} ({value})" if kind and "," not in kind else f"neutral at its best ({label})"


def gain_text(gain: Mapping[str, float], decimals: int) -> str:
    """Return a gain as text, with its 95 % interval if it has one."""
    if not math.isfinite(gain["high"] - gain["low"]):
        return f"{signed(gain['mean'], decimals)} (one prompt, no interval)"
    return f"{signed(gain['mean'], decimals)} [{signed(gain['low'], decimals)}, {signed(gain['high'], decimals)}]"


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign, with a real minus sign; a number that rounds to 0 has no sign."""
    text = f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return text if float(f"{value:.{decimals}f}") else text[1:]


def outcomes_by_prompt(facts: Facts) -> str:
    """Return the numbers of test prompts on which calibrated is ahead, behind and equal, as a sentence."""
    if facts.record.pair is None:
        return ""
    before, after = facts.record.pair
    differences, _ = sums_by_prompt(after.values - before.values, after.bucket.prompts)
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    same = len(differences) - better - worse
    how = "" if len(differences) == len(after.bucket) else f", on average over a prompt's {facts.noun}"
    return f"Calibrated is ahead on {better} of {len(differences)} prompts, behind on {worse}, equal on {same}{how}."


def optimism(facts: Facts) -> str:
    """Return a sentence on why training, validation and test scores are not equally trustworthy."""
    size = facts.sizes
    return (
        f"The best training score is the luckiest of all candidates on {size['training']} {facts.noun} and always "
        f"optimistic; it is never a result. The validation score chose among the recommendations and flatters a "
        f"little. Only the test score was taken once, on prompts that decided nothing."
    )
