"""No file of weights runs code, whatever reward reads it, and each reward can do with safetensors alone."""

from __future__ import annotations

import inspect
import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_rewards import CASES, Case, save_all
from trimpot.ground.errors import ScoreError
from trimpot.proofs.rewards._chats import pictures
from trimpot.setup.plugins import plugins

PICKLES = {".bin", ".pt", ".pth"}
#: Rewards whose weights are published only in PyTorch's own format, and the options that name the files.
PUBLISHED_SO = {"hpsv2": ("file",), "imagereward": ("file",), "lpips": ("backbone", "heads"), "clip-flant5": ()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for each architecture."""
    return save_all(tmp_path_factory.mktemp("tiny"))


class Trap:
    """Runs when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.sprung,)


def _zipped(sprung: Path, whole: bool = True) -> bytes:
    torch.save({"state_dict": {"a": Trap(sprung)}}, file := io.BytesIO(), _use_new_zipfile_serialization=whole)
    return file.getvalue()


TRAPS: dict[str, Callable[[Path], bytes]] = {
    "as PyTorch writes it": _zipped,
    "as PyTorch once wrote it": lambda sprung: _zipped(sprung, whole=False),
    "a plain pickle": lambda sprung: pickle.dumps(Trap(sprung), protocol=2),
}


def weight_files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.suffix in {*PICKLES, ".safetensors"})


def trapped(home: Path, case: Case, content: bytes) -> Iterator[tuple[Path, str]]:
    """Homes with a trap in place of one weight file after another, and where it is."""
    for place in sorted(set(case.places.values())):
        for path in weight_files(home / place):
            name, kept = path.name, path.read_bytes()
            path.unlink()
            trap = path if path.suffix in PICKLES else path.with_name("pytorch_model.bin")
            trap.write_bytes(content)
            if trap != path and name != "model.safetensors":  # asked for by its name
                path.write_bytes(content)
            yield home, f"{place}/{name}"
            for each in {trap, path}:
                each.unlink(missing_ok=True)
            path.write_bytes(kept)


def made(home: Path, case: Case, **options: Any) -> Any:
    places = {option: str(home / place) for option, place in case.places.items()}
    return plugins().make("objectives", case.name, {**places, **case.options, **options})


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("name", CASES)
def test_no_weight_file_of_a_reward_runs_code(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trap: str
) -> None:
    """Not even where the environment asks PyTorch to trust files."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    case, sprung = CASES[name], tmp_path / "sprung"
    for place in set(case.places.values()):
        shutil.copytree(tiny / place, tmp_path / "home" / place)
    read = []
    for home, where in trapped(tmp_path / "home", case, TRAPS[trap](sprung)):
        try:
            made(home, case)  # of a base whose configuration alone is wanted, weights are not read at all
        except ScoreError as error:
            assert str(error).isprintable() and "weights_only" not in str(error), error
            read.append(where)
        assert not sprung.exists(), where
    assert read


def test_the_trap_would_spring(tmp_path: Path) -> None:
    """So that the test above cannot pass for want of one."""
    for number, content in enumerate(each(tmp_path / "sprung") for each in TRAPS.values()):
        (tmp_path / "trap.pt").write_bytes(content)
        if number < 2:
            torch.load(tmp_path / "trap.pt", weights_only=False)
        else:
            pickle.loads(content)
        (tmp_path / "sprung").unlink()


def test_a_file_with_code_is_refused_with_the_way_out(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "imagereward", tmp_path / "imagereward")
    (tmp_path / "imagereward" / "ImageReward.pt").write_bytes(_zipped(tmp_path / "sprung"))
    with pytest.raises(
        ScoreError, match=r"ImageReward\.pt of .* it is damaged or holds more than tensors.*safetensors"
    ):
        made(tmp_path, CASES["imagereward"])


@pytest.mark.parametrize("name", CASES)
def test_a_reward_can_do_with_safetensors_alone(tiny: Path, tmp_path: Path, name: str) -> None:
    """Converted as docs/rewards.md says, what is published otherwise gives the same scores."""
    case = CASES[name]
    for place in set(case.places.values()):
        shutil.copytree(tiny / place, tmp_path / place)
    for path in [path for place in sorted(set(case.places.values())) for path in weight_files(tmp_path / place)]:
        if path.suffix not in PICKLES:
            continue
        assert name in PUBLISHED_SO, path
        state = torch.load(path, weights_only=True)
        save_file(state.get("state_dict", state), path.with_suffix(".safetensors"))
        path.unlink()
    if name == "clip-flant5":
        index = tmp_path / case.places["model"] / "pytorch_model.bin.index.json"
        values = json.loads(index.read_text())
        values["weight_map"] = {key: f"{Path(file).stem}.safetensors" for key, file in values["weight_map"].items()}
        index.with_name("model.safetensors.index.json").write_text(json.dumps(values))
        index.unlink()
    defaults = inspect.signature(plugins().get("objectives", case.name).factory).parameters
    options = {
        option: str(Path(defaults[option].default).with_suffix(".safetensors")) for option in PUBLISHED_SO.get(name, ())
    }
    shown = pictures(*[(64, 64)] * len(case.prompts))
    found = made(tmp_path, case, device="cpu", **options).score(shown, case.prompts)
    assert np.array_equal(found, made(tiny, case, device="cpu").score(shown, case.prompts))
