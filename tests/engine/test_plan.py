"""Plans: a run without early stops generates exactly what was planned, at every number of steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from closed_form import MemoryStore, Notes, Ridge, hill_run
from trimpot.engine.evaluation import POOL
from trimpot.engine.loop import calibrate
from trimpot.engine.run import Run
from trimpot.ground.errors import ConfigError
from trimpot.setup.plan import plan, planned_work

FIXED = {"name": "cma-es", "population_size": 6}
FULL = {
    "generations": 4,
    "optimizer": FIXED,
    "validation": {"num_prompts": 9, "every": 2},
    "test": {"num_prompts": 11},
    "by_steps": {"steps": [2, 8, 4], "num_prompts": 7, "num_validation": 5},
}
CASES: dict[str, dict[str, Any]] = {
    "steps": {},
    "steps without an end": {"by_steps": {"steps": [2, 4]}},  # 48 and 128 prompts, where there are 9 and 11
    "one other step": {"by_steps": {"steps": 16, "num_prompts": 2, "num_validation": 3}},
    "its own steps only": {"by_steps": {"steps": [8]}},
    "seeds": {"bucket_size": 6, "seeds_per_prompt": 3},
    "seeds and a pool": {"combine": {"name": "winrate", "references": 2}, "bucket_size": 6, "seeds_per_prompt": 3},
    "a ladder": {"ladder": {"block": 1, "own": 4}},  # checks after 1, 2, 4 and 5 generations
    "sensitivity": {"sensitivity": {"num_prompts": 2}},
    "a ladder and sensitivity": {"ladder": {"block": 3, "own": 3}, "sensitivity": {"num_prompts": 2}},
    "checks by images": {"validation": {"num_prompts": 9, "every_images": 36}},
    "geometric checks": {"generations": 18, "validation": {"num_prompts": 9, "patience": 99}},
    "geometric checks in a ladder": {"ladder": {"block": 4, "own": 9}, "validation": {"num_prompts": 9}},
    "a budget that fits": {"budget": {"images": 3 + 4 * 18}},
    "groups": {"group_size": 2},
    "judged against a pool": {"combine": {"name": "winrate", "references": 2}},
}


def made(run: Run) -> tuple[Counter[str], Counter[int | None], int]:
    """Images by stage at the run's own number of steps, images by number of steps, and steps, as a run makes them."""
    calibrate(run, MemoryStore(), notes := Notes())
    stages: Counter[str] = Counter()
    steps: Counter[int | None] = Counter()
    for each in notes.evaluations:
        size, at = len(each.evaluation.bucket), each.evaluation.num_steps
        steps[at] += size
        stages["pools" if each.place.stage.endswith(POOL) else each.place.stage] += size if at == 8 else 0
    work = sum(at * size for at, size in steps.items() if at)
    assert work == sum(each.evaluation.work for each in notes.evaluations)
    return stages, steps, work


@pytest.mark.parametrize("case", CASES)
def test_a_run_generates_what_was_planned(case: str) -> None:
    run = hill_run({**FULL, **CASES[case]}, adapter=Ridge())
    planned = plan(run)
    stages, steps, work = made(run)
    assert planned.images == dict(stages)
    assert planned.images_elsewhere == sum(size for at, size in steps.items() if at != 8)
    assert planned.work == planned_work(run) == work
    assert planned.population_size == 6
    assert planned.generations == sum(rung.generations for rung in run.rungs)


def test_a_check_at_the_end_of_a_rung_that_is_due_anyway_is_planned_for_and_not_made() -> None:
    run = hill_run({**FULL, "ladder": {"block": 2, "own": 2}}, adapter=Ridge())
    stages, _, work = made(run)
    planned = plan(run)
    assert planned.images == {**stages, "validation": stages["validation"] + 9}
    assert planned.work == work + 9 * 8


BUDGETS = {
    "the first bucket": ({}, 3 + 6 * 3),
    "groups": ({"group_size": 2}, 3 + 6 * 3),
    "sensitivity": ({"sensitivity": {"num_prompts": 2}}, 3 + 2 * (1 + 2 * 5) + 6 * 3),
    "a coarser first rung": ({"ladder": {"block": 2, "own": 2}, "sensitivity": {"num_prompts": 2}}, 3 + 2 * 7 + 6 * 3),
}


@pytest.mark.parametrize("case", BUDGETS)
def test_a_budget_is_enough_to_the_last_image_of_the_first_generation(case: str) -> None:
    config, enough = BUDGETS[case]
    run = hill_run({**FULL, **config, "budget": {"images": enough}}, adapter=Ridge())
    calibrate(run, MemoryStore(), notes := Notes())
    searched = [each for each in notes.evaluations if each.place.stage == "search"]
    assert [each.place.generation for each in searched] == [0] * 6
    with pytest.raises(
        ConfigError, match=rf"budget.outputs {enough - 1} is smaller .* after {enough - 18} outputs for"
    ):
        hill_run({**FULL, **config, "budget": {"images": enough - 1}}, adapter=Ridge())


@pytest.mark.parametrize(("images", "generations"), [(3 + 4 * 18, 4), (3 + 4 * 18 - 1, 3), (3 + 3 * 18, 3)])
@pytest.mark.parametrize("case", ["steps", "groups", "sensitivity"])
def test_a_budget_is_spent_to_the_last_image_that_fits_a_generation(case: str, images: int, generations: int) -> None:
    before = 2 * (1 + 2 * 5) if case == "sensitivity" else 0
    config = {**FULL, "generations": 9, **CASES[case], "budget": {"images": before + images}}
    outcome = calibrate(hill_run(config, adapter=Ridge()), MemoryStore(), Notes())
    assert outcome.num_generations == generations
    assert outcome.stop_reason == f"the budget of {before + images} outputs is spent"
    assert outcome.checks[-1].generation == generations


@pytest.mark.parametrize(("images", "generations"), [(98, 4), (97, 3), (56, 3), (55, 2)])
def test_a_bucket_that_grows_is_counted_as_it_will_be(images: int, generations: int) -> None:
    """Six candidates on 2, 3, 4 and 7 prompts, after a reference on 2."""
    config = {
        "generations": 9,
        "optimizer": FIXED,
        "bucket_size": 2,
        "adaptive_bucket": {"low": 1e9, "high": 1e9, "rate": 0.5},
        "budget": {"images": images},
    }
    calibrate(hill_run(config, adapter=Ridge()), MemoryStore(), notes := Notes())
    searched = [each for each in notes.evaluations if each.place.stage == "search"]
    sizes = [len(each.evaluation.bucket) for each in searched if each.place.position == 0]
    assert sizes == [2, 3, 4, 7][:generations]
    assert 2 + 6 * sum(sizes) <= images
