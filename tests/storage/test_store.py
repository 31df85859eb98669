"""The SQLite store: every promise of the contract, and one sentence for every file it cannot use."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from closed_form import Hill, Notes, hill_run
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Evaluation, Place
from trimpot.engine.loop import calibrate
from trimpot.engine.seams import Store
from trimpot.ground.errors import StoreError
from trimpot.storage import Comparisons, SqliteStore, database, runs
from trimpot.storage.database import FILE_NAME
from trimpot.testing import StoreContract
from waiting import LONG

HERE = Path(__file__).parent
WRITER = HERE / "writer.py"


class TestSqliteStore(StoreContract):
    """The contract."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> SqliteStore:
        return SqliteStore(tmp_path)

    def begin_run(self, store: Store) -> str:
        assert isinstance(store, SqliteStore)
        return store.add_run("run", "identity", {"seed": 0}, {"numpy": "2.0"})

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        return SqliteStore(store.folder)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one finished run of 25 evaluations or so."""
    with SqliteStore(tmp_path / "runs") as store:
        run = store.add_run("hill", "identity", {}, {})
        calibrate(hill_run(run_id=run), store, Notes())
    return tmp_path / "runs" / FILE_NAME


# Runs


def test_runs_are_numbered_by_prefix_and_listed_oldest_first(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        names = [store.add_run(prefix, "identity", {}, {}) for prefix in ("a", "b", "a", "a")]
        assert names == ["a-1", "b-1", "a-2", "a-3"]
        assert [row.id for row in store.runs()] == names


def test_what_is_known_of_a_run_is_kept(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        run = store.add_run("a", "identity", {"adapter": {"name": "süß"}}, {"numpy": "2.0"})
        store.update_run(run, seconds=2.5, outcome={"gain": 0.1}, stop_reason="done")
    with SqliteStore(tmp_path, create=False) as store:
        row = store.run(run)
        assert (row.config, row.versions, row.seconds) == ({"adapter": {"name": "süß"}}, {"numpy": "2.0"}, 2.5)
        assert (row.outcome, row.stop_reason, row.identity) == ({"gain": 0.1}, "done", "identity")


def test_a_run_s_status_says_how_it_stands(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        run = store.add_run("a", "identity", {}, {})
        assert store.run(run).status == "interrupted"
        with store.lock(run):
            assert SqliteStore(tmp_path).run(run).status == "running"
        store.update_run(run, error="objective 'x' returned nan")
        assert store.run(run).status == "failed"
        store.update_run(run, error=None, outcome={"gain": 0.1})
        assert store.run(run).status == "finished"


def test_an_unknown_run_is_named_with_its_near_misses(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        store.add_run("shapes", "identity", {}, {})
        with pytest.raises(StoreError, match=r"no run 'shape-1' in .*did you mean 'shapes-1'"):
            store.run("shape-1")


def test_a_digest_knows_settings_scores_and_places_but_not_the_clock(tmp_path: Path) -> None:
    digests = []
    for folder, change in [("a", {}), ("b", {}), ("c", {"seed": 1})]:
        with SqliteStore(tmp_path / folder) as store:
            run = store.add_run("hill", "identity", {}, {})
            calibrate(hill_run(change, run_id=run), store, Notes())
            digests.append(store.totals(run)["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_a_second_run_of_the_same_finds_everything_and_spends_nothing(path: Path) -> None:
    with SqliteStore(path.parent) as store:
        run, adapter = store.add_run("hill", "identity", {}, {}), Hill()
        calibrate(hill_run(adapter=adapter, run_id=run), store, Notes())
        first, second = store.totals("hill-1"), store.totals(run)
    assert adapter.calls == []
    assert second["digest"] == first["digest"]
    assert first["generate_seconds"] > 0
    assert second["generate_seconds"] == second["score_seconds"] == 0


# Files that cannot be used


def test_without_a_store_there_are_no_runs_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no runs in .*nowhere.*trimpot calibrate"):
        SqliteStore(tmp_path / "nowhere", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("table", ["photos (id)", "_sqlite_migrations (migration_set, name)"])
def test_a_foreign_database_is_refused_untouched(tmp_path: Path, create: bool, table: str) -> None:
    path = tmp_path / FILE_NAME
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.execute("CREATE TABLE runs (id, mine)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is the database of another program; choose another folder with --store"):
        SqliteStore(tmp_path, create=create)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path, create: bool) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(StoreError, match=r"cannot use .*corrupt or no SQLite database") as caught:
        SqliteStore(tmp_path, create=create)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"Dear diary, " * 1000
    assert [each.name for each in tmp_path.iterdir()] == [FILE_NAME]


def test_a_store_damaged_anywhere_is_read_right_or_refused_in_a_sentence(path: Path) -> None:
    whole = path.read_bytes()
    generator, refused = random.Random(0), 0
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 2:
            start = generator.randrange(len(whole))
            length = generator.choice([2, 20, 400])
            damaged[start : start + length] = generator.randbytes(length)
        else:
            damaged = damaged[: generator.randrange(100, len(whole))]
        for leftover in path.parent.glob(f"{FILE_NAME}*"):
            leftover.unlink()
        path.write_bytes(damaged)
        try:
            with SqliteStore(path.parent, create=False) as store:
                store.totals("hill-1")
                store.runs()
        except StoreError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


def test_a_store_of_a_newer_trimpot_is_refused_untouched(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO _sqlite_migrations VALUES (99, 'trimpot', 'm099_colours', '2030-01-01')")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"written by a newer trimpot \(schema step 'm099_colours'\); upgrade trimpot"):
        SqliteStore(path.parent)
    assert path.read_bytes() == before


def test_a_folder_that_is_a_file_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(StoreError, match=r"cannot use .*: (File exists|Not a directory)"):
            SqliteStore(folder)


@pytest.mark.parametrize("name", ["50% off #1?", "räksmörgås", "a b"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        with SqliteStore(tmp_path / name) as store:
            store.add_run("a", "identity", {}, {})
    with SqliteStore(tmp_path / name, create=False) as store:
        assert len(store.runs()) == 2


def test_a_file_that_was_only_begun_is_made_a_store(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # the process dies after its first statement
    assert (tmp_path / FILE_NAME).stat().st_size > 0
    with SqliteStore(tmp_path) as store:
        assert store.runs() == []


# Files of other days

DIGESTS = {"schema-1": "882580c572e3021f", "schema-3": "eb39e3a07e583787", "schema-4": "eb39e3a07e583787",
           "schema-5": "eb39e3a07e583787", "schema-6": "eb39e3a07e583787",
           "schema-7": "eb39e3a07e583787"}  # fmt: skip


@pytest.mark.parametrize("asset", sorted((HERE / "assets").glob("*.sqlite")), ids=lambda asset: asset.stem)
def test_a_store_of_every_released_schema_still_opens(asset: Path, tmp_path: Path) -> None:
    shutil.copy(asset, tmp_path / FILE_NAME)
    with SqliteStore(tmp_path, create=False) as store:
        finished, interrupted = store.runs()
        assert (finished.id, finished.status, finished.seconds) == ("hill-1", "finished", 1.5)
        assert (interrupted.id, interrupted.status) == ("hill-2", "interrupted")
        assert finished.outcome is not None
        assert finished.config["generations"] == 2
        totals = store.totals("hill-1")
        assert (totals["digest"], totals["num_evaluations"]) == (DIGESTS[asset.stem], 11)
        assert list(store.sigmas("hill-1")) == [0, 1]
        assert store.totals("hill-2")["num_evaluations"] == 3
        assert store.add_run("hill", "identity", {}, {}) == "hill-3"


def test_comparisons_images_and_later_rewards_of_other_days_are_still_there(tmp_path: Path) -> None:
    for schema in (3, 4, 5, 6, 7):
        folder = tmp_path / str(schema)
        folder.mkdir()
        shutil.copy(HERE / "assets" / f"schema-{schema}.sqlite", folder / FILE_NAME)
        with SqliteStore(folder) as store:
            comparisons = Comparisons(store)
            assert comparisons.members("night-1") == {("cma-es", 0): "hill-1", ("random", 0): "hill-2"}
            [(place, _)] = store.kept("hill-1")
            assert place == Place("baseline", 0, 0)
            assert store.rescores("hill-1") == {("redness", "f00d"): {place: (0.0, 0.25, 0.5, 0.75)}}
            steps = [step.stage for step in comparisons.steps("hill-1")]
            assert steps == [*["baseline", "reference"], *["search"] * 6, "validation", *["test"] * 2]
            assert (store.prompts("hill-1") is None) == (schema == 3)
            born = {"run": "hill-1", "digest": DIGESTS["schema-6"]} if schema >= 6 else None
            assert [row.parent for row in store.runs()] == [None, born]
            assert [(row.parts, row.extended) for row in store.runs()] == [({}, [])] * 2


# Other processes


def _writer(folder: Path, limit: int = 10**6, before: str = "") -> subprocess.Popen[str]:
    code = f"import runpy, sys; {before or 'pass'}; sys.argv = ['writer', {str(folder)!r}, '{limit}']; "
    code += f"runpy.run_path({str(WRITER)!r}, run_name='__main__')"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_process_on_a_run_is_told_so_in_one_sentence(tmp_path: Path) -> None:
    with _writer(tmp_path) as process:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        try:
            with SqliteStore(tmp_path, create=False) as store:
                assert store.run(run).status == "running"
                with pytest.raises(StoreError, match=f"another process is working on run {run}"), store.lock(run):
                    pass
        finally:
            process.kill()
            process.communicate()
    with SqliteStore(tmp_path, create=False) as store:
        assert store.run(run).status == "interrupted"
        with store.lock(run):  # the dead let go
            assert store.run(run).status == "running"


def test_a_writer_killed_at_any_moment_leaves_a_store_with_everything_it_said_was_safe(tmp_path: Path) -> None:
    generator = random.Random(0)
    for trial in range(4):
        folder = tmp_path / str(trial)
        with _writer(folder) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(generator.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read()  # communicate() would leave out what readline() has read ahead
        numbers = [int(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]
        with SqliteStore(folder, create=False) as store:
            places = [place.generation for place, _ in store.evaluations("writer-1")]
            assert places == list(range(len(places)))
            assert len(numbers) <= len(places) <= len(numbers) + 1
            [verdict] = store._db.query("PRAGMA integrity_check")
            assert verdict == {"integrity_check": "ok"}


def test_a_full_disk_is_said_at_the_write_that_failed_and_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="limits of this kind are POSIX's")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))"
    with _writer(tmp_path, before=limit) as process:
        said, complaint = process.communicate()
    assert process.returncode == 1
    last = complaint.strip().splitlines()[-1]
    assert last.startswith("trimpot.ground.errors.StoreError: cannot write ")
    with SqliteStore(tmp_path, create=False) as store:
        assert len(list(store.evaluations("writer-1"))) == len(said.splitlines()) - 1 > 5


def test_many_processes_may_begin_a_store_at_once(tmp_path: Path) -> None:
    writers = [_writer(tmp_path, limit=3) for _ in range(3)]
    for writer in writers:
        with writer:
            _, complaint = writer.communicate()
            assert writer.returncode == 0, complaint
    with SqliteStore(tmp_path, create=False) as store:
        assert sorted(row.id for row in store.runs()) == ["writer-1", "writer-2", "writer-3"]
        assert all(store.totals(row.id)["num_evaluations"] == 3 for row in store.runs())


def test_a_database_that_another_program_holds_is_said_so_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.1)
    with SqliteStore(tmp_path) as store:
        run = store.add_run("a", "identity", {}, {})
        with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as browser:
            browser.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"cannot write .*: another program has held it for .* seconds"):
                store.update_run(run, stop_reason="said")
            browser.execute("ROLLBACK")
        store.update_run(run, stop_reason="said again")
        assert store.run(run).stop_reason == "said again"


def test_a_program_that_reads_for_minutes_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 2 * LONG)
    with SqliteStore(tmp_path) as store:
        run = store.add_run("a", "identity", {}, {})
        with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as browser:
            browser.execute("BEGIN")
            browser.execute("SELECT * FROM runs").fetchall()
            begun = time.monotonic()
            store.update_run(run, stop_reason="said")
            store.settle()
            assert time.monotonic() - begun < LONG


def test_time_is_written_down_with_every_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(runs, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    bucket = Bucket(("a prompt",), (1,))
    with SqliteStore(tmp_path) as store:
        run = store.add_run("a", "identity", {}, {})
        for resumed in range(2):
            with store.working_on(run):
                for number in range(3):
                    place = Place("search", resumed, number)
                    store.record(run, [(place, f"{place}", Evaluation({}, bucket, None, {"r": (1.0,)}, {}))])
                    with SqliteStore(tmp_path, create=False) as reader:
                        assert reader.run(run).seconds == 10.0 * (3 * resumed + number + 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_in_a_sentence(tmp_path: Path, value: float) -> None:
    with SqliteStore(tmp_path) as store:
        run = store.add_run("a", "identity", {}, {})
        with pytest.raises(StoreError, match="cannot record a number that is not finite"):
            store.update_run(run, outcome={"gain": value})
        assert store.run(run).outcome is None


def test_a_text_that_is_no_unicode_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store, pytest.raises(StoreError, match="is no character of Unicode"):
        store.add_run("a", "identity", {"prompt": "\ud800"}, {})


def test_what_two_processes_record_is_seen_by_both(tmp_path: Path) -> None:
    bucket = Bucket(("a prompt",), (1,))
    with SqliteStore(tmp_path) as one, SqliteStore(tmp_path) as other:
        run = one.add_run("a", "identity", {}, {})
        for number, store in enumerate([one, other, one, one, other]):
            place = Place("search", 0, number)
            store.record(run, [(place, f"{place}", Evaluation({}, bucket, None, {"r": (float(number),)}))])
            for reader in (one, other):
                found = reader.recorded(run, "search", 0)
                assert [each.scores["r"] for each in found.values()] == [(float(n),) for n in range(number + 1)]
        with pytest.raises(StoreError):
            one.record(run, [(Place("search", 0, n), "key", Evaluation({}, bucket, None, {}, {})) for n in (9, 0)])
        assert list(one.recorded(run, "search", 0)) == list(other.recorded(run, "search", 0)) == [0, 1, 2, 3, 4]
