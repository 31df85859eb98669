"""The adapter for any diffusers image or video pipeline with a covered transformer, guided by the pipeline itself.

The adapter calls the stock pipeline as any user would, with prompts and a generator for each. There are no ensemble
members: a candidate's scales apply to every forward pass of the transformer.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..engine.seams import Output
from ..ground.errors import ModelError, first_line, near_misses
from .encodings import PROBE, identity_of
from .families import text_encoders_are_gone
from .memory import told
from .options import StockOptions
from .pipelines import PipelineAdapter
from .prompt_cache import PromptCache
from .row_noise import row_noise
from .rows import StackedRows, transformers
from .sizes import check_steps

if TYPE_CHECKING:
    from torch import nn

NEEDED = ("prompt", "generator", "output_type", "num_inference_steps")
SET_HERE = (*NEEDED, "num_images_per_prompt", "num_videos_per_prompt")


class StockAdapter(PipelineAdapter):
    """Any diffusers pipeline with knobs on its transformer's sites.

    A pipeline with two transformers, such as Wan 2.2, has knobs on both; names of the second transformer's knobs start
    with `transformer_2.`.

    Args:
        pipe: The pipeline, on its device and in its dtype.
        source: The pipeline's source, for `describe`: `id`, and `revision` or a digest of its weights.
        options: The adapter's options.

    Raises:
        ModelError: If a transformer is not covered, or already has hooks or is compiled, or the pipeline does not
            take an option.
    """

    options: StockOptions

    def __init__(self, pipe: Any, source: Mapping[str, Any], options: StockOptions) -> None:
        if getattr(pipe, "transformer", None) is None:
            raise ModelError(f"a {type(pipe).__name__} has no transformer to calibrate")
        self.pipe = pipe
        self._arguments = call_arguments(pipe, options)
        self._prompts = PromptCache(pipe)
        self._met: set[str] = set()
        takes = inspect.signature(type(pipe).__call__).parameters
        steps = options.num_inference_steps or takes["num_inference_steps"].default
        self.options = options = options.model_copy(update={"num_inference_steps": steps})
        check_steps(pipe, steps)
        example = self._look([PROBE])
        if options.batch_size > 1:
            self._look([PROBE] * 2, checking=True)
        models = transformers(pipe)
        with told("run the transformer once", options, making=True):
            super().__init__(models, source, options, ["all"], example=example, measured=True)
        self.makes = "video" if {"num_frames", "video_length"} & set(takes) else "image"
        self._attach(pipe, StackedRows(models, self.layout.sites))

    def keep_in(self, folder: Path) -> None:
        """Keep encoded prompts in a file in this folder. See `Adapter.keep_in`."""
        if self._prompts.keeps and not text_encoders_are_gone(self.pipe):
            self._prompts.encodings.keep_in(folder, self._encoding_identity)

    def _encoding_identity(self) -> dict[str, Any]:
        probe = self._prompts.probe(lambda: self._look([PROBE]))
        return identity_of(self.pipe, self._source, self._arguments, probe)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode all prompts and drop the text encoders if `release_text_encoders` is set. See `Adapter.prepare`.

        Otherwise each prompt is encoded when its first outputs are made, and its encoding is kept if possible.

        Raises:
            ModelError: If the text encoders are to be dropped, but the pipeline would still need them.
        """
        known, size = self._prompts, self.options.batch_size
        if self.options.release_text_encoders:
            self._encode(list(dict.fromkeys(prompts)))
            kind = f"a {type(self.pipe).__name__}"
            if not known.keeps:
                raise ModelError(
                    f"the prompt encodings of a {kind} cannot be kept, so it needs its text encoders; leave out "
                    "release_text_encoders"
                )
            if size > 1 and not (known.joins and known.of_one_form()):
                raise ModelError(
                    f"the encodings of these prompts cannot be joined in a batch, so a {kind} needs its text encoders; "
                    "set batch_size: 1, or leave out release_text_encoders"
                )
            known.encodings.join()
            self._release_text_encoders()

    def _encode(self, prompts: Sequence[str]) -> None:
        """Call the pipeline until it calls its transformer. See `PipelineAdapter._encode`."""
        known, size = self._prompts, self.options.batch_size
        wanted = [prompt for prompt in prompts if prompt not in self._met]
        if known.keeps is False or not (known.joins or size == 1):
            return
        for begin in range(0, len(wanted), size):
            batch = wanted[begin : begin + size]
            self._look(batch)
            self._met.update(batch)

    def _look(self, prompts: list[str], *, checking: bool = False) -> dict[str, Any]:
        """Return the first inputs of the transformer for some prompts, which are encoded in the process."""
        with told("encode prompts", self.options), self._prompts.remembering(checking=checking):
            return first_inputs(
                self.pipe, {**self._arguments, "num_inference_steps": self.options.num_inference_steps}, prompts
            )

    def _asked(self) -> Mapping[str, Any]:
        """Return the sizes that the pipeline's call gets; some pipelines call the number of frames `video_length`."""
        return {"num_frames": self._arguments.get("video_length"), **self._arguments}

    def _call(self, prompts: Sequence[str], seeds: Sequence[int], _device: torch.device) -> list[Output]:
        """Call the stock pipeline once; the scales of its rows are already set."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with self._prompts.remembering(), row_noise(self.pipe, generators):
            result = self.pipe(
                prompt=list(prompts),
                generator=generators,
                num_inference_steps=self.num_steps,
                output_type="pil",
                **self._arguments,
            )
        return list(result.frames if hasattr(result, "frames") else result.images)

    def describe(self) -> dict[str, Any]:
        """Return everything that can change an output. See `Adapter.describe`."""
        return {**super().describe(), "call": self._arguments}


def call_arguments(pipe: Any, options: StockOptions) -> dict[str, Any]:
    """Return the arguments of a pipeline's call other than prompts, seeds and steps.

    Raises:
        ModelError: If the pipeline does not take an argument, or an argument is given twice.
    """
    check_drivable(type(pipe))
    parameters = inspect.signature(type(pipe).__call__).parameters
    takes = set(parameters) - {"self"}
    kind = type(pipe).__name__
    named = ("guidance_scale", "height", "width", "max_sequence_length", "num_frames")
    given = {name: getattr(options, name) for name in named if getattr(options, name) is not None}
    for name in options.pipeline_options:
        if name in SET_HERE or name in given:
            raise ModelError(f"pipeline_options sets {name}, which is set by the adapter; leave it out there")
    arguments = {**given, **options.pipeline_options}
    for name in arguments:
        if name not in takes:
            raise ModelError(f"a {kind} takes no {name}; {near_misses(name, takes)}")
        if takes_objects(parameters[name]):
            raise ModelError(
                f"pipeline_options sets {name}, which a {kind} takes as an image, a tensor or a function, but a "
                "configuration can only hold numbers and text; leave the option out"
            )
    return arguments


def check_drivable(pipeline: type[Any]) -> None:
    """Refuse a pipeline class that cannot make outputs from prompts and generators alone.

    Raises:
        ModelError: If its call takes no prompts, generators or steps, or needs more than a configuration can hold.
    """
    kind, takes = pipeline.__name__, inspect.signature(pipeline.__call__).parameters
    for name in NEEDED:
        if name not in takes:
            raise ModelError(f"a {kind} takes no {name}, so trimpot cannot drive it")
    for name in needed_beside_prompt(pipeline):
        raise ModelError(
            f"a {kind} also needs {name}, which a prompt file does not hold; calibrate the pipeline of the same "
            "transformer that takes prompts alone, and apply the calibration to it afterwards"
        )


def takes_objects(parameter: inspect.Parameter) -> bool:
    """Return whether an argument of a pipeline's call takes only objects that a configuration cannot hold."""
    kind = str(parameter.annotation)
    objects = re.search(r"Image|Tensor|ndarray|Condition\b", kind)
    return "Callable" in kind or bool(objects and not re.search(r"\b(str|int|float|bool|dict)\b|typing\.Any", kind))


def needed_beside_prompt(kind: type[Any]) -> list[str]:
    """List the required arguments of a pipeline's call that a configuration cannot give, such as `image`."""
    parameters = inspect.signature(kind.__call__).parameters.values()
    return [each.name for each in parameters if each.default is each.empty and takes_objects(each)]


class _Seen(Exception):  # noqa: N818  # not an error: ends the call once the inputs are known
    def __init__(self, inputs: dict[str, Any]) -> None:
        self.inputs = inputs


def first_inputs(pipe: Any, arguments: Mapping[str, Any], prompts: Sequence[str]) -> dict[str, Any]:
    """Return the inputs, by name, of a pipeline's first call of its transformer. The transformer itself is not run.

    Raises:
        ModelError: If the pipeline cannot be called with these arguments.
    """

    def look(model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        arguments = dict(inspect.signature(type(model).forward).bind(model, *args, **kwargs).arguments)
        del arguments["self"]
        raise _Seen(arguments)

    models = transformers(pipe).values()
    handles = [model.register_forward_pre_hook(look, with_kwargs=True) for model in models]
    generators = [torch.Generator().manual_seed(0) for _ in prompts]
    try:
        pipe.set_progress_bar_config(disable=True)
        pipe(prompt=list(prompts), generator=generators, output_type="pil", **arguments)
    except _Seen as seen:
        return seen.inputs
    except ModelError:
        raise
    except Exception as error:  # pipelines check their arguments in many ways
        kind, why = type(pipe).__name__, first_line(error)
        if len(prompts) > 1:
            raise ModelError(f"the {kind} takes no batch of prompts: {why}; set batch_size: 1") from error
        raise ModelError(f"the {kind} cannot be called with these options: {why}") from error
    finally:
        for handle in handles:
            handle.remove()
        pipe.maybe_free_model_hooks()
    raise ModelError(f"a {type(pipe).__name__} made an output without calling its transformer")
