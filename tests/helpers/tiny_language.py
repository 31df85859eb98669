"""Tiny language models and a tokenizer of letters, built in code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from trimpot.proofs.transformers import shake

SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|system|>")
LETTERS = (*"abcdefghijklmnopqrstuvwxyz0123456789 .+=?\n", "<unk>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<s>{% endif %}"
)
#: Name to the class of a tiny model and the fields of its configuration.
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**SIZES, "intermediate_size": 48, "max_position_embeddings": 64}),
    "gemma2": ("Gemma2", {**SIZES, "intermediate_size": 48, "head_dim": 8, "max_position_embeddings": 64}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "mixtral": ("Mixtral", {**SIZES, "intermediate_size": 48, "num_local_experts": 4, "max_position_embeddings": 64}),
    "mamba": ("Mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "bert": ("Bert", {**SIZES, "intermediate_size": 48, "is_decoder": True}),
}


def tokenizer(*, template: str | None = TEMPLATE) -> Any:
    """A tokenizer with a token for each letter, and one for `is`."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *LETTERS, "is"]
    made = Tokenizer(models.BPE({word: at for at, word in enumerate(words)}, [("i", "s")], unk_token="<unk>"))
    made.decoder = decoders.Fuse()
    made.add_special_tokens(list(SPECIAL))
    found = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    found.chat_template = template
    return found


def model(kind: str, seed: int = 0) -> Any:
    """A tiny model with reproducible weights, all large enough to have an effect."""
    import transformers

    name, sizes = KINDS[kind]
    words = len(SPECIAL) + len(LETTERS) + 1
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{name}Config")(vocab_size=words, **special, **sizes)
    torch.manual_seed(seed)
    made = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    shake(made, 0.1)
    return made.eval()


def folder(path: Path, kind: str = "llama", seed: int = 0, **of_tokenizer: Any) -> Path:
    """Save a tiny model and its tokenizer as transformers does."""
    model(kind, seed).save_pretrained(path)
    tokenizer(**of_tokenizer).save_pretrained(path)
    return path


def write_gguf(path: Path, more: Mapping[str, Any] | None = None) -> Path:
    """A GGUF file of a tiny Llama in float32, with its tokenizer and further tensors."""
    library = pytest.importorskip("gguf")
    made, words = model("llama"), [*SPECIAL, *LETTERS, "is"]
    config = made.config
    writer = library.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_merges(["i s"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "model.layers": "blk",
    }  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, value in made.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        for part, count in heads.items():  # llama.cpp interleaves the halves that rotate together
            if part in name:
                rows = value.shape[0] // count // 2
                value = value.reshape(count, 2, rows, -1).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(name, value.contiguous().numpy())
    for name, value in (more or {}).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def by_hand(model: Any, ids: list[int], size: int) -> float:
    """The log-probability of the last tokens, one after the other."""
    with torch.no_grad():
        return sum(
            float(model(input_ids=torch.tensor([ids[:at]])).logits[0, -1].log_softmax(-1)[ids[at]])
            for at in range(len(ids) - size, len(ids))
        )
