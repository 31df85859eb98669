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
