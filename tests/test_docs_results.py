"""What docs/results.md says can be typed can be typed, and shows something."""

from __future__ import annotations

import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from small_sphere import SPHERE
from trimpot import reports
from typed import typed

PAGE = (Path(__file__).parents[1] / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    monkeypatch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))
    (tmp_path / "sphere.yaml").write_text(yaml.safe_dump(SPHERE))
    assert typed("calibrate", "sphere.yaml").status == 0
    return tmp_path


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found


def test_every_query_finds_something(here: Path) -> None:
    queries = [*blocks("sql"), *re.findall(r'^    sqlite3 .*"(SELECT .*)"$', PAGE, re.MULTILINE)]
    assert len(queries) == 5
    with closing(sqlite3.connect("file:trimpot-runs/trimpot.sqlite?mode=ro", uri=True)) as connection:
        for query in queries:
            assert connection.execute(query).fetchall(), query


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_every_snippet_of_python_prints_something(here: Path, capsys: pytest.CaptureFixture[str], number: int) -> None:
    snippet = blocks("python")[number]
    if "pandas" in snippet:
        pytest.importorskip("pandas")
    exec(compile(snippet, "docs/results.md", "exec"), {})
    assert "sphere-1" in capsys.readouterr().out


def test_every_command_is_understood(here: Path) -> None:
    told = [line for line in re.findall(r"`(trimpot [^`]*)`", PAGE) if "--install" not in line]
    told += re.findall(r"^    (trimpot .*)$", PAGE, re.MULTILINE)
    assert len(told) >= 7
    for line in dict.fromkeys(told):
        words = " ".join(line.split()).replace("RUN", "sphere-1").replace("shapes-1 shapes-2", "sphere-1")
        words = words.replace("--adapter flux", "--adapter sphere")
        _, *arguments = shlex.split(words)
        if arguments[0] == "delete" and "--yes" not in arguments:
            arguments.append("--help")
        found = typed(*arguments)
        assert found.status == 0, (line, found.err)
