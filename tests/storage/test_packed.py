"""Numbers as bytes: read back bit for bit, refused when damaged, counted without being unpacked."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from closed_form import Notes, hill_run, prompt_set
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Evaluation, Place
from trimpot.engine.knobs import digest
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import StoreError
from trimpot.storage import Comparisons, SqliteStore
from trimpot.storage import store as storing
from trimpot.storage.database import FILE_NAME
from trimpot.storage.packed import pack_scores, pack_setting, unpack_scores, unpack_setting

ASSETS = Path(__file__).parent / "assets"
OLD = ("schema-1", "schema-3", "schema-4")
BUCKET = Bucket(("a prompt", "another"), (1, 2))


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """A store with a finished run of the hill, `hill-1`."""
    store = SqliteStore(tmp_path / "runs")
    calibrate(hill_run(run_id=store.add_run("hill", "identity", {}, {}, prompt_set())), store, Notes())
    return store


def _old(name: str, folder: Path) -> sqlite3.Connection:
    """A copy of a store of other days, as text that anybody can read."""
    shutil.copy(ASSETS / f"{name}.sqlite", folder / FILE_NAME)
    return sqlite3.connect(folder / FILE_NAME)


# What comes back


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, -1.7976931348623157e308, 0.1, 1 / 3, 1e16, 2**53 + 2.0])
def test_a_number_comes_back_bit_for_bit(value: float) -> None:
    [found] = unpack_setting(("a",), pack_setting({"a": value})).values()
    [[scored]] = unpack_scores(("r",), pack_scores({"r": [value]}, 1), 1).values()
    assert found.hex() == scored.hex() == value.hex()


@pytest.mark.parametrize("number", [0, 1, 5, 7])
def test_more_or_fewer_numbers_than_are_named_are_never_read(number: int) -> None:
    packed = pack_setting({str(at): float(at) for at in range(number)})
    with pytest.raises(ValueError, match=f"6 numbers, not {number}"):
        unpack_scores(("r", "s"), packed, 3)
    with pytest.raises(ValueError, match=f"2 numbers, not {number}"):
        unpack_setting(("a", "b"), packed)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["setting", "scores"])
def test_a_number_that_is_not_finite_is_never_recorded(store: SqliteStore, value: float, where: str) -> None:
    numbers: dict[str, Any] = {"setting": {"a": 1.0}, "scores": {"r": (1.0, 2.0)}}
    numbers |= {"setting": {"a": value}} if where == "setting" else {"scores": {"r": (1.0, value)}}
    before = store.totals("hill-1")
    with pytest.raises(StoreError, match="cannot record a number that is not finite"):
        made = Evaluation(bucket=BUCKET, num_steps=None, weights={}, **numbers)
        store.record("hill-1", [(Place("search", 99, 0), "key", made)])
    assert store.find("key") is None
    assert store.totals("hill-1") == before


@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_objective_with_more_or_fewer_scores_than_outputs_is_refused(store: SqliteStore, number: int) -> None:
    made = Evaluation({"a": 1.0}, BUCKET, None, {"r": (0.5,) * number}, {})
    with pytest.raises(StoreError, match=f"cannot record {number} scores of 'r' for 2 outputs"):
        store.record("hill-1", [(Place("search", 99, 0), "key", made)])
    assert store.find("key") is None


def test_settings_of_unlike_knobs_and_orders_are_kept_apart(store: SqliteStore) -> None:
    settings = [{"a": 1.0, "b": 2.0}, {"b": 3.0, "a": 4.0}, {"a, b": 5.0}, {"ä": 6.0}, {}]
    made = [
        (Place("test", 9, at), f"key {at}", Evaluation(setting, BUCKET, None, {}, {}))
        for at, setting in enumerate(settings)
    ]
    store.record("hill-1", made)
    found = SqliteStore(store.folder, create=False).recorded("hill-1", "test", 9).values()
    assert [list(each.setting.items()) for each in found] == [list(setting.items()) for setting in settings]


# Stores of other days


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("create", [True, False])
def test_every_number_of_an_old_store_is_what_its_text_said(name: str, create: bool, tmp_path: Path) -> None:
    with contextlib.closing(_old(name, tmp_path)) as connection:
        query = (
            "SELECT run, stage, generation, position, setting, scores, seeds, num_steps, generate_seconds, "
            "score_seconds FROM candidates JOIN evaluations ON key = evaluation JOIN buckets ON id = bucket"
        )
        expected = {
            (run, Place(stage, generation, position)): (
                json.loads(setting),
                json.loads(scores),
                json.loads(seeds),
                *rest,
            )
            for run, stage, generation, position, setting, scores, seeds, *rest in connection.execute(query)
        }
    with SqliteStore(tmp_path, create=create) as store:
        found = {
            (run, place): (
                dict(each.setting),
                {objective: list(scores) for objective, scores in each.scores.items()},
                list(each.bucket.seeds),
                each.num_steps,
                each.generate_seconds,
                each.score_seconds,
            )
            for run in ("hill-1", "hill-2")
            for place, each in store.evaluations(run)
        }
    assert json.dumps(sorted(found.items())) == json.dumps(sorted(expected.items()))


@pytest.mark.parametrize("column", ["setting", "scores", "num_steps", "bucket", "checksum"])
def test_a_damaged_evaluation_of_an_old_store_is_not_given_a_new_checksum(column: str, tmp_path: Path) -> None:
    with contextlib.closing(_old("schema-4", tmp_path)) as connection, connection:
        [key] = connection.execute(
            "SELECT evaluation FROM candidates WHERE run = 'hill-1' AND stage = 'test'"
        ).fetchone()
        change = "'{}'" if column in ("setting", "scores") else "'0'"
        connection.execute(f"UPDATE evaluations SET {column} = {change} WHERE key = ?", [key])
        [others] = connection.execute(
            "SELECT count(*) FROM candidates WHERE run = 'hill-2' AND evaluation = ?", [key]
        ).fetchone()
    assert not others
    for _ in range(2):  # as it is brought up to date, and after that
        with SqliteStore(tmp_path) as store:
            for read in (store.totals, store.work, store.steps, store.history):
                with pytest.raises(StoreError, match=rf"the record evaluations '{key}' of .* is damaged"):
                    read("hill-1")
            assert store.totals("hill-2")["num_evaluations"] == 3


def test_a_step_of_the_schema_that_is_cut_short_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trimpot.storage import migrations

    _old("schema-4", tmp_path).close()
    calls = iter(range(5))

    def killed(setting: Any) -> bytes:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return pack_setting(setting)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(migrations, "pack_setting", killed)
        SqliteStore(tmp_path)
    with SqliteStore(tmp_path) as store:
        assert store.totals("hill-1")["digest"] == "eb39e3a07e583787"


# Damage


def test_a_flipped_number_or_a_changed_name_is_refused_whoever_reads(store: SqliteStore) -> None:
    readers = [store.totals, store.work, store.steps, store.history, lambda run: list(store.evaluations(run))]
    [row, *_] = store.records.read("evaluations")
    generator = random.Random(0)
    for column in ("setting", "scores"):
        for _ in range(20):
            blob = bytearray(row[column])
            blob[generator.randrange(len(blob))] ^= 1 << generator.randrange(8)
            store._db.conn.execute(f"UPDATE evaluations SET {column} = ? WHERE key = ?", [bytes(blob), row["key"]])
            for read in readers:
                with pytest.raises(StoreError, match=rf"the record evaluations '{row['key']}' .* is damaged"):
                    read("hill-1")
        store._db.conn.execute(f"UPDATE evaluations SET {column} = ? WHERE key = ?", [row[column], row["key"]])
    store.totals("hill-1")
    store._db.conn.execute("UPDATE names SET names = replace(names, 'knob.1', 'knob.7')")
    with SqliteStore(store.folder) as fresh, pytest.raises(StoreError, match=r"the record names .* is damaged"):
        fresh.totals("hill-1")


@pytest.mark.parametrize("table", ["names", "evaluations", "buckets"])
def test_an_evaluation_or_what_it_names_is_missed_when_it_is_gone(store: SqliteStore, table: str) -> None:
    store._db.conn.execute("PRAGMA foreign_keys=OFF")
    store._db.conn.execute(f"DELETE FROM {table}")
    for read in ("totals", "history"):
        with (
            SqliteStore(store.folder) as fresh,
            pytest.raises(StoreError, match=rf"{table} '\w+', which it names, is gone"),
        ):
            getattr(fresh, read)("hill-1")


# Sums


def test_sums_are_those_of_all_that_is_read(store: SqliteStore) -> None:
    store.record("hill-1", [(Place("test", 7, 0), "key", Evaluation({"a": 1.0}, BUCKET, 30, {"r": (0.5, 0.25)}, {}))])
    everything = store.history("hill-1")
    assert store.work("hill-1") == sum(each.evaluation.work for each in everything) > 0
    assert [tuple(step) for step in store.steps("hill-1")] == [
        (each.place.stage, each.place.generation, each.evaluation.bucket.fingerprint, each.evaluation.num_images)
        for each in everything
    ]
    assert Comparisons(store).steps("hill-1") == store.steps("hill-1")
    entries = [
        [
            *place,
            sorted(each.setting.items()),
            each.bucket.fingerprint,
            {name: list(s) for name, s in each.scores.items()},
        ]
        for place, each in store.evaluations("hill-1")
    ]
    totals = store.totals("hill-1")
    assert totals["digest"] == digest(entries)
    assert (totals["num_evaluations"], totals["num_images"]) == (
        len(entries),
        sum(e.evaluation.num_images for e in everything),
    )


def test_stages_that_are_not_asked_for_are_left_out(store: SqliteStore) -> None:
    everything = list(store.evaluations("hill-1"))
    for stages in (("validation",), ("baseline", "test"), ()):
        assert list(store.evaluations("hill-1", stages)) == [each for each in everything if each[0].stage in stages]


def test_what_a_run_took_is_said_without_unpacking_a_number(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.working_on("hill-1"):
        kept = store.totals("hill-1")
    expected = [store.work("hill-1"), store.steps("hill-1"), kept]

    def unpacked(*_: object) -> None:
        pytest.fail("a number is unpacked")

    monkeypatch.setattr(storing, "unpack_setting", unpacked)
    monkeypatch.setattr(storing, "unpack_scores", unpacked)
    for reader in (store, SqliteStore(store.folder, create=False)):
        assert [reader.work("hill-1"), reader.steps("hill-1"), reader.totals("hill-1")] == expected


def test_a_digest_is_kept_by_who_holds_the_run_and_made_anew_once_it_has_grown(store: SqliteStore) -> None:
    counted = store.totals("hill-1")
    assert store.records.read("runs", id="hill-1")[0]["digest"] is None  # who only looks writes nothing
    with store.working_on("hill-1"):
        assert store.totals("hill-1") == counted
        assert counted["digest"] in store.records.read("runs", id="hill-1")[0]["digest"]
        assert store.totals("hill-1") == counted
        made = Evaluation({"a": 1.0}, BUCKET, 3, {"r": (0.5, 0.25)}, {}, 2.0, 1.0)
        store.record("hill-1", [(Place("test", 7, 0), "key", made)])
        grown = store.totals("hill-1")
    assert grown["num_images"] == counted["num_images"] + 2
    assert grown["num_evaluations"] == counted["num_evaluations"] + 1
    assert grown["generate_seconds"] == pytest.approx(counted["generate_seconds"] + 2)
    assert grown["digest"] != counted["digest"]
    with SqliteStore(store.folder, create=False) as reader:
        assert reader.totals("hill-1") == grown


def test_damage_is_said_of_a_run_whose_digest_is_kept(store: SqliteStore) -> None:
    with store.working_on("hill-1"):
        store.totals("hill-1")
    for change in (
        "UPDATE evaluations SET scores = zeroblob(length(scores)) WHERE key = "
        "(SELECT evaluation FROM candidates WHERE stage = 'search' AND generation = 1 AND position = 2)",
        "UPDATE candidates SET generation = 7 WHERE stage = 'search' AND generation = 1 AND position = 2",
        "DELETE FROM candidates WHERE stage = 'search' AND generation = 1 AND position = 2",
        "UPDATE runs SET digest = NULL",
    ):
        store._db.conn.execute("BEGIN")
        store._db.conn.execute(change)
        with pytest.raises(StoreError):
            store.totals("hill-1")
        store._db.conn.execute("ROLLBACK")
    assert store.totals("hill-1")["num_images"] > 0
