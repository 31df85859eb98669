"""Every pipeline class of diffusers that takes a transformer of a named family, built from a tiny checkpoint."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from generated import pixels
from PIL import Image
from trimpot.adapters.families import FAMILIES

NAMES = {"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux", "QwenImageTransformer2DModel": "qwen"}


def pipelines_of(transformer: str) -> list[str]:
    """Names of the pipeline classes whose constructors take a transformer of a class, from diffusers' source."""
    found = []
    for file in sorted((Path(diffusers.__file__).parent / "pipelines").glob("*/pipeline_*.py")):
        for part in re.split(r"^class ", file.read_text(encoding="utf-8"), flags=re.M)[1:]:
            name, _, rest = part.partition("(")
            begin = re.search(r"def __init__\((.*?)\):", rest, flags=re.S)
            if begin and re.search(rf"\btransformer: {transformer}\b", begin[1]) and hasattr(diffusers, name):
                found.append(name)
    return found


TABLE = [(family.transformer, name) for family in FAMILIES.values() for name in pipelines_of(family.transformer)]


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (16, 16), colour)


def widened(transformer: Any, num_channels: int) -> Any:
    """The same transformer but for its first layer, which takes a condition's channels beside the latents'."""
    other = type(transformer).from_config({**transformer.config, "in_channels": num_channels, "out_channels": 16})
    weights = {key: value for key, value in transformer.state_dict().items() if not key.startswith("x_embedder")}
    other.load_state_dict(weights, strict=False)
    return other


def controlnet(kind: str, transformer: Any, *, inpainting: bool) -> Any:
    """A ControlNet made of a transformer."""
    cls = {"sd3": "SD3ControlNetModel", "flux": "FluxControlNetModel", "qwen": "QwenImageControlNetModel"}[kind]
    model_class = getattr(diffusers.models, cls)
    takes = set(inspect.signature(model_class.__init__).parameters)
    mask = {"sd3": {"extra_conditioning_channels": 1}, "qwen": {"extra_condition_channels": 4}}
    further = mask.get(kind, {}) if inpainting else {}
    model = model_class(**{key: value for key, value in transformer.config.items() if key in takes}, **further)
    torch.manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if not value.any():
                value.normal_(0, 0.05)  # a ControlNet begins as one that does nothing
    return model


def built(name: str, pipe: Any, kind: str) -> Any:
    """A pipeline of a class from another's components, which has no optional ones."""
    cls = getattr(diffusers, name)
    parts: dict[str, Any] = {}
    for part, parameter in inspect.signature(cls.__init__).parameters.items():
        if part in pipe.components:
            parts[part] = pipe.components[part]
        elif part == "controlnet":
            parts[part] = controlnet(kind, pipe.transformer, inpainting="Inpaint" in name)
        elif part in ("self", "kwargs", "resolution") or parameter.default is not inspect.Parameter.empty:
            continue
        else:
            parts[part] = None
    if "FluxControl" in name and "Net" not in name:
        parts["transformer"] = widened(pipe.transformer, 32)
    if name in ("FluxFillPipeline", "VisualClozePipeline", "VisualClozeGenerationPipeline"):
        parts["transformer"] = widened(pipe.transformer, 96)
    found = cls(**parts)
    found.set_progress_bar_config(disable=True)
    return found


def arguments(pipe: Any, kind: str) -> dict[str, Any]:
    """A call of a pipeline, with whatever pictures it takes."""
    takes = inspect.signature(type(pipe).__call__).parameters
    given: dict[str, Any] = {
        "prompt": "a cat",
        "height": 16,
        "width": 16,
        "num_inference_steps": 3,
        "max_sequence_length": 4 if kind == "sd3" else 16,
        "image": picture("red"),
        "mask_image": picture("white"),
        "control_image": picture("blue"),
        "control_mask": picture("white"),
        "strength": 0.9,
        "pag_scale": 0.0,
        "_auto_resize": False,
        "max_area": 256,
    }
    call = {key: value for key, value in given.items() if key in takes}
    if kind == "qwen":
        call.pop("max_sequence_length", None)
    return {**call, "generator": torch.Generator().manual_seed(3)}


# What cannot be called with parts this small; their transformers are called by themselves.
UNCALLED = (
    "StableDiffusion3InpaintPipeline",  # it wants 16 channels
    "VisualClozePipeline",  # it draws images in rows
    "VisualClozeGenerationPipeline",
    "QwenImageEditPipeline",  # it shows its images to the text encoder
    "QwenImageEditInpaintPipeline",
    "QwenImageEditPlusPipeline",
    "QwenImageLayeredPipeline",  # it makes no image below 640 pixels
)


def drawn(pipe: Any, kind: str, **further: Any) -> Any:
    """What a pipeline makes, or its transformer alone."""
    torch.manual_seed(0)  # some pipelines sample what they encode of a picture
    if type(pipe).__name__ not in UNCALLED:
        return np.stack(pixels(pipe(**{**arguments(pipe, kind), **further}).images))
    model = pipe.transformer
    family = next(each for each in FAMILIES.values() if NAMES[each.transformer] == kind)
    generator = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randn(value.shape, generator=generator) if isinstance(value, torch.Tensor) else value
        for name, value in family.example(model.config).items()
    }
    with torch.no_grad():
        return 100 * model(**inputs, return_dict=False)[0].numpy()
