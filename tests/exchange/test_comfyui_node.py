"""The node for ComfyUI, on a stand-in: what it scales and sums, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from comfyui_stand_in import INPUT, NEUTRAL, SCALES, WEIGHTS, Flux, Patcher, applied, calibration, velocity
from torch import nn
from trimpot.exchange import comfyui_node
from trimpot.exchange.comfyui import mapped
from trimpot.proofs.comfyui.proof import GUIDED


@pytest.mark.parametrize("strength", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_the_gates_are_scaled_by_the_strength_and_nothing_else(strength: float) -> None:
    patcher = applied(strength=strength)
    found = INPUT - patcher.run(INPUT)
    expected = velocity(INPUT, [1 + strength * (scale - 1) for scale in SCALES])
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kinds", [[0, 1], [1, 0], [0], [1], [1, 1, 0, 0]])
def test_each_row_has_the_scales_of_the_member_that_sees_what_it_sees(kinds: list[int]) -> None:
    found = INPUT - applied(GUIDED).run(INPUT, kinds)
    for row in range(4):
        kind = kinds[row * len(kinds) // 4]
        expected = velocity(INPUT[row : row + 1], [scale + kind for scale in SCALES])
        assert torch.allclose(found[row : row + 1], expected, atol=1e-5)


def test_members_that_all_see_the_prompt_are_summed_by_weight() -> None:
    found = INPUT - applied(("conditional", "conditional")).run(INPUT, [1, 0])
    each = [velocity(INPUT, [scale + at for scale in SCALES]) for at in range(2)]
    assert torch.allclose(found, 2.5 * each[0] - 1.25 * each[1], atol=1e-4)


@pytest.mark.parametrize("sees", [GUIDED, ("conditional", "unconditional", "conditional")])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_weights_replace_the_guidance(sees: tuple[str, ...], strength: float) -> None:
    patcher = applied(sees, strength).clone()  # as the nodes that follow do
    made = patcher.run(INPUT, [0, 1])
    velocities = INPUT - made
    guide = patcher.model_options["sampler_cfg_function"]
    found = guide({"cond": velocities[:2], "uncond": velocities[2:]})
    expected = 0
    for at, kind in enumerate(sees):
        rows = INPUT[2:] if kind == "unconditional" else INPUT[:2]
        weight = NEUTRAL[len(sees)][at] + strength * (WEIGHTS[len(sees)][at] - NEUTRAL[len(sees)][at])
        expected = expected + weight * velocity(rows, [1 + strength * (scale + at - 1) for scale in SCALES])
    assert torch.allclose(found, torch.as_tensor(expected), atol=1e-4)
    assert patcher.model_options["disable_cfg1_optimization"]


def test_a_rescaled_sum_has_the_norm_of_each_token() -> None:
    latents = torch.randn(1, 4, 1, 5, 6)  # an odd height: the last row is a patch of half its size
    made = comfyui_node._with_norm_of(3 * latents + 1, latents)
    for top in (0, 2, 4):
        for left in (0, 2, 4):
            patch = (..., slice(top, top + 2), slice(left, left + 2))
            assert float(made[patch].norm()) == pytest.approx(float(latents[patch].norm()), rel=1e-5)
    assert not comfyui_node._with_norm_of(torch.zeros_like(latents), latents).any()


def test_the_model_is_untouched_between_calls_and_after_a_failure() -> None:
    model = Flux()
    patcher = applied(model=model)
    patcher.run(INPUT)
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(RuntimeError):
        patcher.run(torch.ones(4, 1))
    assert not any(module._forward_hooks for module in model.modules())


def test_another_model_is_refused() -> None:
    def refused(model: nn.Module, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            applied(model=model)

    refused(nn.Linear(1, 1), "is for the model class Flux, and the model is a Linear")
    refused(Flux(doubles=3), "with 2 double_blocks, and the model has 3")
    refused(Flux(singles=0), "with 1 single_blocks, and the model has 0")
    without = Flux()
    del without.double_blocks[1].txt_mod
    refused(without, "lacks a module that the calibration scales")


def test_a_gate_that_a_model_lacks_is_refused_and_no_hook_stays() -> None:
    """As of a second attention, which other models of the same depth do not have."""
    found = mapped(calibration())
    found["sites"][0]["part"] = 6
    model = Flux()
    patcher = comfyui_node.Calibrated(found, 1.0).attach(Patcher(model))
    with pytest.raises(ValueError, match=r"for another model: double_blocks\.0\.img_mod\.lin has no part 6"):
        patcher.run(INPUT)
    assert not any(module._forward_hooks for module in model.modules())


def test_what_would_not_be_used_is_refused() -> None:
    def refused(patcher: Any, message: str, kinds: Sequence[int] | None = (0, 1)) -> None:
        with pytest.raises(ValueError, match=message):
            patcher.run(INPUT, kinds)

    guided = applied(GUIDED)
    refused(guided, "which rows see the prompt", None)
    refused(guided, "which rows see the prompt", [0, 2])
    compiled = applied()
    compiled.add_wrapper_with_key("apply_model", "torch.compile", None)
    refused(compiled, "the model is compiled")
    inside = applied()
    inside.model.diffusion_model.part = nn.Module()
    inside.model.diffusion_model.part._modules["_orig_mod"] = None
    refused(inside, "the model is compiled")
    replaced = applied()
    replaced.model.diffusion_model.forward = lambda x: torch.zeros(len(x), 54)
    refused(replaced, "no module that the calibration scales has run")
    with pytest.raises(ValueError, match="has a calibration already"):
        comfyui_node.Calibrated(mapped(calibration()), 1.0).attach(applied())
    other = Patcher(Flux())
    other.model_options["sampler_cfg_function"] = print
    with pytest.raises(ValueError, match="another node has replaced the guidance"):
        comfyui_node.Calibrated(mapped(calibration(GUIDED)), 1.0).attach(other)
    with pytest.raises(ValueError, match="update ComfyUI"):
        comfyui_node.Calibrated(mapped(calibration()), 1.0).attach(object())


def test_a_step_without_the_weights_is_refused() -> None:
    patcher = applied(GUIDED)
    [step] = patcher.wrappers["predict_noise"]["trimpot"]
    guide = patcher.model_options["sampler_cfg_function"]
    args = {"cond": torch.ones(1), "uncond": torch.ones(1)}

    def guided(kinds: Sequence[int]) -> Callable[[], Any]:
        return lambda: (patcher.run(INPUT, kinds), guide(args))

    step(guided([0, 1]))
    with pytest.raises(ValueError, match="weights were not used"):
        step(lambda: patcher.run(INPUT, [0, 1]))
    with pytest.raises(ValueError, match="empty negative prompt"):
        step(guided([0]))
