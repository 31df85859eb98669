"""Of a damaged, missing or foreign store the live page shows a sentence, and of other runs what it always shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import Told, page, watching
from closed_form import SMALL
from damage import edit
from sessions import Installed, interrupt
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore
from trimpot.storage.database import FILE_NAME
from trimpot.watching.parts import RUN_PARTS
from watched import Held

pytestmark = pytest.mark.usefixtures("short_reports")


@pytest.mark.parametrize(
    ("what", "where"),
    [
        ("UPDATE runs SET config = '{' WHERE id = 'hill-1'", ""),
        ("UPDATE candidates SET position = 40 WHERE run = 'hill-1' AND number = 3", "run/hill-1"),
        ("DELETE FROM candidates WHERE run = 'hill-1' AND number = 3", "run/hill-1"),
        (
            "DELETE FROM evaluations WHERE key IN"
            " (SELECT evaluation FROM candidates WHERE run = 'hill-1' AND stage = 'search')",
            "run/hill-1",
        ),
        ("UPDATE tallies SET number = 99 WHERE counted = 'generations' AND owner = 'hill-1'", "run/hill-1"),
    ],
)
def test_of_a_damaged_run_a_sentence_is_shown_and_the_others_are_shown(
    installed: Installed, tmp_path: Path, what: str, where: str
) -> None:
    interrupt(tmp_path)
    session.start(load_config({**SMALL, "seed": 1}), tmp_path)
    edit(tmp_path, what)
    with watching(tmp_path) as server:
        assert "restore the file from a backup" in page(server, where)
        assert "hill-2" in page(server) and "gain <b" in page(server)
        assert "calibrated scores" in page(server, "run/hill-2")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no database at all, but long enough to be one" * 30, "corrupt or no SQLite database"),
        (b"", "There is no run in|is empty"),
        (b"SQLite format 3\0", "cut off|corrupt"),
    ],
)
def test_of_a_file_that_is_no_store_a_sentence_is_shown(tmp_path: Path, content: bytes, said: str) -> None:
    import re

    (tmp_path / FILE_NAME).write_bytes(content)
    with watching(tmp_path) as server:
        text = " ".join(Held(page(server)).texts)
        assert re.search(said, text), text
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_a_store_of_another_version_is_a_sentence_until_it_is_one_of_this(installed: Installed, tmp_path: Path) -> None:
    interrupt(tmp_path)
    edit(tmp_path, "DELETE FROM _sqlite_migrations WHERE name = 'm007_views'")
    with watching(tmp_path) as server:
        told = Told(server, "overview")
        told.until("written by an earlier trimpot")
        edit(tmp_path, "DROP VIEW plain_runs")
        SqliteStore(tmp_path).close()
        told.until("interrupted")
        edit(tmp_path, "UPDATE _sqlite_migrations SET name = 'm900' WHERE name = 'm007_views'")
        told.until("written by a newer trimpot")
        told.close()


def test_a_run_that_is_deleted_or_a_store_that_is_removed_leaves_a_sentence(
    installed: Installed, tmp_path: Path
) -> None:
    interrupt(tmp_path)
    with watching(tmp_path) as server:
        told = Told(server, "run/hill-1")
        told.until("interrupted")
        (tmp_path / FILE_NAME).unlink()
        told.until("there is no run hill-1".capitalize())
        assert set(told.parts) == set(RUN_PARTS)
        told.close()
        assert page(server, "run/hill-1", 404)
