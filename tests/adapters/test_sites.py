"""Sites are found by a declared line, and tied into as many knobs as the papers count."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from trimpot.adapters.sites import find_sites, parse_line, site_at, tie
from trimpot.ground.errors import ConfigError, ModelError


def on_meta(kind: str, **config: Any) -> torch.nn.Module:
    """A diffusers transformer at its published size, without weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers

        with torch.device("meta"):
            return getattr(diffusers, kind)(**config)


FLUX_DEV = {"num_layers": 19, "num_single_layers": 38, "guidance_embeds": True}
SD35_MEDIUM = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
    "sample_size": 128,
    "pos_embed_max_size": 384,
}


@pytest.mark.parametrize(
    ("kind", "config", "counts"),
    [
        ("FluxTransformer2DModel", FLUX_DEV, (57, 76, 114)),
        ("SD3Transformer2DModel", SD35_MEDIUM, (24, 48, 107)),
        ("QwenImageTransformer2DModel", {"num_layers": 60}, (60, 120, 240)),
    ],
)
def test_the_published_counts(kind: str, config: dict[str, Any], counts: tuple[int, int, int]) -> None:
    """Calibri, tables 1 and 5: 57 / 76 / 114 for FLUX.1-dev, 107 a member for SD-3.5M, 240 for Qwen-Image."""
    sites = find_sites(on_meta(kind, **config))
    assert tuple(len(tie(sites, granularity)) for granularity in ("block", "layer", "gate")) == counts


def test_names_read_from_outside_in() -> None:
    """A knob's name says block, branch and stream; a block with one site goes by its block alone."""
    names = [site.name for site in find_sites(on_meta("FluxTransformer2DModel", num_layers=1, num_single_layers=1))]
    assert names == [
        "double.00.attn.image",
        "double.00.mlp.image",
        "double.00.attn.text",
        "double.00.mlp.text",
        "single.00",
    ]


def test_a_coarser_knob_ties_whole_finer_ones() -> None:
    """Every site has exactly one knob at each granularity, and a finer knob never straddles two coarser ones."""
    sites = find_sites(on_meta("SD3Transformer2DModel", **SD35_MEDIUM))
    for finer, coarser in (("gate", "layer"), ("layer", "block")):
        coarse_of = {index: knob for knob, indices in tie(sites, coarser).items() for index in indices}  # type: ignore[arg-type]
        assert sorted(coarse_of) == list(range(len(sites)))
        for indices in tie(sites, finer).values():  # type: ignore[arg-type]
            assert len({coarse_of[index] for index in indices}) == 1


def test_an_address_leads_back_to_its_site() -> None:
    """What a calibration file says of a site is enough to find it again."""
    model = on_meta("SD3Transformer2DModel", **SD35_MEDIUM)
    for site in find_sites(model):
        found = site_at(model, site.address)
        assert (found.path, found.item, found.batch_dim) == (site.path, site.item, site.batch_dim)


@pytest.mark.parametrize(
    "line", ["", "joint", "joint:", "joint: attn=norm1", "joint: attn.image=norm1[x]", "a b: c.d=e"]
)
def test_a_malformed_line_is_refused(line: str) -> None:
    """A site line that cannot be read is a configuration error that shows it."""
    with pytest.raises(ConfigError, match="must read"):
        parse_line(line)


def test_a_line_for_a_class_that_the_model_lacks_is_refused() -> None:
    """A site line that no block answers to is an error with the nearest class there is, not a silent nothing."""
    model = on_meta("FluxTransformer2DModel", num_layers=1, num_single_layers=1)
    with pytest.raises(ModelError, match=r"no block of class 'FluxTransformersBlock'.*did you mean 'FluxTrans"):
        find_sites(model, {"FluxTransformersBlock": "double: attn.image=norm1[1]"})


def test_a_line_takes_precedence_over_the_table() -> None:
    """A user's line for a class that is covered replaces the built-in one, for that class alone."""
    model = on_meta("FluxTransformer2DModel", num_layers=1, num_single_layers=1)
    sites = find_sites(model, {"FluxTransformerBlock": "mine: mlp.text=ff_context"})
    assert [site.name for site in sites] == ["mine.00.mlp.text", "single.00"]


def test_blocks_of_one_class_in_several_lists_go_by_their_list() -> None:
    """Refiners made of the body's blocks are told apart; where a class stands in one list, its line's label stays."""
    names = {
        site.block for site in find_sites(on_meta("Lumina2Transformer2DModel", num_layers=1, num_refiner_layers=1))
    }
    assert names == {"noise_refiner.00", "context_refiner.00", "layers.00"}
    names = {site.block for site in find_sites(on_meta("HunyuanVideoTransformer3DModel", num_layers=1))}
    assert {name.partition(".")[0] for name in names} == {"refiner", "double", "single"}


def test_a_layer_ties_every_attention() -> None:
    """Self-attention, attention to the prompt and attention to the other medium turn together, and so do streams."""
    sites = find_sites(on_meta("LTX2VideoTransformer3DModel", num_layers=2))
    assert {knob: len(tied) for knob, tied in tie(sites, "layer").items()} == {
        f"block.{number}.{branch}": size for number in ("00", "01") for branch, size in (("attn", 6), ("mlp", 2))
    }


def test_a_class_without_a_line_says_why() -> None:
    """A transformer that was looked at and left out is refused with the reason."""
    model = on_meta("RFD4ProteinaTransformer")
    with pytest.raises(ModelError, match="RFD4ProteinaTransformer cannot be calibrated: it folds proteins"):
        find_sites(model)


def test_a_line_that_matches_nothing_is_refused() -> None:
    """A submodule that a block does not have is named."""
    model = on_meta("FluxTransformer2DModel", num_layers=1, num_single_layers=1)
    with pytest.raises(ModelError, match=r"'norm7', which block transformer_blocks\.0 does not have"):
        find_sites(model, {"FluxTransformerBlock": "double: attn.image=norm7[1]"})


def test_a_model_without_known_blocks_is_refused() -> None:
    """A model that nothing covers is refused by the names of what it has."""
    with pytest.raises(ModelError, match="add a site line"):
        find_sites(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_an_address_of_another_model_is_refused() -> None:
    """A module path that the model lacks is answered with the nearest one it has."""
    model = on_meta("FluxTransformer2DModel", num_layers=1, num_single_layers=1)
    with pytest.raises(ModelError, match="did you mean"):
        site_at(model, "transformer_block.0.norm1[1]")
