"""Scores by kind of prompt, and what scores are made of, as a report shows them."""

from __future__ import annotations

import pytest
from closed_form import Height, hill_run
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Evaluation
from trimpot.engine.statistics import paired_gain
from trimpot.reports.tags import movements_by_tag
from trimpot.runs.work import tags_of


def test_every_kind_of_prompt_is_compared_on_its_own_outputs() -> None:
    prompts = ("one", "two", "three", "four", "five")
    bucket = Bucket(prompts, tuple(range(5)))
    pair = [
        Evaluation({}, bucket, None, {"geneval": scores, "other": scores}, {"geneval": 1.0})
        for scores in ((0.0, 0.1, 0.2, 0.3, 0.9), (1.0, 0.3, 1.2, 0.4, 0.0))
    ]
    tags = {"geneval": {"one": "odd", "three": "odd", "two": "even", "four": "even", "five": "alone"}}
    found = movements_by_tag((pair[0], pair[1]), tags)
    assert set(found) == {"geneval"} and set(found["geneval"]) == {"odd", "even"}  # one prompt has no interval
    odd = found["geneval"]["odd"]
    assert (odd.neutral, odd.calibrated) == pytest.approx((0.1, 1.1))
    assert odd.change == paired_gain([1.0, 1.2], [0.0, 0.2], ["one", "three"])
    assert movements_by_tag(None, tags) == {}


def test_an_objective_says_the_kinds_of_the_test_prompts_and_others_say_nothing() -> None:
    class Kinds(Height):
        def tag(self, prompt: str) -> str | None:
            return "even" if int(prompt.split()[1]) % 2 == 0 else None

    run = hill_run(objective=Kinds())
    assert tags_of(hill_run()) == {}
    assert tags_of(run) == {"height": {p: "even" for p in run.test_bucket.prompts if int(p.split()[1]) % 2 == 0}}
