"""What docs/python.md shows can be typed as it is shown, and its tables are whole."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import trimpot
from from_python import SIZES, SPHERE
from trimpot.ground import errors

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PRINTS = [  # what each snippet prints, in order
    r"^Result\(shapes-1: gain \S+ .* prompts, .* images\)$",
    r"^sphere-1 [0-9a-f]{16}$",
    r"^\{'slope': .*, 'offset': .*\}$",
    r"^ +generation +images +best .*chosen$",
    r"^shapes-1 \d+ generations$",
    r"unknown key 'generatons'; did you mean 'generations'\?$",
]


def table(heading: str) -> list[str]:
    """The first column of a table."""
    rows = re.findall(rf"^\| {heading} \|.*?\n\n", PAGE, re.DOTALL | re.MULTILINE)
    assert len(rows) == 1
    return re.findall(r"^\| `([\w.]+)` \|", rows[0], re.MULTILINE)


@pytest.mark.slow
def test_the_first_snippet_works_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    exec(SNIPPETS[0], {})
    assert re.search(PRINTS[0], capsys.readouterr().out)


@pytest.mark.usefixtures("short_reports")
@pytest.mark.parametrize("number", range(1, len(SNIPPETS)))
def test_a_snippet_works_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """Where a run of the first snippet is needed, a quick one has its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    assert len(SNIPPETS) == len(PRINTS)
    if "pandas" in SNIPPETS[number]:
        pytest.importorskip("pandas")
    if "shapes-1" in SNIPPETS[number]:
        trimpot.calibrate(SPHERE, name="shapes")
    source = tmp_path / "snippet.py"  # a function's code is part of what it is
    source.write_text(SNIPPETS[number])
    exec(compile(SNIPPETS[number], str(source), "exec"), {"__name__": "snippet"})
    assert re.search(PRINTS[number], capsys.readouterr().out, re.MULTILINE)


def test_the_tables_name_all_that_there_is(tmp_path: Path) -> None:
    result = trimpot.calibrate({**SIZES, **SPHERE}, store=tmp_path)
    own = {f"result.{name}" for name in vars(result) if not name.startswith("_")}
    assert set(table("attribute")) == own
    assert table("column") == list(result.curve[0])
    raised = {
        name for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, trimpot.TrimpotError)
    }
    assert set(table("error")) == raised - {"TrimpotError"}
