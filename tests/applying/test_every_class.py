"""A calibration that is applied and taken off again leaves no bit behind, in every transformer class of diffusers."""

from __future__ import annotations

import warnings

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from trimpot.adapters.sites import find_sites
from trimpot.applying.applied import AppliedCalibration
from trimpot.engine.calibration import Calibration, Provenance
from trimpot.proofs.transformers import EXAMPLES, VARIANTS
from trimpot.testing.transformer import output

ALL = {**EXAMPLES, **VARIANTS}


class Bare(DiffusionPipeline):  # type: ignore[misc]
    """A pipeline that has nothing but its transformer."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.register_modules(transformer=transformer)

    def __call__(self, prompt: str) -> str:
        return prompt


def applied(model: nn.Module, scales: Tensor) -> AppliedCalibration:
    """A calibration of one member, which every pass of the model takes part in, applied."""
    addresses = [site.address for site in find_sites(model)]
    member = {"sees": "all", "weight": 1.0, "neutral_weight": 1.0}
    calibration = Calibration(
        backbone={"id": "tiny"},
        num_steps=1,
        setting={"a": 1.0},
        apply={
            "transformer": type(model).__name__,
            "members": [{**member, "scales": dict(zip(addresses, scales.tolist(), strict=True))}],
        },
        provenance=Provenance(run="tiny", created="2026-01-01"),
    )
    return AppliedCalibration(Bare(model), calibration, 1.0)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_apply_remove_compare(name: str) -> None:
    """Neutral, disabled, at strength 0 and removed: the bits of the untouched model; enabled again: those of before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, call = ALL[name].build(), ALL[name].arguments(1)
        sites = len(find_sites(model))
        random = torch.rand(sites, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        before = output(model, call)
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        traces = {path: (set(vars(module)), len(module._forward_hooks)) for path, module in model.named_modules()}
        with applied(model, torch.ones(sites)):
            assert same(output(model, call), before), "scales of 1 change the output"
        calibration = applied(model, 0.5 + random)
        calibrated = output(model, call)
        assert not same(calibrated, before), "the calibration changes nothing"
        calibration.disable()
        assert same(output(model, call), before), "a disabled calibration changes the output"
        calibration.enable()
        assert same(output(model, call), calibrated), "an enabled calibration is another than before"
        calibration.strength = 0.0
        assert same(output(model, call), before), "a calibration of strength 0 changes the output"
        calibration.strength = 1.0
        assert same(output(model, call), calibrated), "strength 1 is another than before"
        calibration.remove()
        assert same(output(model, call), before), "a removed calibration changes the output"
        left = {path: (set(vars(module)), len(module._forward_hooks)) for path, module in model.named_modules()}
        assert left == traces, "a removed calibration leaves something on the model"
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
