"""Load the pipeline that a calibration was made on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ..adapters.factories import NAMED, options_of
from ..adapters.loading import Loading
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError, ModelError, Notice, near_misses
from ..ground.mistakes import first_mistake
from .located import located_calibration
from .recipe import is_of_language, recipe_of


def load_pipeline(
    calibration: str | os.PathLike[str] | Calibration, *, revision: str | None = None, **loading: Any
) -> Any:
    """Load the pipeline that a calibration was made on: checkpoint, revision, transformer, LoRA and dtype.

    Args:
        calibration: A calibration file, its folder, a run, a hub id, or a calibration that was read before.
        revision: The calibration's branch, tag or commit on the hub.
        **loading: Changes of how to load: `device`, `dtype`, `offload`, `quantization` and the other fields of
            `adapters.loading.Loading`, and `model`, where the checkpoint lies now. A language model knows `model`,
            `revision`, `dtype`, `device`, `quantization`, `lora` and `lora_revision`.

    Returns:
        The stock diffusers pipeline, without the calibration; for a language model, transformers' pipeline that
        generates text, with its `model` and `tokenizer`.

    Warns:
        Notice: If the weights found differ from those that were calibrated.

    Raises:
        CalibrationError: If the calibration cannot be read, or was not made on a pipeline that trimpot loads.
        ModelError: If the pipeline cannot be loaded.

    Example:
        >>> pipe = load_pipeline("shapes-1")
        >>> calibration = load_calibration(pipe, "shapes-1")
        >>> pipe("two red circles", **calibration.recommended).images[0].show()
    """
    made = calibration if isinstance(calibration, Calibration) else _read(calibration, revision)
    if is_of_language(made):
        recipe_of(made)
        from .language import load_text_pipeline

        return load_text_pipeline(made, loading)
    adapter = made.provenance.config.get("adapter")
    adapter = adapter if isinstance(adapter, Mapping) else {}
    name = adapter.get("name")
    if name not in NAMED:
        raise CalibrationError(
            f"this calibration was made with the adapter {name!r}, whose pipeline trimpot does not load; load the "
            "pipeline yourself, and apply the calibration to it"
        )
    if made.apply:
        recipe_of(made)  # before a large model is loaded for what cannot be applied to it
    source = made.backbone.get("source")
    source = source if isinstance(source, Mapping) else {}
    given = {key: value for key, value in adapter.items() if key != "name"}
    if source.get("revision"):
        given |= {"model": source["id"], "revision": source["revision"]}
    options = options_of(name, {**given, **({"model": loading.pop("model")} if "model" in loading else {})})
    try:
        how = Loading(**{**{each: getattr(options, each) for each in Loading.model_fields}, **loading})
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            unknown = str(first["loc"][0])
            known = near_misses(unknown, ["model", *Loading.model_fields])
            raise ModelError(f"no option of loading is called {unknown!r}; {known}") from None
        raise ModelError(first_mistake(error)) from None
    from ..adapters.checkpoints import load_pipeline as load

    kind = NAMED[name][1] or getattr(options, "pipeline", None)
    pipe, found = load(kind, options.model, how)
    tell_of_other_weights(options.model, source, found, stacklevel=3)
    return pipe


def tell_of_other_weights(model: str, source: Mapping[str, Any], found: Mapping[str, Any], *, stacklevel: int) -> None:
    """Warn if a checkpoint does not hold the weights that `source`, a calibration's record of its own, names."""
    if "weights" in source and found.get("weights") != source["weights"]:
        warnings.warn(
            f"{model} does not hold the weights that were calibrated: their digest is {found.get('weights')}, "
            f"not {source['weights']}",
            Notice,
            stacklevel=stacklevel,
        )


def _read(source: str | os.PathLike[str], revision: str | None) -> Calibration:
    return Calibration.load(located_calibration(source, revision=revision))
