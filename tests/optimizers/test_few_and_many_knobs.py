"""Spaces of one knob, of a few and of a thousand: every protocol and searcher, through a whole run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from closed_form import MemoryStore, Notes
from trimpot.adapters.spaces.closed_forms import ClosedForm
from trimpot.engine.loop import Outcome, calibrate
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config, protocols
from trimpot.setup.plugins import plugins

SEARCHES: dict[str, dict[str, Any]] = {
    **{name: {"protocol": name} for name in protocols()},
    "cma-es": {"optimizer": "cma-es"},
    "cma-es, large": {"optimizer": {"name": "cma-es", "population_size": "large"}, "bucket_size": 2},
    "grouped, first step 1": {"optimizer": {"name": "grouped", "sigma0": 1.0}, "bucket_size": 1},
    "random": {"optimizer": "random"},
    "nevergrad:TwoPointsDE": {"optimizer": "nevergrad:TwoPointsDE", "bucket_size": 2},
}
PROTOCOLS = protocols()
EACH = [pytest.param(name, marks=() if name in PROTOCOLS else pytest.mark.slow) for name in SEARCHES]
NOISE = 0.3  # neutral is 1 below the best


def searched(search: str, num_knobs: int, images: int) -> tuple[Outcome, Notes, float]:
    """A run on a sphere, and the true gain of its result."""
    config = {
        "adapter": {"name": "sphere", "num_knobs": num_knobs, "noise": NOISE},
        "objectives": "value",
        "prompts": "numbers",
        "budget": {"images": images},
        "validation": {"num_prompts": 32},
        "test": {"num_prompts": 2},
        **SEARCHES[search],
    }
    run, notes = assemble("few", load_config(config), plugins()), Notes()
    outcome = calibrate(run, MemoryStore(), notes)
    sphere = run.adapter
    assert isinstance(sphere, ClosedForm)
    low, high = sphere.space.bounds
    asked = np.array([sphere.space.to_vector(each.evaluation.setting) for each in notes.evaluations])
    assert np.all((asked >= low) & (asked <= high)) and np.all(np.isfinite(asked))
    neutral, result = sphere.exact(np.stack([sphere.space.defaults, sphere.space.to_vector(outcome.calibrated)]))
    return outcome, notes, float(result - neutral)


@pytest.mark.parametrize("num_knobs", [1, 2, 5])
@pytest.mark.parametrize("search", EACH)
def test_few_knobs_are_calibrated(search: str, num_knobs: int) -> None:
    outcome, _, gain = searched(search, num_knobs, 800)
    assert outcome.stop_reason == "the budget of 800 outputs is spent"
    assert gain > (0.2 if search in ("random", "nevergrad:TwoPointsDE") else 0.8)


@pytest.mark.parametrize("search", EACH)
def test_a_thousand_knobs_are_searched_and_nothing_worse_than_neutral_is_chosen(search: str) -> None:
    """In a few generations that is all that can be asked: a searcher's own choice may well be worse."""
    outcome, _, gain = searched(search, 1000, 600)
    assert outcome.num_generations >= 1 and len(outcome.checks) >= 2
    assert gain >= -0.05
