"""Damaged stores: whatever has happened to a file, it is read right or refused in a sentence, never read otherwise."""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, Notes, hill_plugin, hill_run, prompt_set
from damage import flip, mutate, put, told
from PIL import Image
from trimpot import cli
from trimpot.engine.evaluation import Place
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import StoreError, TrimpotError
from trimpot.runs import session
from trimpot.runs.results import summary
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins
from trimpot.storage import Analyses, AnalysisPlaces, Comparisons, SqliteStore, Studies
from trimpot.storage.database import FILE_NAME
from trimpot.storage.records import KEYS

SMALLER = {"generations": 1, "optimizer": {"name": "cma-es", "population_size": 3}, "bucket_size": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with rows in every table: a finished run, one begun, images, a later reward, a comparison, an analysis,
    a study."""
    folder = tmp_path_factory.mktemp("whole")
    with SqliteStore(folder) as store:
        comparisons = Comparisons(store)
        run, config = hill_run(SMALLER), load_config({**SMALL, **SMALLER}).model_dump(mode="json")
        start = dict.fromkeys(run.adapter.space.names, 1.0)
        name = store.add_run("hill", "identity", config, {"numpy": "2.0"}, prompt_set(), start)
        with store.working_on(name):
            outcome = calibrate(run, store, Notes())
            store.totals(name)  # whose digest is kept
            store.update_run(name, outcome=asdict(outcome), stop_reason="done", unreported=1)
        comparison = comparisons.add("night", "fingerprint", {"contenders": ["a", "b"]})
        comparisons.join(comparison, "a", 0, name)
        other = comparisons.begin(comparison, "b", 0, "hill", "identity", config, {}, prompt_set())
        with pytest.raises(KeyboardInterrupt):
            calibrate(hill_run({**SMALLER, "seed": 1}, run_id=other), store, Notes(3))
        [(_, key)] = [(place, store.records.read("candidates", stage="reference")[0]["evaluation"]) for place in "r"]
        store.record_outputs(key, store.keeper([Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(2)]))
        store.record_rescore(key, "redness", "f00d", [0.25, 0.5])
        studies = Studies(store)
        study = studies.add("study", "fingerprint", {"entrants": ["a", "b"], "pictures": [["x.png"], ["y.png"]]})
        raters = studies.add_raters(study, 2, lambda number, earlier: [{"kind": "pair", "item": number}])
        studies.answer(raters[0].id, 0, "overall", "left", 1.5)
        studies.record_pictures({"key": "x.png"})
        analyses = Analyses(store)
        found = analyses.add("ablation", "identity", "ablation", {"options": {}}, {"numpy": "2.0"}, prompt_set())
        AnalysisPlaces(store).record(found, [(Place("test", 0, 0), key, store.history(name)[0].evaluation)])
        analyses.update(found, outcome={"headline": "something"})
        for table in KEYS:
            assert store.records.read(table), f"{table} is empty, so it is not tested"
    return folder


def _outcomes(whole: Path, tmp_path: Path, trials: int, seed: int, damage=flip) -> Counter[str]:  # type: ignore[no-untyped-def]
    content, expected = (whole / FILE_NAME).read_bytes(), told(whole)
    assert isinstance(expected, dict)
    generator, counts = random.Random(seed), Counter[str]()
    for trial in range(trials):
        put(tmp_path, damage(content, generator))
        found = told(tmp_path)
        refused = isinstance(found, StoreError)
        assert refused or found == expected, f"trial {trial} of seed {seed} reads another result in silence"
        counts["refused" if refused else "the same"] += 1
    return counts


def test_a_byte_flipped_anywhere_is_refused_or_harmless(whole: Path, tmp_path: Path) -> None:
    counts = _outcomes(whole, tmp_path, 200, seed=0)
    assert counts["refused"] > 100, counts


@pytest.mark.slow
def test_ten_thousand_bytes_flipped_anywhere_are_refused_or_harmless(whole: Path, tmp_path: Path) -> None:
    _outcomes(whole, tmp_path, 10_000, seed=1)


def test_a_damaged_log_leaves_an_earlier_state_or_is_refused(whole: Path, tmp_path: Path) -> None:
    """A log is read up to the first record that is not whole: as if the process had been killed then."""
    shutil.copytree(whole, tmp_path / "logged")
    states = []
    with SqliteStore(tmp_path / "logged") as store:
        store._db.conn.execute("PRAGMA wal_autocheckpoint=0")
        for number in range(4):
            store.update_run("hill-2", stop_reason=f"after {number}", seconds=float(number))
            states.append(told(tmp_path / "logged"))
        content, log = ((tmp_path / "logged" / f"{FILE_NAME}{ending}").read_bytes() for ending in ("", "-wal"))
    states.append(told(whole))
    generator = random.Random(3)
    for _ in range(100):
        put(tmp_path, content)
        (tmp_path / f"{FILE_NAME}-wal").write_bytes(flip(log, generator))
        found = told(tmp_path)
        assert isinstance(found, StoreError) or found in states


def test_a_flipped_store_resumes_to_the_same_digest_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Plugins()
    known.add(hill_plugin(), name="hill-plugin", origin="tests")
    monkeypatch.setattr(session, "plugins", lambda: known)
    config = load_config({**SMALL, **SMALLER})
    session.start(config, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        session.start(config, tmp_path / "stopped", (Notes(5),))
    expected = _shown(tmp_path / "undisturbed")
    content = (tmp_path / "stopped" / FILE_NAME).read_bytes()
    generator, counts = random.Random(4), Counter[str]()
    for trial in range(60):
        shutil.rmtree(tmp_path / "flipped", ignore_errors=True)
        (tmp_path / "flipped").mkdir()
        put(tmp_path / "flipped", flip(content, generator))
        try:
            session.resume("hill-1", tmp_path / "flipped")
            assert _shown(tmp_path / "flipped") == expected, f"trial {trial}"
            counts["the same"] += 1
        except TrimpotError as error:
            assert "\n" not in str(error)
            counts["refused"] += 1
    assert min(counts.values()) > 5, counts


def _shown(folder: Path) -> dict[str, Any]:
    with SqliteStore(folder, create=False) as store:
        found = summary(store, store.run("hill-1"))
        changing = ("created", "seconds", "engine_share", "calibration", "report")
        return {key: value for key, value in found.items() if key not in changing}


def test_the_sentence_names_the_record(whole: Path, tmp_path: Path) -> None:
    for table, key in (("runs", "'hill-1'"), ("evaluations", "'"), ("candidates", "'hill-1' 'baseline' 0 0")):
        put(tmp_path, (whole / FILE_NAME).read_bytes())
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
            column = {"runs": "identity", "evaluations": "scores", "candidates": "fresh"}[table]
            connection.execute(f"UPDATE {table} SET {column} = '0'")
        found = told(tmp_path)
        assert isinstance(found, StoreError)
        assert f"the record {table} {key}" in str(found)
        assert "restore the file from a backup" in str(found)


@pytest.mark.parametrize("table", KEYS)
def test_a_row_that_vanishes_is_missed(table: str, whole: Path, tmp_path: Path) -> None:
    put(tmp_path, (whole / FILE_NAME).read_bytes())
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute(f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})")
    assert isinstance(told(tmp_path), StoreError)


def test_a_row_that_appears_is_noticed(whole: Path, tmp_path: Path) -> None:
    put(tmp_path, (whole / FILE_NAME).read_bytes())
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE candidates SET run = 'hill-2', generation = 7 WHERE run = 'hill-1' AND stage='test'")
    assert isinstance(told(tmp_path), StoreError)


def test_a_record_that_an_index_has_lost_is_missed(whole: Path, tmp_path: Path) -> None:
    content = (whole / FILE_NAME).read_bytes()
    put(tmp_path, content)
    with SqliteStore(tmp_path, create=False) as store:
        expected = {
            (run, place.stage, place.generation): list(store.recorded(run, place.stage, place.generation))
            for run in ("hill-1", "hill-2")
            for place, _ in store.evaluations(run)
        }
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_candidates_1'"
        [page] = connection.execute(query).fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
    refused = 0
    for offset in range((page - 1) * size, page * size):
        if not content[offset]:
            continue
        damaged = bytearray(content)
        damaged[offset] ^= 1
        put(tmp_path, bytes(damaged))
        try:
            with SqliteStore(tmp_path, create=False) as store:
                for (run, stage, generation), positions in expected.items():
                    assert list(store.recorded(run, stage, generation)) == positions
        except StoreError:
            refused += 1
    assert refused > 20


def test_an_index_that_leads_to_another_record_is_noticed(whole: Path, tmp_path: Path) -> None:
    content = (whole / FILE_NAME).read_bytes()
    put(tmp_path, content)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        for old, new in ((1, 3), (2, 1), (3, 2)):  # the two rows change places, and the index with them
            connection.execute("UPDATE runs SET rowid = ? WHERE rowid = ?", [new, old])
        [page] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_runs_1'")
        [size] = connection.execute("PRAGMA page_size").fetchone()
    changed = (tmp_path / FILE_NAME).read_bytes()
    start = (page[0] - 1) * size
    put(tmp_path, changed[:start] + content[start : start + size] + changed[start + size :])  # the index of before
    with SqliteStore(tmp_path, create=False) as store:
        with pytest.raises(StoreError, match=r"the record runs 'hill-1' of .* is damaged"):
            store.run("hill-1")
        with pytest.raises(StoreError, match="is damaged"):  # before anything is written
            store.update_run("hill-1", error=None)


def test_a_kept_image_that_is_not_what_its_name_says_is_refused(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "store")
    with SqliteStore(tmp_path / "store") as store:
        [key] = {row["evaluation"] for row in store.records.read("outputs")}
        assert [image.getpixel((0, 0)) for image in store.outputs(key)] == [(0, 0, 0), (1, 0, 0)]
        [first, second] = sorted((tmp_path / "store" / "images").glob("*/*.png"))
        shutil.copy(first, second)  # a whole image, but another
        with pytest.raises(StoreError, match="is gone or damaged"):
            store.outputs(key)


def test_a_vacuumed_store_is_read_as_before(whole: Path, tmp_path: Path) -> None:
    """What people do to databases that are sound."""
    put(tmp_path, (whole / FILE_NAME).read_bytes())
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("VACUUM")
        connection.execute("REINDEX")
    assert told(tmp_path) == told(whole)


def test_worse_damage_is_refused_or_harmless(whole: Path, tmp_path: Path) -> None:
    _outcomes(whole, tmp_path, 100, seed=2, damage=mutate)


@pytest.mark.parametrize("left", [1, 16, 99, 100, 511, 512, 4095])
def test_a_file_that_was_cut_off_is_never_an_empty_store(whole: Path, tmp_path: Path, left: int) -> None:
    put(tmp_path, (whole / FILE_NAME).read_bytes()[:left])
    assert isinstance(told(tmp_path), StoreError)


Listed = Callable[..., tuple[Any, list[dict[str, Any]], list[str]]]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Listed:
    """`trimpot runs` in this process: its exit status, the runs that it lists, and its sentences."""

    def list_runs(folder: Path) -> tuple[Any, list[dict[str, Any]], list[str]]:
        monkeypatch.setattr(sys, "argv", ["trimpot", "runs", "--all", "--json", "--store", str(folder)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        found = [each for each in json.loads(printed.out or "[]") if each["run"]]  # not the analysis and the study
        return ended.value.code, found, printed.err.splitlines()

    return list_runs


#: What is damaged, the runs that can still be listed, and what is said.
DAMAGES = {
    "one run": ("UPDATE runs SET error = 'x' WHERE id = 'hill-1'", ["hill-2"], ["the record runs 'hill-1' of"]),
    "every run": ("UPDATE runs SET error = 'x'", [], ["the record runs 'hill-1' of", "the record runs 'hill-2' of"]),
    "a name": ("UPDATE runs SET id = 'hill-3' WHERE id = 'hill-1'", ["hill-2"], ["the record runs 'hill-3' of"]),
    "no text": ("UPDATE runs SET id = CAST(x'ff' AS TEXT) WHERE id = 'hill-2'", ["hill-1"], ["cannot read runs of"]),
    "no number": ("UPDATE runs SET seconds = 'x' WHERE id = 'hill-2'", ["hill-1"], ["the record runs 'hill-2' of"]),
    "a run that is gone": ("DELETE FROM runs WHERE id = 'hill-1'", ["hill-2"], ["has lost records: of the runs there"]),
    "scores of one run": (
        "UPDATE evaluations SET scores = '{}' WHERE key IN "
        "(SELECT evaluation FROM candidates WHERE run = 'hill-1' AND stage = 'test')",
        ["hill-2"],
        ["cannot show run hill-1: the record evaluations"],
    ),
    "a candidate": (
        "UPDATE candidates SET fresh = 7 WHERE run = 'hill-1' AND stage = 'test'",
        ["hill-2"],
        ["cannot show run hill-1: the record candidates 'hill-1' 'test'"],
    ),
    "candidates that are gone": (
        "DELETE FROM candidates WHERE run = 'hill-2'",
        ["hill-1"],
        ["cannot show run hill-2: .* has lost records: of the candidates of hill-2 there"],
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_runs_that_are_whole_are_listed_beside_a_sentence_for_each_other(
    whole: Path, tmp_path: Path, listed: Listed, name: str
) -> None:
    change, left, said = DAMAGES[name]
    put(tmp_path, (whole / FILE_NAME).read_bytes())
    code, expected, _ = listed(tmp_path)
    assert (code, [run["run"] for run in expected]) == (0, ["hill-1", "hill-2"])
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute(change)
    code, found, sentences = listed(tmp_path)
    assert (code, found) == (1, [run for run in expected if run["run"] in left])
    assert len(sentences) == len(said), sentences
    for sentence, pattern in zip(sentences, said, strict=True):
        assert re.search(f"^trimpot: .*{pattern}", sentence), sentence


def test_no_flipped_byte_lists_another_result(whole: Path, tmp_path: Path, listed: Listed) -> None:
    content, generator, partly = (whole / FILE_NAME).read_bytes(), random.Random(5), 0
    put(tmp_path, content)
    expected = {run["run"]: run for run in listed(tmp_path)[1]}
    for trial in range(60):
        put(tmp_path, flip(content, generator))
        code, found, sentences = listed(tmp_path)
        assert all(run == expected[run["run"]] for run in found), f"trial {trial}"
        assert code == (0 if len(found) == 2 and not sentences else 1) and all(sentences), sentences
        partly += len(found) == 1
    assert partly > 5


def test_an_emptied_store_beside_results_is_refused_and_not_begun_anew(tmp_path: Path) -> None:
    put(tmp_path, b"")
    SqliteStore(tmp_path).close()  # a process that died as it made the file left nothing to lose
    put(tmp_path, b"")
    (tmp_path / "night-1").mkdir()
    (tmp_path / "night-1" / "calibration.json").write_text("{}")
    for create in (True, False):
        with pytest.raises(StoreError, match=r"is empty, and results of night-1 lie beside it; restore"):
            SqliteStore(tmp_path, create=create)
    assert (tmp_path / FILE_NAME).read_bytes() == b""


def test_a_damaged_run_of_a_comparison_is_told_of_and_not_counted(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, (whole / FILE_NAME).read_bytes())
    change, _, [said] = DAMAGES["scores of one run"]
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute(change)
    monkeypatch.setattr(sys, "argv", ["trimpot", "runs", "--json", "--store", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    [folded] = [each for each in json.loads(printed.out) if each.get("num_runs")]
    assert (ended.value.code, folded["run"], folded["num_runs"]) == (1, None, 1)
    assert said in printed.err
