"""What a call does besides arithmetic is done once, however many rows it has: a real model has thousands of modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trimpot.adapters
from generated import candidates
from stock_cases import CASES
from torch import nn
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.bucket import Bucket

NAMED = {"sd3": "make_sd3", "flux": "make_flux", "qwen": "make_qwen_image"}
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"height": 16, "width": 16} for name in NAMED},
    **{name: case.given for name, case in CASES.items()},
}
BUCKET = Bucket(("a cat", "two dogs"), (11, 12))


@pytest.mark.parametrize("name", OPTIONS)
def test_more_rows_in_a_call_look_through_no_more_modules(
    name: str, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = getattr(trimpot.adapters, NAMED.get(name, "make_diffusers"))
    adapter = make(
        model=str(tiny_folder(name)),
        dtype="float32",
        device="cpu",
        num_inference_steps=1,
        batch_size=8,
        **OPTIONS[name],
    )
    assert isinstance(adapter, PipelineAdapter)
    population = candidates(adapter, 4, spread=0.01)
    adapter.generate(population[:1], BUCKET)  # encodes the prompts
    visited: list[nn.Module] = []
    named_modules = nn.Module.named_modules  # `modules`, `parameters` and `buffers` are made of it

    def watched(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        visited.append(module)
        return named_modules(module, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "named_modules", watched)

    def visits(num_candidates: int) -> int:
        visited.clear()
        adapter.generate(population[:num_candidates], BUCKET)
        return len(visited)

    few = visits(1)
    assert few > 0, "the pipeline finds its device"
    assert visits(4) == few
