"""Language models of calibrations: load them as transformers' own pipeline, and let them answer prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ..adapters.language.adapter import limits, padding
from ..adapters.language.checkpoints import load_language_model, silent
from ..adapters.language.generation import generated
from ..adapters.language.items import Wording
from ..adapters.language.options import LanguageOptions, mistake
from ..engine.calibration import Calibration
from ..ground.errors import ModelError, near_misses
from ..ground.mistakes import first_mistake
from .applied import AppliedCalibration
from .asking import Asking
from .base import tell_of_other_weights
from .recipe import recipe_of
from .samples import Sample

LOADING = ("model", "revision", "dtype", "device", "quantization", "lora", "lora_revision")
WRITING = ("chat", "system", "max_new_tokens", "temperature", "top_k", "top_p", "stop")


def load_text_pipeline(calibration: Calibration, loading: Mapping[str, Any]) -> Any:
    """Load the language model that a calibration was made on, with its tokenizer, as transformers' own pipeline.

    Args:
        calibration: The calibration.
        loading: Changes of how to load: the options in `LOADING`.

    Warns:
        Notice: If the weights found differ from those that were calibrated.

    Raises:
        ModelError: If an option is unknown or invalid, or the model cannot be loaded.
    """
    source = calibration.backbone.get("source")
    source = source if isinstance(source, Mapping) else {}
    revision = {"revision": source["revision"]} if source.get("revision") and "model" not in loading else {}
    options = _options(calibration, {**revision, **loading}, LOADING)
    model, tokenizer, found = load_language_model(options)
    tell_of_other_weights(options.model, source, found, stacklevel=4)
    placed = {} if getattr(model, "hf_device_map", None) else {"device": model.device}
    with silent() as transformers:
        return transformers.TextGenerationPipeline(model=model, tokenizer=tokenizer, **placed)


def writing(calibration: Calibration, given: Mapping[str, Any]) -> LanguageOptions:
    """Return the options that a calibrated model writes texts with: those of its run, changed by some in `WRITING`.

    Raises:
        ModelError: If an option is unknown, invalid, or does not fit the others.
    """
    options = _options(calibration, {"mode": "generate", "prose": False, "divergence": False, **given}, WRITING)
    if problem := mistake(options):
        raise ModelError(problem)
    return options


def asking(calibration: Calibration, given: Mapping[str, Any]) -> Asking:
    """Return how a calibration's prompts were asked, with `chat` and `system` of `given` instead of its own."""
    was = recipe_of(calibration).asking or Asking()
    return was.model_copy(update={name: given[name] for name in ("chat", "system") if name in given})


def texts(
    pipe: Any,
    applied: AppliedCalibration,
    prompts: Sequence[str],
    seeds: Sequence[int],
    options: LanguageOptions,
    asking: Asking,
    *,
    compare: bool = False,
) -> Iterator[Sample]:
    """Yield one sample for each prompt and seed, written as in a run of `mode: generate`.

    Args:
        pipe: The pipeline, with the calibration applied to its model.
        applied: The calibration. Its strength is that of the calibrated texts; neutral texts have strength 0.
        prompts: The prompts.
        seeds: The seeds of each prompt.
        options: How to write, as `writing` returns them.
        asking: How each prompt is put to the model.
        compare: Whether to write the neutral texts as well.

    Raises:
        ModelError: If a prompt cannot be used.
    """
    from transformers import GenerationConfig

    model, tokenizer = pipe.model, pipe.tokenizer
    wording = Wording(tokenizer, limits(model, options), chat=asking.chat, system=asking.system)
    pad, strength, habits = padding(model, tokenizer), applied.strength, model.generation_config
    model.generation_config = GenerationConfig(  # penalties that the model's files suggest were not measured
        bos_token_id=habits.bos_token_id, eos_token_id=habits.eos_token_id, pad_token_id=habits.pad_token_id
    )
    try:
        for prompt in prompts:
            put = [asking.put(prompt)]
            for seed in seeds:
                applied.strength = 0.0
                [neutral] = generated(model, wording, put, [seed], pad, options) if compare else [None]
                applied.strength = strength
                [made] = generated(model, wording, put, [seed], pad, options)
                yield Sample(prompt, seed, None if neutral is None else str(neutral), str(made))
    finally:
        applied.strength, model.generation_config = strength, habits


def _options(calibration: Calibration, given: Mapping[str, Any], known: Sequence[str]) -> LanguageOptions:
    """Return the options of a calibration's run with some changed."""
    made_with = {name: value for name, value in calibration.provenance.config["adapter"].items() if name != "name"}
    try:
        return LanguageOptions(**{**made_with, "outline": False, **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise ModelError(f"no option is called {name!r}; {near_misses(name, known)}") from None
        raise ModelError(first_mistake(error)) from None
