"""Every command with wrong arguments: exit code 1 or 2, one sentence that says what to type, nothing left behind."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import trimpot.cli
from trimpot.cli import app

#: Arguments that a command accepts, as far as reading them goes.
ENOUGH = {
    "analyse": ["ablation", "shapes"],
    "backup": ["copy"],
    "calibrate": ["shapes"],
    "compare": ["shapes", "-c", "random", "-c", "cma-es", "--images", "9000"],
    "delete": ["shapes-1", "--yes"],
    "diff": ["shapes-1", "shapes-2"],
    "export": ["shapes-1"],
    "gallery": [],
    "import": ["cmaes_step_0040.json"],
    "init": ["PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"],
    "knobs": ["sphere"],
    "lift": ["shapes-1"],
    "measure": ["shapes-1"],
    "optimizers": ["DE"],
    "plan": ["shapes"],
    "plugins": [],
    "pull": ["somebody/calibrated"],
    "push": ["shapes-1", "somebody/calibrated"],
    "report": ["shapes-1"],
    "rescore": ["shapes-1", "--objective", "entropy"],
    "resume": ["shapes-1"],
    "runs": [],
    "sample": ["shapes-1", "a cat"],
    "serve": ["entropy"],
    "show": ["shapes-1"],
    "sites": ["FluxTransformer2DModel"],
    "soup": ["shapes-1", "shapes-2"],
    "study": ["shapes-1"],
    "verify": ["shapes-1", "exported"],
    "watch": [],
}
STORED = ("backup", "delete", "report", "rescore", "resume", "runs", "show", "study")  # which look at a store first


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[object, str]:
    """The command line in this process; gives its exit code and what it said on stderr."""
    monkeypatch.setattr(sys, "argv", ["trimpot", *arguments])
    with pytest.raises(SystemExit) as ended:
        trimpot.cli.main()
    return ended.value.code, capsys.readouterr().err


def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, said: str
) -> None:
    code, told = run(capsys, monkeypatch, *arguments)
    assert code == status, told
    assert told.startswith("trimpot: ") and told.count("\n") == 1 and "Traceback" not in told, told
    assert re.search(said, told), told
    assert len(told) < 1200


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)


def test_every_command_is_in_the_table() -> None:
    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert names == set(ENOUGH)


@pytest.mark.parametrize("command", ENOUGH)
def test_an_unknown_option_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    refused(capsys, monkeypatch, [command, *ENOUGH[command], "--nonsense"], 2, "no option --nonsense; `--help` lists")
    refused(capsys, monkeypatch, [command, *ENOUGH[command], "--nonsense=4"], 2, "no option --nonsense")
    refused(capsys, monkeypatch, [command, *ENOUGH[command], "-Z"], 2, "no option -Z")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ENOUGH)
@pytest.mark.parametrize("dash", ["‐", "‑", "‒", "–", "—", "―", "−"])  # noqa: RUF001
def test_a_dash_that_is_no_hyphen_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, dash: str
) -> None:
    refused(capsys, monkeypatch, [command, *ENOUGH[command], f"{dash}json"], 2, "type --json")
    refused(capsys, monkeypatch, [command, *ENOUGH[command], f"{dash}{dash}json"], 2, "type --json")
    refused(capsys, monkeypatch, [command, *ENOUGH[command], f"{dash}o"], 2, "type -o")


@pytest.mark.parametrize(
    "command", [name for name, given in ENOUGH.items() if given and name not in ("optimizers", "resume", "sites")]
)
def test_a_missing_argument_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    said = f"missing argument .*`trimpot {command} --help`"
    refused(capsys, monkeypatch, [command], 2, said)


@pytest.mark.parametrize("command", STORED)
@pytest.mark.parametrize("store", ["file", "absent/deeper", "\ud800", "x" * 5000])
def test_a_store_that_is_none_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, store: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    code, told = run(capsys, monkeypatch, command, *ENOUGH[command], "--store", store)
    assert code in (1, 2), told
    assert told.startswith("trimpot: ") and told.count("\n") == 1


@pytest.mark.parametrize("command", [name for name in STORED if name != "runs"])
def test_a_run_that_there_is_not_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    refused(capsys, monkeypatch, [command, *ENOUGH[command]], 1, "no runs in trimpot-runs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        # keys typed as options
        (["calibrate", "shapes", "--generations", "4"], 2, "are typed without dashes: generations=4"),
        (["calibrate", "shapes", "--generations=4"], 2, "are typed without dashes: generations=4"),
        (["calibrate", "shapes", "--bucket-size", "4"], 2, "bucket_size=4"),
        (["calibrate", "shapes", "--seed=3"], 2, "seed=3"),
        (["calibrate", "shapes", "--optimizer.sigma0", "0.1"], 2, "optimizer.sigma0=0.1"),
        (["calibrate", "shapes", "-g", "gate"], 2, "adapter.granularity=gate"),
        (["calibrate", "shapes", "--granularity", "gate"], 2, "adapter.granularity=gate"),
        (["calibrate", "shapes", "-o", "granularity=gate"], 2, "adapter.granularity=gate"),
        (["plan", "shapes", "--generations", "4"], 2, "generations=4"),
        (["calibrate", "shapes", "--generation", "4"], 2, "did you mean 'generations'"),
        # commands and names
        (["calibrat", "shapes"], 2, "no command 'calibrat'; did you mean 'calibrate'"),
        (["shapes"], 2, "no command 'shapes'; "),
        (["knobs", "FLUX"], 1, "no adapter 'FLUX'; did you mean 'flux'"),
        (["knobs", "Qwen_Image"], 1, "no adapter 'Qwen_Image'; did you mean 'qwen-image'"),
        (["knobs", "./checkpoint"], 1, "adapter.name=diffusers adapter.model=..."),
        (["knobs", "shapes", "-g", "gates"], 1, "option 'granularity': .*'gate'.*not 'gates'"),
        (["knobs", "shapes", "-o", "granularity"], 1, "not of the form key=value"),
        (["knobs", "shapes", "-o", "low=.inf"], 1, "option 'low': .*finite"),
        (["knobs", "shapes", "-o", "low=-.inf", "-o", "high=x"], 1, "2 mistakes"),
        (["serve", "entropi"], 1, "no objective 'entropi'; did you mean 'entropy'"),
        (["serve", "entropy", "-o", "a=1"], 1, "takes no option 'a'"),
        (["serve", "entropy", "--port", "x"], 2, "--port"),
        (["watch", "--port", "x"], 2, "--port"),
        (["watch", "--port", "70000"], 1, "ports are numbers from 0 .a free one. to 65535; choose another --port"),
        (["watch", "--port", "0", "--host", "no such host"], 1, "is no address of a machine; choose another --host"),
        (["watch", "--port", "0", "--token", "\u00e9"], 1, "the token must be printable ASCII"),
        (["optimizers", "DEE"], 1, "nevergrad has no optimizer 'DEE'"),
        (["optimizers", "--knobs", "0"], 2, "--knobs"),
        # configurations
        (["calibrate", "shape"], 1, "did you mean 'shapes'"),
        (["calibrate", "Shapes"], 1, "did you mean 'shapes'"),
        (["calibrate", "shapes.yml"], 1, "No such file; the preset is called 'shapes'"),
        (["calibrate", "."], 1, "has no model_index.json, so it is no pipeline"),
        (["calibrate", "shapes", "generations"], 1, "not of the form key=value, such as optimizer.sigma0=0.1"),
        (["calibrate", "shapes", "generations", "=", "4"], 1, "write generations=4 without spaces"),
        (["calibrate", "shapes", "generations=", "4"], 1, "write generations=4 without spaces"),
        (["calibrate", "shapes", "generations="], 1, "has no value; write generations=null"),
        (["calibrate", "shapes", "generations=4", "generations=5"], 1, "generations is given twice"),
        (["calibrate", "shapes", "generations=true"], 1, "should be a number, not True"),
        (["calibrate", "shapes", "generations=010"], 1, "010 may be read as octal"),
        (["calibrate", "shapes", "budget.seconds=.inf"], 1, "'budget.seconds': should be a finite number"),
        (["calibrate", "shapes", "optimizer.sigma0=1e-320"], 1, "option 'sigma0'"),
        (["calibrate", "shapes", "adapter.low=-.inf"], 1, "option 'low': .*finite"),
        (["calibrate", "shapes", "seed=99999999999999999999"], 1, "'seed': .*at most"),
        (["calibrate", "shapes", "prompts=my.txt"], 1, "prompts.name=files prompts.train=..."),
        (["calibrate", "shapes", "prompts.train=my.txt"], 1, "takes no option 'train'; 'files' does"),
        (["calibrate", "shapes", "adapter=./checkpoint"], 1, "adapter.name=diffusers adapter.model=..."),
        (["calibrate", "shapes", "adapter.guidance_grid=3,4"], 1, "write guidance_grid=\\[3,4\\]"),
        (["calibrate", "shapes", "generation=1", "optimizer.sigma=1", "seed=-1"], 1, "has 3 mistakes"),
        (["calibrate", "shapes", "optimizer.nonsense.deep=1"], 1, "takes no option 'nonsense'"),
        (["calibrate", "shapes", "valdation.seed=1"], 1, "unknown key 'valdation'; did you mean 'validation'"),
        (["calibrate", "shapes", "protocol=groupd"], 1, "no protocol 'groupd'; did you mean"),
        (["plan", "shapes", "--rate", "0"], 2, "--rate"),
        (["plan", "shapes", "--rate", "nan"], 2, "--rate"),
        (["plan", "shapes", "--rate", "inf"], 2, "--rate"),
        (["plan", "shapes", "--price", "-1"], 2, "--price"),
        (["plan", "shapes", "--price", "nan"], 2, "--price"),
        (["plan", "shapes", "--devices", "0"], 2, "--devices"),
        # comparisons
        (["compare", "shapes"], 1, "names no contenders"),
        (["compare", "shapes", "-c", "random"], 1, "set the number of outputs of every search"),
        (["compare", "shapes", "-c", "random", "--images", "9"], 1, "2 or more entries"),
        (["compare", "shapes", "-c", "random", "-c", "random", "--images", "9"], 1, "a contender is named twice"),
        (["compare", "shapes", "-c", "randm", "-c", "cma-es", "--images", "9000"], 1, "'randm'"),
        (["compare", "shapes", "--seeds", "0"], 2, "--seeds"),
        (["compare", "shapes", "--images", "many"], 2, "--images"),
        (["rescore", "shapes-1"], 2, "--objective"),
        (["measure", "shapes-1"], 1, "no calibration 'shapes-1'"),
        (["study", "shapes-1", "--pairs", "0"], 2, "--pairs"),
        (["study", "shapes-1", "--raters", "0"], 2, "--raters"),
        (["study", "shapes-1", "--checks", "-1"], 2, "--checks"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_mistake_says_what_to_type(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    refused(capsys, monkeypatch, arguments, status, said)
    assert not list(tmp_path.iterdir())


def test_a_class_that_diffusers_has_not_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last line: importing all of diffusers may say things of its own."""
    code, told = run(capsys, monkeypatch, "sites", "NoSuchClass")
    assert code == 1
    assert told.splitlines()[-1].startswith("trimpot: diffusers has no 'NoSuchClass' among its transformer classes")


def test_what_was_meant_by_the_sentences_can_be_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single value for a list, a unicode value, an option of an option."""
    typed = ["generations=4", "bucket_size=4", "seed=3", "adapter.granularity=gate", "adapter.guidance_grid=4"]
    assert run(capsys, monkeypatch, "plan", "shapes", *typed, "--rate", "10")[0] == 0
    assert run(capsys, monkeypatch, "knobs", "shapes", "-o", "guidance_grid=4", "--count")[0] == 0


def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--help"], *([command, "--help"] for command in ENOUGH)):
        monkeypatch.setattr(sys, "argv", ["trimpot", *arguments])
        with pytest.raises(SystemExit) as ended:
            trimpot.cli.main()
        assert not ended.value.code
    assert "Usage" in capsys.readouterr().out


def test_nothing_typed_shows_the_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(capsys, monkeypatch) == (2, "")
