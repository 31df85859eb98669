"""Applying needs the core alone; whatever needs an extra that is not installed says so in one sentence."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pytest
import tiny_models
import trimpot
from applied import BUCKET, SD3_CALL, calibrated
from environments import CORE, ROOT, closure, environment, python
from generated import candidates, drawn
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from trimpot.adapters import make_sd3
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.ground.errors import MissingError
from trimpot.ground.extras import EXTRA_OF, EXTRAS

FOR_DEVELOPERS = {"test", "dev", "docs"}

#: Extra to commands that need it. FOLDER is a tiny checkpoint, and the working folder has files called a, b, c.parquet.
NEEDING: dict[str, list[str]] = {
    "calibrate": [
        "calibrate shapes",
        "calibrate no-such-preset",
        "resume",
        "runs",
        "show shapes-1",
        "report shapes-1",
        "rescore shapes-1 --objective entropy",
        "backup elsewhere",
        "plan shapes",
        "compare shapes -c cma-es -c random",
        "analyse ablation shapes",
        "optimizers DE",
        "serve shapes",
        "serve remote -o url=http://127.0.0.1:1",
    ],
    "ocr": ["serve ocr", "calibrate shapes objectives=ocr"],
    "parquet": [
        "calibrate shapes prompts.name=files"
        " prompts.train=a.parquet prompts.validation=b.parquet prompts.test=c.parquet"
    ],
    "ray": ["calibrate shapes workers.ray=1"],
    "quantization": [
        "serve pickscore -o quantization=torchao-int8",
        "knobs sd3 -o model=FOLDER -o quantization=torchao-int8 -o outline=false",
        "knobs sd3 -o model=FOLDER -o transformer=x.gguf -o outline=false",
    ],
    "tensorboard": [
        "calibrate shapes trackers=tensorboard",
        "compare shapes trackers=tensorboard --images 64 -c cma-es -c random",
    ],
    "trackio": ["calibrate shapes trackers=trackio", "plan shapes trackers=[trackio]"],
    "web": ["watch", "watch --port 70000"],
    "wandb": ["calibrate shapes trackers=wandb", "calibrate shapes trackers.wandb.project=mine workers=2"],
}
#: Commands on what is not there, in a process without any extra: they complain of that and of nothing else.
APPLYING_COMMANDS = [
    "sample none.json a",
    "export none.json",
    "verify none.json .",
    "push none.json me/mine --dry-run",
    "gallery none",
]
WORKING = {"--help": "calibrate", "plugins": "cma-es", "knobs shapes --count": "26", "calibrate --help": "--from"}

COMMANDS = """
import contextlib, io, json, sys
from trimpot.cli import main
answers = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["trimpot", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            status = 0
        except SystemExit as ending:
            status = ending.code
    answers.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


def run_in(packages: Path, commands: list[str], cwd: Path) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of commands, all in one process."""
    done = python(packages, "-c", COMMANDS, json.dumps([each.split() for each in commands]), cwd=cwd)
    assert done.returncode == 0, done.stderr
    answers: list[tuple[int, str, str]] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.fixture(scope="module")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_models.tiny_sd3(tmp_path_factory.mktemp("models") / "tiny-sd3")
    return folder


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """trimpot without any extra."""
    return environment(tmp_path_factory.mktemp("environments") / "core")


@pytest.mark.parametrize(
    "installed", [(), pytest.param(("calibrate",), marks=pytest.mark.slow)], ids=["core", "calibrate"]
)
def test_what_needs_an_extra_that_is_not_installed_says_so(
    installed: tuple[str, ...], core: Path, sd3_folder: Path, tmp_path: Path
) -> None:
    """One sentence with the packages and the extra, before anything is made; everything else works."""
    packages = environment(tmp_path / "packages", *installed) if installed else core
    (work := tmp_path / "work").mkdir()
    for name in "abc":
        (work / f"{name}.parquet").write_bytes(b"PAR1 and so on PAR1")
    absent = set(NEEDING) - set(installed) if installed else {"calibrate"}
    needing = {each.replace("FOLDER", str(sd3_folder)): extra for extra in sorted(absent) for each in NEEDING[extra]}
    assert not [package for extra in absent for package in EXTRAS[extra] if (packages / package).exists()]
    commands = [*needing, *WORKING, *APPLYING_COMMANDS]
    answers = dict(zip(commands, run_in(packages, commands, work), strict=True))
    for command in APPLYING_COMMANDS:
        status, out, err = answers[command]
        assert status in (1, 2) and err.startswith("trimpot: ") and err.count("\n") == 1, (command, out, err)
        assert "pip install" not in err and "Traceback" not in err, (command, err)
    for command, extra in needing.items():
        status, out, err = answers[command]
        assert status in (1, 2), (command, out, err)
        assert err.startswith("trimpot: ") and err.count("\n") == 1 and "Traceback" not in err, (command, err)
        assert f"pip install 'trimpot[{extra}]'" in err, (command, err)
        assert any(package in err for package in EXTRAS[extra]), (command, err)
        assert out == "", (command, out)
    for command, shown in WORKING.items():
        status, out, err = answers[command]
        assert status == 0 and shown in out and "Traceback" not in err, (command, out, err)
    assert not (work / "trimpot-runs").exists()


APPLYING = """
import json, sys
import torch
import numpy as np
import trimpot
from diffusers import StableDiffusion3Pipeline

folder, file, call = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
absent = dict.fromkeys(["text_encoder_3", "tokenizer_3", "image_encoder", "feature_extractor"])
pipe = StableDiffusion3Pipeline.from_pretrained(folder, **absent)
pipe.set_progress_bar_config(disable=True)
with trimpot.load_calibration(pipe, file) as calibration:
    assert calibration.calibration.num_steps == call["num_inference_steps"]
    image = pipe(prompt="a cat", generator=torch.Generator().manual_seed(21), **call).images[0]
np.save("image.npy", np.asarray(image))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_a_calibration_is_applied_where_only_the_core_is_installed(
    core: Path, sd3_folder: Path, tmp_path: Path
) -> None:
    """With the same image as where everything is installed."""
    adapter = make_sd3(model=str(sd3_folder), dtype="float32", device="cpu", **SD3_CALL)
    assert isinstance(adapter, PipelineAdapter)
    [vector] = candidates(adapter, 1)
    file = calibrated(adapter, adapter.space.to_setting(vector), tmp_path / "calibration.json")
    adapter.close()
    with trimpot.load_calibration(adapter.pipe, file):
        expected = drawn(adapter.pipe, BUCKET, **SD3_CALL)[0]
    done = python(core, "-c", APPLYING, str(sd3_folder), str(file), json.dumps(SD3_CALL), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.abs(np.load(tmp_path / "image.npy").astype(int) - np.asarray(expected).astype(int)).max() <= 1
    assert not set(json.loads(done.stdout.splitlines()[-1])) & set(EXTRA_OF)


def test_the_core_needs_neither_searchers_nor_reports_nor_quantisers() -> None:
    found = closure()
    names = {"cma", "nevergrad", "moocore", "scipy", "plotly", "sqlite-utils", "pandas", "scikit-learn", "joblib"}
    assert not names & set(found) and not {"bitsandbytes", "torchao", "gguf", "ray", "pyarrow"} & set(found)
    assert {"torch", "diffusers", "transformers", "pydantic"} <= set(found)


@pytest.mark.slow
def test_pip_resolves_the_core_to_the_same_packages(tmp_path: Path) -> None:
    """What pip would install for somebody who only applies calibrations; needs the package index."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    subprocess.run([*pip, "--report", str(tmp_path / "report.json"), *CORE], check=True, capture_output=True)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {canonicalize_name(each["metadata"]["name"]) for each in report["install"]} == set(closure())


def _imported(path: Path) -> Iterator[str]:
    """The top-level packages that a module imports, but for those that only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


DISTRIBUTION_OF = {"PIL": "pillow", "yaml": "pyyaml", "sqlite_utils": "sqlite-utils"}
#: What comes with a library that is asked for by name.
THROUGH_OTHERS = {
    "tokenizers": "transformers",
    "click": "typer",
    "pydantic_core": "pydantic",
    "typing_extensions": "pydantic",
}
OF_THEIR_OWN = {"geneval_mmdet.py", "vila.py", "qalign_original.py", "jpeg_size.py"}  # scripts with environments


def test_whatever_is_imported_is_installed_by_the_core_or_an_extra() -> None:
    """Nothing is imported that no list of pyproject.toml names, and the core's modules import the core."""
    core = {canonicalize_name(Requirement(each).name) for each in CORE}
    outside = {"tests", "training", "benchmarks", "examples", "docs", "build", "dist"}
    for path in ROOT.rglob("*.py"):
        inside = path.relative_to(ROOT)
        if inside.parts[0] in outside or inside.parts[0].startswith(".") or path.name in OF_THEIR_OWN:
            continue
        for package in set(_imported(path)) - set(sys.stdlib_module_names) - {"__future__", "trimpot"}:
            asked = canonicalize_name(DISTRIBUTION_OF.get(package, THROUGH_OTHERS.get(package, package)))
            assert asked in core or package in EXTRA_OF, f"{inside} imports {package}"


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_s_table_is_that_of_the_package(extra: str) -> None:
    asked = {canonicalize_name(Requirement(each).name) for each in environments.EXTRAS[extra]}
    named = {canonicalize_name(DISTRIBUTION_OF.get(package, package)) for package in EXTRAS[extra]}
    assert named <= asked if extra in FOR_DEVELOPERS else named == asked


def test_every_extra_for_users_is_in_the_table_and_tried() -> None:
    assert set(environments.EXTRAS) - FOR_DEVELOPERS == set(EXTRAS) - FOR_DEVELOPERS == {*NEEDING, "peft"}


def test_an_exported_adapter_of_peft_asks_for_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No command comes to this without a real export, so it is asked for itself."""
    from trimpot.exchange import roads

    monkeypatch.setitem(sys.modules, "peft", None)
    said = r"needs peft; install it with: pip install 'trimpot\[peft\]'"
    with pytest.raises(MissingError, match=said), roads._ia3(None, tmp_path):
        pass


def test_a_package_whose_own_parts_are_missing_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there but broken fails as itself, since its extra would not mend it."""
    from trimpot.ground.extras import missing

    assert missing(ImportError("broken", name="scipy.special"), "this") is None
    assert missing(ImportError("broken"), "this") is None
    assert missing(ValueError("no import"), "this") is None
    monkeypatch.setitem(sys.modules, "scipy", None)
    found: Any = missing(ImportError("gone", name="scipy.special"), "this")
    assert str(found) == "this needs scipy; install it with: pip install 'trimpot[calibrate]'"
