"""Whether calibrations are of one model and one way of using it, and how a new one names those it was made from."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from ..adapters.likeness import same_weights
from ..applying.asking import Asking
from ..applying.recipe import Recipe, recipe_of
from ..engine.calibration import Calibration, Parent, Provenance

SIZES = ("height", "width", "num_frames")


def differences(one: Calibration, other: Calibration) -> list[str]:
    """Describe how two calibrations differ in what they were made on: model, members, steps, size.

    Sources with digests of their weights are compared by these, wherever the weights lie.

    Args:
        one: A calibration of a diffusion pipeline.
        other: Another one.

    Returns:
        A clause for each difference, such as `steps 4 and 8`.

    Raises:
        CalibrationError: If one of them holds no recipe.
    """
    first, second = recipe_of(one), recipe_of(other)
    found = {
        "transformer": (first.transformer, second.transformer),
        **_models(one, other, first, second),
        "custom sites": (first.blocks, second.blocks),
        "members": (_members(first), _members(second)),
        "prompt for no prompt": (first.empty, second.empty),
        **_asking(first, second),
        "steps": (one.num_steps, other.num_steps),
        **{name: (_size(one, name), _size(other, name)) for name in SIZES},
        "scheduler": (_scheduler(one), _scheduler(other)),
    }
    return [f"{name} {_told(a)} and {_told(b)}" for name, (a, b) in found.items() if a != b]


def descendant(
    first: Calibration, name: str, parents: tuple[Parent, ...], config: Mapping[str, Any], **changes: Any
) -> Calibration:
    """Return a calibration that was made from others: it claims no gain, since nobody has measured it.

    Args:
        first: The calibration that gives everything that is not changed.
        name: The name of the new one.
        parents: What it was made from.
        config: The configuration to measure it with.
        **changes: Fields of the calibration.
    """
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    made = first.provenance
    provenance = Provenance(
        run=name, created=created, makes=made.makes, uses_seed=made.uses_seed, config=dict(config), parents=parents
    )
    return first.model_copy(
        update={"gain": None, "by_steps": (), "watched": (), "objectives": {}, "provenance": provenance, **changes}
    )


def parent(calibration: Calibration, how: str) -> Parent:
    """Return the entry that names a calibration as a parent, by the digest of its run, else of its values."""
    return Parent(run=calibration.provenance.run, digest=calibration.identity, how=how)


def _models(one: Calibration, other: Calibration, first: Recipe, second: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return what tells two models apart, to be compared; names alone only where nothing better is known."""
    there, here = _source(one), _source(other)
    found = {"LoRA": (there.get("lora"), here.get("lora"))}
    for key in ("weights", "revision"):
        if there.get(key) and here.get(key):
            own = there.get("id"), here.get("id")
            named = {} if key == "weights" else {"model": own}
            return {**found, **named, key: (there[key], here[key])}
    if first.weights and second.weights:
        same = same_weights(first.weights.sample, second.weights.sample)
        if first.weights.shapes != second.weights.shapes or same is False:
            return {**found, "weights": (f"of {there.get('id')}", f"others, of {here.get('id')}")}
        if same:
            return found
    return {**found, "model": (there.get("id"), here.get("id"))}


def _asking(one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    first, second = (each.asking or Asking() for each in (one, other))
    return {name: (value, second.apart[name]) for name, value in first.apart.items()}


def _source(calibration: Calibration) -> Mapping[str, Any]:
    source = calibration.backbone.get("source")
    return source if isinstance(source, Mapping) else calibration.backbone  # older files hold both in one


def _members(recipe: Recipe) -> list[str]:
    return [member.sees for member in recipe.members]


def _size(calibration: Calibration, name: str) -> Any:
    call = calibration.backbone.get("call")
    return calibration.backbone.get(name) or (call.get(name) if isinstance(call, Mapping) else None)


def _scheduler(calibration: Calibration) -> Any:
    scheduler = calibration.backbone.get("scheduler")
    return scheduler.get("class") if isinstance(scheduler, Mapping) else None


def _told(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)[:80]
