"""The command line: one command calibrates a real model, and what a user gets wrong is one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import typed
from trimpot.storage import SqliteStore

SMALL = [
    "adapter.num_inference_steps=2",
    "generations=2",
    "bucket_size=4",
    "optimizer.population_size=4",
    "validation.num_prompts=4",
    "test.num_prompts=8",
    "by_steps.steps=[3]",
    "by_steps.num_prompts=4",
    "by_steps.num_validation=4",
    "group_size=4",
    "workers=1",
]


def process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRIMPOT_")}
    return subprocess.run(
        [sys.executable, "-m", "trimpot", *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def succeeds(*arguments: str, cwd: Path) -> str:
    done = typed(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the shapes preset has been calibrated, in small, by a process of its own."""
    folder = tmp_path_factory.mktemp("cli")
    done = process("calibrate", "shapes", *SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr
    output = done.stdout
    assert "on 8 prompts that the search never saw at" in " ".join(output.split())
    gain = json.loads(succeeds("show", "shapes-1", "--json", cwd=folder))["gain"]
    advised = "trimpot.load_calibration(pipe, 'trimpot-runs/shapes-1/calibration.json')" in output
    assert advised == (gain["low"] > 0)
    return folder


@pytest.fixture(scope="module")
def shown(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(succeeds("show", "shapes-1", "--json", cwd=folder))
    return found


def test_show_tells_programs_everything(folder: Path, shown: dict[str, Any]) -> None:
    """`show --json` has the run, its digest, its counts, its gain with interval, and its files."""
    assert (shown["run"], shown["status"]) == ("shapes-1", "finished")
    assert set(shown["gain"]) == {"mean", "low", "high", "num_prompts", "num_images"}
    assert shown["gain"]["num_images"] == 8
    assert len(shown["digest"]) == 16
    assert shown["seconds"] > 0
    assert (folder / shown["calibration"]).is_file()
    assert (folder / shown["report"]).is_file()


def test_evaluations_are_counted_exactly(shown: dict[str, Any]) -> None:
    """Baseline grids, reference, search, checks and tests: not one evaluation more or less."""
    num_neutrals = len(shown["outcome"]["baseline"]["grid"])
    assert shown["num_evaluations"] == 2 * num_neutrals + 1 + 2 * 4 + 1 + 2 * 2
    assert shown["num_images"] == (2 * num_neutrals + 1 + 2 * 4 + 1) * 4 + 2 * 8 + 2 * 4


def test_another_run_finds_what_the_first_one_scored(folder: Path, shown: dict[str, Any]) -> None:
    """Nothing is generated twice: the same seed finds everything and ends at the same digest, another seed does not."""
    again = json.loads(succeeds("calibrate", "shapes", *SMALL, "--json", cwd=folder))
    assert again["digest"] == shown["digest"]
    with SqliteStore(folder / "trimpot-runs", create=False) as store:
        assert store.totals("shapes-1")["generate_seconds"] > 0
        assert store.totals(again["run"])["generate_seconds"] == 0
    other = json.loads(succeeds("calibrate", "shapes", *SMALL, "seed=7", "--json", cwd=folder))
    assert other["digest"] != shown["digest"]


def test_runs_are_listed(folder: Path) -> None:
    """`runs` lists every run with its status and gain."""
    assert "shapes-1" in succeeds("runs", cwd=folder)
    listed = json.loads(succeeds("runs", "--json", cwd=folder))
    assert listed[0]["run"] == "shapes-1"
    assert listed[0]["status"] == "finished"


def test_the_report_can_be_written_again(folder: Path, shown: dict[str, Any]) -> None:
    """`report` makes the page from the store alone, with pictures in it."""
    path = folder / shown["report"]
    path.unlink()
    assert succeeds("report", "shapes-1", cwd=folder).strip() == shown["report"]
    page = path.read_text()
    assert "data:image/png;base64," in page
    assert shown["digest"] in page


def test_a_finished_run_resumes_to_itself(folder: Path, shown: dict[str, Any]) -> None:
    """Resuming what has finished does nothing and says the same."""
    assert json.loads(succeeds("resume", "shapes-1", "--json", cwd=folder))["digest"] == shown["digest"]


@pytest.mark.parametrize(("granularity", "count"), [("block", 26), ("layer", 50), ("gate", 104)])
def test_knobs_are_counted(tmp_path: Path, granularity: str, count: int) -> None:
    """`knobs --count` prints one number: twelve blocks, twice, and two weights."""
    assert succeeds("knobs", "shapes", "--granularity", granularity, "--count", cwd=tmp_path) == f"{count}\n"


def test_plugins_are_listed(tmp_path: Path) -> None:
    """`plugins` names what is built in."""
    found = json.loads(succeeds("plugins", "--json", cwd=tmp_path))
    names = {(entry["kind"], entry["name"]) for entry in found["plugins"]}
    assert {("adapters", "sd3"), ("objectives", "shapes"), ("optimizers", "cma-es"), ("prompts", "files")} <= names


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["calibrate", "shape"], "no preset, file or model 'shape'; did you mean 'shapes'?"),
        (["calibrate", "shapes", "adapter.name=shaps"], "no adapter 'shaps'; did you mean 'shapes'?"),
        (["calibrate", "shapes", "objectives=pickscor"], "no objective 'pickscor'"),
        (["calibrate", "shapes", "optimizer=cmaes"], "no optimizer 'cmaes'; did you mean 'cma-es'?"),
        (["calibrate", "shapes", "optimizer.sigma=1"], "takes no option 'sigma'; did you mean 'sigma0'?"),
        (["calibrate", "shapes", "generation=3"], "unknown key 'generation'; did you mean 'generations'?"),
        (["calibrate", "shapes", "adapter.low=1.5"], "bounds [1.5, 2] exclude its default 1"),
        (["calibrate", "shapes", "generations"], "not of the form key=value"),
        (["knobs", "shaps"], "no adapter 'shaps'; did you mean 'shapes'?"),
        (["optimizers", "OnePlusTwo"], "nevergrad has no optimizer 'OnePlusTwo'; did you mean 'OnePlusOne'"),
        (["show", "shapes-1"], "no runs in trimpot-runs"),
        (["resume"], "no runs in trimpot-runs"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """Exit code 1, one line on stderr that says what to do, no traceback, nothing left behind."""
    done = typed(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_one_sentence_of_a_process_too(tmp_path: Path) -> None:
    done = process("calibrate", "shapes", "optimizer.sigma=1", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "takes no option 'sigma'; did you mean 'sigma0'?" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_notice_is_one_line_without_the_code_it_came_from(tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.txt").write_text(f"# red \x1b[31m comment\n{name} view\n")
    prompts = {"name": "files", **{name: str(tmp_path / name) + ".txt" for name in ("train", "validation", "test")}}
    config = {"adapter": {"name": "sphere", "num_knobs": 4}, "objectives": "value", "prompts": prompts}
    (tmp_path / "sphere.yaml").write_text(json.dumps(config))
    done = process("plan", "sphere.yaml", cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if "begin with # were left out" in line]
    assert len(lines) == 3 and all(line.startswith("trimpot: 1 line(s) of ") for line in lines)
    assert "\x1b" not in done.stderr and "Notice" not in done.stderr and "warnings.warn" not in done.stderr


def test_traceback_shows_where_an_error_came_from(tmp_path: Path) -> None:
    """`--traceback` adds the traceback to the sentence."""
    done = typed("--traceback", "calibrate", "shape", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_unknown_options_are_usage_errors(tmp_path: Path) -> None:
    """What the command line itself does not know exits 2."""
    assert process("calibrate", "shapes", "--nonsense", cwd=tmp_path).returncode == 2


def test_help_and_import_are_light(tmp_path: Path) -> None:
    """Neither `import trimpot` nor the command line's help loads torch."""
    code = "import sys, trimpot, trimpot.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0
    code = (
        "import sys; sys.argv = ['trimpot', '--help']\n"
        "from trimpot.cli import main\n"
        "try: main()\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == 0
