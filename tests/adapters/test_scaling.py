"""Scales reach every site, row by row, and leave nothing behind. Each identity is proved by an independent route."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor, nn
from trimpot.adapters.scaling import Scaling
from trimpot.adapters.sites import Site, find_sites
from trimpot.ground.errors import ModelError

NUM_ROWS = 4


@pytest.fixture
def model() -> Iterator[nn.Module]:
    """A tiny SD3 transformer in float64, with dual attention in its first block."""
    made = tiny_models.tiny_sd3_transformer()
    with torch.no_grad():
        yield made.double().eval()


def inputs(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """One batch of inputs."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "hidden_states": draw(NUM_ROWS, 4, 4, 4),
        "encoder_hidden_states": draw(NUM_ROWS, 5, 32),
        "pooled_projections": draw(NUM_ROWS, 16),
        "timestep": torch.tensor([1000.0, 700.0, 400.0, 100.0]).to(dtype),
    }


def forward(model: nn.Module, rows: dict[str, Tensor] | None = None) -> Tensor:
    output: Tensor = model(**(rows or inputs()), return_dict=False)[0]
    return output


def random_scales(num_sites: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(NUM_ROWS, num_sites, generator=generator, dtype=dtype) * 3 - 1


def test_scales_of_one_change_no_bit(model: nn.Module) -> None:
    """The neutral setting, and idle hooks, leave the output bit-identical to the untouched model's."""
    untouched = forward(model)
    sites = find_sites(model)
    scaling = Scaling(model, sites)
    assert torch.equal(forward(model), untouched)
    scaling.set(torch.ones(NUM_ROWS, len(sites)))
    assert torch.equal(forward(model), untouched)


def test_every_knob_moves_the_output(model: nn.Module) -> None:
    """No knob is dead: a published implementation has 120 of 240 that do nothing, unnoticed."""
    untouched = forward(model)
    sites = find_sites(model)
    scaling = Scaling(model, sites)
    for index, site in enumerate(sites):
        scales = torch.ones(1, len(sites))
        scales[0, index] = 1.5
        scaling.set(scales)
        assert not torch.equal(forward(model), untouched), site.name


def test_zeroing_a_block_bypasses_it(model: nn.Module) -> None:
    """All sites of a block at 0 equal a model whose block is replaced by the identity on both streams."""
    sites = find_sites(model)
    for number in range(2):  # the last block gives no text stream back, so an identity cannot stand in for it
        scaling = Scaling(model, sites)
        scaling.set(torch.tensor([[float(site.block != f"joint.{number:02d}") for site in sites]]))
        zeroed = forward(model)
        scaling.remove()
        block = model.transformer_blocks[number]
        model.transformer_blocks[number] = Bypass()
        assert torch.equal(zeroed, forward(model))
        model.transformer_blocks[number] = block


class Bypass(nn.Module):
    """A block that lets both streams pass."""

    context_pre_only = False

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        return encoder_hidden_states, hidden_states


def test_scaled_sites_equal_folded_weights(model: nn.Module) -> None:
    """Scaling a gate equals multiplying the weights that make it: no hook, another route, the same output."""
    sites = find_sites(model)
    scales = random_scales(len(sites))[:1]
    scaling = Scaling(model, sites)
    scaling.set(scales)
    hooked = forward(model)
    scaling.remove()
    for site, scale in zip(sites, scales[0], strict=True):
        assert site.item is not None
        linear = model.get_submodule(site.path).linear
        assert isinstance(linear, nn.Linear)
        chunk = {1: 2, 4: 5, 6: 8}[site.item]  # the norm splits its projection into shift, scale, gate, ...
        width = linear.out_features // (9 if "norm1" in site.path and linear.out_features == 9 * 16 else 6)
        linear.weight[chunk * width : (chunk + 1) * width] *= scale
        linear.bias[chunk * width : (chunk + 1) * width] *= scale
    torch.testing.assert_close(hooked, forward(model), rtol=0, atol=1e-12)


def test_each_row_has_its_own_scales(model: nn.Module) -> None:
    """A mixed batch gives every row what its scales alone give the whole batch, to the bit."""
    sites = find_sites(model)
    scales = random_scales(len(sites))
    scaling = Scaling(model, sites)
    scaling.set(scales)
    mixed = forward(model)
    for row in range(NUM_ROWS):
        scaling.set(scales[row : row + 1])
        assert torch.equal(mixed[row], forward(model)[row])


def test_order_of_rows_does_not_matter(model: nn.Module) -> None:
    """Rows shuffled together with their scales give the shuffled output, to the last digits of float64."""
    sites = find_sites(model)
    scales = random_scales(len(sites))
    scaling = Scaling(model, sites)
    scaling.set(scales)
    straight = forward(model)
    order = torch.tensor([2, 0, 3, 1])
    scaling.set(scales[order])
    shuffled = forward(model, {name: value[order] for name, value in inputs().items()})
    torch.testing.assert_close(straight[order], shuffled, rtol=0, atol=1e-12)


def test_removal_restores_the_model(model: nn.Module) -> None:
    """After removal no hook, no attribute and no changed output is left."""
    before = forward(model)
    attributes = {path: set(vars(module)) for path, module in model.named_modules()}
    sites = find_sites(model)
    scaling = Scaling(model, sites)
    scaling.set(random_scales(len(sites)))
    assert not torch.equal(forward(model), before)
    scaling.remove()
    assert torch.equal(forward(model), before)
    assert {path: set(vars(module)) for path, module in model.named_modules()} == attributes
    assert not any(module._forward_hooks for module in model.modules())


def test_scales_stay_float32_in_a_bfloat16_model(model: nn.Module) -> None:
    """A scale of 1.003 acts, although in bfloat16 1.003 is 1.0; the output keeps the model's dtype."""
    model.bfloat16()
    rows = inputs(torch.bfloat16)
    untouched = forward(model, rows)
    sites = find_sites(model)
    scaling = Scaling(model, sites)
    scaling.set(torch.full((1, len(sites)), 1.003))
    scaled = forward(model, rows)
    assert scaled.dtype == torch.bfloat16
    assert not torch.equal(scaled, untouched)


def test_gradients_agree_with_finite_differences(model: nn.Module) -> None:
    """The derivative of the output with respect to every scale, by autograd and by central differences."""
    sites = find_sites(model)
    scaling = Scaling(model, sites)
    point = random_scales(len(sites))[:1]
    with torch.enable_grad():
        scales = point.clone().requires_grad_()
        scaling.set(scales)
        (gradient,) = torch.autograd.grad(forward(model).square().sum(), scales)
    step = 1e-3  # parts of the model compute in float32 whatever its dtype
    for index in range(len(sites)):
        values = []
        for sign in (1, -1):
            moved = point.clone()
            moved[0, index] += sign * step
            scaling.set(moved)
            values.append(forward(model).square().sum())
        estimate = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(gradient[0, index], estimate, rtol=2e-3, atol=1e-3)


def test_a_missing_item_is_named(model: nn.Module) -> None:
    """A site whose module gives no such item is an error that says so, not a silent nothing."""
    scaling = Scaling(model, [Site("joint.00", "attn", "image", "transformer_blocks.0.norm1", item=42)])
    scaling.set(torch.ones(1, 1))
    with pytest.raises(ModelError, match=r"no item \[42\]"):
        forward(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
def test_a_compiled_model_is_refused(model: nn.Module) -> None:
    """Hooks added after compilation would silently be ignored, so attaching then is refused."""
    model.transformer_blocks[1].compile()
    with pytest.raises(ModelError, match="attach scales"):
        Scaling(model, find_sites(model))


def test_a_second_set_of_scales_is_refused(model: nn.Module) -> None:
    """Two sets of scales on one model would overwrite each other."""
    Scaling(model, find_sites(model))
    with pytest.raises(ModelError, match="already has scales"):
        Scaling(model, find_sites(model))


def test_rows_that_no_candidate_is_told_by_are_refused(model: nn.Module) -> None:
    """A module whose rows are no multiple of the candidates' is a sentence, not a misfit of shapes."""
    sites = find_sites(model)
    Scaling(model, sites).set(torch.ones(3, len(sites)))
    with pytest.raises(ModelError, match=r"returns 4 rows for 3 pairs.*batch_size: 1"):
        forward(model)
