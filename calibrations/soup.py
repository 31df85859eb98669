"""A soup: the calibration whose departure from neutral is the weighted sum of the departures of others.

The idea is that of averaging weights (model soups, Wortsman et al. 2022), on a hundred numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..applying.recipe import Recipe, mixed, recipe_of
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError
from ..ground.plain import number
from .kinship import descendant, differences, parent

LOW, HIGH = -1, 2  # of a weight, as when several calibrations are applied


def soup(calibrations: Sequence[Calibration], weights: Sequence[float] | None = None, *, name: str) -> Calibration:
    """Return the weighted sum of calibrations. It claims no gain until it is measured.

    Args:
        calibrations: At least two calibrations of one model, made at the same steps and size.
        weights: A weight from -1 to 2 for each; None for equal weights with the sum 1.
        name: The name of the soup.

    Raises:
        CalibrationError: If there are too few, a weight is wrong, or the calibrations differ in model, members, steps,
            size, neutral guidance or knobs; the message says in what.
    """
    if len(calibrations) < 2:
        raise CalibrationError("a soup needs at least two calibrations")
    shares = [1 / len(calibrations)] * len(calibrations) if weights is None else list(weights)
    if len(shares) != len(calibrations):
        raise CalibrationError(
            f"there are {len(calibrations)} calibrations and {len(shares)} weights; give one weight each"
        )
    names = [each.provenance.run for each in calibrations]
    shares = [
        number(share, f"the weight of {run}", low=LOW, high=HIGH, error=CalibrationError)
        for share, run in zip(shares, names, strict=True)
    ]
    first = calibrations[0]
    for other in calibrations[1:]:
        if found := differences(first, other):
            raise CalibrationError(
                f"{first.provenance.run} and {other.provenance.run} cannot be mixed: they differ in {', '.join(found)}"
            )
        _check_knobs(first, other)
    recipes = [recipe_of(each) for each in calibrations]
    try:
        recipe = mixed(recipes, shares)
    except CalibrationError as error:
        raise CalibrationError(f"{' and '.join(names)} cannot be mixed: {error}") from None
    made = descendant(
        first,
        name,
        tuple(parent(each, f"weight {share:g}") for each, share in zip(calibrations, shares, strict=True)),
        _common([each.provenance.config for each in calibrations]),
        setting=_mixed_setting(calibrations, shares, recipes[0]),
        apply={
            **first.apply,
            "members": [member.model_dump() for member in recipe.members],
            **({"asking": recipe.asking.model_dump(mode="json")} if recipe.asking else {}),
        },
    )
    recipe_of(made)  # scales and weights have bounds
    return made


def _mixed_setting(calibrations: Sequence[Calibration], shares: Sequence[float], recipe: Recipe) -> dict[str, float]:
    """Return the knobs by the formula of `applying.recipe.mixed`."""
    setting = {}
    for knob, value in calibrations[0].setting.items():
        if recipe.chooses(knob):
            setting[knob] = value  # all ask in the same way
            continue
        neutral = recipe.neutral_of(knob)
        setting[knob] = neutral + sum(
            share * (each.setting[knob] - neutral) for share, each in zip(shares, calibrations, strict=True)
        )
    return setting


def _check_knobs(first: Calibration, other: Calibration) -> None:
    differ = sorted(set(first.setting) ^ set(other.setting))
    if differ:
        kinds = [str(each.backbone.get("granularity", "?")) for each in (first, other)]
        lifting = "; lift the coarser one first with `trimpot lift`" if kinds[0] != kinds[1] else ""
        raise CalibrationError(
            f"{first.provenance.run} and {other.provenance.run} cannot be mixed: they have other knobs, one a "
            f"{kinds[0]} and one a {kinds[1]}, such as {differ[0]!r}{lifting}"
        )


def _common(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys on which all configurations agree, and the adapter of the first."""
    first = configs[0]
    return {key: value for key, value in first.items() if key == "adapter" or all(c.get(key) == value for c in configs)}
