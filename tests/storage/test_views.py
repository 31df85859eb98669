"""What other programs read of a store, in plain SQL, is what trimpot reads of it, to the last bit."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from closed_form import Notes
from damage import told
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from trimpot.runs import session
from trimpot.runs.results import summary
from trimpot.setup.config import load_config
from trimpot.setup.recorded import record_of
from trimpot.storage import Comparisons, SqliteStore
from trimpot.storage.database import FILE_NAME
from trimpot.storage.views import VIEWS, _number, altered

ASSETS = sorted((Path(__file__).parent / "assets").glob("schema-*.sqlite"))
CONFIG = {
    "adapter": {"name": "sphere", "num_knobs": 4},
    "objectives": {"value": {"weight": 2}, "an 'odd' \"name\"": {"name": "value", "weight": 0.1},
                   "watched": {"name": "value", "weight": 0}},
    "prompts": "numbers",
    "optimizer": {"name": "cma-es", "population_size": 4},
    "generations": 3,
    "validation": {"num_prompts": 4, "every": 1},
    "test": {"num_prompts": 8},
    "bucket_size": 2,
}  # fmt: skip
COMBINATIONS = ("weighted", "winrate", "pareto", "constrained")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of every combination, a run that has not finished, kept images, a rescore, a comparison."""
    folder = tmp_path_factory.mktemp("views")
    for name in COMBINATIONS:
        combine: dict[str, Any] = {"name": name}
        if name == "constrained":
            combine["floors"] = {"watched": -9.0}
        session.start(load_config({**CONFIG, "combine": combine}), folder)
    with pytest.raises(KeyboardInterrupt):
        session.start(load_config({**CONFIG, "seed": 7}), folder, (Notes(9),))
    with SqliteStore(folder) as store:
        first = store.records.read("candidates", run="sphere-1", stage="reference")[0]["evaluation"]
        store.record_outputs(first, store.keeper([Image.new("RGB", (size, size)) for size in (7, 8)]))
        store.record_rescore(first, "later", "f00d", [0.5, 1 / 3])
        comparisons = Comparisons(store)
        comparisons.join(comparisons.add("night", "identity", {}), "random", 3, "sphere-1")
        alarm = {"generation": 2, "objective": "watched", "neutral": 0.5, "now": 0.25, "change": -1.5, "gain": 0.125}
        outcome = store.run("sphere-2").outcome or {}
        store.update_run("sphere-2", outcome={**outcome, "alarms": [alarm]})
    return folder


def rows(folder: Path, query: str) -> list[dict[str, Any]]:
    """What a program that knows nothing of trimpot reads, of a file that it may not write."""
    with closing(sqlite3.connect(f"{(folder / FILE_NAME).as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


@pytest.fixture
def store(folder: Path) -> Iterator[SqliteStore]:
    with SqliteStore(folder, create=False) as opened:
        yield opened


def test_every_score_and_every_value_of_a_knob_is_in_a_column(folder: Path, store: SqliteStore) -> None:
    scores = {
        (r["run"], r["stage"], r["generation"], r["position"], r["output"], r["objective"]): r
        for r in rows(folder, "SELECT * FROM plain_scores")
    }
    values = {
        (r["run"], r["stage"], r["generation"], r["position"], r["knob"]): r["value"]
        for r in rows(folder, "SELECT * FROM plain_settings")
    }
    for run in store.runs():
        weights = {name: reward["weight"] for name, reward in run.config["objectives"].items()}
        for place, made in store.evaluations(run.id):
            for knob, value in made.setting.items():
                assert values.pop((run.id, *place, knob)) == value
            for objective, each in made.scores.items():
                for output, score in enumerate(each):
                    row = scores.pop((run.id, *place, output, objective))
                    assert row["score"] == score
                    assert (row["prompt"], row["seed"]) == (made.bucket.prompts[output], made.bucket.seeds[output])
                    assert row["weight"] == (1.0 if objective == "combined" else weights[objective])
    assert not scores and not values


def test_a_candidates_fitness_is_what_its_run_made_of_the_scores(folder: Path, store: SqliteStore) -> None:
    found = rows(folder, "SELECT * FROM plain_evaluations ORDER BY run, number")
    assert len(found) == sum(store.totals(run.id)["num_evaluations"] for run in store.runs())
    for run in store.runs():
        record = record_of(run, store.evaluations(run.id))
        own = [row for row in found if row["run"] == run.id]
        assert [row["number"] for row in own] == list(range(len(own)))
        for row in own:
            made = next(
                each
                for place, each in record.evaluations.items()
                if place == (row["stage"], row["generation"], row["position"])
            )
            assert row["fitness"] == pytest.approx(made.fitness, rel=1e-12)
            assert (row["num_images"], row["num_steps"]) == (made.num_images, made.num_steps)


def test_runs_checks_gains_and_alarms_are_what_show_says(folder: Path, store: SqliteStore) -> None:
    for run in store.runs():
        shown = summary(store, run)
        [row] = rows(folder, f"SELECT * FROM plain_runs WHERE run = '{run.id}'")
        gain = shown["gain"] or dict.fromkeys(("mean", "low", "high"))
        assert (row["gain"], row["gain_low"], row["gain_high"]) == (gain["mean"], gain["low"], gain["high"])
        counts = (shown["num_images"], shown["num_evaluations"])
        assert (row["num_images"], row["num_evaluations"]) == counts and isinstance(row["num_images"], int)
        assert (row["adapter"], row["optimizer"], row["seed"]) == ("sphere", "cma-es", run.config["seed"])
        assert (row["finished"], row["stop_reason"]) == (run.outcome is not None, run.stop_reason)
        outcome = run.outcome or {"checks": [], "comparisons": [], "alarms": []}
        checks = rows(folder, f"SELECT * FROM plain_checks WHERE run = '{run.id}' ORDER BY generation")
        assert [(c["generation"], c["score"], bool(c["admitted"])) for c in checks] == [
            (c["generation"], c["score"], c["admitted"]) for c in outcome["checks"]
        ]
        chosen = [c["generation"] for c in checks if c["chosen"]]
        assert chosen == ([outcome["chosen"]["generation"]] if run.outcome else [])
        gains = rows(folder, f"SELECT * FROM plain_gains WHERE run = '{run.id}'")
        assert [(g["neutral"], g["calibrated"], g["gain"], g["num_prompts"]) for g in gains] == [
            (m["neutral"], m["calibrated"], m["gain"]["mean"], m["gain"]["num_prompts"]) for m in outcome["comparisons"]
        ]
        alarms = rows(folder, f"SELECT * FROM plain_alarms WHERE run = '{run.id}'")
        assert alarms == [{"run": run.id, "prompts": "", **alarm} for alarm in outcome["alarms"]]
        assert row["num_alarms"] == (len(outcome["alarms"]) if run.outcome else None)


def test_images_rescores_and_comparisons_are_found(folder: Path, store: SqliteStore) -> None:
    images = rows(folder, "SELECT * FROM plain_images WHERE run = 'sphere-1'")
    assert [(row["stage"], row["output"]) for row in images] == [("reference", 0), ("reference", 1)]
    for row, size in zip(images, (7, 8), strict=True):
        with Image.open(folder / row["file"]) as image:
            assert image.size == (size, size)
    [[_, made]] = store.evaluations("sphere-1", ("reference",))
    assert [(row["prompt"], row["seed"]) for row in images] == list(
        zip(made.bucket.prompts, made.bucket.seeds, strict=True)
    )
    later = rows(folder, "SELECT * FROM plain_rescores WHERE run = 'sphere-1'")
    assert [(row["objective"], row["output"], row["score"]) for row in later] == [
        ("later", 0, 0.5),
        ("later", 1, 1 / 3),
    ]
    [member] = rows(folder, "SELECT * FROM plain_members")
    assert (member["comparison"], member["contender"], member["seed"], member["run"]) == (
        "night-1", "random", 3, "sphere-1")  # fmt: skip
    assert member["gain"] is not None
    assert rows(folder, "SELECT comparison FROM plain_runs WHERE run = 'sphere-1'") == [{"comparison": "night-1"}]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
@example([0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 2.225073858507201e-308, math.ulp(0.0) * 3])
@example([1.7976931348623157e308, -1.7976931348623157e308, 2.0**971, 2.0**-1074, 2.0**53 + 2, 2.0**63, 2.0**-62])
@example([2.0**exponent for exponent in range(-1074, 1024)])
def test_any_number_is_decoded_exactly(values: list[float]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        packed = struct.pack(f"<{len(values)}d", *values)
        numbers = ",".join(f"({index})" for index in range(len(values)))
        query = f"WITH t(k) AS (VALUES {numbers}) SELECT {_number('?', 't.k')} FROM t ORDER BY k"
        got = [value for (value,) in connection.execute(query, [packed] * query.count("?"))]
    assert got == values


@pytest.mark.parametrize("asset", ASSETS, ids=lambda asset: asset.stem)
def test_a_store_of_any_older_schema_gets_the_views(asset: Path, tmp_path: Path) -> None:
    shutil.copy(asset, tmp_path / FILE_NAME)
    with SqliteStore(tmp_path, create=False) as store:
        expected = [
            score
            for run in store.runs()
            for _, made in store.evaluations(run.id)
            for each in made.scores.values()
            for score in each
        ]
    found = [row["score"] for row in rows(tmp_path, "SELECT score FROM plain_scores")]
    assert sorted(found) == sorted(expected) and found
    assert all(rows(tmp_path, "SELECT finished, num_images > 0 AS any FROM plain_runs"))


def test_a_view_that_another_program_has_changed_gets_its_text_back(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / FILE_NAME, tmp_path)
    before = told(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute("DROP VIEW plain_scores")
        connection.execute("DROP VIEW plain_gains")
        connection.execute("CREATE VIEW plain_gains AS SELECT 'wonderful' AS gain")
        connection.execute("CREATE VIEW mine AS SELECT 1 AS own")
    assert told(tmp_path) == before  # the store has been opened
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert altered(connection) == []
    assert rows(tmp_path, "SELECT * FROM mine") == [{"own": 1}]
    assert rows(tmp_path, "SELECT * FROM plain_gains") == rows(folder, "SELECT * FROM plain_gains")


def test_views_are_named_apart_from_tables_and_told_of(folder: Path) -> None:
    names = [row["name"] for row in rows(folder, "SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name")]
    assert names == sorted(VIEWS)
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    for name in names:
        assert f"`{name}`" in page
        for column in rows(folder, f"SELECT name FROM pragma_table_info('{name}')"):
            assert f"`{column['name']}`" in page, f"{name}.{column['name']} is not told of in docs/results.md"


def test_the_command_line_of_sqlite_and_pandas_read_them(folder: Path) -> None:
    query = "SELECT run, avg(fitness) AS mean FROM plain_evaluations WHERE stage = 'search' GROUP BY run ORDER BY run"
    expected = rows(folder, query)
    if shutil.which("sqlite3"):
        command = ["sqlite3", "-json", "-readonly", str(folder / FILE_NAME), query]
        said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert [row["run"] for row in said] == [row["run"] for row in expected]
        assert [row["mean"] for row in said] == pytest.approx([row["mean"] for row in expected])
    pandas = pytest.importorskip("pandas")
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        frame = pandas.read_sql(query, connection)
    assert frame.to_dict("records") == expected
