"""Pipeline families: the differences between stock diffusers pipelines, as data.

A family records how a prompt is encoded, which arguments of the pipeline and the transformer take its embeddings,
how the pipeline guides, and which settings are published. One adapter drives all families.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..ground.errors import ModelError
from .ensemble import Condition, Conditioning

if TYPE_CHECKING:
    from torch import Tensor

Embeddings = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Family:
    """One pipeline class and its transformer class.

    Attributes:
        adapter: The named adapter that drives it.
        pipeline: The pipeline's class name in diffusers.
        transformer: The transformer's class name.
        conditioning: How the transformer takes its inputs, and how members are combined.
        embeddings: Pipeline argument to transformer argument, for each prompt embedding.
        encode: Encodes one prompt into the pipeline's embedding arguments, each with one row.
        unguided: Arguments that switch the pipeline's own guidance off.
        stacks: Whether the pipeline guides by stacking unconditional rows before conditional ones; otherwise it makes
            a second forward pass.
        guided: Whether the family's models need guidance, and therefore an ensemble of two.
        distilled: The pipeline argument for guidance that is distilled into the model.
        empty: The prompt that the unconditional member sees.
        packing: Latent pixels that are packed into one token's channels.
        example: Makes the smallest inputs of the transformer from the transformer's configuration.
        published: Settings for checkpoints that have no settings of their own.
    """

    adapter: str
    pipeline: str
    transformer: str
    conditioning: Conditioning
    embeddings: Mapping[str, str]
    encode: Callable[[Any, str, int | None], Embeddings]
    example: Callable[[Mapping[str, Any]], dict[str, Any]]
    unguided: Mapping[str, Any] = field(default_factory=dict)
    stacks: bool = False
    guided: bool = False
    distilled: str | None = None
    empty: str = ""
    packing: int = 1
    published: Mapping[str, Any] = field(default_factory=dict)

    @property
    def members(self) -> tuple[Condition, ...]:
        """What each member of the default ensemble sees."""
        return ("conditional", "unconditional") if self.guided else ("conditional",)


def _encode_sd3(pipe: Any, prompt: str, max_sequence_length: int | None) -> Embeddings:
    embeds, _, pooled, _ = pipe.encode_prompt(
        prompt, None, None, do_classifier_free_guidance=False, **_placed(pipe, max_sequence_length)
    )
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def _encode_flux(pipe: Any, prompt: str, max_sequence_length: int | None) -> Embeddings:
    embeds, pooled, _ = pipe.encode_prompt(prompt, None, **_placed(pipe, max_sequence_length))
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def _encode_qwen(pipe: Any, prompt: str, max_sequence_length: int | None) -> Embeddings:
    embeds, mask = pipe.encode_prompt(prompt, **_placed(pipe, max_sequence_length))
    if mask is None:  # nothing is masked
        mask = embeds.new_ones(embeds.shape[:2]).long()
    return {"prompt_embeds": embeds, "prompt_embeds_mask": mask}


def _placed(pipe: Any, max_sequence_length: int | None) -> dict[str, Any]:
    length = {} if max_sequence_length is None else {"max_sequence_length": max_sequence_length}
    return {"device": pipe._execution_device, **length}


def _example_sd3(config: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    side = 2 * config["patch_size"]
    return {
        "hidden_states": torch.zeros(1, config["in_channels"], side, side),
        "timestep": torch.zeros(1),
        "encoder_hidden_states": torch.zeros(1, 2, config["joint_attention_dim"]),
        "pooled_projections": torch.zeros(1, config["pooled_projection_dim"]),
    }


def _example_flux(config: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    return {
        "hidden_states": torch.zeros(1, 4, config["in_channels"]),
        "timestep": torch.zeros(1),
        "guidance": torch.zeros(1) if config["guidance_embeds"] else None,
        "encoder_hidden_states": torch.zeros(1, 2, config["joint_attention_dim"]),
        "pooled_projections": torch.zeros(1, config["pooled_projection_dim"]),
        "img_ids": torch.zeros(4, 3),
        "txt_ids": torch.zeros(2, 3),
    }


def _example_qwen(config: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    return {
        "hidden_states": torch.zeros(1, 4, config["in_channels"]),
        "timestep": torch.zeros(1),
        "encoder_hidden_states": torch.zeros(1, 2, config["joint_attention_dim"]),
        "img_shapes": [[(1, 2, 2)]],
    }


# Calibri, section 4: 15 steps at 512 pixels for every model.
SD3 = Family(
    adapter="sd3",
    pipeline="StableDiffusion3Pipeline",
    transformer="SD3Transformer2DModel",
    conditioning=Conditioning(
        rows=(
            "hidden_states",
            "timestep",
            "encoder_hidden_states",
            "pooled_projections",
            "block_controlnet_hidden_states",
        ),
        prompt=("encoder_hidden_states", "pooled_projections"),
        hints=("block_controlnet_hidden_states",),
        together=True,
    ),
    embeddings={"prompt_embeds": "encoder_hidden_states", "pooled_prompt_embeds": "pooled_projections"},
    encode=_encode_sd3,
    example=_example_sd3,
    unguided={"guidance_scale": 1.0},
    stacks=True,
    guided=True,
    published={
        "num_inference_steps": 15,
        "guidance_scale": 4.5,
        "guidance_grid": (3.0, 4.5, 6.0, 7.5),
        "height": 512,
        "width": 512,
    },
)

FLUX = Family(
    adapter="flux",
    pipeline="FluxPipeline",
    transformer="FluxTransformer2DModel",
    conditioning=Conditioning(
        rows=("hidden_states", "timestep", "guidance", "encoder_hidden_states", "pooled_projections"),
        prompt=("encoder_hidden_states", "pooled_projections"),
        together=False,
    ),
    embeddings={"prompt_embeds": "encoder_hidden_states", "pooled_prompt_embeds": "pooled_projections"},
    encode=_encode_flux,
    example=_example_flux,
    distilled="guidance_scale",
    packing=4,
    published={"num_inference_steps": 15, "guidance_scale": 3.5, "height": 512, "width": 512},
)

QWEN_IMAGE = Family(
    adapter="qwen-image",
    pipeline="QwenImagePipeline",
    transformer="QwenImageTransformer2DModel",
    conditioning=Conditioning(
        rows=("hidden_states", "timestep", "guidance", "encoder_hidden_states", "encoder_hidden_states_mask"),
        prompt=("encoder_hidden_states", "encoder_hidden_states_mask"),
        together=False,
        rescaled=True,
    ),
    embeddings={"prompt_embeds": "encoder_hidden_states", "prompt_embeds_mask": "encoder_hidden_states_mask"},
    encode=_encode_qwen,
    example=_example_qwen,
    unguided={"true_cfg_scale": 1.0},
    guided=True,
    empty=" ",  # what the model card recommends for no negative prompt, and so what users compare with
    packing=4,
    published={
        "num_inference_steps": 15,
        "guidance_scale": 4.0,
        "guidance_grid": (2.5, 4.0, 5.5),
        "height": 512,
        "width": 512,
    },
)

FAMILIES: dict[str, Family] = {family.pipeline: family for family in (SD3, FLUX, QWEN_IMAGE)}


def family_of(pipe: Any) -> Family:
    """Return the family of a pipeline.

    Raises:
        ModelError: If no family has the pipeline's class.
    """
    for kind in type(pipe).__mro__:
        if kind.__name__ in FAMILIES:
            return FAMILIES[kind.__name__]
    raise ModelError(
        f"no named adapter drives a {type(pipe).__name__} (only {', '.join(FAMILIES)}); use the adapter diffusers"
    )


def family_with(transformer: str) -> Family:
    """Return the family of a transformer class, for any pipeline that uses the class.

    Raises:
        ModelError: If no family has this transformer class.
    """
    for family in FAMILIES.values():
        if family.transformer == transformer:
            return family
    names = ", ".join(family.transformer for family in FAMILIES.values())
    raise ModelError(f"an ensemble needs a transformer of a named family ({names}), not a {transformer}")


def encode_prompt(pipe: Any, family: Family, prompt: str, max_sequence_length: int | None) -> Embeddings:
    """Encode one prompt into tensors with one row each, in main memory.

    The prompt is encoded alone, so that its embeddings do not depend on other prompts of a batch.

    Raises:
        ModelError: If the pipeline cannot encode it, for example because its text encoders have been dropped.
    """
    import torch

    if "image" in inspect.signature(pipe.encode_prompt).parameters:
        raise ModelError(
            f"a {type(pipe).__name__} encodes a prompt together with its image, so the empty prompt cannot be encoded "
            "for an ensemble; apply a calibration of one member"
        )
    try:
        with torch.no_grad():
            rows = family.encode(pipe, prompt, max_sequence_length)
    except Exception as error:  # tokenizers and text encoders fail in many classes
        gone = text_encoders_are_gone(pipe)
        why = "its text encoders have been dropped" if gone else f"{type(error).__name__}: {error}"
        raise ModelError(f"the pipeline cannot encode the prompt {prompt!r}: {why}") from error
    return {name: value.cpu() for name, value in rows.items()}


def text_encoders_are_gone(pipe: Any) -> bool:
    """Return whether a pipeline's text encoders have all been dropped."""
    encoders = [name for name in pipe.components if name.startswith("text_encoder")]
    return bool(encoders) and all(getattr(pipe, name) is None for name in encoders)


def as_inputs(family: Family, rows: Embeddings) -> dict[str, Tensor]:
    """Rename embeddings to the transformer's arguments, and omit a mask that masks nothing, as pipelines do."""
    return {
        family.embeddings[name]: value
        for name, value in rows.items()
        if value.is_floating_point() or not bool(value.all())
    }
