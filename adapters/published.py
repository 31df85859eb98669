"""Published checkpoints: their transformers' configurations and the settings they are meant for.

With these, a transformer can be built without weights, and its knobs counted, where nothing can be downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import ModelError
from ..engine.weights import quiet_import
from .sources import first_line

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Checkpoint:
    """One published checkpoint.

    Attributes:
        config: What differs in its transformer's configuration from the defaults of the class.
        settings: What differs in its published settings from those of its family.
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


def transformer_class(model: str, revision: str | None = None) -> str:
    """Class name of a checkpoint's transformer.

    Args:
        model: A hub id or a folder.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: If it cannot be read or there is none.
    """
    with quiet_import():
        import diffusers

    try:
        index = diffusers.DiffusionPipeline.load_config(model, revision=revision, local_files_only=Path(model).is_dir())
    except Exception as error:  # hub and file errors come in many classes
        raise ModelError(f"cannot outline {model}: {first_line(error)}") from error
    library, name = index.get("transformer") or (None, None)
    if library != "diffusers" or name is None:
        raise ModelError(f"{model} has no transformer of diffusers to calibrate")
    return str(name)


def outlined(kind: str, model: str, revision: str | None = None) -> nn.Module:
    """Build a transformer of its configuration alone, on the meta device.

    Args:
        kind: Its class name in diffusers.
        model: A published checkpoint, another hub id, or a folder.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: If its configuration cannot be had or does not fit the class.
    """
    import torch

    with quiet_import():
        import diffusers

        transformer = getattr(diffusers, kind)
        try:
            if model in CHECKPOINTS:
                config = dict(CHECKPOINTS[model].config)
            else:
                config = transformer.load_config(
                    model, subfolder="transformer", revision=revision, local_files_only=Path(model).is_dir()
                )
            with torch.device("meta"):
                made: nn.Module = transformer.from_config(config)
        except Exception as error:  # hub, file and shape errors come in many classes
            raise ModelError(f"cannot outline the {kind} of {model}: {first_line(error)}") from error
    return made
