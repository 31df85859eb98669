"""Watched prompts: other items than the search's, scored at each check and on the test, and decisive nowhere."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, MemoryStore, Notes, hill_run
from elsewhere import BOTH, CITIES, Depth, Valley, change_at, elsewhere_plugins, elsewhere_run, others
from trimpot.engine.alarm import Alarm
from trimpot.engine.bucket import PromptSet
from trimpot.engine.calibration import Calibration, calibration_of
from trimpot.engine.evaluation import Place, watched_at, watching_stages
from trimpot.engine.hooks import hookimpl
from trimpot.engine.knobs import digest
from trimpot.engine.loop import Outcome, calibrate
from trimpot.engine.record import decisive
from trimpot.engine.run import Run
from trimpot.ground.errors import ConfigError, Notice, TrimpotError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plan import plan

LOUD = {"generations": 12, "bucket_size": 8, "validation": {"num_prompts": 20, "every": 4}}
MANY = {"cities": {"prompts": "cities", "num_validation": 19, "num_prompts": 20}}


def done(config: dict[str, Any]) -> tuple[Run, Outcome, Notes, MemoryStore]:
    run, notes, store = elsewhere_run(config), Notes(), MemoryStore()
    return run, calibrate(run, store, notes), notes, store


def test_every_check_and_the_test_are_scored_on_the_watched_prompts_too() -> None:
    _, outcome, notes, _ = done({"watch": BOTH})
    places = [each.place for each in notes.evaluations]
    for name in BOTH:
        checked, tested = watching_stages(name)
        assert [each.generation for each in places if each.stage == checked] == [c.generation for c in outcome.checks]
        assert [each for each in places if each.stage == tested] == [Place(tested, 0, 0), Place(tested, 0, 1)]
    scored = {each.place.stage: set(each.evaluation.scores) for each in notes.evaluations}
    assert scored["watch/cities"] == scored["watch/cities/test"] == {"height"}
    assert scored["watch/animals"] == {"animals/depth"} and scored["validation"] == scored["test"] == {"height"}
    sizes = {each.place.stage: len(each.evaluation.bucket) for each in notes.evaluations}
    assert [sizes[stage] for name in BOTH for stage in watching_stages(name)] == [6, 8, 4, 5]


@pytest.mark.parametrize("combine", ["weighted", "winrate", "pareto"])
def test_a_search_is_the_same_to_the_bit_whatever_is_watched(combine: str) -> None:
    """Candidates, scores, keys in the store, choice and gain; only the evaluations of watched prompts are added."""
    plain, without, _, first = done({"combine": combine})
    run, outcome, _, second = done({"combine": combine, "watch": BOTH})
    assert replace(outcome, watched=()) == without and outcome.alarms == () and len(outcome.watched) == 2
    assert {key: each for key, each in second.keys.items() if not watched_at(key[1].stage)} == first.keys
    assert run.context == plain.context and run.identity != plain.identity
    assert run.description == plain.description


def test_a_run_that_watches_no_prompts_is_what_it_was_before_there_were_any() -> None:
    run = hill_run()
    values = run.config.model_dump(mode="json")
    assert values.pop("watch") == {} and "watch" not in run.config.model_dump(exclude_defaults=True)
    kept = {key: values[key] for key in values if key not in (
        "adapter", "objectives", "combine", "prompts", "optimizer",
        "name", "plugins", "protocol", "start", "keep", "trackers", "workers",
    )}  # fmt: skip
    assert run.config.fingerprint == digest([kept, {"height": [None, 1.0]}, "hill", "weighted", "cma-es"])
    pools = [run.prompts.train, run.prompts.validation, run.prompts.test]
    assert run.prompts.fingerprint == digest(pools) and run.prompts.all == tuple(sum(pools, ()))
    parts = [run.description, run.origins()["optimizer"], run.adapter.space.fingerprint, run.prompts.fingerprint, {}]
    assert run.identity == digest([run.config.fingerprint, *parts])
    assert decisive(values) == ("baseline", "reference", "validation", "test")
    notes = Notes()
    outcome = calibrate(run, MemoryStore(), notes)
    assert outcome.watched == () and "watched" not in plan(run).images
    assert {each.place.stage for each in notes.evaluations} == {"baseline", "reference", "search", "validation", "test"}


def test_the_change_on_watched_prompts_is_what_the_closed_form_says() -> None:
    run, outcome, _, _ = done({**LOUD, "watch": BOTH})
    by_name = {each.prompts: each for each in outcome.watched}
    assert outcome.comparisons[0].gain.low > 0, "it climbs on the views"
    for name, times in (("cities", 1), ("animals", 10)):
        found, bucket = by_name[name], run.watched_buckets[name][1]
        expected = times * change_at(outcome.calibrated, outcome.baseline.setting, bucket)
        assert found.gain.mean == pytest.approx(expected) and found.gain.mean < 0
        assert found.calibrated - found.neutral == pytest.approx(expected)
        assert found.gain.low <= found.gain.mean <= found.gain.high and found.gain.num_prompts == len(bucket)


def test_a_loss_on_watched_prompts_raises_one_alarm_that_says_where() -> None:
    class Ear(Notes):
        def __init__(self) -> None:
            super().__init__()
            self.alarms: list[Alarm] = []

        def alarm_raised(self, run: Run, alarm: Alarm) -> None:
            self.alarms.append(alarm)

    run, ear = elsewhere_run({**LOUD, "watch": MANY}), Ear()
    outcome = calibrate(run, MemoryStore(), ear)
    assert list(outcome.alarms) == ear.alarms and len(ear.alarms) == 1, "heard once, though each later check falls too"
    [alarm] = ear.alarms
    assert (alarm.prompts, alarm.objective, alarm.gain > 0, alarm.now < alarm.neutral) == (
        "cities",
        "height",
        True,
        True,
    )
    said = (
        rf"score is up by [\d.]+ on validation, but height on cities went from {alarm.neutral:.3g} to {alarm.now:.3g} "
    )
    assert re.search(said, str(alarm)) and str(alarm).endswith("what is gained there is lost on cities")
    at = {each.place: each.evaluation for each in ear.evaluations}
    before, now = (at[Place("watch/cities", generation, 0)] for generation in (0, alarm.generation))
    assert (alarm.neutral, alarm.now) == pytest.approx([sum(e.scores["height"]) / 19 for e in (before, now)])


@pytest.mark.filterwarnings("ignore:watch.views")
def test_no_alarm_is_raised_where_nothing_is_lost_or_nothing_is_gained() -> None:
    """More views elsewhere rise with the score; and a search that never climbs may lose what it likes."""
    _, outcome, _, _ = done({**LOUD, "watch": {"views": {"prompts": "views", "num_validation": 19}}})
    assert outcome.alarms == () and outcome.watched[0].gain.low > 0
    config = {**LOUD, "objectives": {"depth": {"times": -1.0}}, "watch": {"cities": {**MANY["cities"]}}}
    _, outcome, _, _ = done({**config, "generations": 1})
    assert outcome.alarms == ()


def test_a_run_killed_at_any_moment_ends_as_if_it_never_was() -> None:
    config = {"generations": 4, "watch": BOTH, "optimizer": {"name": "cma-es", "population_size": 4}}
    _, expected, notes, undisturbed = done(config)
    watched = [number for number, each in enumerate(notes.evaluations, 1) if watched_at(each.place.stage)]
    for moment in [*watched, *range(1, len(notes.evaluations), 7)]:
        store = MemoryStore()
        with pytest.raises(KeyboardInterrupt):
            calibrate(elsewhere_run(config), store, Notes(patience=moment))
        assert calibrate(elsewhere_run(config), store, Notes()) == expected
        assert store.digest("hill-1") == undisturbed.digest("hill-1")
    assert len(watched) == 2 * (len(expected.checks) + 2)


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_plan_counts_watched_outputs_and_a_budget_of_images_does_not(repeats: int) -> None:
    config = {
        "watch": BOTH,
        "seeds_per_prompt": repeats,
        "bucket_size": 4,
        "validation": {"num_prompts": 4, "every": 1},
    }
    config |= {"generations": 3, "optimizer": {"name": "cma-es", "population_size": 4}}
    run, _, notes, _ = done(config)
    made = Counter[str]()
    for each in notes.evaluations:
        made["watched" if watched_at(each.place.stage) else each.place.stage] += len(each.evaluation.bucket)
    assert plan(run).images == {**made, "watched": repeats * ((1 + 3) * (6 + 4) + 2 * (8 + 5))}
    assert plan(run).work == sum(made.values())
    tight = {**config, "generations": 50, "budget": {"images": 40}}
    _, limited, notes, _ = done(tight)
    searched = sum(len(e.evaluation.bucket) for e in notes.evaluations if e.place.stage in ("search", "reference"))
    assert limited.stop_reason == "the budget of 40 outputs is spent" and searched == 36
    assert limited.num_generations == done({**tight, "watch": {}})[1].num_generations


def test_an_objective_that_the_run_has_is_used_again_and_any_other_is_made_once() -> None:
    sets = {
        "one": {"prompts": "cities", "objectives": {"height": {}, "depth": {"times": 3}}},
        "two": {"prompts": "animals", "objectives": {"deep": {"name": "depth", "times": 3.0}, "depth": {}}},
        "three": {"prompts": "animals"},
    }
    run = elsewhere_run({"objectives": {"height": {}, "depth": {"weight": 0}}, "watch": sets})
    assert set(run.objectives) == {"height", "depth", "one/depth", "two/deep"}
    assert run.objectives["one/depth"] is run.objectives["two/deep"] is not run.objectives["depth"]
    assert list(run.scored("watch/one")) == ["height", "one/depth"]
    assert list(run.scored("watch/two")) == ["two/deep", "depth"] and list(run.scored("watch/three")) == [
        "height",
        "depth",
    ]
    for stage in ("baseline", "validation", "test", "search"):
        assert set(run.scored(stage)) <= {"height", "depth"}
    assert set(run.watched) == {"depth"}


def test_what_scores_watched_prompts_is_part_of_the_identity_and_of_its_own_scores_alone() -> None:
    base = elsewhere_run({"watch": BOTH})
    others = [
        {},
        CITIES,
        {**BOTH, "cities": {**BOTH["cities"], "num_prompts": 9}},
        {**BOTH, "cities": {**BOTH["cities"], "num_validation": 9}},
        {**BOTH, "cities": {**BOTH["cities"], "prompts": "animals"}},
        {**BOTH, "animals": {**BOTH["animals"], "objectives": {"depth": {"times": 9}}}},
        {**BOTH, "animals": {**BOTH["animals"], "objectives": {"depth": {}, "height": {}}}},
        {"towns": BOTH["cities"], "animals": BOTH["animals"]},
    ]
    runs = [base, *(elsewhere_run({"watch": watch}) for watch in others)]
    assert len({run.identity for run in runs}) == len(runs)
    assert len({run.context_of("validation") for run in runs}) == len({run.context_of("search") for run in runs}) == 1
    contexts = [run.context_of("watch/animals") for run in (base, runs[6], runs[7])]
    assert len(set(contexts)) == 3 and base.context_of("watch/animals") != base.context_of("watch/cities")
    ordered = elsewhere_run({"watch": dict(reversed(BOTH.items()))})
    assert ordered.config.watching == base.config.watching and ordered.identity == base.identity


@pytest.mark.parametrize(
    ("watch", "said"),
    [
        ({"cities": {}}, "key 'watch.cities.prompts' is missing"),
        ({"cities": None}, "'watch.cities': should be a mapping"),
        ({"big cities": CITIES["cities"]}, "'watch.big cities': should match the pattern"),
        ({"a/b": CITIES["cities"]}, "'watch.a/b': should match the pattern"),
        ({"cities": {"prompts": "citys"}}, "no prompts 'citys'; did you mean 'cities'"),
        ({"cities": {"prompts": {"name": "cities", "size": 3}}}, "prompts 'cities' takes no option 'size'"),
        ({"cities": {"prompts": "cities", "objectives": "heigth"}}, "no objective 'heigth'; did you mean 'height'"),
        ({"cities": {"prompts": "cities", "objectives": {"depth": {"time": 1}}}}, "did you mean 'times'?"),
        ({"cities": {"prompts": "cities", "objectives": {"depth": {"weight": 0}}}}, "watched prompts have no weight"),
        ({"cities": {"prompts": "cities", "num_prompt": 4}}, "unknown key 'watch.cities.num_prompt'; did you mean"),
        ({"prompts": {"prompts": "cities", "num_prompt": 4}}, "unknown key 'watch.prompts.num_prompt'; did you mean"),
        ({"cities": {"prompts": "cities", "num_prompts": 1}}, "watch.cities.num_prompts': should be at least 2"),
        ("cities", "'watch': should be a mapping"),
        (["cities"], "'watch': should be a mapping"),
    ],
)  # fmt: skip
def test_a_wrong_watch_is_one_sentence(watch: Any, said: str) -> None:
    with pytest.raises(TrimpotError) as refused:
        elsewhere_run({"watch": watch})
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_watched_prompts_that_serve_the_search_too_are_told_of_once() -> None:
    config = load_config({**SMALL, "watch": {"cities": {"prompts": "views"}}})
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        run = assemble("", config, elsewhere_plugins())
        assemble("", config, elsewhere_plugins(), sharing=run)
        assemble("", config, elsewhere_plugins(), prompts=run.prompts)
    [notice] = [str(each.message) for each in heard if each.category is Notice]
    assert notice.startswith(
        "watch.cities: 20 of its 40 prompts are among those that the search is given, such as 'view 2"
    )


def test_a_backbone_without_seeds_does_not_repeat_watched_prompts() -> None:
    class Seedless(Valley):
        uses_seed = False

    sizes = {"bucket_size": 3, "test": {"num_prompts": 5}}
    assert elsewhere_run({**sizes, "watch": MANY}, Seedless()).watched_buckets
    for key, most in (("num_validation", 19), ("num_prompts", 20)):
        with pytest.raises(
            ConfigError, match=rf"uses no seed.* watch\.cities\.{key} is {most + 1} with {most} .* prompts"
        ):
            elsewhere_run({**sizes, "watch": {"cities": {**MANY["cities"], key: most + 1}}}, Seedless())


def test_metadata_of_watched_prompts_reach_the_objectives_and_must_not_contradict() -> None:
    prompts = PromptSet(("a",), ("b",), ("c",), metadata={"b": {"answer": "1"}})
    other = PromptSet(("x",), ("y",), ("z",), metadata={"y": {"answer": "2"}, "x": {"answer": "unused"}})
    both = replace(prompts, watched={"cities": other})
    assert both.all_metadata == {"b": {"answer": "1"}, "y": {"answer": "2"}} and both.all == ("a", "b", "c", "y", "z")
    same = PromptSet(("x",), ("b",), ("z",), metadata={"b": {"answer": "1"}})
    assert replace(prompts, watched={"cities": same}).all_metadata == prompts.metadata
    for told in ({"b": {"answer": "3"}}, {}):
        wrong = replace(prompts, watched={"cities": replace(same, metadata=told)})
        with pytest.raises(ConfigError, match=r"watch\.cities: the prompt 'b' stands in other prompts of the run too"):
            wrong.all_metadata  # noqa: B018


def test_a_calibration_says_what_was_watched_and_by_how_much_it_moved(tmp_path: Path) -> None:
    totals = {"digest": "", "num_evaluations": 1, "num_images": 1}
    run, outcome, _, _ = done({"watch": BOTH})
    made = calibration_of(run, outcome, totals)
    made.save(tmp_path / "watched.json")
    loaded = Calibration.load(tmp_path / "watched.json")
    assert loaded == made and [(each.prompts, each.objective) for each in loaded.watched] == [
        ("animals", "depth"), ("cities", "height"),
    ]  # fmt: skip
    for record, measured in zip(loaded.watched, outcome.watched, strict=True):
        assert (record.neutral, record.calibrated) == (measured.neutral, measured.calibrated)
        assert (record.gain.mean, record.gain.low) == (measured.gain.mean, measured.gain.low)
    assert loaded.objectives["animals/depth"]["times"] == 10.0
    run, outcome, _, _ = done({})
    calibration_of(run, outcome, totals).save(tmp_path / "plain.json")
    assert '"watched"' not in (tmp_path / "plain.json").read_text()


class Answered(Depth):
    """A depth that is told the answer of every prompt that it scores."""

    needs = ("answer",)
    takes_metadata = True


def _told(answers: dict[str, str], **reward: Any) -> Run:
    """A run that watches cities with `answers`, and scores them by `Answered`."""
    known = elsewhere_plugins()

    class Plugin:
        @hookimpl
        def register_objectives(self, register: Any) -> None:
            register("answered", Answered)

        @hookimpl
        def register_prompts(self, register: Any) -> None:
            told = {prompt: {"answer": answer} for prompt, answer in answers.items()}
            register("towns", lambda: replace(others("city"), metadata=told))

    known.add(Plugin(), name="answered-plugin", origin="tests")
    watch = {"cities": {"prompts": "towns", "objectives": {"answered": {}}, "num_validation": 6, "num_prompts": 8}}
    return assemble("", load_config({**SMALL, "watch": watch, **reward}), known)


def test_what_an_objective_needs_is_asked_of_the_prompts_that_it_scores_and_of_no_others() -> None:
    answers = dict.fromkeys(others("city").held_out, "1")
    _told(answers)
    lacking = {prompt: answer for prompt, answer in answers.items() if prompt != "city 7"}
    with pytest.raises(
        ConfigError, match=r"'cities/answered' needs the `answer` of every prompt, and 1 of 39 .*city 7"
    ):
        _told(lacking)
    with pytest.raises(ConfigError, match=r"objective 'answered' needs the `answer` .*'view"):
        _told(answers, objectives={"height": {}, "answered": {}})


def test_other_answers_of_watched_prompts_are_other_evaluations() -> None:
    answers = dict.fromkeys(others("city").held_out, "1")
    first, again, other = (_told({**answers, **more}) for more in ({}, {}, {"city 30": "2"}))
    for stage in watching_stages("cities"):
        assert first.context_of(stage) == again.context_of(stage) != other.context_of(stage)
    assert first.context == other.context
