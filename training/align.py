"""Aligns the shipped checkpoint with its reward: a LoRA on the transformer, fine-tuned on its own best pictures.

    python training/align.py --out adapters/aligned

Reward-ranked fine-tuning (RAFT: Dong et al. 2023, arXiv 2304.06767) in its simplest form, one round. The pipeline draws
eight pictures of every training prompt, the checker scores them, and the best two of each prompt, if they score at
least 0.5, are what the LoRA is fine-tuned on, by rectified flow as in `transformer.py`; one caption in ten is left
empty, for guidance. No picture of `data.py` is used, and no prompt of the validation and test splits.

The LoRA is PEFT's, on the linear layers of attention and of the picture's feed-forward layers, and is written by
diffusers as `pytorch_lora_weights.safetensors`, in float16, with its configuration in the metadata. Everything is drawn
from the seed, and computed by one thread: started again on the same machine with the same libraries, it writes the
same file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from evaluate import load
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor
from trimpot.objectives.shapes import check, scenes

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TARGETS = [
    *(f"attn.{name}" for name in (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *(f"attn2.{name}" for name in ATTENTION),
    "ff.net.0.proj",
    "ff.net.2",
]
KEPT, LEAST = 2, 0.5  # pictures of a prompt that are learned from, and the score that they need
EMPTY = 0.1  # share of captions that are left empty
BATCH, DRAWN = 64, 128  # pictures a training step, and a call of the pipeline


class Prompts:
    """What the pipeline's text encoders make of prompts, encoded once."""

    def __init__(self, pipe: StableDiffusion3Pipeline, texts: Sequence[str]) -> None:
        known = list(dict.fromkeys([*texts, ""]))
        context, _, pooled, _ = pipe.encode_prompt(
            known, None, None, do_classifier_free_guidance=False, max_sequence_length=1, device="cpu"
        )
        self._of = dict(zip(known, zip(context, pooled, strict=True), strict=True))

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Context (n, tokens, width) and pooled (n, width) embeddings."""
        context, pooled = zip(*(self._of[text] for text in texts), strict=True)
        return torch.stack(context), torch.stack(pooled)


@torch.no_grad()
def draw(
    pipe: StableDiffusion3Pipeline, encoded: Prompts, texts: Sequence[str], options: argparse.Namespace
) -> tuple[Tensor, NDArray[np.float64]]:
    """Latents (n, channels, 8, 8) of pictures that the stock pipeline draws, and the checker's scores (n,)."""
    latents, scores, first = [], [], (options.seed + 1) * 1_000_000
    for start in range(0, len(texts), DRAWN):
        part = texts[start : start + DRAWN]
        context, pooled = encoded(part)
        no_context, no_pooled = encoded([""] * len(part))
        latent = pipe(
            prompt_embeds=context,
            pooled_prompt_embeds=pooled,
            negative_prompt_embeds=no_context,
            negative_pooled_prompt_embeds=no_pooled,
            height=32,
            width=32,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            generator=[torch.Generator().manual_seed(first + start + index) for index in range(len(part))],
            output_type="latent",
        ).images
        latents.append(latent)
        decoded = pipe.vae.decode(latent / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor).sample
        pictures = ((decoded.clamp(-1, 1) + 1) * 127.5 + 0.5).permute(0, 2, 3, 1).byte().numpy()
        scores += [check(picture, text).score for picture, text in zip(pictures, part, strict=True)]
    return torch.cat(latents), np.array(scores)


def best(scores: NDArray[np.float64], images: int) -> NDArray[np.int64]:
    """The indices of the pictures to learn from; each prompt's `images` pictures stand together."""
    order = np.argsort(-scores.reshape(-1, images), axis=1, kind="stable")[:, :KEPT]
    rows = (order + np.arange(len(order))[:, None] * images).ravel()
    return rows[scores[rows] >= LEAST]


def tune(
    pipe: StableDiffusion3Pipeline,
    encoded: Prompts,
    latents: Tensor,
    texts: Sequence[str],
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    options: argparse.Namespace,
) -> float:
    """Fine-tunes the LoRA on pictures and their prompts. Returns the mean loss."""
    params = optimizer.param_groups[0]["params"]
    losses = []
    for step in range(options.updates):
        optimizer.param_groups[0]["lr"] = options.rate * min(1.0, (step + 1) / 20, 2 * (1 - step / options.updates))
        rows = rng.integers(len(latents), size=BATCH)
        captions = ["" if rng.random() < EMPTY else texts[row] for row in rows]
        clean = latents[torch.from_numpy(rows)]
        noise = torch.from_numpy(rng.standard_normal(clean.shape)).float()
        sigma = torch.sigmoid(1.2 * torch.from_numpy(rng.standard_normal(BATCH)).float())
        level = sigma[:, None, None, None]
        made = pipe.transformer((1 - level) * clean + level * noise, *encoded(captions), sigma * 1000).sample
        loss = (made - (noise - clean)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def align(options: argparse.Namespace) -> int:
    """Tunes a LoRA and writes it. Returns its size in bytes."""
    began = time.monotonic()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    pipe = load(options.model)
    config = LoraConfig(r=options.rank, lora_alpha=options.rank, init_lora_weights="gaussian", target_modules=TARGETS)
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        part.requires_grad_(False)
    pipe.transformer.add_adapter(config)
    params = [param for param in pipe.transformer.parameters() if param.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=options.rate, weight_decay=0.0)
    prompts = scenes.prompts("train")
    texts = [text for text in prompts for _ in range(options.images)]
    encoded = Prompts(pipe, prompts)
    latents, scores = draw(pipe, encoded, texts, options)
    rows = best(scores, options.images)
    print(
        f"drawn {len(texts)}, mean score {scores.mean():.3f}; kept {len(rows)}, {scores[rows].mean():.3f}; "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    loss = tune(pipe, encoded, latents[rows], [texts[row] for row in rows], optimizer, rng, options)
    print(f"tuned {options.updates} steps, mean loss {loss:.4f}; {time.monotonic() - began:.0f} s", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half() for name, value in get_peft_model_state_dict(pipe.transformer).items()}
    described = pipe.transformer.peft_config["default"].to_dict()
    described["target_modules"] = sorted(described["target_modules"])  # a set, whose order differs between processes
    pipe.save_lora_weights(options.out, transformer_lora_layers=weights, transformer_lora_adapter_metadata=described)
    return sum(path.stat().st_size for path in options.out.iterdir())


def main() -> None:
    """Aligns a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("adapters/shapes"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=8, help="pictures drawn of every training prompt")
    parser.add_argument("--updates", type=int, default=200, help="training steps")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6, help="denoising steps of a drawn picture")
    parser.add_argument("--guidance", type=float, default=4.0, help="guidance of a drawn picture")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    size = align(options)
    print(f"{options.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
