"""Autoguidance, being guided away from a worse version of the model itself, is a setting of an ensemble of two."""

from __future__ import annotations

import warnings

import pytest
import torch
from tiny_models import tiny_sd3_transformer
from trimpot.adapters.ensemble import Ensemble
from trimpot.adapters.families import SD3
from trimpot.adapters.scaling import Scaling
from trimpot.adapters.sites import find_sites


@pytest.mark.parametrize("guidance", [1.5, 4.0])
def test_weights_w_and_1_minus_w_are_diffusers_autoguidance(guidance: float) -> None:
    """The second member sees the same prompt with a weakened block; diffusers' own guider combines the two alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers' guiders call themselves experimental
        from diffusers.guiders import AutoGuidance

        guider = AutoGuidance(guidance_scale=guidance, auto_guidance_layers=[1], dropout=1.0)
    model = tiny_sd3_transformer()
    generator = torch.Generator().manual_seed(0)
    call = {
        "hidden_states": torch.randn(2, 4, 4, 4, generator=generator),
        "timestep": torch.tensor([500.0, 500.0]),
        "encoder_hidden_states": torch.randn(2, 5, 32, generator=generator),
        "pooled_projections": torch.randn(2, 16, generator=generator),
    }
    sites = find_sites(model)
    worse = torch.tensor([[0.3 if site.block.endswith("01") else 1.0 for site in sites]])
    with torch.no_grad():
        alone = model(**call).sample
        scaling = Scaling(model, sites)
        scaling.set(worse)
        weakened = model(**call).sample
        scaling.remove()
        ensemble = Ensemble(model, sites, ["conditional", "conditional"], SD3.conditioning)
        ensemble.set(
            torch.stack([torch.ones_like(worse), worse], 1),
            torch.tensor([[guidance, 1 - guidance]], dtype=torch.float64),
        )
        found = model(**call).sample
        ensemble.remove()
    expected = guider.forward(alone, weakened).pred
    assert not torch.allclose(alone, weakened, atol=1e-3)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=5e-5)  # outputs of about 12, in float32
