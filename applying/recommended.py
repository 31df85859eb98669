"""The call of a pipeline that a calibration was measured with, and what departs from it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..adapters.families import FAMILIES, Family
from ..engine.calibration import Calibration
from ..ground.plain import plain
from .callers import PipelineCall

SIZES = ("height", "width")
MODES = ("generate", "likelihood")  # of language models


def recommended_call(calibration: Calibration, pipe: Any) -> dict[str, Any]:
    """Return the arguments of the call that a calibration was measured with, except prompt and seed.

    They are the number of steps, the size, the longest prompt, and the guidance. For an ensemble with an unconditional
    member the pipeline's own guidance is switched off, because the ensemble replaces it. Arguments that the pipeline
    does not take, such as the size in some image-to-image pipelines, are left out.

    Args:
        calibration: The calibration.
        pipe: The pipeline that will be called.
    """
    backbone = calibration.backbone
    if backbone.get("mode") in MODES:
        return _text_call(backbone)
    call: dict[str, Any] = {"num_inference_steps": calibration.num_steps}
    if isinstance(backbone.get("call"), Mapping):  # of the adapter for any pipeline
        call |= backbone["call"]
    else:
        call |= {name: backbone.get(name) for name in (*SIZES, "max_sequence_length")}
        family = family_of_backbone(calibration)
        if family:
            call |= family.unguided
            if family.distilled:
                call[family.distilled] = backbone.get("guidance_scale")
    takes = inspect.signature(type(pipe).__call__).parameters
    return {name: value for name, value in call.items() if name in takes and _is_plain(value)}


def _text_call(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `generate` that a language model wrote texts with; none if it wrote none."""
    if backbone["mode"] == "likelihood":
        return {}
    temperature = backbone.get("temperature")
    call = {"max_new_tokens": backbone.get("max_new_tokens"), "do_sample": bool(temperature), "repetition_penalty": 1.0}
    if temperature:  # 0 and 1 are all tokens, where the model's files may say fewer
        call |= {"temperature": temperature, "top_k": backbone.get("top_k") or 0, "top_p": backbone.get("top_p") or 1.0}
    return {name: value for name, value in call.items() if _is_plain(value)}


def family_of_backbone(calibration: Calibration) -> Family | None:
    """Return the family of a calibrated pipeline that an ensemble was driven on, or None for any other pipeline."""
    backbone = calibration.backbone
    named = FAMILIES.get(str(backbone.get("pipeline")))
    kind = calibration.apply.get("transformer")
    return named or next((family for family in FAMILIES.values() if family.transformer == kind), None)


def without_effect(calibration: Calibration) -> set[str]:
    """Return the arguments that change nothing under a calibration: the guidance that an ensemble replaces."""
    members = calibration.apply.get("members")
    sees = {each.get("sees") for each in members if isinstance(each, Mapping)} if isinstance(members, list) else set()
    family = family_of_backbone(calibration)
    return set(family.unguided) if family and "unconditional" in sees else set()


def departures(call: PipelineCall, recommended: Mapping[str, Any], idle: set[str]) -> list[str]:
    """Describe the arguments of a call that differ from the recommended ones.

    Args:
        call: The call in progress.
        recommended: The call that the calibration was measured with.
        idle: Arguments that change nothing under the calibration.

    Returns:
        One clause for each, such as `num_inference_steps=20, not 4`.
    """
    shortened = {"num_inference_steps"} if "strength" in call.given else set()  # image to image leaves steps out
    return [
        f"{name}={call.given[name]}, not {value}"
        for name, value in recommended.items()
        if name in call.given and name not in idle | shortened and _differs(call.given[name], value)
    ]


def other_scheduler(pipe: Any, calibration: Calibration) -> str | None:
    """Describe how a pipeline's scheduler differs from the one that a calibration was measured with."""
    recorded, scheduler = calibration.backbone.get("scheduler"), getattr(pipe, "scheduler", None)
    if not isinstance(recorded, Mapping) or scheduler is None:
        return None
    kind = type(scheduler).__name__
    if kind != recorded.get("class"):
        return f"its scheduler is a {kind}, not a {recorded.get('class')}"
    found = {key: value for key, value in scheduler.config.items() if key[0] != "_"}
    now = plain(found, "the scheduler's configuration")
    changed = [key for key in now if key in recorded and now[key] != recorded[key]]
    if not changed:
        return None
    key = changed[0]
    return f"its scheduler's {key} is {now[key]}, not {recorded[key]}"


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))


def _differs(given: Any, value: Any) -> bool:
    if isinstance(given, bool) or isinstance(value, bool):
        return bool(given) != bool(value)
    if isinstance(given, (int, float)) and isinstance(value, (int, float)):
        return abs(given - value) > 1e-6 * abs(value)
    return isinstance(given, str) and given != value
