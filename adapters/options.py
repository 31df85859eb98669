"""The options of the diffusion adapters, declared once.

A named adapter is a function of one options object. `takes` turns it into a factory whose keyword-only parameters are
the fields of the options, with the adapter's own defaults. A configuration is checked against this signature.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, Field
from pydantic_core import PydanticUndefined

from ..engine.hooks import Factory, Source
from ..engine.schema import MOST_STEPS
from ..engine.seams import Adapter
from .layout import LARGEST, LONGEST_EMPTY, LONGEST_PROMPT, MOST_MEMBERS, WEIGHT_BOUND
from .loading import Loading
from .sites import Granularity

Positive = Annotated[int, Field(ge=1)]
Member = Literal["conditional", "unconditional"]
Scale = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]  # bounded as in a calibration file


class KnobOptions(Loading):
    """The options of every transformer's adapter, in addition to those for loading.

    Attributes:
        model: A folder or a hub id.
        granularity: How sites are tied into knobs.
        dead: Whether knobs that cannot reach the output are left out of the search (`freeze`) or kept (`keep`).
        blocks: Site lines of further block classes, as `trimpot.adapters.sites` explains them.
        low: Lower bound of every scale.
        high: Upper bound of every scale.
        num_inference_steps: Denoising steps per image; None for the model's published number.
        guidance_scale: Guidance; None for the model's published value.
        height: In pixels; None for the model's published height.
        width: In pixels; None for the model's published width.
        max_sequence_length: The most tokens of a prompt, for pipelines with this argument.
        batch_size: The most outputs in one pipeline call; halved automatically if memory runs out.
        release_text_encoders: Whether to drop the text encoders once all prompts are encoded.
        compile: Whether to use `torch.compile` on each block (`regional`) or on the whole transformer (`full`).
        outline: Whether to build the transformer from its configuration alone, without weights: such an adapter
            counts and lists knobs but cannot generate.
    """

    model: Source
    granularity: Granularity = "gate"
    dead: Literal["freeze", "keep"] = "freeze"
    blocks: dict[str, str] = Field(default_factory=dict)
    low: Scale = -1.0
    high: Scale = 2.0
    num_inference_steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    guidance_scale: float | None = None
    height: Positive | None = None
    width: Positive | None = None
    max_sequence_length: Annotated[int, Field(ge=1, le=LONGEST_PROMPT)] | None = None
    batch_size: Positive = 16
    release_text_encoders: bool = False
    compile: Literal["off", "regional", "full"] = "off"
    outline: bool = False


class DiffusionOptions(KnobOptions):
    """The options of a named adapter, for which trimpot combines ensemble members.

    Attributes:
        members: What each member of the ensemble sees; None for one conditional member, and a second, unconditional
            member if the model is guided.
        tie_members: Whether all members share their scales.
        guidance_grid: Guidance values from which the neutral side of a comparison is chosen.
        output_weight: Whether a single member has a weight knob for its output, as in the published code; several
            members always have.
        empty: The prompt that an unconditional member sees; None for the one that users of the pipeline compare with.
    """

    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=MOST_MEMBERS)] | None = None
    tie_members: bool = False
    guidance_grid: tuple[Annotated[float, Field(ge=-WEIGHT_BOUND, le=WEIGHT_BOUND)], ...] | None = None
    output_weight: bool = False
    empty: Annotated[str, Field(max_length=LONGEST_EMPTY)] | None = None


class StockOptions(KnobOptions):
    """The options of the adapter for any pipeline.

    With `outline`, dead knobs are listed too, because there are no inputs to find them with.

    Attributes:
        pipeline: Pipeline class name in diffusers; None for the class that the checkpoint names.
        num_frames: Number of frames of a video.
        pipeline_options: Further arguments of the pipeline's call.
    """

    pipeline: str | None = None
    num_frames: Positive | None = None
    pipeline_options: dict[str, Any] = Field(default_factory=dict)


Options = TypeVar("Options", bound=BaseModel)


def takes(
    options: type[Options], *, without: Collection[str] = (), **defaults: Any
) -> Callable[[Callable[[Options], Adapter]], Factory]:
    """Turn a function of one options object into a factory with keyword arguments.

    Args:
        options: The class of the options.
        without: Fields that are not parameters of the factory.
        **defaults: Defaults of this factory, also for fields in `without`.

    Returns:
        A decorator that returns the factory. The factory's attribute `read` reads the options alone.
    """
    hints = get_type_hints(options, include_extras=True)
    parameters = []
    for name, field in options.model_fields.items():
        default = defaults.get(name, field.get_default(call_default_factory=True))
        if default is PydanticUndefined:
            default = inspect.Parameter.empty
        if name not in without:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(name, kind, default=default, annotation=hints[name]))
    parameters.sort(key=lambda parameter: parameter.name in Loading.model_fields)  # options for loading come last

    def decorate(make: Callable[[Options], Adapter]) -> Factory:
        def read(**given: Any) -> Options:
            return options(**{**defaults, **given})

        @functools.wraps(make)
        def factory(**given: Any) -> Adapter:
            return make(read(**given))

        del factory.__wrapped__  # its signature is another
        factory.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        factory.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        factory.read = read  # type: ignore[attr-defined]
        return factory

    return decorate
