"""Working on a comparison: nothing is done twice, nothing is lost, and one who fails does not stop the others."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from closed_form import Hill
from comparing import SHARED, Installed, Told, small
from trimpot.comparison.results import gather
from trimpot.comparison.running import compare
from trimpot.ground.errors import ConfigError, PluginError, StoreError
from trimpot.runs.results import Files
from trimpot.runs.session import resume, start
from trimpot.setup.config import load_config
from trimpot.storage import Comparisons, SqliteStore


def digests(folder: Path, name: str = "compare-hill-1") -> dict[tuple[str, int], str]:
    with SqliteStore(folder, create=False) as store:
        members = Comparisons(store).members(name)
        return {member: store.totals(run)["digest"] for member, run in members.items()}


def test_every_contender_runs_with_every_seed_on_one_backbone(installed: Installed, tmp_path: Path) -> None:
    told = Told()
    worked = compare(small(), tmp_path, told)
    assert (worked.comparison, worked.failures) == ("compare-hill-1", {})
    assert told.started == [(name, seed) for seed in range(3) for name in ("cma-es", "random")]
    assert installed.num_made == 1
    with SqliteStore(tmp_path) as store:
        results = gather(store, "compare-hill-1")
        assert all(course.finished for course in results.courses.values())
        assert not any(Files.of(store.run_folder(row.id)).report.exists() for row in store.runs())
        assert all(Files.of(store.run_folder(row.id)).calibration.exists() for row in store.runs())


def test_no_run_takes_more_images_than_its_budget_and_checks_come_at_equal_intervals(
    installed: Installed, tmp_path: Path
) -> None:
    contenders = {"small": {"bucket_size": 1}, "large": {"bucket_size": 4}}
    compare(small(contenders=contenders, images=240, checks=4, seeds=1), tmp_path, Told())
    with SqliteStore(tmp_path) as store:
        results = gather(store, "compare-hill-1")
        for label, size in (("small", 8), ("large", 32)):
            course = results.courses[label, 0]
            steps = Comparisons(store).steps(course.run or "")
            searched = [step for step in steps if step.stage == "search"]
            assert course.spent == sum(s.num_images for s in searched) + results.design.contenders[label].bucket_size
            assert 240 - size < course.spent <= 240
            assert len(course.images) in (5, 6)  # the common start, every sixty images, and the end
            for number, images in enumerate(course.images[1:-1], start=1):
                assert 60 * number <= images < 60 * number + size


def test_what_it_was_told_it_says_again_and_does_nothing(installed: Installed, tmp_path: Path) -> None:
    compare(small(), tmp_path, Told())
    before = digests(tmp_path)
    installed.put(hill := Hill())
    told = Told()
    assert compare(small(), tmp_path, told).comparison == "compare-hill-1"
    assert (hill.calls, installed.num_made, told.num_made) == ([], 0, 0)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("seed", range(2))
def test_stopped_anywhere_it_goes_on_to_the_same_digests(installed: Installed, tmp_path: Path, seed: int) -> None:
    compare(small(), tmp_path / "undisturbed", Told())
    moments, stops = random.Random(seed), 0
    while True:
        try:
            compare(small(), tmp_path / "stopped", Told(moments.randint(1, 60)))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 1
    assert digests(tmp_path / "stopped") == digests(tmp_path / "undisturbed")
    with SqliteStore(tmp_path / "stopped") as store:
        assert len(store.runs()) == 6


def test_contenders_share_what_is_in_the_store(installed: Installed, tmp_path: Path) -> None:
    """The neutral side is generated once; with the same seed the first bucket is the same too."""
    told = Told()
    compare(small(), tmp_path, told)
    neutral = Hill.space.to_setting(Hill.space.defaults)
    with SqliteStore(tmp_path) as store:
        rows = list(
            store._db.query("SELECT stage, sum(fresh) AS made, count(*) AS asked FROM candidates GROUP BY stage")
        )
        made = {row["stage"]: (row["made"], row["asked"]) for row in rows}
        assert made["baseline"] == (1, 6)
        assert made["reference"] == (3, 6)
        tested = [e for row in store.runs() for place, e in store.evaluations(row.id) if place.stage == "test"]
        assert sum(dict(evaluation.setting) == neutral for evaluation in tested) >= 6
        assert made["test"][0] <= made["test"][1] - 5


def test_a_ladder_is_climbed_and_then_goes_on_until_the_images_are_spent(installed: Installed, tmp_path: Path) -> None:
    climbs = {"optimizer": {"name": "cma-es", "population_size": 4}, "ladder": {"one": 2, "own": 1}}
    compare(small(contenders={"climbs": climbs, "random": "random"}, seeds=1), tmp_path, Told())
    with SqliteStore(tmp_path) as store:
        course = gather(store, "compare-hill-1").courses["climbs", 0]
        assert course.stop_reason == "the budget of 60 outputs is spent"
        assert (course.spent, course.generations) == (2 + 7 * 8, 7)
        asked = [e.setting for place, e in store.evaluations(course.run) if place.stage == "search"]
    tied = [len(set(setting.values())) == 1 for setting in asked]
    assert tied == [True] * 8 + [False] * 20


def test_a_larger_comparison_takes_over_what_a_smaller_one_finished(installed: Installed, tmp_path: Path) -> None:
    compare(small(), tmp_path, Told())
    wide = {"optimizer": {"name": "random", "sigma0": 0.5}}
    larger = small(contenders={"cma-es": "cma-es", "random": "random", "wide": wide}, seeds=4)
    assert compare(larger, tmp_path, Told()).comparison == "compare-hill-2"
    with SqliteStore(tmp_path) as store:
        assert len(store.runs()) == 6 + 3 + 3  # a new contender with the old seeds, and a new seed for each
    shared = digests(tmp_path, "compare-hill-2")
    assert shared == {**shared, **digests(tmp_path)}


def test_a_plain_run_of_the_same_is_taken_over_too(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trimpot.runs import session

    monkeypatch.setattr(session, "plugins", lambda: installed.known)
    start(small().config("random", 1), tmp_path)
    compare(small(), tmp_path, Told())
    with SqliteStore(tmp_path) as store:
        assert Comparisons(store).members("compare-hill-1")["random", 1] == "hill-1"


def test_its_runs_are_ordinary_runs(installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trimpot.runs import session

    compare(small(), tmp_path / "undisturbed", Told())
    with pytest.raises(KeyboardInterrupt):
        compare(small(), tmp_path / "stopped", Told(20))
    monkeypatch.setattr(session, "plugins", lambda: installed.known)
    assert resume(None, tmp_path / "stopped") == "compare-hill-1.cma-es-1"
    compare(small(), tmp_path / "stopped", Told())
    assert digests(tmp_path / "stopped") == digests(tmp_path / "undisturbed")


def test_one_who_fails_is_reported_and_the_others_go_on(installed: Installed, tmp_path: Path) -> None:
    told = Told()
    worked = compare(small(contenders=["clumsy", "random"]), tmp_path, told)
    assert set(worked.failures) == {("clumsy", 0), ("clumsy", 2)} == set(told.errors)
    assert (
        worked.failures["clumsy", 0]
        == "optimizer 'clumsy' of the plugin 'clumsy-plugin' (tests) failed: RuntimeError: I fell over"
    )
    with SqliteStore(tmp_path) as store:
        results = gather(store, "compare-hill-1")
    assert [results.courses["clumsy", seed].status for seed in range(3)] == ["failed", "finished", "failed"]
    assert len(results.of("random")) == 3
    again = compare(small(contenders=["clumsy", "random"]), tmp_path, told)
    assert set(again.failures) == set(worked.failures)


def test_it_does_not_go_on_with_another_backbone(installed: Installed, tmp_path: Path) -> None:
    """One that is known only once it is loaded, such as a branch on the hub that moved."""

    class Retrained(Hill):
        revision = 1

        def describe(self) -> dict[str, Any]:
            return {"id": "hill", "revision": self.revision}

    installed.put(Retrained())
    with pytest.raises(KeyboardInterrupt):
        compare(small(), tmp_path, Told(20))
    Retrained.revision = 2
    installed.put(Retrained())
    with pytest.raises(StoreError, match=r"run compare-hill-1\.cma-es-1 was begun with another backbone"):
        compare(small(), tmp_path, Told())


def test_with_another_part_it_is_another_comparison(installed: Installed, tmp_path: Path) -> None:
    """What differs in an option is told from what was compared before, and scored anew."""
    for floor in (-9.0, -8.0, -9.0):
        combine = {"name": "constrained", "floors": {"height": floor}}
        with pytest.raises(KeyboardInterrupt):
            compare(small(overrides={"combine": combine}, seeds=1), tmp_path, Told(1))
    with SqliteStore(tmp_path) as store:
        assert Comparisons(store).names() == ["compare-hill-1", "compare-hill-2"]


def test_two_processes_do_not_work_on_one_comparison(installed: Installed, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compare(small(), tmp_path, Told(20))
    with (
        SqliteStore(tmp_path) as store,
        store.lock("compare-hill-1"),
        pytest.raises(StoreError, match="another process is working on"),
    ):
        compare(small(), tmp_path, Told())


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        (
            {"contenders": ["cma-es", "randon"]},
            PluginError,
            "contender 'randon': no protocol or optimizer 'randon'; did you mean",
        ),
        (
            {"contenders": {"a": {"optimizer": {"name": "random", "sigma": 1}}, "b": {}}},
            ConfigError,
            "contender 'a': optimizer 'random' takes no option 'sigma'; did you mean 'sigma0'?",
        ),
        (
            {"contenders": {"a": {"group_size": 3}, "b": {}}},
            ConfigError,
            "contender 'a': a population of 8 cannot be split into groups of 3",
        ),
        (
            {"contenders": {"a": {"bucket_size": 7}, "b": {}}},
            ConfigError,
            "contender 'a': budget.outputs 60 is smaller than one generation: 8 candidates on 7 prompts are 56 "
            "outputs, after 7",
        ),
        ({"images": 3}, ConfigError, "contender 'cma-es': budget.outputs 3 is smaller than one generation"),
    ],
)
def test_what_cannot_be_done_leaves_nothing_behind(
    installed: Installed, tmp_path: Path, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        compare(small(**changes), tmp_path / "runs", Told())
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_shared_configuration_is_as_the_run_s_own_would_be(installed: Installed) -> None:
    """A comparison sets seed, generations and budget; all else is what a plain run of the contender would have."""
    shared = load_config(SHARED)
    compared = small().config("random", 2)
    same = ("adapter", "objectives", "prompts", "combine", "bucket_size", "test", "group_size", "ladder")
    assert all(getattr(compared, key) == getattr(shared, key) for key in same)
    assert (compared.seed, compared.budget.images, compared.optimizer.name) == (2, 60, "random")


def test_a_comparison_goes_on_without_its_prompt_files(installed: Installed, tmp_path: Path) -> None:
    files = {part: tmp_path / f"{part}.txt" for part in ("train", "validation", "test")}
    for part, path in files.items():
        path.write_text("".join(f"{part} view {n}\n" for n in range(20)))
    shared = {**SHARED, "prompts": {"name": "files", **{part: str(path) for part, path in files.items()}}}
    design, folder = small(config=shared), tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        compare(design, folder, Told(patience=30))
    for path in files.values():
        path.unlink()
    worked = compare(design, folder, Told())
    assert not worked.failures
    with SqliteStore(folder) as store:
        assert {row.status for row in store.runs()} == {"finished"}
        assert len({store.prompts(row.id) for row in store.runs()}) == 1


def test_other_prompts_are_another_comparison_unless_it_is_asked_for_by_name(
    installed: Installed, tmp_path: Path
) -> None:
    files = {part: tmp_path / f"{part}.txt" for part in ("train", "validation", "test")}
    for part, path in files.items():
        path.write_text("".join(f"{part} view {n}\n" for n in range(20)))
    shared = {**SHARED, "prompts": {"name": "files", **{part: str(path) for part, path in files.items()}}}
    design, folder = small(config=shared), tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        compare(design, folder, Told(patience=30))
    files["train"].write_text("".join(f"another view {n}\n" for n in range(20)))
    assert compare(design, folder, Told()).comparison == "compare-hill-2"
    assert not compare(design, folder, Told(), name="compare-hill-1").failures
    with SqliteStore(folder) as store:
        for name, said in (("compare-hill-1", "train view 0"), ("compare-hill-2", "another view 0")):
            for run in Comparisons(store).members(name).values():
                assert store.run(run).outcome is not None
                prompts = store.prompts(run)
                assert prompts is not None
                assert prompts.train[0] == said
