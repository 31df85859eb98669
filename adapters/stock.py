"""The adapter of any diffusers pipeline whose transformer is covered: images or videos, guided its own way.

The stock pipeline's `__call__` runs as anybody would call it, with prompts and a generator for each. It knows of no
members: a candidate is one set of scales, whatever the transformer is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..engine.errors import ModelError, near_misses
from ..engine.seams import Output
from .options import StockOptions
from .pipelines import PipelineAdapter
from .scaling import Scaling
from .sites import Site
from .sources import first_line

if TYPE_CHECKING:
    from torch import nn

NEEDED = ("prompt", "generator", "output_type", "num_inference_steps")
SET_HERE = (*NEEDED, "num_images_per_prompt", "num_videos_per_prompt")


class StackedRows:
    """A row of scales for each output, however often the pipeline stacks its rows for guidance.

    Pipelines that guide in one forward pass stack all unconditional rows before all conditional ones, so the rows of
    scales are repeated as a whole; others call the transformer once for each, and nothing is repeated.

    Args:
        model: The transformer.
        sites: Its sites.
    """

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        self._first = list(inspect.signature(type(model).forward).parameters)[1]  # the one after self
        self._scales: Tensor | None = None
        self._parts: dict[int, list[Tensor]] = {}
        self._scaling = Scaling(model, sites)
        self._handle = model.register_forward_pre_hook(self._repeat, with_kwargs=True)

    def set(self, scales: Tensor | None, _weights: Tensor | None = None) -> None:
        """Set (num_rows, 1, num_sites) scales, or make the hooks idle with None; the one member has no weight."""
        self._scales, self._parts = None if scales is None else scales[:, 0], {}
        self._scaling.use(None)

    def remove(self) -> None:
        """Take all hooks off; the model is as it was."""
        self._handle.remove()
        self._scaling.remove()

    def _repeat(self, _model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._scales is None:
            return
        num_given, num_rows = len(args[0] if args else kwargs[self._first]), len(self._scales)
        if num_given % num_rows:
            raise ModelError(
                f"the pipeline calls its transformer with {num_given} rows for {num_rows} outputs, so it cannot be "
                "told which is whose; set batch_size: 1"
            )
        if num_given not in self._parts:
            self._parts[num_given] = self._scaling.split(self._scales.repeat(num_given // num_rows, 1))
        self._scaling.use(self._parts[num_given])


class StockAdapter(PipelineAdapter):
    """Any diffusers pipeline with knobs on its transformer's sites.

    A pipeline with two transformers, as Wan 2.2 has, is calibrated in the first.

    Args:
        pipe: The pipeline, on its device and in its dtype.
        source: What `describe` says of where it came from: `id`, and `revision` or a digest of its weights.
        options: What was chosen.

    Raises:
        ModelError: If the transformer is not covered, or is hooked or compiled already, or the pipeline does not
            take an option.
    """

    options: StockOptions

    def __init__(self, pipe: Any, source: Mapping[str, Any], options: StockOptions) -> None:
        if getattr(pipe, "transformer", None) is None:
            raise ModelError(f"a {type(pipe).__name__} has no transformer to calibrate")
        self._arguments = call_arguments(pipe, options)
        takes = inspect.signature(type(pipe).__call__).parameters
        steps = options.num_inference_steps or takes["num_inference_steps"].default
        options = options.model_copy(update={"num_inference_steps": steps})
        example = None
        if options.dead == "freeze":
            example = first_inputs(pipe, {**self._arguments, "num_inference_steps": 1})
        super().__init__(pipe.transformer, source, options, ["all"], example=example, measured=True)
        self.makes = "video" if "num_frames" in takes else "image"
        self._attach(pipe, StackedRows(pipe.transformer, self.layout.sites))

    def _call(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Output]:
        """One call of the stock pipeline. The hooks are set for its rows."""
        result = self.pipe(
            prompt=list(prompts),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=self.num_steps,
            output_type="pil",
            **self._arguments,
        )
        return list(result.frames if hasattr(result, "frames") else result.images)

    def describe(self) -> dict[str, Any]:
        """Everything that can change an output. See `Adapter.describe`."""
        return {**super().describe(), "call": self._arguments}


def call_arguments(pipe: Any, options: StockOptions) -> dict[str, Any]:
    """What a pipeline's call is given beside prompts, seeds and steps.

    Raises:
        ModelError: If it does not take something, or is given twice.
    """
    takes = set(inspect.signature(type(pipe).__call__).parameters) - {"self"}
    kind = type(pipe).__name__
    for name in NEEDED:
        if name not in takes:
            raise ModelError(f"a {kind} takes no {name}, so trimpot cannot drive it")
    named = ("guidance_scale", "height", "width", "max_sequence_length", "num_frames")
    given = {name: getattr(options, name) for name in named if getattr(options, name) is not None}
    for name in options.pipeline_options:
        if name in SET_HERE or name in given:
            raise ModelError(f"pipeline_options sets {name}, which is set by the adapter; leave it out there")
    arguments = {**given, **options.pipeline_options}
    for name in arguments:
        if name not in takes:
            raise ModelError(f"a {kind} takes no {name}; {near_misses(name, takes)}")
    return arguments


class _Seen(Exception):  # noqa: N818  # it ends a call that has told what it was made for
    def __init__(self, inputs: dict[str, Any]) -> None:
        self.inputs = inputs


def first_inputs(pipe: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline first gives its transformer, by name. The transformer itself is not run."""

    def look(model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        arguments = dict(inspect.signature(type(model).forward).bind(model, *args, **kwargs).arguments)
        del arguments["self"]
        raise _Seen(arguments)

    handle = pipe.transformer.register_forward_pre_hook(look, with_kwargs=True)
    try:
        pipe.set_progress_bar_config(disable=True)
        pipe(prompt=["a"], generator=[torch.Generator().manual_seed(0)], output_type="pil", **arguments)
    except _Seen as seen:
        return seen.inputs
    except Exception as error:  # pipelines check their arguments in many ways
        raise ModelError(f"the {type(pipe).__name__} cannot be called as asked for: {first_line(error)}") from error
    finally:
        handle.remove()
        pipe.maybe_free_model_hooks()
    raise ModelError(f"a {type(pipe).__name__} made an output without calling its transformer")
