"""The pipeline that a calibration was made on is loaded from what the calibration says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimpot
from applied import BUCKET, CASES, calibrated, made
from generated import candidates, drawn, pixels
from trimpot.adapters.factories import NAMED
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import CalibrationError, ModelError, Notice

ADAPTERS = {"sd3": "sd3", "flux": "flux", "qwen": "qwen-image", "pixart": "diffusers"}


def made_with(file: Path, name: str, **options: Any) -> Path:
    """Write down the adapter that a calibration was made with, as a run does."""
    values = json.loads(file.read_text())
    values["provenance"]["config"] = {"adapter": {"name": name, "dtype": "float32", "device": "cpu", **options}}
    file.write_text(json.dumps(values))
    return file


@pytest.mark.parametrize("case", list(ADAPTERS))
def test_four_lines_and_nothing_else_give_the_calibrated_images(
    request: pytest.FixtureRequest, case: str, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"{case}_folder")
    adapter = made(case, folder)
    [vector] = candidates(adapter, 1)
    [expected] = pixels(adapter.generate(vector[None], Bucket(BUCKET.prompts[:1], BUCKET.seeds[:1]))[0])
    file = calibrated(adapter, adapter.space.to_setting(vector), tmp_path / "calibration.json")
    adapter.close()
    made_with(file, ADAPTERS[case], model=str(folder), **CASES[case][1])
    pipe = trimpot.load_pipeline(file)
    calibration = trimpot.load_calibration(pipe, file)
    [found] = drawn(pipe, Bucket(BUCKET.prompts[:1], BUCKET.seeds[:1]), **calibration.recommended)
    assert np.abs(found - expected).max() <= 1
    assert pipe.transformer.dtype == torch.float32


def test_every_named_adapter_says_how_its_pipeline_is_loaded() -> None:
    from trimpot.setup.plugins import plugins

    built_in = {each.name for each in plugins().registrations("adapters") if each.origin == "trimpot"}
    with_transformers = {name for name in built_in if "granularity" in plugins().options("adapters", name)}
    assert set(NAMED) == with_transformers - {"transformers"}  # which loads no pipeline


@pytest.fixture
def file(sd3_folder: Path, tmp_path: Path) -> Path:
    adapter = made("sd3", sd3_folder)
    file = calibrated(adapter, adapter.space.to_setting(adapter.space.defaults), tmp_path / "calibration.json")
    adapter.close()
    return made_with(file, "sd3", model=str(sd3_folder))


def test_a_checkpoint_that_has_moved_is_named(file: Path, sd3_folder: Path, tmp_path: Path) -> None:
    made_with(file, "sd3", model=str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"no checkpoint folder .*gone"):
        trimpot.load_pipeline(file)
    assert type(trimpot.load_pipeline(file, model=str(sd3_folder))).__name__ == "StableDiffusion3Pipeline"


def test_how_it_is_loaded_may_be_changed(file: Path) -> None:
    assert trimpot.load_pipeline(file, dtype="bfloat16").transformer.dtype == torch.bfloat16
    with pytest.raises(ModelError, match="dtype"):
        trimpot.load_pipeline(file, dtype="int3")
    with pytest.raises(ModelError, match="colour"):
        trimpot.load_pipeline(file, colour="red")


def test_other_weights_in_its_place_are_told(file: Path, sd3_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / sd3_folder.name
    shutil.copytree(sd3_folder, other)
    weights = other / "text_encoder" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    values = load_file(weights)
    save_file({name: value * 1.5 for name, value in values.items()}, weights, {"format": "pt"})
    with pytest.warns(Notice, match="does not hold the weights that were calibrated"):
        trimpot.load_pipeline(file, model=str(other))


@pytest.mark.parametrize("name", ["my-own", None, 3])
def test_a_plugin_s_pipeline_is_left_to_its_user(file: Path, name: Any) -> None:
    made_with(file, name)
    with pytest.raises(CalibrationError, match="whose pipeline trimpot does not load; load the pipeline yourself"):
        trimpot.load_pipeline(file)


def test_options_that_no_run_writes_are_one_sentence(file: Path) -> None:
    made_with(file, "sd3", granularity="atom")
    with pytest.raises(ModelError, match="adapter 'sd3': granularity: "):
        trimpot.load_pipeline(file)
