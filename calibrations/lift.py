"""A calibration in a finer space: each knob of a block or layer becomes one of every site that it tied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..adapters.layout import GRANULARITIES
from ..applying.recipe import recipe_of
from ..engine.calibration import Calibration
from ..engine.seams import Adapter
from ..ground.errors import CalibrationError, ModelError, near_misses
from ..setup.plugins import plugins
from .kinship import descendant, parent


def lift(calibration: Calibration, to: str, *, name: str | None = None, **options: Any) -> Calibration:
    """Return the same calibration with finer knobs, to search on from there. No output changes.

    Only the configuration of the model is read, not its weights. The result claims no gain of its own until it is
    measured.

    Args:
        calibration: A calibration of one knob a block, or a layer.
        to: `layer` or `gate`.
        name: The name of the new calibration; None for the old one's with the granularity.
        **options: Changes of the adapter's options, such as `model`, where the checkpoint lies now.

    Raises:
        CalibrationError: If it is as fine already, or its setting does not fit its adapter or what it applies.
        ModelError: If the model's configuration cannot be read.
        PluginError: If the adapter is not installed.
    """
    if to not in GRANULARITIES[1:]:
        raise CalibrationError(f"cannot lift to {to!r}; {near_misses(to, GRANULARITIES[1:])}")
    recipe = recipe_of(calibration)
    own = calibration.provenance.config.get("adapter")
    if not isinstance(own, Mapping) or not isinstance(own.get("name"), str):
        raise CalibrationError("the calibration does not say with which adapter it was made, so it cannot be lifted")
    given = {**{key: value for key, value in own.items() if key != "name"}, **options}
    made = _outline(own["name"], {**given, "granularity": to})
    now, tied = _tied(calibration, made, to)
    lifted = {knob: calibration.setting[coarse] for coarse, knobs in tied.items() for knob in knobs}
    setting = {knob.name: lifted[knob.name] for knob in made.space}
    exported = made.export(setting, setting)["members"]
    members = []
    for before, after in zip(recipe.members, exported, strict=True):
        for site, value in after["scales"].items():
            known = before.scales.get(site)
            if known is None or (not math.isclose(known, value, rel_tol=1e-9) and value != 1.0):
                raise CalibrationError(
                    f"the calibration's setting and what it applies say different things of {site}: {value} and {known}"
                )
        if not math.isclose(before.weight, after["weight"], rel_tol=1e-9):
            raise CalibrationError("the calibration's setting and what it applies have different output weights")
        members.append({**after, "neutral_weight": before.neutral_weight})  # a site that cannot be seen may become 1
    frozen = list(getattr(made, "frozen", ()))
    backbone = {**calibration.backbone, "granularity": to, **({"frozen": frozen} if frozen else {})}
    source = calibration.provenance
    return descendant(
        calibration,
        name or f"{source.run}-{to}",
        (*source.parents, parent(calibration, f"lifted from {now} to {to}")),
        {**source.config, "adapter": {**own, "granularity": to}},
        setting=setting,
        apply={**calibration.apply, "members": members},
        backbone=backbone,
    )


def _outline(name: str, options: dict[str, Any]) -> Adapter:
    known = plugins()
    if "outline" in known.options("adapters", name):
        options["outline"] = True
    made: Adapter = known.make("adapters", name, options)
    return made


def _tied(calibration: Calibration, made: Adapter, to: str) -> tuple[str, Mapping[str, list[str]]]:
    """Return the granularity of a calibration, and how its knobs tie those of a finer adapter."""
    if set(calibration.setting) == set(made.space.names):
        raise CalibrationError(f"the calibration has one knob a {to} already")
    for granularity in GRANULARITIES[: GRANULARITIES.index(to)]:
        try:
            tied = {coarse: list(knobs) for coarse, knobs in made.tied(granularity).items()}
        except ModelError as error:
            raise CalibrationError(f"the calibration cannot be lifted: {error}") from None
        if set(tied) == set(calibration.setting):
            return granularity, tied
    said = calibration.backbone.get("granularity", "gate")
    raise CalibrationError(
        f"the calibration has one knob a {said}, and these are not knobs that a {to} refines; lift goes from coarse "
        "to fine, on the model that was calibrated"
    )
