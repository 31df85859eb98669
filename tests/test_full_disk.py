"""A full disk is one sentence, whatever command writes whatever file, and nothing half-written stays."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from full_disk import full_disk
from typed import commands, typed

SPHERE = {
    "adapter": {"name": "sphere", "num_knobs": 4},
    "objectives": "value",
    "prompts": {"name": "files", "train": "train.txt", "validation": "validation.txt", "test": "test.txt"},
    "optimizer": {"name": "cma-es", "population_size": 4},
    "generations": 1,
    "validation": {"num_prompts": 2},
    "test": {"num_prompts": 2},
    "bucket_size": 2,
}
#: Every command that writes files, and how large a file may become: enough for what it has to read before.
WRITES = {
    "analyse ablation sphere.yaml granularity=knob scales=0 seeds=1 test.num_prompts=6": 64,
    "backup copy": 64,
    "calibrate sphere.yaml": 64,
    "compare sphere.yaml -c cma-es -c random --seeds 1 --images 40": 64,
    "delete sphere-1 --yes": 64,
    "diff one.json two.json": 64,
    "export one.json --to out": 64,
    "export one.json --as comfyui --to out": 64,
    "gallery .": 64,
    "import vector.json --to out.json": 64,
    "init PixArt-alpha/PixArt-Sigma-XL-2-1024-MS --memory 24GB --to out.yaml": 64,
    "lift one.json --to gate --output out.json": 64,
    "measure sphere-1 --to out.json": 64,
    "push one.json somebody/something --dry-run --to out": 64,
    "report sphere-1 --to out.html": 40_000,
    "report sphere-1": 40_000,
    "rescore sphere-1 --objective entropy": 64,
    "resume sphere-1": 64,
    "soup one.json two.json --to out.json": 64,
}
ELSEWHERE = {
    "pull": "it needs the hub",
    "sample": "it needs a pipeline; its page is written as those of diff and gallery are",
    **dict.fromkeys(("knobs", "optimizers", "plan", "plugins", "runs", "show", "sites", "verify"), "it writes nothing"),
    "serve": "it writes nothing",
}
STORE = "trimpot-runs"


def vector(seed: int) -> str:
    """What the published code writes of FLUX with a knob a block."""
    shapes = {"doubles_main": 19, "singles": 38, "n_double": 19, "n_single": 38}
    return json.dumps({"solution": [1 + 0.01 * seed] * 58, "shapes": {"total": 58, "n_models": 1, **shapes}})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and calibrations of FLUX as files."""
    folder = tmp_path_factory.mktemp("disk")
    (folder / "sphere.yaml").write_text(yaml.safe_dump(SPHERE))
    for name in ("train", "validation", "test"):
        (folder / f"{name}.txt").write_text("".join(f"{name} {n}\n" for n in range(6)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("TRIMPOT_STORE", raising=False)
        assert typed("calibrate", "sphere.yaml").status == 0
        for seed, name in enumerate(("one", "two")):
            (folder / "vector.json").write_text(vector(seed))
            line = f"import vector.json --adapter flux --granularity block --to {name}.json"
            ended = typed(*line.split())
            assert ended.status == 0, ended.err
    return folder


def test_every_command_that_writes_is_in_the_table() -> None:
    assert {line.split()[0] for line in WRITES} | set(ELSEWHERE) == set(commands())


@pytest.mark.parametrize("line", WRITES)
def test_a_full_disk_is_one_sentence(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    here = tmp_path / "here"
    shutil.copytree(made, here)
    monkeypatch.chdir(here)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file() and STORE not in path.parts}
    with full_disk(WRITES[line]):
        status, _, err = typed(*shlex.split(line))
    assert status == 1, (status, err)
    said = err.splitlines()[-1]
    assert said.startswith("trimpot: ") and "Traceback" not in err, err
    assert len(said) < 400
    after = {path: path.read_bytes() for path in here.rglob("*") if path.is_file() and STORE not in path.parts}
    assert after == before, sorted(map(str, set(after) ^ set(before)))
    assert not list(here.rglob("*partial*"))
