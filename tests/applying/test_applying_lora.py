"""A LoRA loaded on a transformer that carries scales already: the order of the two does not matter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from trimpot.adapters.scaling import ITEMS, SCALES, Scaling
from trimpot.adapters.sites import find_sites
from trimpot.proofs.transformers import EXAMPLES
from trimpot.testing.transformer import output

# Classes that scale the output of linear layers themselves; of the others, a LoRA replaces no module that is hooked.
LINEAR = ("MiniMaxMusic3RVQDepthDecoder", "MiniMaxMusic3Transformer1DModel", "PRXTransformer2DModel")
NAMES = [name if name in LINEAR else pytest.param(name, marks=pytest.mark.slow) for name in EXAMPLES]

peft = pytest.importorskip("peft")


@pytest.fixture(autouse=True)
def without_remarks() -> Iterator[None]:
    """What classes remark on when they are tiny is of no interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def with_lora(model: nn.Module) -> nn.Module:
    """A LoRA around every linear layer, so also around those that are scaled themselves."""
    names = [path for path, module in model.named_modules() if type(module) is nn.Linear]
    torch.manual_seed(2)
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=names, init_lora_weights=False), model)
    return model


def scaled(model: nn.Module, sites: Any) -> Scaling:
    scaling = Scaling(model, sites)
    scaling.set(torch.linspace(0.5, 1.5, len(sites))[None])
    return scaling


@pytest.mark.parametrize("name", NAMES)
def test_it_is_scaled_with_its_layer(name: str) -> None:
    example = EXAMPLES[name]
    call = example.arguments(1)
    first, second = example.build(), example.build()
    second.load_state_dict(first.state_dict())
    sites = find_sites(first)
    scaled(with_lora(first), sites)
    expected = output(first, call)
    scaling = scaled(second, sites)
    with_lora(second)
    scaling.set(torch.linspace(0.5, 1.5, len(sites))[None])
    for one, other in zip(output(second, call), expected, strict=True):
        torch.testing.assert_close(one, other)
    scaling.remove()
    assert not any(module._forward_hooks for module in second.modules())
    assert not any(hasattr(module, mark) for module in second.modules() for mark in (SCALES, ITEMS))
