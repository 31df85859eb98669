"""Factories of the named adapters: pipeline, default checkpoint and published settings of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ..engine.hooks import Factory
from ..engine.seams import Adapter
from ..ground.errors import ModelError
from ..ground.mistakes import first_mistake
from .checkpoints import SETTINGS_FILE, load_pipeline, own_settings
from .loading import Loading
from .options import DiffusionOptions, KnobOptions, StockOptions, takes
from .published import CHECKPOINTS, outlined, transformer_classes
from .sources import located_checkpoint, shipped

Options = TypeVar("Options", bound=KnobOptions)

SETTLED = ("model", "height", "width", "max_sequence_length", "blocks", "outline", "release_text_encoders")


@takes(DiffusionOptions, model="black-forest-labs/FLUX.1-dev", without=("guidance_grid",))
def make_flux(options: DiffusionOptions) -> Adapter:
    """FLUX.1, dev and schnell.

    Guidance is distilled into the model and is passed to the pipeline unchanged: 3.5 for dev, none for schnell. All
    members of an ensemble see the prompt.
    """
    return _drive("FluxPipeline", options)


@takes(DiffusionOptions, model="stabilityai/stable-diffusion-3.5-medium")
def make_sd3(options: DiffusionOptions) -> Adapter:
    """Stable Diffusion 3 and 3.5, medium and large.

    Options that are left out are taken from the checkpoint's own `trimpot.json` if it has one, and otherwise from the
    published protocol: 15 steps at 512 pixels, guidance 4.5.
    """
    return _drive("StableDiffusion3Pipeline", options)


@takes(DiffusionOptions, model="Qwen/Qwen-Image")
def make_qwen_image(options: DiffusionOptions) -> Adapter:
    """Qwen-Image, guided with its norm rescaling.

    The guided prediction is rescaled to the norm of the conditional prediction, as in the stock pipeline. The default
    guidance is 4.
    """
    return _drive("QwenImagePipeline", options)


@takes(DiffusionOptions, model="stabilityai/stable-diffusion-3.5-medium", lora="pickscore")
def make_flow_grpo(options: DiffusionOptions) -> Adapter:
    """SD-3.5-medium with a merged Flow-GRPO LoRA: `pickscore`, `geneval`, `text`, a folder or hub id."""
    return _drive("StableDiffusion3Pipeline", options)


@takes(
    DiffusionOptions,
    model=str(shipped("shapes")),
    granularity="block",
    batch_size=256,
    dtype="float32",
    device="cpu",
    without=(*SETTLED, *(name for name in Loading.model_fields if name not in ("device", "lora"))),
)
def make_shapes(options: DiffusionOptions) -> Adapter:
    """The tiny text-to-image transformer shipped with trimpot, driven by the sd3 adapter, on the CPU unless told.

    The LoRA `aligned`, which is shipped too, makes of it a checkpoint that was aligned with its reward.
    """
    return _drive("StableDiffusion3Pipeline", options)


@takes(StockOptions)
def make_diffusers(options: StockOptions) -> Adapter:
    """Any diffusers image or video pipeline whose transformer trimpot covers, with its own guidance."""
    from .stock import StockAdapter
    from .transformer import TransformerAdapter

    options = _located(options)
    if options.outline:
        kinds = transformer_classes(options.model, options.revision)
        models = {prefix: outlined(kind, options.model, options.revision, part) for prefix, part, kind in kinds}
        return TransformerAdapter(models, {"id": options.model}, options, ["all"])
    pipe, source = load_pipeline(options.pipeline, options.model, loading=_loading(options))
    return StockAdapter(pipe, source, _completed(options, {}))


#: The named adapters: the factory and the pipeline class of each; None for the class that the checkpoint names.
NAMED: dict[str, tuple[Factory, str | None]] = {
    "diffusers": (make_diffusers, None),
    "flow-grpo": (make_flow_grpo, "StableDiffusion3Pipeline"),
    "flux": (make_flux, "FluxPipeline"),
    "qwen-image": (make_qwen_image, "QwenImagePipeline"),
    "sd3": (make_sd3, "StableDiffusion3Pipeline"),
    "shapes": (make_shapes, "StableDiffusion3Pipeline"),
}


def options_of(name: str, given: dict[str, Any]) -> KnobOptions:
    """Read the options of a named adapter, without making it.

    Raises:
        ModelError: If an option is unknown or invalid.
    """
    factory, _ = NAMED[name]
    try:
        options: KnobOptions = factory.read(**given)  # type: ignore[attr-defined]
    except ValidationError as error:
        raise ModelError(f"adapter {name!r}: {first_mistake(error)}") from None
    return _located(options)


def _drive(pipeline: str, options: DiffusionOptions) -> Adapter:
    """Make the adapter of a family's pipeline."""
    from .diffusion import DiffusionAdapter, outline
    from .families import FAMILIES

    family = FAMILIES[pipeline]
    options = _located(options)
    completed = _completed(options, {**family.published, **_published(options.model)})
    if options.outline:
        transformer = outlined(family.transformer, options.model, options.revision)
        return outline(transformer, family, {"id": options.model}, completed)
    pipe, source = load_pipeline(pipeline, options.model, loading=_loading(options))
    return DiffusionAdapter(pipe, source, completed)


def _published(model: str) -> Mapping[str, Any]:
    """Return the published settings of a checkpoint that differ from those of its family."""
    return CHECKPOINTS[model].settings if model in CHECKPOINTS else {}


def _located(options: Options) -> Options:
    """Return the options with `model` normalized to a path or a hub id, which published settings are listed under.

    Raises:
        ModelError: If `model` is neither a path nor a hub id.
    """
    place = located_checkpoint(options.model, options.revision)
    revision = options.revision if isinstance(place, Path) else place.revision
    return options.model_copy(update={"model": str(place), "revision": revision})


def _loading(options: KnobOptions) -> Loading:
    from .compiling import check_compiling

    check_compiling(options.compile, options.offload)
    return Loading(**{name: getattr(options, name) for name in Loading.model_fields})


def _completed(options: Options, published: dict[str, Any]) -> Options:
    """Fill in options that were left out, from the checkpoint's settings file first and then from published settings.

    Raises:
        ModelError: If the settings file holds an unknown or invalid option.
    """
    given = {name: value for name, value in options.model_dump().items() if value is not None}
    try:
        return type(options)(**{**published, **own_settings(options.model), **given})
    except ValidationError as error:
        raise ModelError(f"{options.model}: {SETTINGS_FILE}: {first_mistake(error)}") from None
