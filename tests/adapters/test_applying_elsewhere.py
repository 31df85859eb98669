"""A calibration on another model than its own is applied with a warning that names what differs."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import trimpot
from applied import calibrated, made, refused
from trimpot.adapters.likeness import same_weights, weights_of
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.errors import CalibrationError, Notice


@pytest.fixture
def adapter(flux_folder: Path) -> PipelineAdapter:
    """A tiny FLUX of this test's own."""
    found = made("flux", flux_folder)
    found.close()
    return found


@pytest.fixture
def file(adapter: PipelineAdapter, tmp_path: Path) -> Path:
    """Its calibration file."""
    return calibrated(adapter, dict.fromkeys(adapter.space.names, 0.5), tmp_path / "calibration.json")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_its_own_model_is_known_in_every_precision(adapter: PipelineAdapter, file: Path, dtype: torch.dtype) -> None:
    adapter.pipe.transformer.to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trimpot.load_calibration(adapter.pipe, file).remove()


def test_another_fine_tune_is_told(adapter: PipelineAdapter, file: Path) -> None:
    """It is applied all the same."""
    with torch.no_grad():
        for value in adapter.pipe.transformer.parameters():
            value.mul_(1.1)
    with pytest.warns(Notice, match="made on another model: its transformer's weights are not those of"):
        applied = trimpot.load_calibration(adapter.pipe, file)
    assert adapter.pipe.transformer._forward_pre_hooks
    applied.remove()


def test_a_lora_it_was_not_made_on_is_told(adapter: PipelineAdapter, file: Path) -> None:
    peft = pytest.importorskip("peft")
    adapter.pipe.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    with pytest.warns(Notice, match="it has a LoRA that the calibration was not made on"):
        trimpot.load_calibration(adapter.pipe, file).remove()


@pytest.mark.parametrize("flat", [True, False])
def test_a_file_without_weights_is_told_by_names(adapter: PipelineAdapter, file: Path, flat: bool) -> None:
    """Older files hold no sample of weights, and where the model comes from beside everything else."""
    values: dict[str, Any] = json.loads(file.read_text())
    del values["apply"]["weights"]
    source = {"id": "owner/another", "lora": {"id": "x"}}
    values["backbone"] = source if flat else {"source": source}
    file.write_text(json.dumps(values))
    with pytest.warns(Notice, match=r"not from owner/another and it has no LoRA"):
        trimpot.load_calibration(adapter.pipe, file).remove()


def test_it_is_applied_once_and_taken_off_as_often_as_one_likes(adapter: PipelineAdapter, file: Path) -> None:
    applied = trimpot.load_calibration(adapter.pipe, file)
    hooks = len(adapter.pipe.transformer._forward_pre_hooks)
    with pytest.raises(CalibrationError, match="carries scales already"):
        trimpot.load_calibration(adapter.pipe, file)
    assert len(adapter.pipe.transformer._forward_pre_hooks) == hooks
    applied.remove()
    applied.remove()
    trimpot.load_calibration(adapter.pipe, file).remove()
    adapter.pipe.transformer.single_transformer_blocks = torch.nn.ModuleList()
    refused(adapter.pipe, file, "has no module")


def test_a_sample_that_is_missing_tells_nothing() -> None:
    model = torch.nn.Linear(3, 3)
    sample = weights_of(model)["sample"]
    assert weights_of(model.to("meta"))["sample"] == []
    assert same_weights(sample, []) and same_weights([], sample) and not same_weights([1.0], [1.1])
