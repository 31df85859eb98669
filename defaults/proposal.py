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
from dataclasses import dataclass, field
from typing import Any

from ..adapters.families import FAMILIES
from ..adapters.loading import Loading, check_loading
from ..adapters.published import CHECKPOINTS
from ..adapters.sources import INDEX_FILE
from ..ground.errors import ConfigError, ModelError
from ..ground.hub import hub_file
from ..setup.config import read_values
from ..setup.overrides import parse_options
from .fit import WAIT, Fit, fit
from .footprint import Footprint, footprint
from .machine import Machine, described, parse_memory, size, this_machine
from .model import GENERAL, Model, find_model
from .rewards import KNOWN, Known, entry, leading, sized, worth_watching

PROMPTS = "compositional"
MOST_STEPS = 20  # of a pipeline that would make more by itself; Calibri, section 4, calibrates at 15
FEW_STEPS = {"num_inference_steps": 4, "guidance_scale": 0.0, "max_sequence_length": 256}  # FLUX.1-schnell's
SIZES = {"generations": 100, "validation": {"num_prompts": 64, "every": 5}, "test": {"num_prompts": 256}}
VIDEO_SIZES = {"generations": 40, "validation": {"num_prompts": 16, "every": 5}, "test": {"num_prompts": 32}}
FRAMES = 17  # one more than a multiple of 4, 8 and 16, as video autoencoders need
_UNNAMED = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Proposal:
    """A configuration, and why it is as it is.

    Attributes:
        values: The configuration, as `setup.config.load_config` takes it.
        reasons: For each chosen key, dotted, one short sentence.
        model: The model.
        machine: The device that it is meant for.
        footprint: What the model takes of memory.
        fit: How it is placed.
    """

    values: dict[str, Any]
    reasons: dict[str, str]
    model: Model
    machine: Machine
    footprint: Footprint
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


def propose(
    model: str,
    *,
    memory: str | int | None = None,
    overrides: Sequence[str] = (),
    here: bool = False,
) -> Proposal:
    """Propose a configuration for a model. Nothing large is downloaded, and no weights are read.

    Args:
        model: A folder, a transformer's file, a hub id, or the address of a page of the hub.
        memory: The memory of the device, such as `24GB`, or in bytes; None for the device of this machine.
        overrides: `key=value` pairs with dotted keys, which are kept.
        here: Whether the device is the one of this machine also if `memory` is given, which then limits it.

    Raises:
        ConfigError: If an override or the memory cannot be read, or the name can be nothing that is known here.
        ModelError: If there is no such model, or it cannot be calibrated, or does not fit.
    """
    size_given = parse_memory(memory) if isinstance(memory, str) else memory
    machine = this_machine(size_given) if here or size_given is None else described(size_given)
    pairs, given = _given(overrides)
    own = given.get("adapter", {})
    found = find_model(model, base=own.get("model"), revision=own.get("revision"))
    name = str(own.get("name") or found.adapter)
    options = {**_published(found, name), **found.settings, **own}
    video = _frames(found)
    objectives = given.get("objectives", found.chosen.get("objectives"))
    pictures = objectives is None or set(_names(objectives)) <= set(KNOWN)
    if video and pictures and video not in options:
        options = {**options, video: 1}
    elif video and video not in options:
        options = {**options, video: FRAMES}
    measured = footprint(found, options)
    lead, lead_reason = _lead(objectives, machine)
    demands = {**own, **({} if objectives is None else {WAIT: _all_wait(objectives)})}
    watched = worth_watching(lead[0]) if objectives is None else ()
    chosen = fit(measured, machine, lead, watched, demands, found.title)
    values: dict[str, Any] = {"name": _UNNAMED.sub("-", found.title).strip("-._") or name}
    reasons = {"name": "the model's, and the beginning of the run's name"}
    values["adapter"], why = _adapter(found, name, options, video, chosen, measured)
    reasons |= {f"adapter.{key}": text for key, text in why.items()}
    if objectives is None:
        waits = chosen.placement.rewards_wait
        values["objectives"] = {
            lead[0].name: entry(lead[0], waits=waits),
            **{each.name: entry(each, weight=0, waits=waits) for each in chosen.watched},
        }
        reasons["objectives"] = _told_rewards(lead_reason, chosen)
    else:
        values["objectives"] = objectives
        reasons["objectives"] = "as the checkpoint's own trimpot.json says"
    values["prompts"] = found.chosen.get("prompts", PROMPTS)
    reasons["prompts"] = (
        "as the checkpoint's own trimpot.json says"
        if "prompts" in found.chosen
        else "attributes, numbers, relations, textures and scenes, made by a grammar; three disjoint sets"
    )
    many = video is not None and options.get(video) != 1
    values |= VIDEO_SIZES if many else SIZES
    reasons |= _told_sizes(many)
    if machine.many > 1:
        values["workers"] = "auto"
        reasons["workers"] = f"one for each of the {machine.many} GPUs"
    whole, _ = read_values(values, pairs)
    for key in _dotted(given):
        reasons = {name: why for name, why in reasons.items() if not (name == key or name.startswith(f"{key}."))}
        reasons[key] = "as you gave it"
    return Proposal(whole, reasons, found, machine, measured, chosen)


def _given(overrides: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return overrides in which the adapter's name is a key of its own, and the mapping that they make."""
    pairs = [
        pair.replace("adapter=", "adapter.name=", 1) if pair.startswith("adapter=") else pair for pair in overrides
    ]
    given = parse_options(pairs)
    name = given.get("adapter", {}).get("name") if isinstance(given.get("adapter"), Mapping) else None
    if name is not None and not isinstance(name, str):
        raise ConfigError("adapter takes a name here; give its options one by one, such as adapter.offload=model")
    return pairs, given


def _dotted(given: Mapping[str, Any]) -> list[str]:
    """Return the keys that overrides set, dotted; options of one part each stand for themselves."""
    return [
        f"{key}.{inner}" if isinstance(value, Mapping) and key in ("adapter", "validation", "test") else key
        for key, value in given.items()
        for inner in (value if isinstance(value, Mapping) and key in ("adapter", "validation", "test") else ("",))
    ]


def _published(model: Model, name: str) -> dict[str, Any]:
    """Return the settings that a named adapter would fill in by itself."""
    family = next((each for each in FAMILIES.values() if each.pipeline == model.pipeline.__name__), None)
    if family is None or name == GENERAL:
        return {}
    known = CHECKPOINTS[model.source].settings if model.source in CHECKPOINTS else {}
    if family.distilled and not known and model.config("transformer").get("guidance_embeds") is False:
        known = FEW_STEPS
    return {**family.published, **known}


def _frames(model: Model) -> str | None:
    """Return the argument that sets the number of frames of a video, or None if the pipeline makes pictures."""
    takes = inspect.signature(model.pipeline.__call__).parameters
    return next((name for name in ("num_frames", "video_length") if name in takes), None)


def _names(objectives: Any) -> list[str]:
    if isinstance(objectives, str):
        return [objectives]
    if not isinstance(objectives, Mapping):
        return []
    return [each.get("name", key) if isinstance(each, Mapping) else key for key, each in objectives.items()]


def _all_wait(objectives: Any) -> bool:
    entries = objectives.values() if isinstance(objectives, Mapping) else ()
    known = [each for each in entries if isinstance(each, Mapping)]
    return bool(known) and all(each.get("offload") == "model" for each in known)


def _lead(objectives: Any, machine: Machine) -> tuple[list[Known], str]:
    if objectives is None:
        lead, why = leading(machine)
        return [lead], why
    return sized(objectives)[0], ""


def _adapter(
    model: Model, name: str, options: Mapping[str, Any], video: str | None, chosen: Fit, what: Footprint
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the adapter and its options, and the reason for each."""
    kind = model.pipeline
    values: dict[str, Any] = {"name": name, "model": model.source}
    reasons = {
        "name": f"a {kind.__name__}" + (" with any guidance of its own" if name == GENERAL else ", guidance included"),
        "model": "the checkpoint",
    }
    if model.revision:
        values["revision"], reasons["revision"] = model.revision, "the page's"
    if model.transformer:
        values["transformer"], reasons["transformer"] = model.transformer, "the file's weights"
    values |= chosen.placement.options
    weights = sum(what.weights(chosen.placement.dtype).values())
    room = f"{size(chosen.device)} of {size(chosen.usable)}"
    reasons["dtype"] = f"{size(weights)} of weights"
    reasons["offload"] = f"{chosen.placement.why}: {room}"
    if chosen.placement.quantization:
        reasons["quantization"] = chosen.placement.why
    values["batch_size"] = chosen.batch_size
    reasons["batch_size"] = f"the most that fit, up to 16, at {what.height} x {what.width} pixels"
    if chosen.vae_slicing and chosen.batch_size > 1 and what.slices:
        values["vae_slicing"] = True
        reasons["vae_slicing"] = "decoding one image at a time takes less memory"
    steps = _steps(kind, options)
    values["num_inference_steps"], reasons["num_inference_steps"] = steps
    for key in ("guidance_scale", "height", "width", "max_sequence_length"):
        if key in options and key in _published(model, name):
            values[key] = options[key]
            reasons[key] = "as published for calibration" if key in ("height", "width") else "as published"
    if video and name == GENERAL:
        values |= {video: options[video]} if video == "num_frames" else {"pipeline_options": {video: options[video]}}
        reasons[video if video == "num_frames" else f"pipeline_options.{video}"] = (
            "the rewards score pictures, so the model makes single frames; for videos, give objectives that score them"
            if options[video] == 1
            else "short videos, so that many can be made"
        )
    return values, reasons


def _steps(kind: Any, options: Mapping[str, Any]) -> tuple[int, str]:
    if options.get("num_inference_steps"):
        return int(options["num_inference_steps"]), "as published for calibration"
    own = inspect.signature(kind.__call__).parameters["num_inference_steps"].default
    if isinstance(own, int) and own <= MOST_STEPS:
        return own, "the pipeline's own"
    return MOST_STEPS, f"fewer than the pipeline's own {own}, since a run makes thousands of images"


def _told_rewards(why: str, chosen: Fit) -> str:
    waits = "; they wait in main memory while images are made" if chosen.placement.rewards_wait else ""
    watched = ", ".join(each.name for each in chosen.watched)
    return f"{why}; {f'{watched} only watched, for the alarm' if watched else 'no other fits to be watched'}{waits}"


def _told_sizes(video: bool) -> dict[str, str]:
    made = "videos" if video else "images"
    return {
        "generations": "the most; a search that no longer gains stops earlier",
        "validation": f"{made} that choose the result",
        "test": f"{made} that measure the gain, once" + (", fewer because videos cost more" if video else ""),
    }
