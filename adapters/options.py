"""What the diffusion adapters can be told, said once.

A named adapter is a function of such options. `takes` makes a factory of it, whose keyword-only parameters are the
options' fields with the defaults of that adapter, so that a configuration is checked against them.
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
from .layout import LARGEST, LONGEST_PROMPT, MOST_MEMBERS, WEIGHT_BOUND
from .loading import Loading
from .sites import Granularity

Positive = Annotated[int, Field(ge=1)]
Member = Literal["conditional", "unconditional"]
Scale = Annotated[
    float, Field(ge=-LARGEST, le=LARGEST)
]  # what a calibration file may hold, as all that is bounded here


class KnobOptions(Loading):
    """What any transformer's adapter can be told, beside how it is loaded.

    Attributes:
        model: A folder or a hub id.
        granularity: How sites are tied into knobs.
        dead: What becomes of knobs that cannot reach the output: left out of the search, or kept.
        blocks: Site lines of further block classes, as `trimpot.adapters.sites` explains them.
        low: Lower bound of every scale.
        high: Upper bound of every scale.
        num_inference_steps: Denoising steps an image; None for what is published for the model.
        guidance_scale: Guidance; None for what is published for the model.
        height: In pixels; None for what is published for the model.
        width: In pixels; None for what is published for the model.
        max_sequence_length: Prompt tokens, for pipelines that take it.
        batch_size: The most outputs in one pipeline call; halved by itself where memory does not suffice.
        release_text_encoders: Whether text encoders are dropped once every prompt is encoded.
        compile: Whether `torch.compile` works on each block, or on the whole transformer.
        outline: Whether to build the transformer from its configuration alone, without weights: such an adapter
            counts and lists knobs and generates nothing.
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
    """What a named adapter can be told, whose members trimpot combines.

    Attributes:
        members: What each member of the ensemble sees; None for one, and a second, unconditional one where the
            model is guided.
        tie_members: Whether all members share their scales.
        guidance_grid: Guidance values among which the neutral side of a comparison is chosen.
    """

    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=MOST_MEMBERS)] | None = None
    tie_members: bool = False
    guidance_grid: tuple[Annotated[float, Field(ge=-WEIGHT_BOUND, le=WEIGHT_BOUND)], ...] | None = None


class StockOptions(KnobOptions):
    """What the adapter of any pipeline can be told.

    Its outline has no inputs to find dead knobs by, so it lists them too.

    Attributes:
        pipeline: Pipeline class name in diffusers; None for the one that the checkpoint names.
        num_frames: Frames of a video.
        pipeline_options: Further arguments of the pipeline's call.
    """

    pipeline: str | None = None
    num_frames: Positive | None = None
    pipeline_options: dict[str, Any] = Field(default_factory=dict)


Options = TypeVar("Options", bound=BaseModel)


def takes(
    options: type[Options], *, without: Collection[str] = (), **defaults: Any
) -> Callable[[Callable[[Options], Adapter]], Factory]:
    """Make a factory of a function of options.

    Args:
        options: Their class.
        without: Fields that this factory does not take.
        **defaults: Its own defaults, also of fields it does not take.

    Returns:
        A decorator; what it makes is called with keyword arguments.
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
    parameters.sort(key=lambda parameter: parameter.name in Loading.model_fields)  # how it is loaded comes last

    def decorate(make: Callable[[Options], Adapter]) -> Factory:
        @functools.wraps(make)
        def factory(**given: Any) -> Adapter:
            return make(options(**{**defaults, **given}))

        del factory.__wrapped__  # its signature is another
        factory.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        factory.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return factory

    return decorate
