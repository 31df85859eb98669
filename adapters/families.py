"""Pipeline families: what differs between stock diffusers pipelines, as data.

A family says how a prompt is encoded, under which names its embeddings go into the pipeline and into the
transformer, and whether the pipeline guides by itself. One adapter drives them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engine.errors import ModelError
from .ensemble import Conditioning

if TYPE_CHECKING:
    from torch import Tensor

Embeddings = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Family:
    """One pipeline class.

    Attributes:
        pipeline: Its class name in diffusers.
        conditioning: How its transformer takes its inputs.
        embeddings: Pipeline argument to transformer argument, for what carries the prompt.
        encode: Encodes one prompt into the pipeline's embedding arguments, each of one row.
        unguided: Arguments that switch the pipeline's own guidance off.
        guided: Whether the pipeline, as it is being called, stacks unconditional rows itself.
        guidance: Whether its models need guidance, and so an ensemble of two.
    """

    pipeline: str
    conditioning: Conditioning
    embeddings: Mapping[str, str]
    encode: Callable[[Any, str, int | None], Embeddings]
    unguided: Mapping[str, Any]
    guided: Callable[[Any], bool]
    guidance: bool


def _encode_sd3(pipe: Any, prompt: str, max_sequence_length: int | None) -> Embeddings:
    extra = {} if max_sequence_length is None else {"max_sequence_length": max_sequence_length}
    embeds, _, pooled, _ = pipe.encode_prompt(
        prompt, None, None, do_classifier_free_guidance=False, device=pipe._execution_device, **extra
    )
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


SD3 = Family(
    pipeline="StableDiffusion3Pipeline",
    conditioning=Conditioning(
        rows=("hidden_states", "timestep", "encoder_hidden_states", "pooled_projections"),
        prompt=("encoder_hidden_states", "pooled_projections"),
    ),
    embeddings={"prompt_embeds": "encoder_hidden_states", "pooled_prompt_embeds": "pooled_projections"},
    encode=_encode_sd3,
    unguided={"guidance_scale": 1.0},
    guided=lambda pipe: bool(getattr(pipe, "_guidance_scale", 1.0) > 1.0),
    guidance=True,
)

FAMILIES: dict[str, Family] = {SD3.pipeline: SD3}


def family_of(pipe: Any) -> Family:
    """The family of a pipeline.

    Raises:
        ModelError: If there is none.
    """
    for kind in type(pipe).__mro__:
        if kind.__name__ in FAMILIES:
            return FAMILIES[kind.__name__]
    raise ModelError(f"no adapter drives a {type(pipe).__name__}; known: {', '.join(FAMILIES)}")
