"""Trains the autoencoder: 32 x 32 RGB to an 8 x 8 latent and back.

Loss: L1, plus L1 of the picture's differences (edges are what the checker and the eye look at), plus a little
L2 and KL. The latent gets some noise while training, so that the decoder forgives errors of the transformer.

    python training/vae.py --data DIR --out DIR --minutes 15

The learning rate follows the share of `--minutes` that has passed, so a busy machine shortens training and
never cuts its decay off. Stopped and started again, it continues from the last checkpoint. With `--decoder-of
DIR/vae` the encoder stays as it is: the decoder improves while the transformer already learns its latents.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import data
import numpy as np
import torch
from diffusers import AutoencoderKL
from state import load_state, save_state
from torch import Tensor
from torch.nn import functional


def build(latent_channels: int) -> AutoencoderKL:
    """A small `AutoencoderKL` of factor 4 without attention."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def reconstruction_loss(made: Tensor, true: Tensor) -> Tensor:
    """L1 of the pictures and of their horizontal and vertical differences; (n, 3, 32, 32) in [-1, 1]."""
    error = made - true
    return (
        error.abs().mean()
        + 0.5 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
        + error.square().mean()
    )


def to_tensor(pictures: np.ndarray) -> Tensor:
    """(n, 32, 32, 3) uint8 to (n, 3, 32, 32) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def main() -> None:
    """Trains, or goes on training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--latent-channels", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--kl", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decoder-of", type=Path, help="tune the decoder of this autoencoder; its latents stay")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = np.concatenate([shard for shard, _ in data.shards(options.data)])
    if options.decoder_of:
        model = AutoencoderKL.from_pretrained(options.decoder_of)
        model.encoder.requires_grad_(False)
    else:
        model = build(options.latent_channels)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=options.rate, betas=(0.9, 0.98)
    )
    step, spent, saved = 0, 0.0, options.out / "state.safetensors"
    if saved.exists():
        groups, numbers = load_state(saved, [optimizer])
        model.load_state_dict(groups["model"])
        step, spent = int(numbers["step"]), numbers["spent"]
    began, last, mean = time.monotonic() - spent, time.monotonic(), 0.0
    while True:
        passed = (time.monotonic() - began) / (60 * options.minutes)
        if passed >= 1:
            break
        rate = options.rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * passed))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = to_tensor(pictures[rng.integers(len(pictures), size=options.batch)])
        posterior = model.encode(batch).latent_dist
        latent = posterior.sample()
        made = model.decode(latent + options.noise * torch.randn_like(latent)).sample
        loss = reconstruction_loss(made, batch)
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        optimizer.zero_grad()
        (loss + options.kl * kl).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        mean += 0.02 * (loss.item() - mean) if step > 1 else loss.item()
        if time.monotonic() - last > 20:
            last = time.monotonic()
            psnr = -10 * math.log10(functional.mse_loss(made, batch).item() / 4)
            std = posterior.mean.std().item()
            rate_now = step * options.batch / (last - began)
            print(
                f"{passed:6.1%} step {step} loss {mean:.4f} psnr {psnr:.1f} kl {kl.item():.2f} "
                f"latent std {std:.2f} within {posterior.std.mean().item():.3f} {rate_now:.0f} pictures/s",
                flush=True,
            )
            save_state(saved, {"model": model.state_dict()}, [optimizer], {"step": step, "spent": last - began})
    # The pipeline hands the transformer (latent - shift) * scale, which should have mean 0 and deviation 1.
    with torch.no_grad():
        latents = torch.cat(
            [model.encode(to_tensor(pictures[i : i + 256])).latent_dist.mean for i in range(0, 4096, 256)]
        )
    if not options.decoder_of:
        model.register_to_config(
            shift_factor=round(latents.mean().item(), 4), scaling_factor=round(1 / latents.std().item(), 4)
        )
    model.save_pretrained(options.out / "vae")
    numbers = {"step": step, "spent": time.monotonic() - began}
    save_state(saved, {"model": model.state_dict()}, [optimizer], numbers)
    print(
        f"done: {step} steps, {step * options.batch} pictures, loss {mean:.4f}, "
        f"shift {model.config.shift_factor}, scale {model.config.scaling_factor}",
        flush=True,
    )


if __name__ == "__main__":
    main()
