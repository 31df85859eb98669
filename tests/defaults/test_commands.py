"""`trimpot calibrate`, `plan` and `init` of a model of which only the name is given."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trimpot.cli import app
from trimpot.ground.errors import ConfigError, ModelError
from trimpot.proofs.rewards._tiny import save_clip
from trimpot.setup.config import load_config
from typer.testing import CliRunner

Folders = Callable[[str], Path]
SMALL = (
    "adapter.num_inference_steps=2",
    "generations=1",
    "optimizer.population_size=8",
    "validation.num_prompts=2",
    "test.num_prompts=3",
)
SIXTEEN = ("adapter.height=16", "adapter.width=16")
#: The tiny model, the adapter that it gets, and options without which a tiny model makes too large a picture.
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "flux": ("flux", ()),
    "sd3": ("sd3", ()),
    "qwen": ("qwen-image", ()),
    "wan": ("diffusers", SIXTEEN),
    "pixart": ("diffusers", ()),
    "sana": ("diffusers", ("adapter.height=32", "adapter.width=32")),
}


def trimpot(*arguments: str) -> str:
    """The command line in this process; what it prints on standard output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny tokenizers truncate prompts
        done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The default reward with tiny weights."""
    folder = tmp_path_factory.mktemp("reward") / "clip"
    save_clip(folder)
    return f"objectives={{pickscore: {{model: {folder}, processor: {folder}}}, entropy: {{weight: 0}}}}"


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_is_calibrated_without_a_configuration(
    tiny_folder: Folders, tmp_path: Path, reward: str, name: str
) -> None:
    adapter, further = MODELS[name]
    store = str(tmp_path / "store")
    given = (str(tiny_folder(name)), *SMALL, reward, *further, "--store", store)
    told = json.loads(trimpot("calibrate", *given, "--json"))
    assert told["run"] == f"tiny-{name}-1" and told["status"] == "finished"
    shown = json.loads(trimpot("show", told["run"], "--store", store, "--json"))
    assert shown["config"]["adapter"]["name"] == adapter
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert "data:image/png;base64," in page and told["digest"] in page


def test_the_plan_is_shown_first_and_off_a_terminal_nothing_is_asked(
    tiny_folder: Folders, tmp_path: Path, reward: str
) -> None:
    text = trimpot(
        "calibrate",
        str(tiny_folder("pixart")),
        *SMALL,
        reward,
        "--store",
        str(tmp_path),
        "--price",
        "2.5",
        "--rate",
        "2",
    )
    plan, run = text.split("tiny-pixart-1:")
    assert "adapter.name = diffusers" in plan and "at 2.5 an hour" in plan
    assert "on 3 prompts that the search never saw" in " ".join(run.split())
    assert "Begin?" not in text and "What next" not in text


def test_a_plan_needs_no_weights_and_tells_every_reason(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_folder("flux"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    given = ("plan", str(folder), "--memory", "24GB")
    text = trimpot(*given, "--rate", "0.5", "--price", "2.5")
    found: dict[str, Any] = json.loads(trimpot(*given, "--rate", "0.5", "--price", "2.5", "--json"))
    for key, reason in found["reasons"].items():
        assert f"{key} = " in text and reason in text
    images = sum(found["images"].values()) + found["images_elsewhere"]
    assert f"images {images:,}" in " ".join(text.split())
    assert found["cost"] == pytest.approx(images / 0.5 / 3600 * 2.5)
    assert f"{found['cost']:,.2f} at 2.5 an hour" in text
    assert "Of the placements" in text
    unknown = trimpot(*given, "--price", "2.5")
    assert "hours unknown until the model runs" in unknown and "cost unknown with them" in unknown
    assert json.loads(trimpot(*given, "--json"))["seconds"] is None


def test_a_plan_may_measure_the_model(tiny_folder: Folders, reward: str) -> None:
    found = json.loads(trimpot("plan", str(tiny_folder("pixart")), *SMALL, reward, "--measure", "--json"))
    assert found["rate"] > 0 and found["seconds"] > 0 and found["source_of_rate"].startswith("measured")


def test_init_writes_what_calibrate_would_run(tiny_folder: Folders, tmp_path: Path) -> None:
    to = tmp_path / "own.yaml"
    model = str(tiny_folder("sd3"))
    assert trimpot("init", model, "--memory", "24GB", "--to", str(to)).strip() == str(to)
    planned = json.loads(trimpot("plan", model, "--memory", "24GB", "--json"))
    assert load_config(to) == load_config(planned["values"])
    before = to.read_text()
    with pytest.raises(ConfigError, match="is there already; give --force"):
        trimpot("init", model, "--to", str(to))
    assert to.read_text() == before
    told = json.loads(trimpot("init", model, "generations=3", "--to", str(to), "--force", "--json"))
    assert told["file"] == str(to) and "generations: 3" in to.read_text()


REFUSED: list[tuple[tuple[str, ...], str]] = [
    (("calibrate", "shapes", "--memory", "24GB"), "--memory chooses the settings of a model, and shapes has its own"),
    (("calibrate", "shapes", "--price", "2"), "for shapes, use `trimpot plan`"),
    (("calibrate", "shapes", "--rate", "2"), "for shapes, use `trimpot plan`"),
    (("plan", "shapes", "--memory", "24GB"), "--memory chooses the settings of a model"),
    (("init", "shapes"), "shapes is a configuration already"),
    (("plan", "MODEL", "--memory", "24"), "has no unit"),
    (("calibrate", "MODEL", "--memory", "9TB"), "give less, or leave it out"),
    (("calibrate", "MODEL", "adapter.offload=model"), "there is no GPU to use"),
    (("calibrate", "MODEL", "adapter.quantization=bitsandbytes-4bit"), "needs a GPU"),
    (("calibrate", "shaps"), "did you mean 'shapes'"),
    (("calibrate", "/no/where"), "no model /no/where"),
    (("calibrate", "absent.yaml"), "cannot read the configuration absent.yaml"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_done_is_refused_before_anything_is_loaded(
    tiny_folder: Folders, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_folder("flux"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    given = [str(folder) if each == "MODEL" else each for each in arguments]
    store = ["--store", str(tmp_path / "store")] if arguments[0] == "calibrate" else []
    with pytest.raises((ConfigError, ModelError)) as error:
        trimpot(*given, *store)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("hub_cache", "offline")
def test_a_known_model_that_cannot_be_had_is_planned_and_not_begun(tmp_path: Path) -> None:
    model = "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"
    assert "adapter.name = diffusers" in trimpot("plan", model, "--memory", "24GB")
    with pytest.raises(ModelError, match=r"the hub cannot be reached and .*PixArt.* is not wholly in its cache"):
        trimpot("calibrate", model, "adapter.dtype=bfloat16", "--store", str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def on_a_terminal(arguments: list[str], answers: dict[str, str]) -> tuple[str, int]:
    """The command line on a terminal of its own, where each question is answered once; its output and exit status."""
    mine, its = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
    command = [sys.executable, "-m", "trimpot", *arguments]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment, close_fds=True)
    os.close(its)
    text, waiting, end = "", dict(answers), time.monotonic() + 200
    while time.monotonic() < end:
        if select.select([mine], [], [], 1)[0]:
            try:
                text += os.read(mine, 65536).decode(errors="replace")
            except OSError:  # the terminal is closed
                break
        for question in [each for each in waiting if each in text]:
            os.write(mine, f"{waiting.pop(question)}\n".encode())
    status = process.wait(timeout=60)
    os.close(mine)
    return text, status


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of another kind")
def test_on_a_terminal_it_asks_and_offers_what_can_be_done_next(
    tiny_folder: Folders, tmp_path: Path, reward: str
) -> None:
    given = ["calibrate", str(tiny_folder("pixart")), *SMALL, reward, "--store", str(tmp_path / "store")]
    text, status = on_a_terminal(given, {"Begin?": "n"})
    assert status == 0 and "measured on two of them" in text and "not begun; `trimpot init" in text
    assert not (tmp_path / "store").exists()
    text, status = on_a_terminal([*given, "--rate", "1"], {"Begin?": "", "What next?": "q"})
    assert status == 0 and "look at the report" in text and "leave" in text
    assert (tmp_path / "store" / "tiny-pixart-1" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="terminals of another kind")
def test_on_a_terminal_yes_asks_nothing(tiny_folder: Folders, tmp_path: Path, reward: str) -> None:
    given = ["calibrate", str(tiny_folder("pixart")), *SMALL, reward, "--store", str(tmp_path / "store"), "--yes"]
    text, status = on_a_terminal(given, {})
    assert status == 0 and "Begin?" not in text and "What next?" not in text
