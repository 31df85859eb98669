"""Calibration files of tiny pipelines, and what they are applied to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import trimpot
from trimpot.adapters import make_diffusers, make_flux, make_qwen_image, make_sd3
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.bucket import Bucket
from trimpot.engine.calibration import CHECKSUM, Calibration, GainRecord, Provenance
from trimpot.ground.errors import CalibrationError

STEPS = 3
BUCKET = Bucket(("a cat", "two dogs"), (21, 22))
SIZE = {"num_inference_steps": STEPS, "height": 16, "width": 16}
SD3_CALL = {**SIZE, "max_sequence_length": 4}
THREE = ["conditional", "unconditional", "conditional"]

# Adapter, its options, and plain calls of the stock pipeline that must all make the calibrated images.
CASES: dict[str, tuple[Any, dict[str, Any], list[dict[str, Any]]]] = {
    "sd3": (make_sd3, {"guidance_scale": 3.0}, [{**SD3_CALL, "guidance_scale": g} for g in (1.0, 7.0)]),
    "sd3-three": (make_sd3, {"members": THREE}, [{**SD3_CALL, "guidance_scale": g} for g in (1.0, 7.0)]),
    "sd3-alone": (make_sd3, {"members": ["conditional"]}, [{**SD3_CALL, "guidance_scale": 1.0}]),
    "flux": (make_flux, {}, [{**SIZE, "max_sequence_length": 16}]),
    "flux-two": (
        make_flux,
        {"members": ["conditional"] * 2},
        [{**SIZE, "max_sequence_length": 16}],
    ),
    "qwen": (
        make_qwen_image,
        {},
        [{**SIZE, "true_cfg_scale": 1.0}, {**SIZE, "true_cfg_scale": 4.0, "negative_prompt": " "}],
    ),
    "pixart": (
        make_diffusers,
        {
            "height": 16,
            "width": 16,
            "guidance_scale": 3.0,
            "pipeline_options": {"use_resolution_binning": False, "clean_caption": False},
        },
        [{**SIZE, "guidance_scale": 3.0, "use_resolution_binning": False, "clean_caption": False}],
    ),
}


def calibrated(adapter: PipelineAdapter, setting: dict[str, float], path: Path) -> Path:
    """Save a setting's calibration file, without its checksum, so that tests can change it."""
    Calibration(
        backbone=dict(adapter.describe()),
        num_steps=STEPS,
        setting=setting,
        apply=adapter.export(setting, adapter.space.to_setting(adapter.space.defaults)),
        objectives={"shapes": {}},
        neutral_label="neutral",
        gain=GainRecord(mean=0.1, low=0.05, high=0.15, num_images=10),
        by_steps=(),
        provenance=Provenance(
            run="test-1",
            created="2026-01-01T00:00:00+00:00",
            digest="0",
            stop_reason="done",
            num_evaluations=1,
            num_images=1,
            versions={},
            config={},
        ),
    ).save(path)
    values = json.loads(path.read_text())
    del values[CHECKSUM]
    path.write_text(json.dumps(values, indent=2))
    return path


def made(case: str, folder: Path, **further: Any) -> PipelineAdapter:
    make, options, _ = CASES[case]
    options = {**options, **further}
    adapter = make(model=str(folder), dtype="float32", device="cpu", num_inference_steps=STEPS, **options)
    assert isinstance(adapter, PipelineAdapter)
    return adapter


def refused(pipe: Any, file: Path, message: str) -> None:
    """Applying is one sentence, and the model has no hook more than before."""
    with pytest.raises(CalibrationError, match=message):
        trimpot.load_calibration(pipe, file)
    transformer = getattr(pipe, "transformer", torch.nn.Identity())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in transformer.modules())


def times(output: Any, item: int | None, scale: float) -> Any:
    if item is None:
        return output * scale
    return (*output[:item], output[item] * scale, *output[item + 1 :])


@contextmanager
def by_hand(model: Any, sites: Sequence[Any], scales: Sequence[float]) -> Iterator[None]:
    """Modules whose own `forward` is scaled; no hooks."""
    changed = []
    for site, scale in zip(sites, scales, strict=True):
        module = model.get_submodule(site.path)
        plain = module.forward

        def scaled(*args: Any, plain: Any = plain, item: Any = site.item, scale: Any = float(scale), **kw: Any) -> Any:
            return times(plain(*args, **kw), item, scale)

        changed.append((module, plain))
        module.forward = scaled
    try:
        yield
    finally:
        for module, plain in reversed(changed):
            module.forward = plain
