"""A tiny instance of a causal language model: its configuration class with small numbers in the fields that it has."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..transformers.example import shake
from .classes import BESIDE, CONFIGS, FLOAT32, NOT_DIFFERENTIATED, NOT_RUN

VOCABULARY = 96
LENGTH = 6  # tokens of an input

#: The size of each field that a configuration class may have.
SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("vocab_size", "unpadded_vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(
        ("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim", "embedding_size", "emb_dim"), 32
    ),
    **dict.fromkeys(("embed_dim", "backbone_hidden_size"), 32),
    **dict.fromkeys(("n_ctx", "n_positions", "max_position_embeddings", "max_seq_len"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers", "decoder_layers"), 2),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_decoder_attention_heads", "num_encoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "dff", "dim_ff", "ffn_dim", "ffn_hidden_size"), 48),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "num_key_value_heads"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("head_dim", "qk_nope_head_dim", "v_head_dim", "swa_head_dim", "linear_head_dim", "rel_extent"), 8),
    **dict.fromkeys(
        ("hidden_size_per_layer_input", "global_head_dim", "shape_embed_dim", "pronunciation_embed_dim"), 8
    ),
    **dict.fromkeys(("rotary_dim", "qk_rope_head_dim", "loop_gate_rank", "laurel_rank"), 4),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("shape_vocab_size", "pronunciation_vocab_size"), VOCABULARY),
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size", "mamba_chunk_size", "chunk_size"), 8),
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}


@dataclass(frozen=True)
class LanguageExample:
    """A tiny real instance of a causal language model, and inputs for it; see `proofs.transformers.example.Example`.

    Attributes:
        kind: Name of the class.
        config: Fields of its configuration besides `SIZES`, as words `name=value`.
        precision: `float32` if the class cannot compute in float64.
        beside: Block classes that do more than add branches to their stream, each with a description of the rest.
        max_rows: The most rows of a batch.
        differentiable: Whether autograd supports the class.
        streams: How many tensors at the beginning of a block's output are its streams.
        exact_rows: Whether the other rows of a batch change no bit of a row, as those change it whose experts work on
            the tokens of all rows together.
    """

    kind: str
    config: str = ""
    precision: Literal["float32", "float64"] = "float64"
    beside: Mapping[str, str] = field(default_factory=dict)
    max_rows: int = 8
    differentiable: bool = True
    exact_rows: bool = True
    streams: int | None = 1

    @property
    def made_of(self) -> type[nn.Module]:
        """The class."""
        return causal_classes()[self.kind]

    def settings(self) -> Any:
        """Return the configuration."""
        kind = self.made_of.config_class  # type: ignore[attr-defined]
        names = set(getattr(kind, "__dataclass_fields__", ())) or set(inspect.signature(kind.__init__).parameters)
        given = {name: value for name, value in SIZES.items() if name in names}
        words = (word.partition("=") for word in self.config.split())
        config = kind(**{**given, **{name: _literal(text) for name, _, text in words}})
        config._attn_implementation = config._experts_implementation = "eager"
        return config

    def build(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """Build a tiny instance with reproducible parameters, all large enough to have an effect."""
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings that concern only large instances
            model: nn.Module = self.made_of(self.settings())
        shake(model)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        return model.eval()

    def arguments(self, rows: int = 2, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Any]:
        """Return keyword arguments of a forward call with `rows` rows."""
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(3, VOCABULARY, (min(rows, self.max_rows), LENGTH), generator=generator)
        takes = inspect.signature(self.made_of.forward).parameters
        return {"input_ids": ids, **({"use_cache": False} if {"use_cache", "kwargs"} & set(takes) else {})}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@cache
def causal_classes() -> dict[str, type[nn.Module]]:
    """Return every causal language model of the installed transformers, by name.

    These are all classes named `...ForCausalLM`, and those of other names, such as `GPT2LMHeadModel`, that
    `AutoModelForCausalLM` makes. Models that condition on pictures or sound have names of their own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        names = dict.fromkeys(each for one in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() for each in _several(one))
        found = {name: getattr(transformers, name, None) for name in names if "ConditionalGeneration" not in name}
        for path in sorted(Path(transformers.__file__).parent.glob("models/*/modeling_*.py")):
            for name in re.findall(r"^class (\w+ForCausalLM)\(", path.read_text(encoding="utf-8"), re.MULTILINE):
                if name not in found and not name.startswith("Auto"):
                    home = importlib.import_module(f"transformers.models.{path.parent.name}.{path.stem}")
                    found[name] = getattr(home, name)
    return {name: kind for name, kind in sorted(found.items()) if kind is not None}


def _several(names: Any) -> tuple[str, ...]:
    return names if isinstance(names, tuple) else (names,)


@cache
def examples() -> dict[str, LanguageExample]:
    """Return the example of each class that can be run."""
    return {
        kind: LanguageExample(
            kind,
            CONFIGS.get(kind, ""),
            "float32" if kind in FLOAT32 else "float64",
            BESIDE,
            differentiable=kind not in NOT_DIFFERENTIATED,
        )
        for kind in causal_classes()
        if kind not in NOT_RUN
    }
