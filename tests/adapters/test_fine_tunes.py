"""Two fine-tunes of one base are two backbones: in what they say of themselves, in the store, in their calibrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from trimpot.adapters import make_sd3
from trimpot.engine.calibration import Calibration
from trimpot.engine.identity import described as described_as
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins
from trimpot.storage import SqliteStore


def fine_tune(base: Path, folder: Path, seed: int) -> Path:
    """The base's transformer with other weights, as a single file of its own layout."""
    [weights] = (base / "transformer").glob("*.safetensors")
    tensors, generator = load_file(weights), torch.Generator().manual_seed(seed)
    tuned = {
        name: value + 0.05 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in tensors.items()
    }
    folder.mkdir()
    (folder / "config.json").write_bytes((base / "transformer" / "config.json").read_bytes())
    save_file(tuned, folder / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def tunes(sd3_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("tunes")
    return [fine_tune(sd3_folder, home / name, seed) for seed, name in enumerate("AB")]


def test_they_describe_themselves_apart(sd3_folder: Path, tunes: list[Path]) -> None:
    said = []
    for transformer in (None, *map(str, tunes)):
        adapter = make_sd3(model=str(sd3_folder), transformer=transformer, dtype="float32", device="cpu")
        said.append(dict(adapter.describe()))
        assert said[-1]["transformer"] == "SD3Transformer2DModel"
        assert said[-1]["source"]["id"] == said[-1]["id"] == sd3_folder.name
        adapter.close()
    assert "transformer" not in said[0]["source"]
    assert said[1]["source"]["transformer"] != said[2]["source"]["transformer"]


def test_files_of_one_name_count_by_what_they_hold(sd3_folder: Path, tunes: list[Path], tmp_path: Path) -> None:
    """Wherever they lie: a moved project has the backbone that it had."""
    described = []
    for place, tune in (("one", tunes[0]), ("other", tunes[1]), ("moved", tunes[0])):
        (tmp_path / place).mkdir()
        file = tmp_path / place / "tuned.safetensors"
        file.write_bytes((tune / "diffusion_pytorch_model.safetensors").read_bytes())
        options = {"model": str(sd3_folder), "transformer": str(file), "dtype": "float32", "device": "cpu"}
        adapter = make_sd3(**options)
        described.append(
            described_as("adapter", "sd3", adapter, plugins().made_of("adapters", "sd3", adapter, options))
        )
        adapter.close()
    assert described[0] == described[2] != described[1]


def test_a_run_of_each_in_one_store_gives_two_results(sd3_folder: Path, tunes: list[Path], tmp_path: Path) -> None:
    def config(transformer: Path) -> Any:
        prompts = {name: tmp_path / f"{name}.txt" for name in ("train", "validation", "test")}
        for name, path in prompts.items():
            path.write_text("".join(f"{name} {number}\n" for number in range(2)))
        return load_config(
            {
                "adapter": {"name": "sd3", "model": str(sd3_folder), "transformer": str(transformer), "device": "cpu",
                            "dtype": "float32", "num_inference_steps": 1, "granularity": "block", "height": 16,
                            "width": 16},
                "objectives": "jpeg-size",
                "prompts": {"name": "files", **{name: str(path) for name, path in prompts.items()}},
                "optimizer": {"name": "random", "population_size": 2}, "generations": 1, "bucket_size": 1,
                "validation": {"num_prompts": 2}, "test": {"num_prompts": 2}, "keep": "none",
            }
        )  # fmt: skip

    runs = [session.start(config(tune), tmp_path / "store") for tune in tunes]
    with SqliteStore(tmp_path / "store") as store:
        recorded = [dict(store.evaluations(run)) for run in runs]
        calibrations = [Calibration.load(store.folder / run / "calibration.json") for run in runs]
        first, second = (store.totals(run) for run in runs)
    assert first["digest"] != second["digest"]
    assert all(recorded[0][place].scores != each.scores for place, each in recorded[1].items()), "none was found"
    sources = [calibration.backbone["source"]["transformer"] for calibration in calibrations]
    assert sources[0]["weights"] != sources[1]["weights"]
