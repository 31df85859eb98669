"""`--json` on all that shows: JSON for programs on stdout and nothing else there; what people should know on stderr."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from small_sphere import OF_FILES as SPHERE
from studied import folders
from trimpot import reports
from trimpot.storage import SqliteStore
from trimpot.studies.beginning import asked_for, begin, with_raters
from typed import commands, typed

#: Every command that shows something, and keys of what it prints; of a list, keys of its first entry.
SHOWN = {
    "analyse ablation sphere.yaml granularity=knob scales=0 seeds=1 test.num_prompts=6": {
        "analysis",
        "numbers",
        "page",
    },
    "backup copy": {"backup", "runs", "images"},
    "calibrate sphere.yaml": {"run", "status", "gain", "digest"},
    "compare sphere.yaml -c cma-es -c random --seeds 1 --images 40": {"comparison", "runs", "page"},
    "delete sphere-1 --yes": {"names", "runs", "num_evaluations", "num_bytes", "freed_bytes"},
    "diff sphere-1 sphere-1": {"page", "by", "distance", "knobs"},
    "export sphere-1": {"export", "as"},
    "import vector.json": {"calibration", "backbone", "knobs"},
    "gallery trimpot-runs": {"page", "calibrations"},
    "init PixArt-alpha/PixArt-Sigma-XL-2-1024-MS --memory 24GB": {"file", "values", "reasons", "fit"},
    "measure sphere-1": {"run", "status", "gain"},
    "knobs sphere": {"name", "low", "high", "default"},
    "knobs sphere --count": None,
    "optimizers OnePlusOne --knobs 3 --population 4": {"name", "reason"},
    "plan sphere.yaml --rate 1": {"knobs", "images", "seconds"},
    "plan PixArt-alpha/PixArt-Sigma-XL-2-1024-MS --memory 24GB": {"knobs", "images", "values", "reasons", "fit"},
    "plugins": {"plugins", "broken", "protocols", "presets"},
    "push sphere-1 somebody/something --dry-run": {"folder", "pushed"},
    "report sphere-1": {"run", "report"},
    "rescore sphere-1 --objective entropy": {"run", "objective", "checks"},
    "resume sphere-1": {"run", "status", "gain"},
    "runs": {"run", "comparison", "status", "num_images", "gain"},
    "runs --all": {"run", "comparison", "status", "num_images", "gain"},
    "show sphere-1": {"run", "outcome", "config"},
    "study calibrated-study-1 --results": {"study", "raters", "questions", "rule", "page", "table"},
    "sites FluxTransformer2DModel": {"kind", "knobs", "verdicts", "holds"},
    "sites --library transformers LlamaForCausalLM": {"kind", "knobs", "verdicts", "holds"},
}
#: Commands whose JSON is not read here, and why.
ELSEWHERE = {
    "lift": "it needs a diffusion pipeline's calibration",
    "soup": "it needs diffusion pipelines' calibrations",
    "pull": "it needs the hub",
    "sample": "it needs a pipeline",
    "verify": "it needs a pipeline",
}
#: Commands that show nothing, and why.
SILENT = dict.fromkeys(("serve", "watch"), "it answers requests until it is stopped")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with kept images; every file of prompts gives rise to a notice."""
    folder = tmp_path_factory.mktemp("json")
    (folder / "sphere.yaml").write_text(yaml.safe_dump(SPHERE))
    shapes = {"doubles_main": 38, "doubles_ctx": 38, "singles": 38, "n_double": 19, "n_single": 38}
    vector = {"solution": [1.0] * 115, "shapes": {"total": 115, "n_models": 1, **shapes}}
    (folder / "vector.json").write_text(json.dumps(vector))
    for name in ("train", "validation", "test"):
        (folder / f"{name}.txt").write_text("# of spheres\n" + "".join(f"{name} {n}\n" for n in range(6)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("TRIMPOT_STORE", raising=False)
        patch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))
        assert typed("calibrate", "sphere.yaml").status == 0
    with SqliteStore(folder / "trimpot-runs") as store:
        for row in store.records.read("candidates", run="sphere-1"):
            if row["stage"] in ("baseline", "validation"):
                images = [Image.effect_noise((8, 8), 20 + n).convert("RGB") for n in range(2)]
                store.record_outputs(row["evaluation"], store.keeper(images))
        with_raters(store, begin(store, asked_for(store, folders(folder / "pictures", 4))))
    return folder


def test_every_command_prints_json_or_shows_nothing() -> None:
    known = commands()
    assert {line.split()[0] for line in SHOWN} | set(SILENT) | set(ELSEWHERE) == set(known)
    for name, command in known.items():
        options = {option for each in command.params for option in each.opts}
        assert ("--json" in options) == (name not in SILENT), name


@pytest.mark.parametrize("line", SHOWN)
def test_what_is_printed_is_json_and_nothing_else(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    monkeypatch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))
    status, out, err = typed(*shlex.split(line), "--json")
    assert status == 0, err
    found: Any = json.loads(out, parse_constant=pytest.fail)
    keys = SHOWN[line]
    if keys is not None:
        first = found[0] if isinstance(found, list) else found
        assert keys <= set(first), (line, set(first))
    if line.split()[0] in ("calibrate", "plan", "compare") and "sphere.yaml" in line:
        assert "begin with # were left out" in err  # the notice is said, and not on stdout


def test_a_mistake_leaves_stdout_empty_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    for line in SHOWN:
        status, out, err = typed(*line.split(), "--json", "--nonsense")
        assert (status, out) == (2, "") and err.startswith("trimpot: ")


def test_the_runs_of_a_comparison_are_one_entry_and_all_are_shown_if_asked_for(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    monkeypatch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))
    line = "compare sphere.yaml -c cma-es -c random --seeds 1 --images 40 --name night"
    assert typed(*line.split()).status == 0
    alone, folded, *others = json.loads(typed("runs", "--json").out)
    assert others and all("analysis" in each or "study" in each for each in others)
    assert (alone["run"], alone["comparison"]) == ("sphere-1", None)
    assert (folded["run"], folded["comparison"], folded["num_runs"], folded["num_finished"]) == (None, "night-1", 2, 2)
    every = json.loads(typed("runs", "--all", "--json").out)[: -len(others)]
    assert [each["comparison"] for each in every] == [None, "night-1", "night-1"]
    assert folded["num_images"] == sum(each["num_images"] for each in every[1:])
    listed = typed("runs").out.split("\n\n")[0].splitlines()  # tables of what is no run follow
    assert len(listed) == 3 and "night-1 (2 runs)" in listed[2] and "2 of 2 finished" in listed[2]
    assert len(typed("runs", "--all").out.split("\n\n")[0].splitlines()) == 4
