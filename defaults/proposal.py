"""Propose the configuration of a model of which only a name is known, with a reason for every choice.

    from trimpot.defaults.proposal import propose
    proposal = propose("black-forest-labs/FLUX.1-dev", memory="24GB")
    config = load_config(proposal.values)

Given keys are kept as they are, and the others are chosen to suit them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..adapters.checkpoints import pipeline_class
from ..adapters.loading import Loading, check_loading
from ..adapters.sources import INDEX_FILE
from ..ground.errors import ConfigError, ModelError
from ..ground.hub import hub_file
from ..setup.config import DEFAULT_PROTOCOL, read_values
from ..setup.mistakes import listed
from ..setup.overrides import Override, Overrides, parse_options, read_overrides
from ..setup.plugins import plugins
from .fit import WAIT, Fit, fit
from .footprint import Footprint, footprint
from .machine import Machine, described, parse_memory, size, this_machine
from .model import GENERAL, Model, find_model
from .rewards import all_wait, entry, leading, names_of, score_pictures, sized, worth_watching
from .settings import OWN, Settings, family_of_adapter, settings_of

PROMPTS = "compositional"
SIZES = {"generations": 50, "validation": {"num_prompts": 64}, "test": {"num_prompts": 256}}
VIDEO_SIZES = {"generations": 20, "validation": {"num_prompts": 16}, "test": {"num_prompts": 32}}
GIVEN = "as you gave it"
_UNNAMED = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Proposal:
    """A configuration, and why it is as it is.

    Attributes:
        values: The configuration, as `setup.config.load_config` takes it, with the given keys.
        reasons: For each key that was chosen or given, dotted, one short sentence.
        model: The model.
        machine: The device that it is meant for.
        footprint: What the model takes of memory.
        fit: How it is placed.
    """

    values: dict[str, Any]
    reasons: dict[str, str]
    model: Model
    machine: Machine
    footprint: Footprint = field(repr=False)
    fit: Fit = field(repr=False)

    def check_here(self) -> None:
        """Check whatever a run on this machine needs that can be known without weights.

        Raises:
            ModelError: If the checkpoint may not be read, options contradict this machine, or a package is missing.
        """
        if not self.model.is_local:
            hub_file(self.model.source, INDEX_FILE, self.model.revision, error=ModelError)
        options = self.values["adapter"]
        check_loading(Loading(**{key: options[key] for key in Loading.model_fields if key in options}))


def propose(model: str, *, memory: str | int | None = None, overrides: Overrides = (), here: bool = False) -> Proposal:
    """Propose a configuration for a model. Nothing large is downloaded, and no weights are read.

    Args:
        model: A folder, a transformer's file, a hub id, or the address of a page of the hub.
        memory: The memory of the device, such as `24GB`, or in bytes; None for the device of this machine.
        overrides: `key=value` pairs with dotted keys, or a mapping of dotted keys to values; they are kept.
        here: Whether the device is the one of this machine also if `memory` is given, which then limits it.

    Raises:
        ConfigError: If an override or the memory cannot be read, or the name can be nothing that is known here.
        ModelError: If there is no such model, or it cannot be calibrated, or does not fit.
    """
    pairs, given = _given(overrides)
    own = given.get("adapter") or {}
    limit = parse_memory(memory) if isinstance(memory, str) else memory
    device = own.get("device")
    machine = this_machine(limit, device) if here or limit is None else described(limit, device)
    found = find_model(model, base=own.get("model"), revision=own.get("revision"))
    name = _adapter_of(found, own)
    own = _checked(name, found, own)
    replaced = any(each.path == ("objectives",) for each in pairs)
    objectives = given["objectives"] if replaced else found.chosen.get("objectives")
    further = {} if replaced else given.get("objectives") or {}
    pictures = score_pictures([*names_of(objectives), *names_of(further)])
    settings = settings_of(found, name, own, scores_pictures=pictures)
    measured = footprint(found, {**own, **settings.sizes})
    if objectives is None:
        lead, why = leading(machine)
        rewards = [lead, *(each for each in sized(further) if each is not lead)]
        demands, watched = {}, tuple(each for each in worth_watching(lead) if each not in rewards)
    else:
        demands, rewards, watched, why = {WAIT: all_wait(objectives)}, sized(objectives), (), OWN
    demands |= {**own, **({"lora": True} if _has_lora(name, own) else {})}
    placed = fit(measured, machine, rewards, watched, demands, found.title)

    values: dict[str, Any] = {"name": _name(found.title) or name}
    reasons = {"name": "the model's, with which the run's name begins"}
    values["adapter"], whys = _adapter(found, name, settings, placed, measured)
    reasons |= {f"adapter.{key}": text for key, text in whys.items()}
    values["objectives"], reasons["objectives"] = (
        (objectives, why) if objectives is not None else _rewards([each.name for each in rewards], why, placed)
    )
    own_prompts = found.chosen.get("prompts")
    values["prompts"] = own_prompts or PROMPTS
    reasons["prompts"] = OWN if own_prompts else "attributes, numbers, relations, actions and scenes, made by a grammar"
    values |= {"protocol": DEFAULT_PROTOCOL, **(VIDEO_SIZES if settings.makes == "video" else SIZES)}
    reasons |= _why_so_many(settings.makes)
    if machine.many > 1:
        values["workers"], reasons["workers"] = "auto", f"a process for each of the {machine.many} GPUs"
    whole, _ = read_values(values, pairs)
    return Proposal(whole, _with_given(reasons, whole, given), found, machine, measured, placed)


def _given(overrides: Overrides) -> tuple[list[Override], dict[str, Any]]:
    """Return overrides in which the adapter's name is a key of its own, and the mapping that they make."""
    named = ("adapter", "name")
    pairs = [replace(each, path=named) if each.path == ("adapter",) else each for each in read_overrides(overrides)]
    given = parse_options(pairs)
    own = given.get("adapter") or {}
    if not isinstance(own.get("name", ""), str):
        raise ConfigError("adapter takes a name here; give its options one by one, such as adapter.offload=model")
    for key in ("model", "revision", "device"):
        if own.get(key) is not None and not isinstance(own[key], str):
            raise ConfigError(
                f"adapter.{key} is a text, not {own[key]!r:.60}; put it in quotes: adapter.{key}='\"...\"'"
            )
    return pairs, given


def _adapter_of(model: Model, given: Mapping[str, Any]) -> str:
    """Return the name of the adapter, and refuse a named one of other pipelines."""
    name = str(given.get("name") or model.adapter)
    if family := family_of_adapter(name):
        pipeline_class(family.pipeline, model.index, model.given)
    return name


def _checked(name: str, model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given options of an adapter, converted to their types, before anything is decided by them.

    Raises:
        ConfigError: If an option is unknown, or has a wrong value.
    """
    part = plugins().get("adapters", name)
    options = {key: value for key, value in given.items() if key != "name" and value is not None}
    checked, mistakes = part.options.read({"model": model.source, **options}, part.title)
    if mistakes:
        raise ConfigError(listed(model.given, mistakes))
    return {key: checked[key] for key in options}


def _has_lora(name: str, given: Mapping[str, Any]) -> bool:
    """Tell whether an adapter merges a LoRA, given or its own."""
    options = inspect.signature(plugins().get("adapters", name).factory).parameters
    own = options["lora"].default if "lora" in options else None
    return bool(given.get("lora", own))


def _name(title: str) -> str:
    return _UNNAMED.sub("-", title).strip("-._")[:80]


def _adapter(
    model: Model, name: str, settings: Settings, placed: Fit, what: Footprint
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the adapter with its options, and the reason for each."""
    kind, placement = model.pipeline.__name__, placed.placement
    guides = "which guides by itself" if name == GENERAL else "whose guidance is calibrated too"
    chosen: dict[str, tuple[Any, str]] = {
        "name": (name, f"the model is a {kind}, {guides}"),
        "model": (model.source, "the checkpoint"),
    }
    if model.revision:
        chosen["revision"] = (model.revision, "the one that was named")
    if model.transformer:
        chosen["transformer"] = (model.transformer, "the file's weights, in place of the checkpoint's")
    weights = sum(what.weights(placement.dtype).values())
    chosen["dtype"] = (placement.dtype, f"{size(weights)} of weights")
    chosen["offload"] = (placement.offload, f"{placement.why}: {size(placed.device)} of {size(placed.usable)}")
    if placement.quantization:
        chosen["quantization"] = (placement.quantization, placement.why)
    pixels = f"{what.height} x {what.width} pixels"
    chosen["batch_size"] = (placed.batch_size, f"the largest that fits, up to 16, at {pixels}")
    if placed.vae_slicing and placed.batch_size > 1 and what.slices:
        chosen["vae_slicing"] = (True, "decoding outputs one at a time takes less memory")
    values = {key: value for key, (value, _) in chosen.items()} | settings.values
    return values, {key: why for key, (_, why) in chosen.items()} | settings.reasons


def _rewards(names: Sequence[str], why: str, placed: Fit) -> tuple[dict[str, Any], str]:
    """Return the rewards, optimised and watched, and the reason; the first of `names` was chosen here."""
    waits = placed.placement.rewards_wait
    optimised = {name: entry(waits=waits) for name in names}
    watched = {each.name: entry(weight=0, waits=waits) for each in placed.watched}
    told = f"{', '.join(watched)} are only watched, for the alarm" if watched else "no other fits, to be watched"
    waiting = "; they wait in main memory while images are made" if waits else ""
    return {**optimised, **watched}, f"{names[0]} is {why}; {told}{waiting}"


def _why_so_many(makes: str) -> dict[str, str]:
    few = ", few because videos cost more" if makes == "video" else ""
    return {
        "protocol": "among those that saved the most images in all measurements",
        "generations": "at most" if few else "at most; a search that gains nothing for long stops earlier",
        "validation.num_prompts": f"{makes}s that choose the result{few}",
        "test.num_prompts": f"{makes}s that measure the gain, once{few}",
    }


def _with_given(reasons: Mapping[str, str], values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Return the reasons in the order of the configuration, with the keys that were given marked as given."""
    kept = dict(reasons)
    for key in _leaves(given):
        for name in list(kept):
            if name == key or name.startswith(f"{key}.") or (key.startswith(f"{name}.") and name != "objectives"):
                del kept[name]
        kept[key] = GIVEN
    order = [*_places(values)]
    return dict(sorted(kept.items(), key=lambda each: order.index(each[0]) if each[0] in order else len(order)))


def _leaves(given: Mapping[str, Any], place: str = "") -> list[str]:
    """Return the dotted keys that overrides set."""
    found: list[str] = []
    for key, value in given.items():
        here = f"{place}{key}"
        if isinstance(value, Mapping) and value and (place or key not in ("objectives", "prompts")):
            found += _leaves(value, f"{here}.")
        else:
            found.append(here)
    return found


def _places(values: Mapping[str, Any], place: str = "") -> list[str]:
    """Return all dotted keys of a configuration, in their order."""
    found: list[str] = []
    for key, value in values.items():
        found.append(f"{place}{key}")
        if isinstance(value, Mapping):
            found += _places(value, f"{place}{key}.")
    return found
