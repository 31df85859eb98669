"""Published checkpoints: their transformers' configurations and recommended settings.

From these, a transformer can be built without weights and its knobs can be counted, without a download.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ground.errors import ModelError, first_line
from ..ground.hub import hub_sentence
from ..ground.weights import quiet_import
from .sites import SECOND
from .sources import located_checkpoint

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Checkpoint:
    """One published checkpoint.

    Attributes:
        config: The values of its transformer's configuration that differ from the defaults of the class.
        settings: The published settings that differ from those of its family.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


_SD3_MEDIUM = {
    "sample_size": 128,
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}

CHECKPOINTS: dict[str, Checkpoint] = {
    "black-forest-labs/FLUX.1-dev": Checkpoint({"guidance_embeds": True}),
    "black-forest-labs/FLUX.1-schnell": Checkpoint(
        settings={"num_inference_steps": 4, "guidance_scale": 0.0, "max_sequence_length": 256}
    ),
    "stabilityai/stable-diffusion-3-medium-diffusers": Checkpoint(_SD3_MEDIUM),
    "stabilityai/stable-diffusion-3.5-medium": Checkpoint(
        {
            **_SD3_MEDIUM,
            "pos_embed_max_size": 384,
            "dual_attention_layers": tuple(range(13)),
            "qk_norm": "rms_norm",
        }
    ),
    "stabilityai/stable-diffusion-3.5-large": Checkpoint(
        {
            "sample_size": 128,
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        }
    ),
    "Qwen/Qwen-Image": Checkpoint(),
}


def transformer_classes(model: str, revision: str | None = None) -> list[tuple[str, str, str]]:
    """List a checkpoint's transformers, one or two.

    Args:
        model: A hub id or a folder.
        revision: Branch, tag or commit on the hub.

    Returns:
        For each transformer, the prefix of its knobs' names, its component's name, and its class name in diffusers.

    Raises:
        ModelError: If the checkpoint cannot be read or has no transformer.
    """
    local = isinstance(located_checkpoint(model, revision), Path)
    with quiet_import():
        try:
            from diffusers import DiffusionPipeline

            index = DiffusionPipeline.load_config(model, revision=revision, local_files_only=local)
        except Exception as error:  # hub and file errors come in many classes
            raise ModelError(f"cannot outline {model}: {_why(model, revision, error)}") from error
    components = (("", "transformer"), (f"{SECOND}.", SECOND))
    listed = [(prefix, name, *(index.get(name) or (None, None))) for prefix, name in components]
    found = [(prefix, name, str(kind)) for prefix, name, library, kind in listed if library == "diffusers" and kind]
    if not found or found[0][1] != "transformer":
        raise ModelError(f"{model} has no transformer of diffusers to calibrate")
    return found


def outlined(kind: str, model: str, revision: str | None = None, part: str = "transformer") -> nn.Module:
    """Build a transformer from its configuration alone, on the meta device.

    Args:
        kind: The transformer's class name in diffusers.
        model: A published checkpoint, another hub id, or a folder.
        revision: Branch, tag or commit on the hub.
        part: The transformer's component name in the checkpoint.

    Raises:
        ModelError: If the configuration cannot be read or does not fit the class.
    """
    import torch

    local = model not in CHECKPOINTS and isinstance(located_checkpoint(model, revision), Path)
    with quiet_import():
        import diffusers

        transformer = getattr(diffusers, kind)
        try:
            if model in CHECKPOINTS:
                config = dict(CHECKPOINTS[model].config)
            else:
                config = transformer.load_config(model, subfolder=part, revision=revision, local_files_only=local)
            if config.get("_class_name", kind) != kind:  # diffusers would use the keys that both classes have
                raise ModelError(f"{model} holds a {config['_class_name']}, not a {kind}; use the adapter made for it")
            with torch.device("meta"):
                made: nn.Module = transformer.from_config(config)
        except ModelError:
            raise
        except Exception as error:  # hub, file and shape errors come in many classes
            raise ModelError(f"cannot outline the {kind} of {model}: {_why(model, revision, error)}") from error
    return made


def _why(model: str, revision: str | None, error: Exception) -> str:
    return first_line(error) if Path(model).is_dir() else hub_sentence(model, revision, error)
