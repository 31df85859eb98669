"""Scales folded into weights give what scaled sites give, wherever rows of one layer make a site's output."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from trimpot.adapters.scaling import Scaling
from trimpot.adapters.sites import find_sites
from trimpot.exchange.folding import fold, folds
from trimpot.ground.errors import CalibrationError
from trimpot.proofs.transformers import EXAMPLES, VARIANTS
from trimpot.testing.transformer import output

ALL = {**EXAMPLES, **VARIANTS}
# Their sites are made by no parameters of their own: gates from a shared table or an input, norms without weights, and
# networks that two branches share.
REFUSED = {
    "ChromaTransformer2DModel",
    "CosmosTransformer3DModel",
    "MochiTransformer3DModel",
}


@pytest.fixture(autouse=True)
def without_remarks() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", ALL)
def test_folded_weights_give_what_scaled_sites_give(name: str) -> None:
    model, call = ALL[name].build(), ALL[name].arguments(1)
    sites = find_sites(model)
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    if name in REFUSED:
        with pytest.raises(CalibrationError, match=r"apply the calibration with trimpot\.load_calibration"):
            folds(model, sites, call)
        return
    places = folds(model, sites, call)
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items()), "a trial left a trace"
    scales = 0.5 + torch.rand(len(sites), generator=torch.Generator().manual_seed(3))
    scaling = Scaling(model, sites)
    scaling.set(scales[None])
    expected = output(model, call)
    scaling.remove()
    fold(model, places, scales.tolist())
    for found, one in zip(output(model, call), expected, strict=True):
        assert float((found - one).abs().max()) <= 1e-5 * float(one.abs().max())


def test_quantized_weights_are_refused_and_nothing_is_scaled() -> None:
    model, call = EXAMPLES["FluxTransformer2DModel"].build(), EXAMPLES["FluxTransformer2DModel"].arguments(1)
    sites = find_sites(model)
    places = folds(model, sites, call)
    last = model.get_submodule(places[-1][0].name.rpartition(".")[0])
    last.weight = nn.Parameter(torch.zeros(last.weight.shape, dtype=torch.int8), requires_grad=False)
    first = model.get_parameter(places[0][0].name).clone()
    with pytest.raises(CalibrationError, match="quantized or not in memory"):
        fold(model, places, [2.0] * len(places))
    assert torch.equal(model.get_parameter(places[0][0].name), first)


def test_weights_are_rounded_once() -> None:
    """The product is made in float32 and rounded to bfloat16, so it is the nearest there is."""
    example = EXAMPLES["FluxTransformer2DModel"]
    model = example.build()
    sites = find_sites(model)
    places = folds(model, sites, example.arguments(1))
    model.to(torch.bfloat16)
    parts = [part.of(model.get_parameter(part.name)) for part in places[0]]
    before = [part.clone() for part in parts]
    fold(model, places[:1], [1.003])
    for after, one in zip(parts, before, strict=True):
        assert torch.equal(after, (one.double() * 1.003).to(torch.bfloat16))


class Experts(nn.Module):
    """A sum of two experts of a list, the second of which only long inputs are sent to, and a network for all."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)) for _ in range(2))
        self.shared = nn.Linear(8, 8, bias=False)
        self.router = nn.Linear(8, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        expert = self.experts[int(hidden.shape[1] > 4)]
        return self.router(hidden).sigmoid() * expert(hidden) + self.shared(hidden)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = Experts()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.mlp(hidden)


def test_a_sum_is_folded_into_all_its_terms_and_into_experts_that_did_not_run() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Block())
    nn.init.zeros_(model[0].mlp.experts[0][2].bias)  # a bias of 0 in one expert need not be 0 in others
    sites = find_sites(model, {"Block": "block: mlp.text=mlp"})
    [place] = folds(model, sites, {"input": torch.randn(1, 3, 8)})
    assert {part.name for part in place} == {
        "0.mlp.experts.0.2.weight",
        "0.mlp.experts.0.2.bias",
        "0.mlp.experts.1.2.weight",
        "0.mlp.experts.1.2.bias",
        "0.mlp.shared.weight",
    }
    given = torch.randn(1, 6, 8)
    branch = model[0].mlp(given)
    fold(model, [place], [0.5])
    assert torch.equal(model[0].mlp(given), 0.5 * branch)
