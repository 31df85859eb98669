"""The named adapters: which pipeline, which checkpoint, and what is published for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ..engine.seams import Adapter
from ..ground.errors import ModelError
from .checkpoints import SETTINGS_FILE, load_pipeline, own_settings, shipped
from .loading import Loading
from .options import DiffusionOptions, KnobOptions, StockOptions, takes
from .published import CHECKPOINTS, Checkpoint, outlined, transformer_classes
from .sources import located_checkpoint

Options = TypeVar("Options", bound=KnobOptions)

SETTLED = ("model", "height", "width", "max_sequence_length", "blocks", "outline", "release_text_encoders")


@takes(DiffusionOptions, model="black-forest-labs/FLUX.1-dev", without=("guidance_grid",))
def make_flux(options: DiffusionOptions) -> Adapter:
    """FLUX.1, dev and schnell.

    Guidance is distilled into the model and goes to the pipeline as it is: 3.5 for dev, none for schnell. An ensemble
    of such models has members that all see the prompt.
    """
    return _drive("FluxPipeline", options)


@takes(DiffusionOptions, model="stabilityai/stable-diffusion-3.5-medium")
def make_sd3(options: DiffusionOptions) -> Adapter:
    """Stable Diffusion 3 and 3.5, medium and large.

    What is left out is taken from the checkpoint's own `trimpot.json` if it has one, and otherwise from the
    published protocol: 15 steps at 512 pixels, guidance 4.5.
    """
    return _drive("StableDiffusion3Pipeline", options)


@takes(DiffusionOptions, model="Qwen/Qwen-Image")
def make_qwen_image(options: DiffusionOptions) -> Adapter:
    """Qwen-Image, guided with its norm rescaling.

    The guided prediction is given the norm of the conditional one, as the stock pipeline does it, at guidance 4.
    """
    return _drive("QwenImagePipeline", options)


@takes(DiffusionOptions, model="stabilityai/stable-diffusion-3.5-medium", lora="pickscore")
def make_flow_grpo(options: DiffusionOptions) -> Adapter:
    """SD-3.5-medium aligned by Flow-GRPO, a LoRA merged: `pickscore`, `geneval`, `text`, a folder or hub id."""
    return _drive("StableDiffusion3Pipeline", options)


@takes(
    DiffusionOptions,
    model=str(shipped("shapes")),
    granularity="block",
    batch_size=256,
    dtype="float32",
    device="cpu",
    without=(*SETTLED, *Loading.model_fields),
)
def make_shapes(options: DiffusionOptions) -> Adapter:
    """The tiny text-to-image transformer shipped with trimpot: the sd3 adapter on a checkpoint of its own."""
    return _drive("StableDiffusion3Pipeline", options)


@takes(StockOptions)
def make_diffusers(options: StockOptions) -> Adapter:
    """Any diffusers pipeline whose transformer trimpot has sites for, images or videos, with its own guidance."""
    from .stock import StockAdapter
    from .transformer import TransformerAdapter

    options = _located(options)
    if options.outline:
        kinds = transformer_classes(options.model, options.revision)
        models = {prefix: outlined(kind, options.model, options.revision, part) for prefix, part, kind in kinds}
        return TransformerAdapter(models, {"id": options.model}, options, ["all"])
    pipe, source = load_pipeline(options.pipeline, options.model, loading=_loading(options))
    return StockAdapter(pipe, source, _completed(options, {}))


def _drive(pipeline: str, options: DiffusionOptions) -> Adapter:
    """Make the adapter of a family's pipeline."""
    from .diffusion import DiffusionAdapter, outline
    from .families import FAMILIES

    family = FAMILIES[pipeline]
    options = _located(options)
    checkpoint = CHECKPOINTS.get(options.model, Checkpoint())
    completed = _completed(options, {**family.published, **checkpoint.settings})
    if options.outline:
        transformer = outlined(family.transformer, options.model, options.revision)
        return outline(transformer, family, {"id": options.model}, completed)
    pipe, source = load_pipeline(pipeline, options.model, loading=_loading(options))
    return DiffusionAdapter(pipe, source, completed)


def _located(options: Options) -> Options:
    """Options whose model is written in the one way by which its settings are known: a path, or a hub id.

    Raises:
        ModelError: If it is neither.
    """
    place = located_checkpoint(options.model, options.revision)
    revision = options.revision if isinstance(place, Path) else place.revision
    return options.model_copy(update={"model": str(place), "revision": revision})


def _loading(options: KnobOptions) -> Loading:
    from .compiling import check_compiling

    check_compiling(options.compile, options.offload)
    return Loading(**{name: getattr(options, name) for name in Loading.model_fields})


def _completed(options: Options, published: dict[str, Any]) -> Options:
    """Options with what was left out filled in: what the checkpoint says of itself, then what is published.

    Raises:
        ModelError: If the checkpoint says something unknown.
    """
    given = {name: value for name, value in options.model_dump().items() if value is not None}
    try:
        return type(options)(**{**published, **own_settings(options.model), **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{options.model}: {SETTINGS_FILE}: {where}: {first['msg']}") from None
