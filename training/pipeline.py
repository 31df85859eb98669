"""Builds the parts of the pipeline, and writes a trained state as a diffusers checkpoint.

    python training/pipeline.py --state DIR/state.safetensors --vae DIR/vae --out adapters/shapes

The result is a directory that `StableDiffusion3Pipeline.from_pretrained` loads as it loads any other, in
float16.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import data
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from state import load_state
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer
from trimpot.objectives.shapes import scenes

#: Start and end tokens and the ten words of the longest caption: "a small red circle left of a big blue
#: square".
MAX_TOKENS = 12
#: Zero tokens that the pipeline appends for the text encoder that is absent; the checkpoint is trained with
#: these.
MAX_SEQUENCE_LENGTH = 1
#: The noise levels, chosen by `evaluate.py schedule`: the plain schedule spends its last step on the last thousandth
#: of the noise; this one steps to zero from 0.35, and is better at 4, 6 and 28 steps alike.
SHIFT = 2.0
SHIFT_TERMINAL = 0.35
TEXT_WIDTH = 48
LAYERS = 12
DUAL_LAYERS = (0, 1, 2, 3, 4)


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows every caption word as one token and spells all else by letters."""
    letters = [chr(ord("a") + index) for index in range(26)]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], model_max_length=MAX_TOKENS
    )
    # Whole words are added tokens: as merges their halves ("ci", "re") would also swallow letters of other
    # words.
    words = [word for word in (*scenes.SCENE_WORDS, *data.EXTRA_WORDS) if len(word) > 1]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True, special=False) for word in words])
    return tokenizer


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """A two-layer CLIP text encoder: its first layer is the context, its last gives the pooled end token."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            # The default factor is meant for widths of 512 and more.
            initializer_factor=4.0,
        )
    )


def build_transformer(latent_channels: int) -> SD3Transformer2DModel:
    """The MM-DiT: 12 joint blocks of width 64 over 4 x 4 image tokens, the first five with dual attention."""
    model = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_layers=LAYERS,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=64,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=4,
        dual_attention_layers=DUAL_LAYERS,
        qk_norm="rms_norm",
    )
    # Every block starts as the identity (adaLN-Zero: Peebles and Xie, 2023, section 3.2).
    for block in model.transformer_blocks:
        nn.init.zeros_(block.norm1.linear.weight)
        nn.init.zeros_(block.norm1_context.linear.weight)
        nn.init.zeros_(block.norm1.linear.bias)
        nn.init.zeros_(block.norm1_context.linear.bias)
    nn.init.zeros_(model.norm_out.linear.weight)
    nn.init.zeros_(model.norm_out.linear.bias)
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    return model


class Denoiser(nn.Module):
    """The two text encoders and the transformer: all that is trained together."""

    def __init__(self, tokenizer: CLIPTokenizer, latent_channels: int) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer)
        self.text_encoder_2 = build_text_encoder(tokenizer)
        self.transformer = build_transformer(latent_channels)

    def forward(self, noisy: Tensor, sigma: Tensor, tokens: Tensor) -> Tensor:
        """The velocity, noise minus picture, at a noise level.

        Args:
            noisy: (n, channels, 8, 8) latents.
            sigma: (n,) noise levels in [0, 1].
            tokens: (n, MAX_TOKENS) token ids.
        """
        # What `StableDiffusion3Pipeline.encode_prompt` makes of a prompt without a third encoder.
        outputs = [encoder(tokens, output_hidden_states=True) for encoder in (self.text_encoder, self.text_encoder_2)]
        context = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        context = nn.functional.pad(context, (0, 0, 0, MAX_SEQUENCE_LENGTH))
        pooled = torch.cat([output.text_embeds for output in outputs], dim=-1)
        return self.transformer(noisy, context, pooled, sigma * 1000, return_dict=False)[0]


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The noise schedule; see docs/shapes.md for how its numbers were chosen."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT, shift_terminal=SHIFT_TERMINAL)


#: Settings that belong to the checkpoint: an adapter reads them from trimpot.json.
SETTINGS = {
    "height": 32,
    "width": 32,
    "max_sequence_length": MAX_SEQUENCE_LENGTH,
    "num_inference_steps": 6,
    "guidance_scale": 4.0,
}


def assemble(state: Path, vae: Path) -> StableDiffusion3Pipeline:
    """The stock pipeline with the averaged weights of a training state, in float32."""
    tokenizer = build_tokenizer()
    autoencoder = AutoencoderKL.from_pretrained(vae)
    denoiser = Denoiser(tokenizer, autoencoder.config.latent_channels)
    denoiser.load_state_dict(load_state(state)[0]["average"])
    return StableDiffusion3Pipeline(
        transformer=denoiser.transformer,
        scheduler=build_scheduler(),
        vae=autoencoder,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=denoiser.text_encoder_2,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def export(state: Path, vae: Path, out: Path) -> int:
    """Writes the checkpoint beside `out` and swaps it in whole. Returns its size in bytes."""
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    assemble(state, vae).to(torch.float16).save_pretrained(fresh)
    (fresh / "trimpot.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")
    if out.exists():
        old = out.with_name(out.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        fresh.rename(out)
        shutil.rmtree(old)
    else:
        fresh.rename(out)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def main() -> None:
    """Exports a training state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    size = export(options.state, options.vae, options.out)
    print(f"{options.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
