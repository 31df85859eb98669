"""Tiny language models and a tokenizer of letters, built in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def by_hand(model: Any, ids: list[int], size: int) -> float:
    """The log-probability of the last tokens, one after the other."""
    with torch.no_grad():
        return sum(
            float(model(input_ids=torch.tensor([ids[:at]])).logits[0, -1].log_softmax(-1)[ids[at]])
            for at in range(len(ids) - size, len(ids))
        )
