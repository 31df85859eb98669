"""Calibrations of tiny pipelines, with the configuration that they were made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from applied import CASES, STEPS, made
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.calibration import Calibration, GainRecord, Provenance

NAMES = {"sd3": "sd3", "flux": "flux", "qwen": "qwen-image", "pixart": "diffusers"}  # of adapters, by folder


def adapter_of(case: str, folder: Path, **options: Any) -> PipelineAdapter:
    """An adapter, and its options as its configuration names them."""
    adapter = made(case, folder, **options)
    given = {**CASES[case][1], **options}
    adapter.config = {  # type: ignore[attr-defined]
        "name": NAMES[case.partition("-")[0]],
        "model": str(folder),
        "dtype": "float32",
        "device": "cpu",
        "num_inference_steps": STEPS,
        **given,
    }
    return adapter


def random_setting(adapter: PipelineAdapter, seed: int) -> dict[str, float]:
    """A setting around the neutral one."""
    vector = adapter.space.defaults + 0.2 * np.random.default_rng(seed).standard_normal(len(adapter.space))
    low, high = adapter.space.bounds
    return adapter.space.to_setting(np.clip(vector, low, high))


def calibration(adapter: PipelineAdapter, setting: dict[str, float], run: str, **config: Any) -> Calibration:
    """The calibration of a setting, with a gain."""
    neutral = next(iter(adapter.neutrals().values()))
    return Calibration(
        backbone=dict(adapter.describe()),
        num_steps=adapter.num_steps,
        setting=setting,
        apply=dict(adapter.export(setting, neutral)),
        objectives={"height": {}},
        neutral_label="neutral",
        gain=GainRecord(mean=0.1, low=0.05, high=0.15, num_images=10),
        provenance=Provenance(
            run=run,
            created="2026-01-01T00:00:00+00:00",
            digest=f"digest of {run}",
            config={"adapter": adapter.config, **config},  # type: ignore[attr-defined]
        ),
    )
