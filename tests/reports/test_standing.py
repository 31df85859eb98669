"""A result is advised only if its gain is beyond noise, wherever the advice would be given."""

from __future__ import annotations

import io
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from trimpot.commands.menu import ENTRIES, offered
from trimpot.reports.console import print_result
from trimpot.reports.standing import Standing, standing, standing_of

ROOM = Path(__file__).parents[2]
GAINS = {
    (0.1, 0.2, 0.3): Standing.BETTER,
    (-0.1, 0.1, 0.3): Standing.UNCERTAIN,
    (0.0, 0.1, 0.2): Standing.UNCERTAIN,
    (-0.2, -0.1, 0.0): Standing.UNCERTAIN,
    (-0.3, -0.1, 0.1): Standing.UNCERTAIN,
    (-0.3, -0.2, -0.1): Standing.WORSE,
    (-math.inf, 0.5, math.inf): Standing.UNCERTAIN,
    (math.nan, 0.5, math.nan): Standing.UNCERTAIN,
}


def outcome(gain: tuple[float, float, float], *, neutral: bool = False) -> dict[str, Any]:
    low, mean, high = gain
    measured = {"mean": mean, "low": low, "high": high, "num_images": 64, "num_prompts": 64}
    first = {"num_steps": 15, "neutral": 1.0, "calibrated": 1.0 + mean, "gain": measured}
    first["baseline"] = {"label": "guidance 4", "grid": {}}
    setting = {"a": 1.0}
    calibrated = dict(setting) if neutral else {"a": 1.1}
    return {"comparisons": [first], "calibrated": calibrated, "baseline": {"setting": setting}}


def printed(found: dict[str, Any], alarms: list[dict[str, str]] | None = None) -> str:
    written = io.StringIO()
    summary = {"run": "flux-1", "outcome": found, "gain": found["comparisons"][0]["gain"], "alarms": alarms or []}
    summary |= {"stop_reason": "done", "num_images": 5, "seconds": 1.0, "calibration": "c.json", "report": "r.html"}
    print_result(Console(file=written, width=200), summary)
    return written.getvalue()


@pytest.mark.parametrize("gain", GAINS)
def test_the_interval_decides(gain: tuple[float, float, float]) -> None:
    low, mean, high = gain
    assert standing({"mean": mean, "low": low, "high": high}) is GAINS[gain]


@pytest.mark.parametrize(("gain", "neutral"), list(itertools.product(GAINS, (False, True))))
def test_terminal_and_menu_advise_what_is_a_gain_and_nothing_else(
    gain: tuple[float, float, float], neutral: bool
) -> None:
    found = outcome(gain, neutral=neutral)
    stands = standing_of(found)
    good = GAINS[gain] is Standing.BETTER and not neutral
    assert stands.may_be_applied == good
    assert ("apply it  " in printed(found)) == ("load_calibration" in printed(found)) == good
    assert bool(stands.sentence) != good and stands.sentence in printed(found)
    commands = {entry.command for entry in ENTRIES}
    assert {entry.command for entry in offered(gained=good, known=commands)} >= {"sample", "resume"}
    assert ("push" in {entry.command for entry in offered(gained=good, known=commands)}) == good


def test_a_gain_with_an_alarm_is_applied_only_after_a_look() -> None:
    told = printed(outcome((0.1, 0.2, 0.3)), [{"text": "saturation has risen"}])
    assert "ALARM: saturation has risen" in told
    assert "apply it     once you have looked at the outputs: " in told


def test_nobody_else_advises_a_result() -> None:
    """Whoever prints how to apply a calibration asks for its standing, in the same file."""
    for path in [*(ROOM / "reports").glob("*.py"), *(ROOM / "commands").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        if "trimpot.load_calibration(" in text:
            assert "stand" in text, path


def test_whoever_judges_a_result_says_how_much_of_its_search_was_told_nothing() -> None:
    """Terminal, page, card and live page, whose sentences the tests of each read."""
    rooms = [*(ROOM / "reports").glob("*.py"), *(ROOM / "watching").glob("*.py")]
    judging = [path for path in rooms if re.search(r"words import .*\bcaution\b|^    caution,$", text_of(path), re.M)]
    assert len(judging) == 4
    assert all("silence(" in text_of(path) for path in judging)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_terminal_says_how_much_of_the_search_was_told_nothing() -> None:
    found = outcome((0.1, 0.2, 0.3))
    assert "told the search nothing" not in printed(found)
    assert "64% of the groups told the search nothing" in printed({**found, "silent": 0.64})
