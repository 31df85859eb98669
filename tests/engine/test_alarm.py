"""The alarm: it hears what moves away while the score rises, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from canvas import HACK, canvas_run
from closed_form import Height, Hill, MemoryStore, Notes, hill_run
from trimpot.engine.alarm import LARGE, Alarm, Watch, alarms, raised, standardised
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Evaluation
from trimpot.engine.loop import calibrate
from trimpot.engine.run import Run
from trimpot.setup.assembly import STATISTICS

NUMBER = 100


def judged(score: float, watched: float, statistic: float) -> Evaluation:
    """Outputs with these means, in standard deviations: the statistic is one between 0 and 1 that scatters by 0.1."""
    bucket = Bucket(tuple(f"prompt {index}" for index in range(NUMBER)), tuple(range(NUMBER)))
    between = np.linspace(-1.7, 1.7, NUMBER)  # what a prompt is worth, the same on both sides
    values = {"score": score, "watched": watched, "statistic": statistic}
    generator = np.random.default_rng([int(1e3 * abs(value)) for value in values.values()])
    own = generator.normal(scale=0.05, size=(3, NUMBER))
    scores = {name: tuple(value + between + noise) for (name, value), noise in zip(values.items(), own, strict=True)}
    scores["statistic"] = tuple(0.5 + 0.1 * np.array(scores["statistic"]))
    return Evaluation({}, bucket, None, scores, {"score": 1.0})


NEUTRAL = judged(0, 0, 0)
WATCHED: dict[str, Watch] = {"watched": "falls", "statistic": "moves"}


@pytest.mark.parametrize(
    ("score", "watched", "statistic", "heard"),
    [
        (0.5, 0, 0, []),
        (0.5, -0.5, 0, ["watched"]),
        (0.5, 0.5, 0, []),  # what is watched may rise
        (0.5, 0, 1.5, ["statistic"]),
        (0.5, 0, -1.5, ["statistic"]),
        (0.5, 0, 0.3, []),  # beyond noise, but not far
        (0.5, -0.1, 0, []),
        (0.5, -0.5, 1.5, ["watched", "statistic"]),
        (0, -0.5, 1.5, []),  # without a gain there is nothing to be misled by
        (-0.5, -0.5, 1.5, []),
    ],
)
def test_only_what_moves_away_while_the_score_rises_is_heard(
    score: float, watched: float, statistic: float, heard: list[str]
) -> None:
    found = alarms(NEUTRAL, judged(score, watched, statistic), WATCHED, 4)
    assert [alarm.objective for alarm in found] == heard
    for alarm in found:
        assert (alarm.generation, alarm.gain) == (4, pytest.approx(score, abs=0.05))
        assert alarm.now - alarm.neutral == pytest.approx(
            {"watched": watched, "statistic": 0.1 * statistic}[alarm.objective], abs=0.05
        )


def test_a_movement_that_may_be_luck_is_not_heard() -> None:
    """Far on average, but from two prompts of a hundred."""
    candidate = judged(0.5, 0, 0)
    lucky = np.array(NEUTRAL.scores["statistic"])
    lucky[:2] += 8
    found = alarms(NEUTRAL, replace(candidate, scores={**candidate.scores, "statistic": tuple(lucky)}), WATCHED, 1)
    assert standardised(np.array(NEUTRAL.scores["statistic"]), lucky, "moves") > LARGE["moves"]
    assert found == []


def test_an_alarm_is_raised_once_for_each_objective() -> None:
    checks = {
        2: judged(0.5, 0, 0),
        4: judged(0.6, -0.5, 0),
        6: judged(0.7, -0.9, 0),
        8: judged(0.8, -0.9, 1.5),
    }
    assert [(each.generation, each.objective) for each in raised(NEUTRAL, checks, WATCHED)] == [
        (4, "watched"),
        (8, "statistic"),
    ]


def test_where_all_neutral_outputs_are_alike_a_trifle_is_no_alarm() -> None:
    still, trifle, much = np.zeros(50), np.full(50, 0.01), np.full(50, 0.2)
    assert abs(standardised(still, trifle, "moves")) < LARGE["moves"] < standardised(still, much, "moves")
    assert standardised(still, still, "moves") == standardised(still, still, "falls") == 0
    assert standardised(still, -trifle, "falls") < -LARGE["falls"]  # a reward has no unit to call small


def test_half_black_and_half_white_hides_no_darkness() -> None:
    """Their spread is half the range, so that even black pictures alone would lie hardly one deviation away."""
    mixed = np.repeat([0.0, 1.0], 50)
    darker = np.where(np.arange(100) % 3 == 0, 1.0, mixed)
    assert (darker - mixed).mean() / mixed.std(ddof=1) < 0.5
    assert standardised(mixed, darker, "moves") > 0.6
    assert standardised(10 * mixed, 10 * darker, "falls") == pytest.approx((darker - mixed).mean() / mixed.std(ddof=1))


def test_an_alarm_says_what_went_where() -> None:
    assert str(Alarm(8, "dark-share", 0.1, 0.62, 1.83, 0.2)) == (
        "after generation 8 the optimised score is up by 0.2 on validation, but dark-share went from 0.1 to 0.62 "
        "(+1.8 standard deviations): look at the outputs before believing the score"
    )


# Whole runs


class Ear(Notes):
    """Writes down the alarms, and what had been told when they were raised."""

    def __init__(self, patience: int | None = None) -> None:
        super().__init__(patience)
        self.alarms: list[Alarm] = []

    def alarm_raised(self, run: Run, alarm: Alarm) -> None:
        self.heard.append(f"alarm {alarm.objective}")
        self.alarms.append(alarm)


def test_a_planted_hack_is_heard_at_once_and_by_what_it_does() -> None:
    ear = Ear()
    outcome = calibrate(canvas_run(HACK), MemoryStore(), ear)
    assert outcome.alarms == tuple(ear.alarms)
    assert "dark-share" in {alarm.objective for alarm in outcome.alarms}
    first = next(index for index, heard in enumerate(ear.heard) if heard.startswith("alarm"))
    assert ear.heard[first - 1] == f"validation {ear.alarms[0].generation}.0" != "validation 20.0"


def test_a_run_raises_an_alarm_once_though_what_it_heard_goes_on() -> None:
    ear = Ear()
    run = canvas_run(HACK)
    outcome = calibrate(run, MemoryStore(), ear)
    judged = {e.place: e.evaluation for e in ear.evaluations if e.place.stage in ("baseline", "validation")}
    [neutral] = [evaluation for place, evaluation in judged.items() if place.stage == "baseline"]
    checks = {place.generation: evaluation for place, evaluation in judged.items() if place.stage == "validation"}
    would = [alarm for generation, made in checks.items() for alarm in alarms(neutral, made, run.watched, generation)]
    heard = [alarm.objective for alarm in outcome.alarms]
    assert len(heard) == len(set(heard)) < len(would)
    assert outcome.alarms == tuple(raised(neutral, checks, run.watched)) == tuple(ear.alarms)
    assert set(heard) == {alarm.objective for alarm in would}


@pytest.mark.parametrize("seed", range(10))
def test_an_honest_run_is_not_flagged(seed: int) -> None:
    outcome = calibrate(canvas_run("likeness", seed), MemoryStore(), Notes())
    assert outcome.alarms == ()
    assert outcome.chosen.generation > 0  # it did gain, or silence says nothing


def test_a_resumed_run_raises_the_same_alarms() -> None:
    expected = calibrate(canvas_run(HACK), MemoryStore(), Notes())
    store, ear = MemoryStore(), Ear()
    with pytest.raises(KeyboardInterrupt):
        calibrate(canvas_run(HACK), store, Notes(patience=60))
    assert calibrate(canvas_run(HACK), store, Notes()).alarms == expected.alarms
    assert calibrate(canvas_run(HACK), store, ear).alarms == expected.alarms != ()


def test_statistics_are_watched_where_pictures_are_made_and_only_on_what_is_judged() -> None:
    run, notes = canvas_run({"darkness": {}, "likeness": {"weight": 0}, "saturation": {}}), Notes()
    assert run.watched == {
        "likeness": "falls",
        **{name: "moves" for name in STATISTICS if name != "saturation"},  # it is optimised here
    }
    assert hill_run(adapter=Hill(), objective=Height()).watched == {}
    calibrate(run, MemoryStore(), notes)
    for each in notes.evaluations:
        watching = each.place.stage in ("baseline", "validation", "test")
        expected = {"darkness", "saturation", *(run.watched if watching else ())}
        assert set(each.evaluation.scores) == expected, each.place
