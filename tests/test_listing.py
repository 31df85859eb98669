"""`trimpot runs` lists what is asked for, in that order, and quickly; `trimpot delete` asks before it deletes."""

from __future__ import annotations

import datetime
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from trimpot.ground.errors import ConfigError
from trimpot.runs.listing import ORDERS, STATUSES, moment
from trimpot.storage import Comparisons, SqliteStore
from typed import typed

NOW = datetime.datetime.now(datetime.timezone.utc)
#: Prefix, adapter, model, days ago, gain (None: not finished), error.
RUNS: list[tuple[str, str, str | None, float, float | None, str | None]] = [
    ("flux", "flux", "black-forest-labs/FLUX.1-dev", 40, 0.1, None),
    ("flux", "flux", "/models/FLUX.1-dev/", 9, 0.3, None),
    ("sd", "sd3", "stabilityai/stable-diffusion-3.5-medium", 5, None, "out of memory"),
    ("night", "shapes", None, 2, -0.2, None),
    ("night", "shapes", None, 2, 0.9, None),
    ("sphere", "sphere", None, 0.1, None, None),
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with runs of several kinds, two of them in a comparison."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    with SqliteStore(tmp_path / "trimpot-runs") as opened:
        comparison = Comparisons(opened).add("compare", "identity", {})
        for seed, (prefix, adapter, model, days, gain, error) in enumerate(RUNS):
            config: dict[str, Any] = {"adapter": {"name": adapter, **({"model": model} if model else {})}}
            run = opened.add_run(prefix, "identity", {**config, "objectives": {}}, {})
            created = (NOW - datetime.timedelta(days=days)).isoformat(timespec="microseconds")
            found = {"mean": gain, "low": gain, "high": gain}
            outcome = None if gain is None else {"comparisons": [{"gain": found}]}
            seconds = {"flux-1": 30.0, "flux-2": 10.0}.get(run, 20.0)
            opened.update_run(run, created=created, error=error, outcome=outcome, seconds=seconds)
            if prefix == "night":
                Comparisons(opened).join(comparison, "random", seed, run)
    return tmp_path / "trimpot-runs"


def listed(*words: str) -> list[str]:
    """The names in the table, without its heading."""
    status, out, err = typed("runs", *words)
    assert status == 0, err
    return [line.split()[0] for line in out.splitlines()[1:]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ["flux-1", "flux-2", "sd-1", "compare-1", "sphere-1"]),
        ("--all", ["flux-1", "flux-2", "sd-1", "night-1", "night-2", "sphere-1"]),
        ("--status finished", ["flux-1", "flux-2", "compare-1"]),
        ("--status failed", ["sd-1"]),
        ("--status interrupted", ["sphere-1"]),
        ("--adapter flux", ["flux-1", "flux-2"]),
        ("--model FLUX.1-dev", ["flux-1", "flux-2"]),
        ("--model black-forest-labs/FLUX.1-dev", ["flux-1"]),
        ("--model *stable*", ["sd-1"]),
        ("--since 10d", ["flux-2", "sd-1", "compare-1", "sphere-1"]),
        ("--since 1w --all", ["sd-1", "night-1", "night-2", "sphere-1"]),
        ("--since 12h", ["sphere-1"]),
        (f"--since {(NOW - datetime.timedelta(days=6)).date()}", ["sd-1", "compare-1", "sphere-1"]),
        ("--name flux-*", ["flux-1", "flux-2"]),
        ("--name sd-1", ["sd-1"]),
        ("--name *-1", ["flux-1", "sd-1", "compare-1", "sphere-1"]),
        ("--sort gain", ["flux-2", "flux-1", "sd-1", "compare-1", "sphere-1"]),
        ("--sort gain --all --limit 2", ["night-2", "flux-2"]),
        ("--sort time --limit 1 --adapter flux", ["flux-1"]),
        ("--sort name", ["compare-1", "flux-1", "flux-2", "sd-1", "sphere-1"]),
        ("--sort created --limit 1", ["flux-1"]),
        ("--limit 2", ["compare-1", "sphere-1"]),
        ("--status finished --adapter flux --since 10d", ["flux-2"]),
    ],
    ids=str,
)
def test_what_is_asked_for_is_listed(store: Path, words: str, expected: list[str]) -> None:
    assert listed(*words.split()) == expected


def test_nothing_to_list_is_said(store: Path) -> None:
    status, out, err = typed("runs", "--status", "failed", "--adapter", "flux")
    assert (status, out, err) == (0, "", "trimpot: no run is all that is asked for\n")
    assert typed("runs", "--status", "failed", "--adapter", "flux", "--json").out == "[]\n"


@pytest.mark.parametrize("text", ["yesterday", "3", "d", "-3d", "2026-13-01", "9999999d", "", "999999w"])
def test_a_time_that_is_none_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time; write a date"):
        moment(text)


def test_times_are_in_utc_unless_they_say_otherwise() -> None:
    assert moment("2026-05-31").isoformat() == "2026-05-31T00:00:00+00:00"
    assert moment("2026-05-31T10:00:00+02:00") == moment("2026-05-31T08:00:00Z")
    before = datetime.datetime.now(datetime.timezone.utc)
    ago = moment("90m") + datetime.timedelta(minutes=90)
    assert before <= ago <= datetime.datetime.now(datetime.timezone.utc)


def test_the_orders_and_statuses_are_those_that_the_command_offers() -> None:
    from trimpot.commands import runs

    assert tuple(STATUSES) == runs.STATUSES and tuple(ORDERS) == runs.ORDERS


def test_a_finished_run_is_listed_without_reading_its_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred runs are listed in the time of one; the number of images is what `show` counts."""
    from closed_form import Notes, hill_run
    from trimpot.engine.loop import calibrate

    with SqliteStore(tmp_path / "trimpot-runs") as opened:
        run = opened.add_run("hill", "identity", {"adapter": {"name": "hill"}, "objectives": {}}, {})
        with opened.working_on(run):
            calibrate(hill_run(run_id=run), opened, Notes())
            counted = opened.totals(run)["num_images"]
        assert opened.num_images(run) == counted

        def never(*_: object) -> Any:
            raise AssertionError("an evaluation is read")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SqliteStore, "_rows", never)
            assert opened.num_images(run) == counted
        [row] = opened.records.read("candidates", run=run, stage="search", generation=0, position=0)
        with opened._transaction():
            opened.records.delete("candidates", row)
        with pytest.raises(AssertionError, match="an evaluation is read"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(SqliteStore, "_rows", never)
            opened.num_images(run)  # the run has changed, so it is counted again


# Deleting from the command line


def at_a_terminal(folder: Path, words: Sequence[str], answer: str) -> tuple[int, str]:
    """The exit status of a command at a terminal where somebody answers, and all that it showed."""
    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "TRIMPOT_STORE"}
    done = subprocess.Popen(
        [sys.executable, "-m", "trimpot", *words],
        cwd=folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # Linux says so when the other side is closed
        pass
    os.close(ours)
    return done.wait(), shown.decode()


def test_on_a_terminal_it_is_asked(store: Path) -> None:
    status, shown = at_a_terminal(store.parent, ["delete", "sd-1"], "n\n")
    assert status == 130 and "sd-1: 0 evaluations" in shown and "Delete? [y/N]" in shown
    assert "sd-1" in listed()
    status, shown = at_a_terminal(store.parent, ["delete", "sd-1"], "y\n")
    assert status == 0 and "deleted; " in shown
    assert "sd-1" not in listed()


def test_elsewhere_it_takes_a_yes(store: Path) -> None:
    status, out, err = typed("delete", "sd-1", "flux-1", stdin="y\n")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith("trimpot: nothing is deleted, since nobody can be asked here; add --yes for sd-1, flux-1: ")
    assert "sd-1" in listed()
    status, out, err = typed("delete", "sd-1", "flux-1", "--yes")
    assert (status, err) == (0, "") and "deleted; " in out
    assert listed() == ["flux-2", "compare-1", "sphere-1"]
    assert typed("delete", "compare-1", "-y").status == 0
    assert listed() == ["flux-2", "sphere-1"]
