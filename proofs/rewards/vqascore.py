"""Proofs of VQAScore on a tiny Qwen2.5-VL, and on a tiny CLIP-FlanT5 with untied embeddings."""

from __future__ import annotations

import json
from math import erf
from pathlib import Path
from typing import Any

import numpy as np

from ...objectives.judges import make_vqascore
from ...objectives.pretrained import transformers
from . import Proof
from ._chats import asked, decoded, pictures, places, save_chat, shaken, tokenizer

PROMPTS = ("a red circle", "two dogs left of a house", "a red circle")


def chat_difference(folder: Path) -> float:
    """Compare with the decoder in NumPy, with row and column positions computed by hand."""
    model = save_chat(folder, "qwen2_5_vl")
    shown = pictures((56, 56), (84, 56), (112, 112))
    scores = make_vqascore(model=str(folder), dtype="float32", device="cpu").score(shown, PROMPTS)
    words = tokenizer()
    by_hand = []
    for picture, prompt in zip(shown, PROMPTS, strict=True):
        question = f'Does this figure show "{prompt}"? Please answer Yes or No.'
        ids, embeddings, grid = asked(model, words, picture, question)
        last = decoded(model, embeddings, places(ids, model.config.image_token_id, grid))[-1]
        logits = model.lm_head.weight.detach().double().numpy() @ last
        by_hand.append(np.exp(logits[words("Yes").input_ids[0]]) / np.exp(logits).sum())
    return float(np.abs(scores - by_hand).max())


def save_clip_flant5(folder: Path) -> tuple[Path, Path, Any, Any, dict[str, Any]]:
    """Save a tiny CLIP-FlanT5 in two parts with its vision tower, and return both paths and the contents."""
    import torch

    library = transformers()
    home, eyes = folder / "flant5", folder / "vision"
    home.mkdir(parents=True)
    letters = (chr(code) for code in range(33, 127))
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581Yes", -1.0), ("\u2581", -2.0)]
    pieces += [(letter, -3.0) for letter in letters]
    words = library.T5Tokenizer(vocab=pieces, extra_ids=0)
    config = library.T5Config(
        vocab_size=len(words) + 3, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    model = library.T5ForConditionalGeneration(config)
    # The class ties its embeddings regardless of the configuration, but Flan-T5's embeddings are untied.
    model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    shaken(model, 0.2)
    generator = torch.Generator().manual_seed(5)
    shapes = {"0.weight": (16, 24), "0.bias": (16,), "2.weight": (16, 16), "2.bias": (16,)}
    projector = {f"mm_projector.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    state = {name: value for name, value in model.state_dict().items() if "embed_tokens" not in name}
    parts = {"pytorch_model-1.bin": state, "pytorch_model-2.bin": projector}
    for name, part in parts.items():
        torch.save({key: value.clone() for key, value in part.items()}, home / name)
    index = {"metadata": {}, "weight_map": {key: name for name, part in parts.items() for key in part}}
    (home / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    told = config.to_dict() | {"tie_word_embeddings": False, "model_type": "clip_t5", "mm_vision_tower": str(eyes)}
    (home / "config.json").write_text(json.dumps(told))
    words.save_pretrained(home)
    vision = library.CLIPVisionModel(
        library.CLIPVisionConfig(
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        )
    )
    shaken(vision).save_pretrained(eyes)
    kind = library.models.clip.image_processing_pil_clip.CLIPImageProcessorPil
    kind(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(eyes)
    return (
        home,
        eyes,
        model,
        vision,
        {name.removeprefix("mm_projector."): value.double().numpy() for name, value in projector.items()},
    )


def flant5_difference(folder: Path) -> float:
    """Compare with P("Yes") and P(</s> | "Yes"), decoded one after the other on a picture prepared in NumPy."""
    import torch

    home, _, model, vision, projector = save_clip_flant5(folder)
    shown = pictures((28, 28), (28, 28), (28, 14))
    objective = make_vqascore(
        architecture="clip-flant5", model=str(home), tokenizer=str(home), dtype="float32", device="cpu"
    )
    scores = objective.score(shown, PROMPTS)
    words = transformers().AutoTokenizer.from_pretrained(home)
    yes, end = words("Yes").input_ids
    system = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: "
    )
    mean, spread = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    by_hand = []
    for picture, prompt in zip(shown, PROMPTS, strict=True):
        square = np.tile(np.array([122, 116, 104], dtype=np.uint8), (28, 28, 1))
        square[(28 - picture.height) // 2 :][: picture.height] = np.asarray(picture)
        pixels = torch.tensor(((square / 255 - mean) / spread).transpose(2, 0, 1)[None], dtype=torch.float32)
        question = f'\nDoes this figure show "{prompt}"? Please answer yes or no. ASSISTANT: '
        with torch.no_grad():
            inner = getattr(vision, "vision_model", vision)
            hidden = inner.pre_layrnorm(inner.embeddings(pixels))
            for layer in inner.encoder.layers[:-1]:
                hidden = layer(hidden, None)
                hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            x = hidden[0, 1:].double().numpy() @ projector["0.weight"].T + projector["0.bias"]
            x = x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2 @ projector["2.weight"].T + projector["2.bias"]
            table = model.shared.weight
            before, after = (table[torch.tensor(words(text).input_ids)] for text in (system, question))
            joined = torch.cat([before, torch.tensor(x, dtype=torch.float32), after])[None]
            chances = []
            for said, wanted in (([0], yes), ([0, yes], end)):
                logits = (
                    model(inputs_embeds=joined, decoder_input_ids=torch.tensor([said])).logits[0, -1].double().numpy()
                )
                chances.append(np.exp(logits[wanted] - logits.max()) / np.exp(logits - logits.max()).sum())
        by_hand.append(np.sqrt(chances[0] * chances[1]))
    return float(np.abs(scores - by_hand).max())


PROOFS = (
    Proof(
        "vqascore",
        "arXiv 2404.01291, eq. 1; t2v_metrics 3.1",
        "decoder in NumPy, positions by hand",
        chat_difference,
        1e-7,
    ),
    Proof(
        "vqascore clip-flant5",
        "arXiv 2404.01291; t2v-metrics 3.0",
        "two tokens decoded in turn",
        flant5_difference,
        1e-7,
    ),
)
