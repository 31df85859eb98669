"""The pipeline whose call a forward pass is part of, and what its own guidance is doing there.

A calibration lies on a transformer, and any number of pipelines may share it: those made of one another's components,
and copies. So nothing is remembered of the pipeline that a calibration was loaded on; the one that is calling is found
on the stack.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from ..ground.errors import ModelError


@dataclass(frozen=True)
class PipelineCall:
    """A pipeline's call under way.

    Attributes:
        pipe: The pipeline.
        given: What its `__call__` was given, as it stands by now.
    """

    pipe: Any
    given: Mapping[str, Any]


@torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled code has no stack to look at
def pipeline_call() -> PipelineCall | None:
    """The innermost call of a diffusers pipeline that is under way in this thread, if there is one."""
    from diffusers import DiffusionPipeline

    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__call__" and code.co_argcount:
            found = frame.f_locals
            pipe = found.get(code.co_varnames[0])
            if isinstance(pipe, DiffusionPipeline):
                names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
                return PipelineCall(pipe, {name: found[name] for name in names if name in found})
        frame = frame.f_back
    return None


def _calling() -> PipelineCall:
    call: PipelineCall | None = pipeline_call()
    if call is None:
        raise ModelError(
            "an ensemble takes the place of a diffusers pipeline's guidance, and no such pipeline is calling its "
            "transformer; call the pipeline, or apply a calibration of one member"
        )
    return call


def num_groups() -> int:
    """How often the calling pipeline stacks its rows: 2 where it puts unconditional rows before conditional ones.

    Raises:
        ModelError: If no pipeline is calling, or it does not say.
    """
    pipe = _calling().pipe
    guides = getattr(pipe, "do_classifier_free_guidance", None)
    if guides is None:
        raise ModelError(
            f"a {type(pipe).__name__} does not say whether it guides, so an ensemble cannot tell its rows; apply a "
            "calibration of one member"
        )
    return 2 if guides else 1


def moment() -> object:
    """The denoising at hand, by an object of its own: every call of a pipeline sets its scheduler's steps anew.

    Raises:
        ModelError: If no pipeline is calling.
    """
    return _calling().pipe.scheduler.timesteps


def refuse_perturbed() -> None:
    """Refuse perturbed-attention guidance, whose rows are no ensemble's.

    Raises:
        ModelError: If the calling pipeline does it.
    """
    call = pipeline_call()
    if call is not None and getattr(call.pipe, "do_perturbed_attention_guidance", False):
        raise ModelError("an ensemble cannot take part in perturbed-attention guidance; pass pag_scale=0")


def negative_is(empty: str) -> bool | None:
    """Whether the calling pipeline's negative prompts are a given one; None where they were given as embeddings.

    Pipelines of several text encoders take one for each: `negative_prompt_2`.
    """
    call = pipeline_call()
    prompts: list[object] = []
    for name, given in {} if call is None else call.given.items():
        if name.startswith("negative_prompt") and isinstance(given, (str, list, tuple)):
            prompts += [given] if isinstance(given, str) else given
    return all(prompt == empty for prompt in prompts) if prompts else None
