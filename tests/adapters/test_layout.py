"""A space of M members over d knobs: its names, its neutral weights, its ties, and the tables a setting becomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimpot.adapters.layout import GRANULARITIES, Layout, neutral_weights
from trimpot.adapters.sites import Site
from trimpot.ground.errors import ConfigError, ModelError

SITES = [
    Site(f"double.{block:02d}", branch, stream, f"blocks.{block}.{branch}.{stream}")
    for block in range(3)
    for branch in ("attn", "mlp")
    for stream in ("image", "text")
] + [Site(f"single.{block:02d}", "single", "joint", f"singles.{block}") for block in range(2)]


@pytest.mark.parametrize(
    ("members", "guidance", "weights"),
    [
        (["conditional"], 4.5, (1.0,)),
        (["all"], None, (1.0,)),
        (["conditional", "unconditional"], 4.5, (4.5, -3.5)),
        (["unconditional", "conditional"], 4.5, (-3.5, 4.5)),
        (["conditional", "unconditional", "conditional"], 4.5, (4.5, -3.5, 0.0)),
        (["conditional", "conditional"], 4.5, (1.0, 0.0)),
        (["conditional", "unconditional"], None, (1.0, 0.0)),
        (["conditional"] * 3, None, (1.0, 0.0, 0.0)),
    ],
)
def test_neutral_weights(members: list[str], guidance: float | None, weights: tuple[float, ...]) -> None:
    """Guidance is shared between the first member that sees the prompt and the first that does not."""
    assert neutral_weights(members, guidance) == weights  # type: ignore[arg-type]
    assert sum(weights) == 1


@pytest.mark.parametrize(("granularity", "count"), [("block", 5), ("layer", 8), ("gate", 14)])
@pytest.mark.parametrize("num_members", [1, 2, 3])
def test_the_space_has_a_scale_a_knob_and_member_and_a_weight_a_member(
    granularity: str, count: int, num_members: int
) -> None:
    """M * d + M knobs, and d for one member; d + M where scales are shared."""
    members = ["conditional"] * num_members
    weights = num_members if num_members > 1 else 0
    free = Layout(SITES, members, granularity=granularity)  # type: ignore[arg-type]
    tied = Layout(SITES, members, granularity=granularity, tie_members=True)  # type: ignore[arg-type]
    assert len(free.space) == num_members * count + weights
    assert len(tied.space) == count + weights


@given(st.integers(0, 2**31), st.sampled_from(GRANULARITIES), st.integers(1, 3), st.booleans())
def test_a_setting_becomes_the_scales_its_names_say(seed: int, granularity: str, num_members: int, tied: bool) -> None:
    """Each member's scale of a site is the value of the knob that the site and member are named for."""
    layout = Layout(SITES, ["conditional"] * num_members, granularity=granularity, tie_members=tied)  # type: ignore[arg-type]
    population = np.random.default_rng(seed).uniform(-1, 2, (2, len(layout.space)))
    scales, weights = layout.tables(population)
    for row, vector in enumerate(population):
        setting = layout.space.to_setting(vector)
        for member in range(num_members):
            scope = "" if tied or num_members == 1 else f"member{member + 1}."
            for index, site in enumerate(SITES):
                assert scales[row, member, index] == setting[scope + site.knob(granularity)]  # type: ignore[arg-type]
            assert weights[row, member] == (1 if num_members == 1 else setting[f"member{member + 1}.weight"])


def test_a_knob_without_a_living_site_is_frozen() -> None:
    """It is left out of the space and its scale stays 1; a knob with one living site stays."""
    dead = [index for index, site in enumerate(SITES) if site.block == "double.02" and site.stream == "text"]
    layout = Layout(SITES, ["conditional", "conditional"], granularity="gate", dead=dead)
    assert layout.frozen == tuple(f"member{m}.double.02.{branch}.text" for m in (1, 2) for branch in ("attn", "mlp"))
    assert not set(layout.frozen) & set(layout.space.names)
    scales, _ = layout.tables(np.full((1, len(layout.space)), 0.5))
    assert (scales[:, :, dead] == 1).all() and (np.delete(scales, dead, axis=2) == 0.5).all()
    assert Layout(SITES, ["conditional"], granularity="layer", dead=dead).frozen == ()
    with pytest.raises(ConfigError, match="at least one knob"):
        Layout(SITES, ["conditional"], dead=range(len(SITES)))


@pytest.mark.parametrize("fine", GRANULARITIES)
@pytest.mark.parametrize("coarse", GRANULARITIES)
def test_coarser_knobs_stand_for_every_finer_one(fine: str, coarse: str) -> None:
    """Ties name the knobs of a coarser layout and together hold each knob once; there are none to a finer one."""
    members, dead = ["conditional", "unconditional"], [SITES.index(SITES[-3])]
    layout = Layout(SITES, members, granularity=fine, dead=dead)  # type: ignore[arg-type]
    if GRANULARITIES.index(coarse) > GRANULARITIES.index(fine):
        with pytest.raises(ModelError, match="cannot be split"):
            layout.tied(coarse)
        return
    ties = layout.tied(coarse)
    assert sorted(name for names in ties.values() for name in names) == sorted(layout.space.names)
    assert list(ties) == list(Layout(SITES, members, granularity=coarse, dead=dead).space.names)  # type: ignore[arg-type]
    assert ties["member2.weight"] == ["member2.weight"]


def test_an_unknown_granularity_is_refused() -> None:
    """It is answered with those there are."""
    with pytest.raises(ModelError, match="choose block, layer or gate"):
        Layout(SITES, ["conditional"]).tied("head")


def test_a_tie_moves_what_it_stands_for() -> None:
    """Setting all that a coarse knob stands for gives the scales that the coarse layout's knob gives."""
    fine = Layout(SITES, ["conditional"], granularity="gate")
    coarse = Layout(SITES, ["conditional"], granularity="block")
    for name, names in fine.tied("block").items():
        first, _ = fine.tables(fine.space.to_vector(dict.fromkeys(names, 0.3))[None])
        second, _ = coarse.tables(coarse.space.to_vector({name: 0.3})[None])
        np.testing.assert_array_equal(first, second)
