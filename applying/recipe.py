"""The part of a calibration file that says what to scale: members, their weights, and their scales by module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..adapters.factories import NAMED
from ..adapters.language.formats import BIAS, CHOICES
from ..adapters.layout import LARGEST, LONGEST_EMPTY, LONGEST_PROMPT, MOST_MEMBERS, Sees, check_members
from ..adapters.likeness import NUM_SAMPLES
from ..adapters.rows import site_within, unwrapped
from ..adapters.sites import Site, find_sites
from ..engine.calibration import Calibration, Finite
from ..ground.errors import CalibrationError, ModelError, near_misses
from ..ground.mistakes import first_mistake
from ..ground.plain import number
from .asking import Asking

if TYPE_CHECKING:
    from torch import nn
LANGUAGE = "transformers"  # the adapter for language models
DISAGREES = "the calibration's setting and what it applies say different things"
_WEIGHT = re.compile(r"member(\d+)\.weight")
CLOSE = 1e-6  # of a value in the setting and the same value applied: a soup calculates the two apart

Factor = Annotated[float, Field(strict=True, ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


class Member(BaseModel):
    """One member of the ensemble: what it sees, its weights, and its scales by address."""

    model_config = ConfigDict(extra="forbid")
    sees: Sees
    weight: Factor
    neutral_weight: Factor
    scales: dict[str, Factor] = Field(min_length=1)


class Weights(BaseModel):
    """A description of the calibrated model's weights, as `adapters.likeness.weights_of` makes it."""

    model_config = ConfigDict(extra="forbid")
    shapes: str
    sample: list[Finite | None] = Field(max_length=NUM_SAMPLES)


class Recipe(BaseModel):
    """What to scale: the transformer's class, custom site lines, the members, and how prompts are put to it.

    The prompt for no prompt is of diffusion models, the way of asking of language models.
    """

    model_config = ConfigDict(extra="forbid")
    transformer: str
    blocks: dict[str, str] = Field(default_factory=dict)
    weights: Weights | None = None
    members: list[Member] = Field(max_length=MOST_MEMBERS)
    empty: str | None = Field(default=None, max_length=LONGEST_EMPTY)
    asking: Asking | None = None

    @property
    def weighs(self) -> bool:
        """Whether outputs are summed by weight: always with several members, and if an only member has a weight."""
        return len(self.members) > 1 or {self.members[0].weight, self.members[0].neutral_weight} != {1.0}

    def chooses(self, knob: str) -> bool:
        """Return whether a knob is a choice of how to ask, which has no neutral value of its own."""
        return self.asking is not None and knob in CHOICES

    def neutral_of(self, knob: str) -> float:
        """Return the value at which a knob of a built-in adapter changes nothing: 1 for a scale."""
        if found := _WEIGHT.fullmatch(knob):
            return self.members[int(found[1]) - 1].neutral_weight
        return self.asking.neutral_bias if self.asking and knob == BIAS else 1.0


def is_of_language(calibration: Calibration) -> bool:
    """Return whether a calibration was made with the adapter for language models."""
    adapter = calibration.provenance.config.get("adapter")
    return isinstance(adapter, Mapping) and adapter.get("name") == LANGUAGE


def recipe_of(calibration: Calibration) -> Recipe:
    """Read the recipe of a calibration.

    Raises:
        CalibrationError: If the file holds no recipe, or one that cannot be applied.
    """
    if not calibration.apply:
        raise CalibrationError("this calibration was not made on a diffusion pipeline: it names no modules to scale")
    try:
        made_with = calibration.provenance.config.get("adapter")  # older files hold custom site lines only here
        blocks = made_with.get("blocks") if isinstance(made_with, dict) else None
        recipe = Recipe.model_validate({**({"blocks": blocks} if blocks else {}), **calibration.apply})
    except ValidationError as error:
        raise CalibrationError(f"the calibration's apply.{first_mistake(error)}") from None
    names = [set(member.scales) for member in recipe.members]
    if not names or any(other != names[0] for other in names):
        raise CalibrationError("the calibration's members must scale the same modules")
    sees = [member.sees for member in recipe.members]
    if "all" in sees and len(sees) > 1:
        raise CalibrationError("a calibration's member that sees all must be its only member")
    if "all" not in sees:
        check_members(sees)
    if sees == ["all"] and recipe.weighs:
        raise CalibrationError("the weight of a calibration's only member must be 1 if it sees all")
    if recipe.empty is not None and "unconditional" not in sees:
        raise CalibrationError("the calibration names a prompt for no prompt, which none of its members sees")
    _check_consistent(calibration, recipe)
    return recipe


def _check_consistent(calibration: Calibration, recipe: Recipe) -> None:
    """Refuse a file whose setting is not what it applies: some commands use the one, and some the other.

    Knobs of the built-in adapters are scales and weights themselves, so their values must be the values applied; the
    scales of sites that no knob reaches are 1.

    Raises:
        CalibrationError: If a knob is missing or surplus, or a value differs.
    """
    made_on = calibration.backbone.get("transformer")
    if made_on not in (None, recipe.transformer):
        raise CalibrationError(f"the calibration was made on a {made_on}, and says it is for a {recipe.transformer}")
    adapter = calibration.provenance.config.get("adapter")
    if not isinstance(adapter, Mapping) or adapter.get("name") not in (*NAMED, LANGUAGE):
        return
    frozen, scopes = calibration.backbone.get("frozen"), 1 if adapter.get("tie_members") else len(recipe.members)
    if calibration.backbone.get("granularity") == "gate" and isinstance(frozen, list):
        num_knobs = sum(not _WEIGHT.fullmatch(knob) for knob in calibration.setting)
        expected = scopes * len(recipe.members[0].scales) - len(frozen)
        if num_knobs != expected:
            raise CalibrationError(f"{DISAGREES}: {num_knobs} knobs and {expected} scales that knobs set")
    applied = {
        f"{name} of member {number}": value
        for number, each in enumerate(recipe.members, start=1)
        for name, value in {"weight": each.weight, **each.scales}.items()
    }
    language = adapter.get("name") == LANGUAGE  # whose scales are named by block; other knobs word its prompts
    setting = {knob: value for knob, value in calibration.setting.items() if "." in knob or not language}
    for knob, value in zip(setting, _far([*setting.values()], [*applied.values()]), strict=True):
        if value is not None:
            raise CalibrationError(f"{DISAGREES}: {knob} is {value:g}, and nothing applies that")
    for what, value in zip(applied, _far([*applied.values()], [1.0, *setting.values()]), strict=True):
        if value is not None:
            raise CalibrationError(f"{DISAGREES}: {what} is {value:g}, and no knob is that")


def _far(values: Sequence[float], known: Sequence[float]) -> list[float | None]:
    """Return the values that are close to no known one, and None for the others."""
    levels = np.unique(known)
    after = np.searchsorted(levels, values).clip(0, len(levels) - 1)
    near = np.minimum(np.abs(levels[after] - values), np.abs(levels[(after - 1).clip(0)] - values))
    return [value if gap > CLOSE * max(1.0, abs(value)) else None for value, gap in zip(values, near, strict=True)]


def mixed(recipes: Sequence[Recipe], weights: Sequence[float]) -> Recipe:
    """Return the recipe whose departure from neutral is the weighted sum of the recipes' departures.

    A module that a recipe does not scale has the scale 1 there. One recipe with a weight is that recipe at a strength.

    Raises:
        CalibrationError: If the recipes are for different transformers, ensembles, neutral settings or prompts.
    """
    first = recipes[0]
    neutral = [(member.sees, member.neutral_weight) for member in first.members]
    for other in recipes[1:]:
        if other.transformer != first.transformer:
            raise CalibrationError(f"one is for a {first.transformer} and the other for a {other.transformer}")
        if [(member.sees, member.neutral_weight) for member in other.members] != neutral:
            raise CalibrationError("their ensembles have other members or another neutral guidance")
        if other.empty != first.empty:
            raise CalibrationError("their unconditional members see different prompts")
        one, two = first.asking or Asking(), other.asking or Asking()
        if (one.apart, one.neutral_bias) != (two.apart, two.neutral_bias):
            raise CalibrationError("their prompts are asked in other ways")
    blocks = {kind: line for recipe in recipes for kind, line in recipe.blocks.items()}
    addresses = dict.fromkeys(address for recipe in recipes for address in recipe.members[0].scales)
    members = []
    for position, member in enumerate(first.members):
        alike = [recipe.members[position] for recipe in recipes]
        pairs = list(zip(weights, alike, strict=True))
        scales = {
            address: 1 + sum(weight * (each.scales.get(address, 1.0) - 1) for weight, each in pairs)
            for address in addresses
        }
        total = member.neutral_weight + sum(weight * (each.weight - each.neutral_weight) for weight, each in pairs)
        members.append(member.model_copy(update={"scales": scales, "weight": total}))
    changed: dict[str, Any] = {"members": members, "blocks": blocks}
    if first.asking:
        biases = [each.asking.bias for each in recipes if each.asking]
        neutral_bias = first.asking.neutral_bias
        bias = neutral_bias + sum(w * (each - neutral_bias) for w, each in zip(weights, biases, strict=True))
        changed["asking"] = first.asking.model_copy(update={"bias": bias})
    return first.model_copy(update=changed)


def longest_prompt(calibration: Calibration) -> int | None:
    """Return the most tokens of a prompt that the calibrated pipeline encoded, or None if the file does not say."""
    found = calibration.backbone.get("max_sequence_length")
    if found is None:
        return None
    name = "the calibration's backbone.max_sequence_length"
    return int(number(found, name, low=1, high=LONGEST_PROMPT, error=CalibrationError))


def sites_of(models: Mapping[str, nn.Module], recipe: Recipe) -> list[Site]:
    """Return the sites that a recipe scales.

    Raises:
        ModelError: If the transformers lack one of these sites.
    """
    sites = [site_within(models, address) for address in recipe.members[0].scales]
    known = {
        site.within(prefix).address
        for prefix, model in models.items()
        for site in find_sites(unwrapped(model), recipe.blocks)
    }
    for site in sites:
        if site.address not in known:
            raise ModelError(
                f"{site.address} is not a site of the {recipe.transformer}; {near_misses(site.address, known)}"
            )
    return sites
