"""Find the pipeline that is calling a transformer, and read the state of its guidance.

A calibration is attached to a transformer, and several pipelines may share that transformer. The calibration therefore
keeps no reference to the pipeline it was loaded on: it searches the call stack for the calling pipeline.
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
    """A call of a pipeline that is in progress.

    Attributes:
        pipe: The pipeline.
        given: The current values of the arguments of its `__call__`.
    """

    pipe: Any
    given: Mapping[str, Any]


@torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled code has no stack to look at
def pipeline_call() -> PipelineCall | None:
    """Return this thread's innermost call of a diffusers pipeline that is in progress, or None."""
    diffusers = sys.modules.get("diffusers")
    if diffusers is None:  # nobody calls a pipeline of a library that is not imported
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__call__" and code.co_argcount:
            found = frame.f_locals
            pipe = found.get(code.co_varnames[0])
            if isinstance(pipe, diffusers.DiffusionPipeline):
                names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
                return PipelineCall(pipe, {name: found[name] for name in names if name in found})
        frame = frame.f_back
    return None


def is_saving() -> bool:
    """Return whether a `save_pretrained` is in progress in this thread."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "save_pretrained":
            return True
        frame = frame.f_back
    return False


def _calling() -> PipelineCall:
    call: PipelineCall | None = pipeline_call()
    if call is None:
        raise ModelError(
            "an ensemble replaces the guidance of a diffusers pipeline, but no such pipeline is calling the "
            "transformer; call the pipeline, or apply a calibration of one member"
        )
    return call


def num_groups() -> int:
    """Return 2 if the calling pipeline stacks unconditional rows before conditional ones, otherwise 1.

    Raises:
        ModelError: If no pipeline is calling, or the pipeline does not say whether it guides.
    """
    pipe = _calling().pipe
    guides = getattr(pipe, "do_classifier_free_guidance", None)
    if guides is None:
        raise ModelError(
            f"a {type(pipe).__name__} does not say whether it guides, so an ensemble cannot tell its rows apart; "
            "apply a calibration of one member"
        )
    return 2 if guides else 1


def moment() -> object:
    """Return an object that identifies the current pipeline call: each call gives its scheduler new timesteps.

    Raises:
        ModelError: If no pipeline is calling.
    """
    return _calling().pipe.scheduler.timesteps


def refuse_perturbed() -> None:
    """Refuse perturbed-attention guidance, whose extra rows belong to no ensemble member.

    Raises:
        ModelError: If the calling pipeline uses perturbed-attention guidance.
    """
    call = pipeline_call()
    if call is not None and getattr(call.pipe, "do_perturbed_attention_guidance", False):
        raise ModelError("an ensemble cannot be combined with perturbed-attention guidance; pass pag_scale=0")


def negative_is(empty: str) -> bool | None:
    """Return whether all negative prompts of the calling pipeline equal `empty`; None if they are embeddings.

    Pipelines with several text encoders take a negative prompt for each, such as `negative_prompt_2`.
    """
    call = pipeline_call()
    prompts: list[object] = []
    for name, given in {} if call is None else call.given.items():
        if name.startswith("negative_prompt") and isinstance(given, (str, list, tuple)):
            prompts += [given] if isinstance(given, str) else given
    return all(prompt == empty for prompt in prompts) if prompts else None
