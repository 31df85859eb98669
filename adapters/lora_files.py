"""Find and read LoRAs. Every weight of a file is used, or the file is refused.

A LoRA is a folder written by PEFT or one .safetensors file. Files name layers as diffusers does, with dots or
underscores, or as the model's authors did; the converters of diffusers translate the authors' names. These converters
silently drop some alphas and keys. Therefore alphas are multiplied in first, only pairs of matrices are passed to a
converter, and the converted pairs must have the same total weight as the original ones.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..ground.errors import ModelError, near_misses
from ..ground.hub import commit_of, hub_file
from .components import silent
from .lora_config import checked_config, scaling
from .sources import PICKLES, OnHub, cannot_load, first_on_hub, local_source, located, shipped

FLOW_GRPO = {
    "pickscore": "jieliu/SD3.5M-FlowGRPO-PickScore",
    "geneval": "jieliu/SD3.5M-FlowGRPO-GenEval",
    "text": "jieliu/SD3.5M-FlowGRPO-Text",
}  # Flow-GRPO's published LoRAs for Stable Diffusion 3.5 medium (Liu et al. 2025), by the reward of each
SHIPPED = ("aligned",)  # the LoRA for the shipped checkpoint that aligns it with its reward; see training/align.py

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"  # the metadata key under which diffusers keeps PEFT's configuration in the file

_INSTEAD = f"a .safetensors file, a folder with an {CONFIG_FILE}, a hub id, or owner/name/file.safetensors"
_SIDE = re.compile(
    r"(?P<module>.+?)(\.lora)?\.(?P<side>lora_A|lora_B|lora_down|lora_up|down|up)(\.default)?(\.weight)?"
)
_ALPHA = re.compile(r"(?P<module>.+)\.(lora_)?alpha")
_PEFT = "base_model.model."
_PREFIXES = (_PEFT, "model.diffusion_model.", "diffusion_model.", "transformer.", "unet.")
_FLAT_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")
_TEXT_ENCODER = re.compile(r"(base_model\.model\.)?(text_encoders?[._]|lora_te|lora_prior_te|te\d?[._])")
_ZERO_IS_NOTHING = (".diff", ".diff_b", ".lora_B.bias")  # added to weights, and therefore without effect if zero
_OTHERWISE = {
    r"dora_scale|lora_magnitude_vector": "is a DoRA, which rescales whole weights and",
    r"hada_|lokr_|lora_mid|\.oft_|\.on_input": "is not a LoRA but a related kind of adapter and",
    r"\.diff(_b)?$|\.set_weight$|\.bias$|\.scale$": "also changes whole weights or biases and",
}


@dataclass(frozen=True)
class Pair:
    """One layer's two matrices.

    Attributes:
        down: A, of shape (rank, in_features).
        up: B, of shape (out_features, rank).
        scaling: The factor of the product B @ A.
    """

    down: Tensor
    up: Tensor
    scaling: float

    @property
    def rank(self) -> int:
        """The rank: the inner size of the product B @ A."""
        return self.down.shape[0]

    @property
    def alpha(self) -> float:
        """The alpha at which alpha / rank is the scaling."""
        return self.scaling * self.rank


def find_lora(source: str, revision: str | None) -> tuple[Path, Path | None, dict[str, Any]]:
    """Return the paths of a LoRA's weights and of its configuration (or None), and its source.

    Raises:
        ModelError: If the LoRA cannot be found, or is only available as a pickle.
    """
    place: Path | OnHub
    if not re.fullmatch(r"[\w-]{1,99}", source) or Path(source).exists():
        place = located(source, "LoRA", _INSTEAD, revision)
    elif source in SHIPPED:
        place = shipped(source)
    elif source in FLOW_GRPO:
        place = OnHub(FLOW_GRPO[source], "", revision)
    else:
        raise ModelError(f"no LoRA is named {source!r}; {near_misses(source, [*FLOW_GRPO, *SHIPPED])}")
    if Path(source).suffix in PICKLES:
        raise ModelError(f"{source} may hold a pickle, which can run code; save the LoRA as .safetensors")
    if isinstance(place, OnHub):
        return _on_hub(place)
    if place.is_dir():
        return *_in_folder(source, place), local_source(place)
    if place.suffix != ".safetensors":
        raise ModelError(f"{source} is not a LoRA; give {_INSTEAD}")
    config = place.with_name(CONFIG_FILE)
    return place, config if config.is_file() else None, local_source(place)


def _in_folder(source: str, folder: Path) -> tuple[Path, Path | None]:
    config, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    others = sorted(path for path in folder.glob("*.safetensors") if path != weights)
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if config.is_file() or weights.is_file():
        if not config.is_file():
            raise ModelError(
                f"{source} has no {CONFIG_FILE}, which gives the LoRA's rank and alpha; give a folder written by "
                "PEFT's save_pretrained"
            )
        if weights.is_file():
            return weights, config
    if not others and pickled:
        raise ModelError(
            f"{source} holds its LoRA as a pickle ({pickled[0]}), which can run code; save it as {WEIGHTS_FILE}"
        )
    if not others or config.is_file():
        raise ModelError(f"{source} has no {WEIGHTS_FILE}; give a folder written by PEFT's save_pretrained, or a file")
    if len(others) > 1:
        raise ModelError(f"{source} holds {len(others)} files, {others[0].name} and others; give one of the files")
    return others[0], None


def _on_hub(place: OnHub) -> tuple[Path, Path | None, dict[str, Any]]:
    if place.inside.endswith(".safetensors"):
        weights = hub_file(place.repository, place.inside, place.revision, error=ModelError)
        commit = commit_of(weights, error=ModelError)
        beside = OnHub(place.repository, place.inside.rpartition("/")[0], commit)
        config = first_on_hub(beside, [CONFIG_FILE]) if place.inside.endswith(WEIGHTS_FILE) else None
        return weights, config, {"id": str(place), "revision": commit}
    found = first_on_hub(place, [CONFIG_FILE, DIFFUSERS_FILE])
    commit = commit_of(found, error=ModelError)
    identity = {"id": str(place), "revision": commit}
    if found.name == DIFFUSERS_FILE:
        return found, None, identity
    name = "/".join(filter(None, (place.inside, WEIGHTS_FILE)))
    return hub_file(place.repository, name, commit, error=ModelError), found, identity


def read_lora(weights: Path, config: Path | None, transformer: nn.Module) -> dict[str, Pair]:
    """Read a LoRA's pairs of matrices, by the transformer's own module names.

    Args:
        weights: The safetensors file.
        config: The LoRA's configuration in PEFT's format, or None.
        transformer: The transformer that the LoRA is for; names are matched to its modules.

    Raises:
        ModelError: If any weight of the file would be left unused.
    """
    tensors, metadata = _read(weights)
    pairs, alphas = _pairs(weights, tensors)
    by_peft = [name for name in pairs if name.startswith(_PEFT)]
    if config is not None and (by_peft or weights.name == WEIGHTS_FILE):
        settings: Mapping[str, Any] | None = checked_config(_json(config), str(config), weights.parent.name)
    else:
        settings = _from_metadata(metadata, weights)
    own = {name for name, _ in transformer.named_modules()}
    if settings is None and any(_bare(name) in own and name not in alphas for name in by_peft):
        raise ModelError(
            f"{weights} has no {CONFIG_FILE} beside it, which gives the LoRA's rank and alpha; give the folder that "
            "PEFT's save_pretrained wrote"
        )
    scaled = {}
    for name, (down, up) in pairs.items():
        scale = scaling(settings, _bare(name), down.shape[0])
        if name in alphas:
            if settings is not None:
                raise ModelError(f"{weights} gives the LoRA's scaling twice, first of {name}; leave out one of the two")
            scale = alphas[name] / down.shape[0]
        scaled[name] = Pair(down, up, scale)
    scaled = {name: pair for name, pair in scaled.items() if pair.down.any() and pair.up.any() and pair.scaling}
    if not scaled:
        raise ModelError(f"{weights} is empty: it changes nothing")
    return _by_module(weights, scaled, transformer)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # safetensors raises a class of its own for a broken file
        raise cannot_load(str(path), "LoRA", path, error) from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _from_metadata(metadata: Mapping[str, str], path: Path) -> Mapping[str, Any] | None:
    """Return PEFT's configuration from a file's metadata, where diffusers keeps it, or None."""
    if METADATA not in metadata:
        return None
    try:
        held = json.loads(metadata[METADATA])
        config = {name.removeprefix("transformer."): held[name] for name in held if name.startswith("transformer.")}
    except (ValueError, RecursionError, TypeError, AttributeError):
        config = {}
    return checked_config({"peft_type": "LORA", **config}, f"the metadata of {path}", path.name)


def _pairs(path: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, float]]:
    """Return both matrices of each layer and the alphas that are given, and refuse any other key."""
    sides: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    for key, stored in tensors.items():
        value = stored.float()
        if not torch.isfinite(value).all():
            raise ModelError(f"{path} holds numbers that are not finite, first in {key}")
        if key.endswith(_ZERO_IS_NOTHING) and not value.any():
            continue
        if (match := _ALPHA.fullmatch(key)) and value.numel() == 1:
            alphas[match["module"].removesuffix(".lora")] = float(value)
        elif (match := _SIDE.fullmatch(key)) and value.ndim >= 2:
            side = "down" if match["side"].endswith(("A", "down")) else "up"
            sides.setdefault(match["module"], {})[side] = value
        else:
            raise ModelError(f"{path} {_otherwise(key)}: {key}")
    for module, both in sides.items():
        if len(both) < 2:
            side = "lora_A" if "down" in both else "lora_B"
            raise ModelError(f"{path} holds only half of the LoRA of {module}: {side}")
    for name in alphas:
        if name not in sides:
            raise ModelError(f"{path} has an alpha but no matrices for {name}; download the file again")
    if not sides:
        raise ModelError(f"{path} is empty")
    told = [
        name for name, both in sides.items() if _TEXT_ENCODER.match(name) and both["down"].any() and both["up"].any()
    ]
    if told:
        raise ModelError(
            f"{path} also changes text encoders ({len(told)} layers, first {told[0]}), but only a transformer can "
            "take a LoRA here; save the LoRA without its text encoder layers"
        )
    pairs = {name: (both["down"], both["up"]) for name, both in sides.items() if not _TEXT_ENCODER.match(name)}
    return pairs, {name: alpha for name, alpha in alphas.items() if name in pairs}


def _otherwise(key: str) -> str:
    for pattern, what in _OTHERWISE.items():
        if re.search(pattern, key):
            return f"{what} cannot be merged here, first"
    return "has a weight that no linear layer's LoRA uses"


def _bare(name: str) -> str:
    """Return a layer's name without the prefixes that trainers add."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _by_module(path: Path, pairs: Mapping[str, Pair], transformer: nn.Module) -> dict[str, Pair]:
    """Rename pairs to the transformer's own module names."""
    own = {name for name, _ in transformer.named_modules()}
    flat = {name.replace(".", "_"): name for name in own}
    found: dict[str, Pair] = {}
    foreign: dict[str, Pair] = {}
    for name, pair in pairs.items():
        bare = _bare(name)
        for prefix in _FLAT_PREFIXES:
            bare = bare.removeprefix(prefix)
        module = bare if bare in own else flat.get(bare)
        if module is None:
            foreign[bare] = pair
        elif module in found:
            raise ModelError(f"{path} holds two LoRAs of {module}; merge one at a time")
        else:
            found[module] = pair
    if foreign:
        converted = _converted(path, foreign, transformer, own)
        if both := sorted(set(converted) & set(found)):
            raise ModelError(f"{path} holds two LoRAs of {both[0]}; merge one at a time")
        found |= converted
    return found


def _converted(
    path: Path, foreign: Mapping[str, Pair], transformer: nn.Module, own: Collection[str]
) -> dict[str, Pair]:
    """Rename pairs from the layer names of a model's authors to those of diffusers.

    The converters of diffusers' model families understand different spellings, so these are tried in turn. A spelling
    is understood if all converted pairs belong to existing modules and have the same total weight as before.
    """
    import diffusers.loaders.lora_pipeline as loaders

    kind = type(transformer).__name__
    loader: Any = getattr(loaders, re.sub(r"Transformer\w*Model$", "LoraLoaderMixin", kind), None)
    for spelling in (_spelled_down_up, _spelled_a_b, _spelled_bare) if loader is not None else ():
        try:
            with silent():
                state = loader.lora_state_dict({key: value.clone() for key, value in spelling(foreign).items()})
            pairs = {_bare(name): Pair(*both, 1.0) for name, both in _pairs(path, state)[0].items()}
        except Exception:  # on unexpected names, converters fail in many classes
            continue
        if set(pairs) <= set(own) and math.isclose(_weight(pairs), _weight(foreign), rel_tol=1e-5):
            return pairs
    first = min(foreign)
    raise ModelError(
        f"{kind} has no module {first}, and diffusers cannot convert all layer names of {path}; give a LoRA that is "
        "made for this model, in the layout of diffusers, PEFT, kohya or the model's authors"
    )


def _spelled_down_up(pairs: Mapping[str, Pair]) -> dict[str, Tensor]:
    """Spell layers as kohya's scripts and ComfyUI do."""
    state: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        prefix = "diffusion_model." if "." in name else "lora_unet_"
        state[f"{prefix}{name}.lora_down.weight"] = pair.down
        state[f"{prefix}{name}.lora_up.weight"] = pair.up * pair.scaling
        if "." not in name:  # some converters require an alpha; this one has no effect
            state[f"{prefix}{name}.alpha"] = torch.tensor(float(pair.rank))
    return state


def _spelled_a_b(pairs: Mapping[str, Pair]) -> dict[str, Tensor]:
    """Spell layers as PEFT-based trainers of the original model do."""
    state: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        state[f"diffusion_model.{name}.lora_A.weight"] = pair.down
        state[f"diffusion_model.{name}.lora_B.weight"] = pair.up * pair.scaling
    return state


def _spelled_bare(pairs: Mapping[str, Pair]) -> dict[str, Tensor]:
    """Spell layers as XLabs does for the processors of FLUX."""
    state: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        state[f"{name}.down.weight"] = pair.down
        state[f"{name}.up.weight"] = pair.up * pair.scaling
    return state


def _weight(pairs: Mapping[str, Pair]) -> float:
    """Return the sum of squares of the pairs' weight changes, which splitting and reordering rows does not alter."""
    total = 0.0
    for pair in pairs.values():
        down, up = pair.down.double(), pair.up.double() * pair.scaling
        total += float(((up.T @ up) * (down @ down.T)).sum())
    return total
