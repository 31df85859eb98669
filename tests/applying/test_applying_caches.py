"""A calibration beside diffusers' caches of blocks: they act as on scaled modules, or one sentence refuses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import trimpot
from applied import by_hand, calibrated, made
from generated import candidates
from pipeline_classes import drawn
from trimpot.ground.errors import ModelError

ATTENTION = {
    "spatial_attention_block_skip_range": 2,
    "spatial_attention_timestep_skip_range": (-1, 1001),
    "current_timestep_callback": lambda: 500,
}
CACHES: dict[str, dict[str, Any]] = {
    "FirstBlockCacheConfig": {"threshold": 0.5},
    "PyramidAttentionBroadcastConfig": ATTENTION,
    "FasterCacheConfig": {**ATTENTION, "is_guidance_distilled": True},
    "MagCacheConfig": {"num_inference_steps": 3, "mag_ratios": [1.0] * 3},
    "TaylorSeerCacheConfig": {},
    "SeaCacheConfig": {},
    "TextKVCacheConfig": {},
}
ENSEMBLES = [
    ("flux", ["conditional"] * 2),
    ("qwen", ["conditional"] * 2),
    ("qwen", ["conditional", "unconditional"]),
]


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A family's pipeline with the file of a calibration of some members, its sites and scales."""
    known: dict[tuple[str, ...], Any] = {}

    def found(kind: str, *sees: str) -> Any:
        if (kind, *sees) not in known:
            adapter = made(kind, tiny_folder(kind), members=sees)
            [vector] = candidates(adapter, 1)
            file = tmp_path_factory.mktemp("files") / "calibration.json"
            calibrated(adapter, adapter.space.to_setting(vector), file)
            scales = adapter.layout.tables(vector[None])[0][0]
            adapter.close()
            known[(kind, *sees)] = (adapter.pipe, file, adapter.layout.sites, scales)
        return known[(kind, *sees)]

    return found


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize(("kind", "sees"), ENSEMBLES)
def test_an_ensemble_refuses_a_cache_of_blocks(pipeline: Any, kind: str, sees: list[str], cache: str) -> None:
    """Enabled before or after, and until it is disabled."""
    pipe, file, *_ = pipeline(kind, *sees)
    config = getattr(diffusers, cache, None) or getattr(diffusers.hooks, cache)
    with trimpot.load_calibration(pipe, file):
        expected = drawn(pipe, kind)
        pipe.transformer.enable_cache(config(**CACHES[cache]))
        with pytest.raises(ModelError, match=r"call the transformer's disable_cache\(\)"):
            drawn(pipe, kind)
        pipe.transformer.disable_cache()
        np.testing.assert_array_equal(drawn(pipe, kind), expected)


def test_a_cache_that_is_applied_by_its_function_is_refused_too(pipeline: Any) -> None:
    """SD3's transformer knows of none."""
    pipe, file, *_ = pipeline("sd3", "conditional", "unconditional")
    config = diffusers.PyramidAttentionBroadcastConfig(**ATTENTION)
    with trimpot.load_calibration(pipe, file):
        diffusers.apply_pyramid_attention_broadcast(pipe.transformer, config)
        with pytest.raises(ModelError, match="a cache reuses one member's block outputs"):
            drawn(pipe, "sd3")
    pipe = pipeline("sd3", "conditional", "unconditional")[0]
    for module in pipe.transformer.modules():
        if hasattr(module, "_diffusers_hook"):
            module._diffusers_hook.remove_hook("pyramid_attention_broadcast", recurse=False)


@pytest.mark.parametrize("cache", [name for name in CACHES if name != "FasterCacheConfig"])  # it is for videos
@pytest.mark.parametrize("kind", ["flux", "qwen"])
def test_one_member_is_cached_as_scaled_modules_are(pipeline: Any, kind: str, cache: str) -> None:
    pipe, file, sites, scales = pipeline(kind, "conditional")
    config = getattr(diffusers, cache, None) or getattr(diffusers.hooks, cache)

    def cached() -> Any:
        pipe.transformer.enable_cache(config(**CACHES[cache]))
        try:
            return drawn(pipe, kind)
        finally:
            pipe.transformer.disable_cache()

    plain = cached()
    with by_hand(pipe.transformer, sites, scales[0]):
        expected = cached()
    with trimpot.load_calibration(pipe, file):
        found = cached()
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - plain).max() > 1
