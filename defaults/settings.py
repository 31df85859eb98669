"""The options of a model's adapter that do not depend on the machine: its steps, sizes, guidance and frames."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..adapters.families import FAMILIES, Family
from ..adapters.published import CHECKPOINTS
from .fit import SHORT
from .model import GENERAL, Model

MOST_STEPS = 20  # of a pipeline that would make more by itself; Calibri, section 4, calibrates at 15
FRAMES = ("num_frames", "video_length")  # the argument that sets the number of frames of a video
FEW_STEPS = {"num_inference_steps": 4, "guidance_scale": 0.0, "max_sequence_length": 256}  # FLUX.1-schnell's
SHOWN = ("num_inference_steps", "guidance_scale", "height", "width", "max_sequence_length")

OWN = "as the checkpoint's own trimpot.json says"
_FEW = "as published for models that are distilled to few steps"
_PUBLISHED = "as published for calibration"


@dataclass(frozen=True)
class Settings:
    """Options of an adapter, each with the reason for it.

    Attributes:
        values: The options to write into a configuration.
        reasons: For each, one short sentence.
        sizes: `height`, `width` and `num_frames` of an output, as far as they are set.
        makes: `image` or `video`.
    """

    values: dict[str, Any]
    reasons: dict[str, str]
    sizes: dict[str, Any]
    makes: str


def family_of_adapter(name: str) -> Family | None:
    """Return the family that a named adapter drives, or None for any other adapter."""
    return next((family for family in FAMILIES.values() if family.adapter == name), None)


def settings_of(model: Model, adapter: str, given: Mapping[str, Any], *, scores_pictures: bool) -> Settings:
    """Choose the options that do not depend on the machine.

    Args:
        model: The model.
        adapter: The name of its adapter.
        given: Options that are given already; they are left to the user, and count for `sizes`.
        scores_pictures: Whether all rewards score pictures, of which a video pipeline then makes one at a time.
    """
    family = FAMILIES.get(model.pipeline.__name__) if adapter != GENERAL else None
    found: dict[str, tuple[Any, str]] = {}
    if family is not None:
        found |= {key: (value, _PUBLISHED) for key, value in family.published.items()}
        found |= {key: (value, why) for key, (value, why) in _published(model, family).items()}
    found |= {key: (value, OWN) for key, value in model.settings.items()}
    if "num_inference_steps" not in found:
        found["num_inference_steps"] = _steps(model.pipeline)
    values = {key: found[key][0] for key in SHOWN if key in found and key not in given}
    reasons = {key: found[key][1] for key in values}
    sizes: dict[str, Any] = {
        key: value for key, (value, _) in found.items() if key in ("height", "width", "num_frames")
    }
    takes = inspect.signature(model.pipeline.__call__).parameters if family is None else {}
    extra = dict(given.get("pipeline_options") or {})
    taken = {*found, *given, *extra}
    if "use_resolution_binning" in takes and "use_resolution_binning" not in taken:
        extra["use_resolution_binning"] = False
        reasons["pipeline_options.use_resolution_binning"] = "so that outputs have the very size that is asked for"
    frames = next((name for name in FRAMES if name in takes), None)
    if frames is not None and not {*FRAMES} & taken:
        sizes["num_frames"] = 1 if scores_pictures else SHORT
        if frames == "num_frames":
            values[frames] = sizes["num_frames"]
        else:
            extra[frames] = sizes["num_frames"]
        reasons[frames if frames in values else f"pipeline_options.{frames}"] = (
            "the rewards score pictures, so the model makes single frames; for videos, give objectives that score them"
            if scores_pictures
            else "short videos, so that many can be made"
        )
    if extra != (given.get("pipeline_options") or {}):
        values["pipeline_options"] = extra
    sizes |= {key: given[key] for key in ("height", "width", "num_frames") if key in given}
    if frames in extra:
        sizes["num_frames"] = extra[frames]
    return Settings(values, reasons, sizes, "image" if frames is None or sizes.get("num_frames") == 1 else "video")


def _published(model: Model, family: Family) -> dict[str, tuple[Any, str]]:
    """Return the published settings of a checkpoint that differ from those of its family."""
    if not model.is_local and model.source in CHECKPOINTS:
        return {key: (value, _PUBLISHED) for key, value in CHECKPOINTS[model.source].settings.items()}
    if family.distilled and model.config("transformer").get("guidance_embeds") is False:
        return {key: (value, _FEW) for key, value in FEW_STEPS.items()}
    return {}


def _steps(pipeline: Any) -> tuple[int, str]:
    own = inspect.signature(pipeline.__call__).parameters["num_inference_steps"].default
    if isinstance(own, int) and own <= MOST_STEPS:
        return own, "the pipeline's own"
    return MOST_STEPS, f"fewer than the pipeline's own {own}, since a run makes thousands of outputs"
