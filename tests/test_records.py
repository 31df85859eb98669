"""One reading of a recorded run: the judge, its report, a comparison and later rewards say the same of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from canvas import HACK, canvas_config, canvas_plugins
from closed_form import Notes
from trimpot.comparison import results
from trimpot.comparison.design import make_design
from trimpot.engine import loop
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import COMBINED, Evaluation, Place
from trimpot.engine.judge import Judge
from trimpot.engine.record import Check, Record
from trimpot.ground.errors import Notice, PluginError
from trimpot.objectives.combining import Constrained
from trimpot.reports import facts
from trimpot.runs import session
from trimpot.runs.rescoring import rescore
from trimpot.setup import plugins, recorded
from trimpot.setup.assembly import STATISTICS
from trimpot.setup.config import load_config
from trimpot.setup.recorded import record_of
from trimpot.storage import Comparisons, SqliteStore
from trimpot.surrogate import adapter as surrogate

BUCKET = Bucket(("a prompt",), (1,))
GENERATIONS = 8


class Case(NamedTuple):
    """What is paid for, what must not fall by more than a little, how far the search looks at first, and its seed."""

    paid: str
    held: str
    sigma: float
    seed: int

    @property
    def config(self) -> dict[str, Any]:
        return canvas_config(
            {self.paid: {}, self.held: {"weight": 0}},
            self.seed,
            combine={"name": "constrained", "floors": {self.held: FLOOR}, "penalty": 1e-9},
            optimizer={"name": "cma-es", "sigma0": self.sigma},
            generations=GENERATIONS,
            validation={"num_prompts": 6, "every": 1},
        )


FLOOR = -0.02
REFUSED = Case("darkness", "likeness", 0.03, 0)  # the darker, the less like what was asked for: the best are refused
WORSE = Case("likeness", "darkness", 0.8, 1)  # what is recommended first is worse than neutral


class Stopping(Notes):
    """Stops the run with Ctrl-C when a generation has been told."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at
        self.judged: list[Check] = []

    def recommendation_judged(self, run: Any, check: Check) -> None:
        self.judged.append(check)

    def generation_told(self, run: Any, generation: int, evaluations: Any, sigma: float | None) -> None:
        if generation >= self._at:
            raise KeyboardInterrupt


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> list[Judge]:
    """Every judge at work, the latest last; the canvas is installed."""
    found: list[Judge] = []

    class Seen(Judge):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            found.append(self)

    known = canvas_plugins()
    monkeypatch.setattr(loop, "Judge", Seen)
    for module in (session, recorded):
        monkeypatch.setattr(module, "plugins", lambda: known)
    return found


def stopped(folder: Path, config: dict[str, Any]) -> Iterator[tuple[int, list[Check]]]:
    """A run that is stopped after every generation and goes on, to its end; and what each stretch told of checks."""
    for generation in range(GENERATIONS + 1):
        watcher = Stopping(generation)
        with contextlib.suppress(KeyboardInterrupt):
            if generation:
                session.resume("hill-1", folder, (watcher,))
            else:
                session.start(load_config(config), folder, (watcher,))
        yield generation + 1, watcher.judged


def by_hand(folder: Path, case: Case) -> list[tuple[int, float, bool]]:
    """Checks as the configuration means them, from the scores alone."""
    with SqliteStore(folder) as store:
        [neutral] = store.recorded("hill-1", "baseline", 0).values()
        judged = {place.generation: each for place, each in store.evaluations("hill-1") if place.stage == "validation"}
    least = np.mean(neutral.scores[case.held]) + FLOOR
    return [
        (generation, float(np.mean(each.scores[case.paid])), bool(np.mean(each.scores[case.held]) >= least))
        for generation, each in {0: neutral, **judged}.items()
    ]


def told(checks: Any) -> list[tuple[int, float, bool]]:
    return [(check.generation, check.score, check.admitted) for check in checks]


@pytest.mark.parametrize("case", [REFUSED, WORSE], ids=["the best are refused", "the first are worse than neutral"])
def test_all_who_read_a_constrained_run_agree_wherever_it_is_stopped(
    judges: list[Judge], tmp_path: Path, case: Case
) -> None:
    config = case.config
    asked = {"config": config, "contenders": {"it": "cma-es", "none": "random"}, "seeds": 1, "images": 999, "checks": 3}
    chosen = []
    for generation, heard in stopped(tmp_path, config):
        expected = by_hand(tmp_path, case)
        best = max((check for check in expected if check[2]), key=lambda check: check[1])
        assert len(expected) == min(generation, GENERATIONS + 1)
        with SqliteStore(tmp_path) as store:
            comparisons = Comparisons(store)
            if generation == 1:
                comparisons.add("compare", make_design(asked).identity(canvas_plugins()), asked)
                comparisons.join("compare-1", "it", 0, "hill-1")
            course = results.gather(store, "compare-1").courses["it", 0]
            told_of = facts.gather(store, "hill-1")
        later = rescore("hill-1", "jpeg-size", {}, tmp_path)

        assert told(judges[-1].record.checks) == told(told_of.record.checks) == expected
        assert judges[-1].chosen == told_of.record.chosen
        assert told(heard) == expected[1:]
        assert told([judges[-1].chosen]) == [best]
        assert list(course.validation) == [score for _, score, _ in expected]
        assert course.chosen[-1] == best[1]
        assert [check.generation for check in later.checks] == [each[0] for each in expected[1:]]
        assert [check.generation for check in later.checks if check.chosen] == [best[0]] * (best[0] > 0)
        assert told_of.finished == (generation > GENERATIONS)
        shown = best if told_of.finished else max((c for c in expected[1:] if c[2]), key=lambda c: c[1], default=None)
        assert (told([told_of.shown]) if told_of.shown else [None]) == [shown]
        chosen.append(best[0])
    luckiest = max(expected, key=lambda check: check[1])
    if case is REFUSED:
        assert 0 < chosen[-1] < luckiest[0]
    else:
        assert chosen[1] == 0 < chosen[-1]
    assert told_of.row.outcome is not None
    assert Check(**told_of.row.outcome["chosen"]) == told_of.record.chosen
    assert [Check(**check) for check in told_of.row.outcome["checks"]] == list(told_of.record.checks)


def test_a_finished_run_reads_as_if_it_were_asked_anew(judges: list[Judge], tmp_path: Path) -> None:
    """What it kept of itself, and what its evaluations say, are the same; a surrogate begins where it began."""
    session.start(load_config(REFUSED.config), tmp_path)
    with SqliteStore(tmp_path) as store:
        row, evaluations = store.run("hill-1"), list(store.evaluations("hill-1"))
    kept, anew = record_of(row, evaluations), record_of(replace(row, outcome=None), evaluations)
    for record in (kept, anew):
        assert record.checks == judges[-1].record.checks and record.chosen == judges[-1].chosen
        assert record.alarms == judges[-1].record.alarms
        assert record.watched == judges[-1].record.watched == dict.fromkeys(STATISTICS, "moves")
        assert record.neutral == judges[-1].record.neutral
    baseline = (row.outcome or {})["baseline"]
    assert kept.checks[0] == Check(0, baseline["setting"], baseline["score"])
    assert list(kept.grids.values()) == list(anew.grids.values()) == [baseline["grid"]]


def test_a_surrogate_begins_where_its_run_began(
    judges: list[Judge], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = canvas_plugins()
    monkeypatch.setattr(plugins, "plugins", lambda: known)
    session.start(load_config(canvas_config("likeness", generations=6)), tmp_path)
    made = surrogate.make_surrogate(run=tmp_path / "hill-1")
    assert isinstance(made, surrogate.Surrogate)
    neutral = judges[-1].record.checks[0]
    assert made.neutrals() == {"neutral": neutral.setting}
    assert made.exact(made.space.to_vector(neutral.setting)[None])[0] == pytest.approx(neutral.score)


def test_a_record_can_be_read_at_any_moment_and_grown(judges: list[Judge], tmp_path: Path) -> None:
    session.start(load_config(canvas_config(HACK, generations=10, seed=1)), tmp_path)
    with SqliteStore(tmp_path) as store:
        row = replace(store.run("hill-1"), outcome=None)
        history = [(each.place, each.evaluation) for each in store.history("hill-1")]
    whole = judges[-1].record
    assert len(whole.checks) > 2 and whole.alarms
    seen: list[int] = []
    for length in range(len(history) + 1):
        record = record_of(row, history[:length])
        assert record.checks == whole.checks[: len(record.checks)]
        assert record.leading == whole.leading[: len(record.checks)]
        last = record.checks[-1].generation if record.checks else 0
        assert record.alarms == tuple(alarm for alarm in whole.alarms if alarm.generation <= last)
        assert (record.chosen is None) == (record.neutral is None) == (not record.checks)
        seen.append(len(record.checks))
    assert seen[0] == 0 and seen[-1] == len(whole.checks)
    grown = record_of(row, [each for each in history if each[0].stage != "validation"])
    for place, evaluation in history:
        if place.stage == "validation":
            assert grown.chosen == grown.leading[-1]  # asked in between
            grown.add(place.generation, evaluation.weighed({"darkness": 1.0}))
    assert (grown.checks, grown.alarms) == (whole.checks, whole.alarms)


def test_what_a_run_admitted_stands_though_its_combination_has_gone(
    judges: list[Judge], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unfinished one says that it cannot be told; a finished one needs nobody to tell it."""
    session.start(load_config(REFUSED.config), tmp_path)
    with SqliteStore(tmp_path) as store:
        row, evaluations = store.run("hill-1"), list(store.evaluations("hill-1"))
    row.config["combine"]["name"] = "gone"
    assert record_of(row, evaluations).checks == judges[-1].record.checks
    unfinished = record_of(replace(row, outcome=None), evaluations)
    with pytest.warns(Notice, match=r"combination of run hill-1 cannot be made.*no combination 'gone'"):
        assert all(check.admitted for check in unfinished.checks)


def test_a_combination_that_fails_to_admit_is_named(
    judges: list[Judge], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the run goes, at the first check, and whenever it is read afterwards."""

    def fails(*_: Any) -> bool:
        raise RuntimeError("I know\nnothing")

    monkeypatch.setattr(Constrained, "admits", fails)
    with pytest.raises(PluginError, match="the combination failed: RuntimeError: I know nothing"):
        session.start(load_config(REFUSED.config), tmp_path)
    with SqliteStore(tmp_path) as store:
        record = record_of(store.run("hill-1"), store.evaluations("hill-1"))
        assert list(record.judged) == [0, 1]
        with pytest.raises(PluginError, match="I know nothing"):
            record.checks  # noqa: B018  # asking is what fails


def test_equals_are_chosen_by_who_came_first() -> None:
    tops = {name: Evaluation({"knob": float(number)}, BUCKET, None, {"r": (score,)}) for number, (name, score) in
            enumerate({"first": 1.0, "best": 2.0, "again": 2.0, "low": 0.5}.items())}  # fmt: skip
    tried = [(Place("baseline", 0, position), each) for position, each in enumerate(tops.values())]
    checks = [(Place("validation", number, 0), tops[name]) for number, name in ((2, "low"), (4, "best"), (6, "again"))]
    record = Record([*checks, *reversed(tried)], {"r": 1.0}, ["r"], lambda candidate, neutral: True)
    assert record.neutral_place == Place("baseline", 0, 1)
    assert record.grids == {None: {"knob 0": 1.0, "knob 1": 2.0, "knob 2": 2.0, "knob 3": 0.5}}
    assert [check.generation for check in record.leading] == [0, 0, 0, 0]
    assert record.chosen == record.checks[0] and record.recommended == record.checks[2]


def test_an_evaluation_is_worth_nothing_without_the_weights_of_a_run() -> None:
    for scores in ({"r": (1.0,)}, {"r": (1.0,), COMBINED: (2.0,)}):
        bare = Evaluation({}, BUCKET, None, scores)
        for ask in (lambda each: each.values, lambda each: each.fitness):
            with pytest.raises(AssertionError, match="weights"):
                ask(bare)
        assert bare.weighed({"r": 2.0}).fitness == 2.0
