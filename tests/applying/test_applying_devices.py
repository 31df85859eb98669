"""A calibration goes where its pipeline goes: moved, offloaded, spread over devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trimpot.adapters.ensemble import Ensemble, weighted_sum
from trimpot.adapters.families import FAMILIES, Family
from trimpot.adapters.rows import StackedRows
from trimpot.adapters.sites import find_sites

FOLDERS = {"StableDiffusion3Pipeline": "sd3", "FluxPipeline": "flux", "QwenImagePipeline": "qwen"}
META = torch.device("meta")  # it refuses to compute with what lies elsewhere, as a GPU does


def inputs_of(family: Family, model: Any, num_rows: int, device: torch.device) -> dict[str, Any]:
    """The family's smallest inputs for some rows."""
    example = family.example(model.config)
    placed = {}
    for name, value in example.items():
        if isinstance(value, torch.Tensor):
            value = value.to(device)
            if name in family.conditioning.rows:
                value = value.expand(num_rows, *value.shape[1:]).contiguous()
        placed[name] = value
    return placed


@pytest.mark.parametrize("kind", list(FAMILIES))
@pytest.mark.parametrize("members", [0, 1, 2])
def test_scales_made_in_main_memory_follow_a_model_elsewhere(
    tiny_folder: Callable[[str], Path], kind: str, members: int
) -> None:
    """Hooks are attached and set before the model is moved; every product is then on the model's device."""
    import diffusers

    family = FAMILIES[kind]
    cls = getattr(diffusers, family.transformer)
    model = cls.from_pretrained(tiny_folder(FOLDERS[kind]), subfolder="transformer")
    sites = find_sites(model)
    hooked: Any
    if members:
        sees: Any = ["conditional", "unconditional"][:members]
        hooked = Ensemble(model, sites, sees, family.conditioning)
        example = family.example(model.config)
        hooked.unconditional = {
            name: torch.zeros_like(example[name]) for name in family.conditioning.prompt if name in example
        }
    else:
        hooked = StackedRows({"": model}, sites)
    num_members = max(members, 1)
    hooked.set(torch.ones(1, num_members, len(sites)), torch.ones(1, num_members, dtype=torch.float64))
    with torch.no_grad():
        before = model(**inputs_of(family, model, 2, torch.device("cpu")), return_dict=False)[0]
        after = model.to(META)(**inputs_of(family, model, 2, META), return_dict=False)[0]
    assert before.device.type == "cpu" and after.device == META
    assert after.shape == before.shape
    hooked.remove()


def test_a_module_on_another_device_is_scaled_there() -> None:
    """Where a model is spread over devices, a module's scales go to its output."""
    from trimpot.adapters.scaling import _times

    assert _times(torch.ones(2, 3, device=META), torch.ones(2), 0).device == META


def test_weights_of_double_precision_never_reach_a_device_without_it() -> None:
    """Weights are narrowed where they are made, and only then moved."""
    seen: list[tuple[torch.dtype, str]] = []

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            values = result if isinstance(result, (list, tuple)) else [result]
            seen.extend((each.dtype, each.device.type) for each in values if isinstance(each, torch.Tensor))
            return result

    members = torch.ones(2, 1, 3, device=META, dtype=torch.bfloat16)
    with Watched():
        weighted_sum(members, torch.ones(1, 2, dtype=torch.float64))
    assert (torch.float32, "meta") in seen
    assert (torch.float64, "meta") not in seen
