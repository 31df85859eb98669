"""What the page knows of a run, read piece by piece, is what its report says of it."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, Ridge
from sessions import Installed, interrupt
from trimpot.reports.facts import gather
from trimpot.runs import session
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plan import plan
from trimpot.storage import Look, SqliteStore
from trimpot.watching.course import Course, Made
from trimpot.watching.progress import progress_of
from watched import stepped

pytestmark = [pytest.mark.usefixtures("short_reports"), pytest.mark.filterwarnings("ignore:watch.views: ")]

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "checked by images": {"validation": {"num_prompts": 4, "every": 1, "every_images": 40}},
    "geometric checks": {"generations": 7, "validation": {"num_prompts": 4}},
    "a ladder": {"ladder": {"pairs": 2, "own": 3}, "optimizer": {"name": "cma-es", "population_size": 6}},
    "several seeds": {"seeds_per_prompt": 3},
    "a budget of images": {"budget": {"images": 60}},
    "groups": {"group_size": 4},
    "a win rate": {"combine": "winrate"},
    "watched prompts": {"watch": {"views": {"prompts": "views", "num_validation": 3, "num_prompts": 5}}},
}


def read(folder: Path, course: Course) -> Any:
    with Look(folder) as look:
        course.read(look)
        row = look.run(course.run)
        return row, course.facts(row)


def same(found: Any, told: Any) -> None:
    assert found.record.checks == told.record.checks and found.record.alarms == told.record.alarms
    assert found.record.grids == told.record.grids
    assert found.shown == told.shown and found.comparisons == told.comparisons
    assert found.neutral == told.neutral and found.sizes == told.sizes
    assert [each[0] for each in found.generations] == [each[0] for each in told.generations]
    for one, other in zip(found.generations, told.generations, strict=True):
        assert one == pytest.approx(other)
    assert found.noise is None if told.noise is None else vars(found.noise) == pytest.approx(vars(told.noise))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_course_says_what_the_report_says(installed: Installed, tmp_path: Path, name: str) -> None:
    """While the run works, at its end, and read at once.

    Once a generation is known, so is the most that the run can take: as many images as the plan says, which knows the
    parts of the run.
    """
    config = load_config({**SMALL, **CONFIGS[name]})
    planned = sum(plan(assemble("", config, session.plugins())).images.values())
    course, shares, told = None, [0.0], []
    with stepped(tmp_path, CONFIGS[name]) as (steps, thread):
        while thread.is_alive() and steps.go_if_it_can(5):
            with SqliteStore(tmp_path, create=False) as store:
                course = course or Course(store.run("hill-1"))
                row, facts = read(tmp_path, course)
                same(facts, gather(store, "hill-1"))
                progress = progress_of(row, course)
                assert course.num_images == store.num_images("hill-1") == progress.images <= progress.most_images
                assert progress.done == store.work("hill-1") <= progress.total
            if progress.known and row.outcome is None:
                shares.append(progress.share)
                told.append(progress.most_images)
    assert course is not None and told
    assert all(abs(each - planned) <= 0.1 * planned for each in told), (planned, told)
    assert shares == sorted(shares) and shares[-1] <= 1
    with SqliteStore(tmp_path, create=False) as store:
        for each in (course, Course(store.run("hill-1"))):
            row, facts = read(tmp_path, each)
            same(facts, gather(store, "hill-1"))
        assert progress_of(row, course).share == 1 and progress_of(row, course).seconds_left is None
        assert course.state == each.state


def test_a_course_forgets_what_an_extension_sets_aside(installed: Installed, tmp_path: Path) -> None:
    session.start(load_config(SMALL), tmp_path)
    with SqliteStore(tmp_path, create=False) as store:
        course = Course(store.run("hill-1"))
    read(tmp_path, course)
    session.resume("hill-1", tmp_path, overrides=["generations=+2"])
    _, facts = read(tmp_path, course)
    with SqliteStore(tmp_path, create=False) as store:
        same(facts, gather(store, "hill-1"))
    assert len(facts.generations) == 5


def course_of(folder: Path, made: list[Made]) -> Course:
    with SqliteStore(folder, create=False) as store:
        course = Course(store.run("hill-1"))
    course._made.extend(made)
    return course


def test_speed_and_load_are_those_since_the_last_pause(installed: Installed, tmp_path: Path) -> None:
    """Two workers that each need two seconds for ten images: ten images a second, and both are busy."""
    interrupt(tmp_path)
    before = [Made(float(number), 1000, 1000, 0.0, 0.0) for number in range(20)]
    since = [Made(5000.0 + number, 40, 10, 1.5, 0.5) for number in range(30)]
    speed = course_of(tmp_path, before + since).speed()
    assert speed is not None
    assert (speed.images, speed.work, speed.generating, speed.scoring) == pytest.approx((10, 40, 1.5, 0.5))
    assert (speed.seconds, speed.pause) == (29, 1)
    together = [Made(number // 5 * 2.0, 4, 4, 0.4, 0.0) for number in range(50)]
    speed = course_of(tmp_path, together).speed()
    assert speed is not None and speed.images == pytest.approx(4 * 45 / 18) and speed.generating == pytest.approx(1)
    for few in ([], since[:1], [since[0], since[0]]):
        assert course_of(tmp_path, few).speed() is None


def test_the_time_left_is_that_of_the_work_left(installed: Installed, tmp_path: Path) -> None:
    with stepped(tmp_path) as (steps, _):
        steps.go(16)
        with Look(tmp_path) as look:
            course = Course(look.run("hill-1"))
            course.read(look)
            course._made.clear()
            course._made.extend(Made(float(number), 3, 3, 0.5, 0.5) for number in range(10))
            progress = progress_of(look.run("hill-1"), course)
            assert progress.seconds_left == pytest.approx((progress.total - progress.done) / 3)
            row = look.run("hill-1")
            row.config["budget"] = {"seconds": row.seconds + 1}
            held_out = 2 * SMALL["test"]["num_prompts"]  # type: ignore[index]
            assert progress_of(row, course).seconds_left == pytest.approx(1 + held_out / 3, rel=0.01)


def test_only_what_a_run_made_itself_counts_for_its_speed(installed: Installed, tmp_path: Path) -> None:
    for _ in range(2):
        session.start(load_config(SMALL), tmp_path)
    with SqliteStore(tmp_path, create=False) as store:
        first, second = (Course(store.run(name)) for name in ("hill-1", "hill-2"))
    read(tmp_path, first)
    read(tmp_path, second)
    assert first._made and not second._made and first.num_images == second.num_images


def test_where_the_search_is_is_the_mean_of_the_latest_candidates(installed: Installed, tmp_path: Path) -> None:
    session.start(load_config(SMALL), tmp_path)
    with SqliteStore(tmp_path, create=False) as store:
        course = Course(store.run("hill-1"))
        latest = [each.setting for place, each in store.evaluations("hill-1", ["search"]) if place.generation == 2]
    assert course.now() is None
    read(tmp_path, course)
    assert course.now() == {
        knob: pytest.approx(math.fsum(each[knob] for each in latest) / len(latest)) for knob in latest[0]
    }


def test_the_last_result_has_its_time(installed: Installed, tmp_path: Path) -> None:
    begun = datetime.datetime.now(datetime.timezone.utc)
    session.start(load_config(SMALL), tmp_path)
    with SqliteStore(tmp_path, create=False) as store:
        course = Course(store.run("hill-1"))
    assert course.last is None and course.stage == ""
    read(tmp_path, course)
    assert course.last is not None and datetime.datetime.fromisoformat(course.last) >= begun
    assert course.stage == "test"


def test_work_at_other_numbers_of_steps_is_counted(installed: Installed, tmp_path: Path) -> None:
    from closed_form import Height

    installed.put(Ridge(), Height())
    by_steps = {"steps": [2, 16], "num_prompts": 3, "num_validation": 3}
    with stepped(tmp_path, {"by_steps": by_steps}) as (steps, _):
        steps.go(16)
        with Look(tmp_path) as look:
            course = Course(look.run("hill-1"))
            course.read(look)
            progress = progress_of(look.run("hill-1"), course)
    with SqliteStore(tmp_path, create=False) as store:
        assert store.work("hill-1") <= progress.total <= 1.2 * store.work("hill-1")
