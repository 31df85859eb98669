"""Estimating a run's images, time and memory before it begins."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from ..engine.evaluation import Place
from ..engine.outputs import checked
from ..engine.run import Run
from ..engine.scoring import score_outputs
from ..setup.assembly import assemble
from ..setup.config import Config, plugins_of
from ..setup.plan import plan


def forecast(config: Config, rate: float | None = None, *, measured: bool = True) -> dict[str, Any]:
    """Plan a run and estimate its time.

    Args:
        config: The configuration of the run.
        rate: Images generated and scored a second, at the calibrated number of steps; None if unknown.
        measured: Whether to load the backbone and the rewards and measure an unknown rate on two images.

    Returns:
        `knobs`, `population_size`, `generations`, `images` by stage, `images_elsewhere` at other step counts,
        `makes` (see `Adapter.makes`),
        `rate`, `seconds` at most, both None if unknown, and `memory` in bytes (of the GPU, or of this process), None
        if not measured.

    Raises:
        TrimpotError: If a run with this configuration could not begin.
    """
    measured = measured and rate is None
    run = assemble("", config, plugins_of(config), outline=not measured)
    planned = asdict(plan(run))
    work = planned.pop("work")
    memory = None
    if measured:
        rate, memory = _measure(run)
    seconds = None if rate is None else work / (run.adapter.num_steps or 1) / rate
    return {
        "knobs": int(run.adapter.space.searched.sum()),
        **planned,
        "makes": run.adapter.makes,
        "rate": rate,
        "seconds": seconds,
        "memory": memory,
    }


def _measure(run: Run) -> tuple[float, int]:
    """Return the images a second, measured on two images after a warm-up, and the peak memory in bytes."""
    run.adapter.prepare(run.test_bucket.head(2).prompts)
    neutral = run.adapter.space.defaults[None]
    seconds = 0.0
    bucket = run.test_bucket.head(2)
    for _ in range(2):
        begun = time.perf_counter()
        [made] = run.adapter.generate(np.array(neutral), bucket)
        place = Place("test", 0, 0)
        score_outputs(run.scored("test"), checked(run.adapter, made, bucket, place), bucket, place)
        seconds = time.perf_counter() - begun
    return len(bucket) / seconds, _peak_memory()


def _peak_memory() -> int:
    """Return the most bytes of GPU memory used so far, or, without a GPU, the bytes that this process uses now."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import psutil

    return int(psutil.Process().memory_info().rss)
