"""Load a language model and its tokenizer from a folder, the hub or a GGUF file, and record which weights they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...ground.devices import first_sentence, free_memory, narrow, resolve, shortage
from ...ground.errors import ModelError, first_line
from ...ground.extras import require
from ...ground.hub import commit_of, hub_file, hub_folder
from ...ground.weights import quiet_import
from ..inspection import check_dtypes, quantized
from ..sources import PICKLES, OnHub, cannot_load, damage, local_source, located
from .gguf import converted
from .options import LanguageOptions

CONFIG = "config.json"
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab*", "spiece.model", "*.tiktoken", "tekken.json")
TOKENIZERS = (*VOCABULARIES, "tokenizer*", "special_tokens_map.json", "merges.txt", "chat_template*")
_NO_TOKENIZER = "has no tokenizer: it holds no tokenizer.json or vocabulary; add the model's own"
_INSTEAD = "a folder with a config.json, a GGUF file, or a hub id"


def load_language_model(options: LanguageOptions) -> tuple[Any, Any, dict[str, Any]]:
    """Load a model and its tokenizer.

    Returns:
        The model on its device, its tokenizer, and its source: `id`, with `revision` (a commit) or `weights` (a
        digest), and every option of loading that can change a number.

    Raises:
        ModelError: If there is no such model, or it cannot be loaded with these options.
        MissingError: If a package is missing.
    """
    device = resolve(options.device, ModelError)
    if options.quantization:
        _check_quantization(options, device)
    try:
        with silent():
            return _loaded(options, device)
    except ModelError:
        raise
    except Exception as error:  # memory runs out in many classes
        found = shortage(error)
        if found is None:
            raise ModelError(f"cannot load {options.model}: {first_line(error)}") from error
        why = first_sentence(found.error)
    free_memory()
    choices = "dtype: bfloat16 or quantization" if options.dtype == "float32" else "quantization, or a smaller model"
    raise ModelError(f"there is not enough memory to load {options.model} on {device}; choose {choices} ({why})")


def outlined(options: LanguageOptions) -> tuple[Any, dict[str, Any]]:
    """Return a model on the meta device, without weights, and its `id`.

    Raises:
        ModelError: If there is no such model.
    """
    import torch

    with silent():
        place = located(options.model, "model", _INSTEAD, options.revision)
        if isinstance(place, OnHub) and not place.inside:
            folder = hub_file(place.repository, CONFIG, place.revision, error=ModelError).parent
        else:
            folder, _ = _find(options)
        config, kind = _class_of(folder, options.model)
        with torch.device("meta"):
            return kind._from_config(config).eval(), {"id": options.model}


def _loaded(options: LanguageOptions, device: str) -> tuple[Any, Any, dict[str, Any]]:
    folder, source = _find(options)
    config, kind = _class_of(folder, options.model)
    tokenizer = _tokenizer(folder, options.model)
    model = _model(folder, config, kind, options, device)
    if options.lora:
        from ..lora import merge_lora

        source["lora"] = merge_lora(model, options.lora, revision=options.lora_revision)
    if options.quantization:
        source["quantization"] = options.quantization
    narrow(model, device)
    if not options.quantization or device == "cpu":
        model.to(device)
    return model.eval(), tokenizer, source


def _find(options: LanguageOptions) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a model in the layout of transformers, and the model's source."""
    name = options.model
    if Path(name).suffix in PICKLES:
        raise ModelError(f"{name} may hold a pickle, which can run code; give {_INSTEAD}")
    place = located(name, "model", _INSTEAD, options.revision)
    if isinstance(place, OnHub):
        if place.inside.endswith(".gguf"):
            file = hub_file(place.repository, place.inside, place.revision, error=ModelError)
            return converted(file), {"id": str(place), "revision": commit_of(file, error=ModelError)}
        if place.inside:
            raise ModelError(f"{name} is a part of {place.repository}; give the repository itself")
        config = hub_file(place.repository, CONFIG, place.revision, error=ModelError)
        commit = commit_of(config, error=ModelError)
        patterns = ["*.json", "*.safetensors", *TOKENIZERS]
        folder = hub_folder(place.repository, patterns, commit, error=ModelError)
        _refuse_pickles(folder, name)
        return folder, {"id": place.repository, "revision": commit}
    if place.is_dir() and not (place / CONFIG).is_file():
        files = sorted(place.glob("*.gguf"))
        if not files:
            raise ModelError(f"{name} is not a language model: it has neither a {CONFIG} nor a GGUF file")
        if len(files) > 1:
            raise ModelError(f"{name} holds {len(files)} GGUF files, {files[0].name} and others; give one of them")
        place = files[0]
    if place.is_file():
        if place.suffix != ".gguf":
            raise ModelError(f"{name} is not a language model; give {_INSTEAD}")
        return converted(place), local_source(place)
    _refuse_pickles(place, name)
    return place, local_source(place)


def _refuse_pickles(folder: Path, name: str) -> None:
    found = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if any(folder.glob("*.safetensors")):
        return
    if found:
        raise ModelError(
            f"{name} holds its weights as a pickle ({found[0]}), which can run code; save them as .safetensors"
        )
    raise ModelError(f"{name} has no weights: it holds no .safetensors file")


def _tokenizer(folder: Path, name: str) -> Any:
    """Load a model's tokenizer, which must not run code that comes with it."""
    from transformers import AutoTokenizer

    if not any(any(folder.glob(pattern)) for pattern in TOKENIZERS):
        raise ModelError(f"{name} {_NO_TOKENIZER}")
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers fail in many classes
        if not any(any(folder.glob(pattern)) for pattern in VOCABULARIES):
            raise ModelError(f"{name} {_NO_TOKENIZER}") from error
        why = damage(folder) or f"{first_line(error)}; add the model's own"
        raise ModelError(f"cannot load the tokenizer of {name}: {why}") from error


def _class_of(folder: Path, name: str) -> tuple[Any, Any]:
    """Return a folder's configuration, and the class of a causal language model for it.

    Raises:
        ModelError: If the configuration cannot be read, or transformers has no such class.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        MODEL_FOR_MULTIMODAL_LM_MAPPING,
        AutoConfig,
    )

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # configurations fail in many classes; the cause of a wrong value says which
        raise cannot_load(name, "language model", folder, error.__cause__ or error) from error
    for mapping in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING):
        if type(config) in mapping:  # classes that read pictures or sound too are given texts alone
            found = mapping[type(config)]
            return config, found[0] if isinstance(found, tuple) else found
    kind = type(config).__name__.removesuffix("Config")
    raise ModelError(f"{name} is a {kind}, of which transformers has no causal language model")


def _model(folder: Path, config: Any, kind: Any, options: LanguageOptions, device: str) -> Any:
    """Load a model, and check that no weight is missing or unused, and that all are as they were asked for."""
    import torch

    from ..components import check_keys, refuse_integers

    name = options.model
    already = _quantized_by(config, name)
    if not already:
        refuse_integers(folder, name)
    given: dict[str, Any] = {
        "dtype": getattr(torch, options.dtype),
        "ignore_mismatched_sizes": True,  # they are refused below, by name
    }
    if options.quantization:
        if already:
            raise ModelError(f"{name} is quantized already; leave out quantization")
        given |= {"quantization_config": _quantization(options), "device_map": device}
    try:
        model, info = kind.from_pretrained(
            str(folder), config=config, local_files_only=True, use_safetensors=True, output_loading_info=True, **given
        )
    except Exception as error:  # file and shape errors come in many classes
        if shortage(error) is not None:
            raise
        raise cannot_load(name, kind.__name__, folder, error) from error
    unlike = {key for key, *_ in info.get("mismatched_keys", ())}
    missing = set(info["missing_keys"]) | unlike
    check_keys(kind, name, missing, info["unexpected_keys"], model.state_dict(), others=())
    check_dtypes("model", model, options.dtype)
    if options.quantization and not quantized(model):
        raise ModelError(f"quantization: {options.quantization} left {name} as it was; choose another, or none")
    return model


def _quantized_by(config: Any, name: str) -> str | None:
    """Return the method that a checkpoint's weights are quantized with, or None.

    Raises:
        ModelError: If transformers does not know the method; it would take the weights for plain numbers.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    said = getattr(config, "quantization_config", None)
    if not said:
        return None
    said = said if isinstance(said, dict) else said.to_dict()
    method = str(said.get("quant_method", ""))
    short = f"{method}_4bit" if said.get("load_in_4bit") else f"{method}_8bit"
    if not {method, short} & set(AUTO_QUANTIZER_MAPPING):
        raise ModelError(
            f"{name} is quantized by {method or 'a method without a name'}, which transformers does not know; give it "
            "in float32, bfloat16 or float16"
        )
    return method


def _check_quantization(options: LanguageOptions, device: str) -> None:
    if options.lora:
        raise ModelError(
            f"a LoRA cannot be merged into the weights of {options.quantization}; leave out quantization, or give a "
            "model that already has the LoRA merged"
        )
    package = str(options.quantization).partition("-")[0]
    if package == "bitsandbytes" and device == "cpu":
        raise ModelError(
            f"quantization: {options.quantization} needs a GPU, and there is none to use; choose torchao-int8, or none"
        )
    require(f"quantization: {options.quantization}", package)


def _quantization(options: LanguageOptions) -> Any:
    """Return the quantization config for transformers."""
    import warnings

    import torch
    import transformers

    if options.quantization == "bitsandbytes-8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    if options.quantization == "bitsandbytes-4bit":
        return transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, options.dtype)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao warns if its compiled parts are missing
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig
    kind = Int8WeightOnlyConfig if options.quantization == "torchao-int8" else Float8WeightOnlyConfig
    return transformers.TorchAoConfig(kind())


def forget_habits(model: Any) -> None:
    """Keep of a model's own defaults for generating only its special tokens: penalties and the like are not asked."""
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )


@contextlib.contextmanager
def silent() -> Iterator[Any]:
    """Give transformers, with its notices and bars silenced; what matters in them is reported as errors."""
    with quiet_import():
        import transformers
        from transformers import PreTrainedModel, TextGenerationPipeline  # noqa: F401  # what they import may remark
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
