"""Trains the transformer together with its two text encoders, by rectified flow.

    python training/transformer.py --data DIR --vae DIR/vae --out DIR --minutes 75 --workers 2

Conventions are those of diffusers: at noise level sigma the model sees (1 - sigma) * latent + sigma * noise
and predicts noise - latent; its timestep is 1000 * sigma. Each worker process computes on one thread, and
gradients are averaged (two processes of one thread are faster than one process of two). The learning rate
follows the share of `--minutes` that has passed: a busy machine sees fewer pictures, but the decay always
ends. Started again, training goes on from the last checkpoint; the random numbers of a step depend on seed,
worker and step alone.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import data
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from diffusers import AutoencoderKL
from muon import Muon
from pipeline import MAX_TOKENS, Denoiser, build_tokenizer
from state import load_state, save_state
from torch import Tensor
from vae import to_tensor


def latents_of(folder: Path, vae: AutoencoderKL, mine: slice) -> None:
    """Encodes the shards of a folder that have no latents yet, next to their pictures, float16."""
    for path in sorted(folder.glob("?????.npy"))[mine]:
        target = path.with_suffix(".latents.npy")
        if not target.exists():
            pictures = np.load(path)
            with torch.no_grad():
                parts = [
                    vae.encode(to_tensor(pictures[i : i + 256])).latent_dist.mean for i in range(0, len(pictures), 256)
                ]
            latent = (torch.cat(parts) - vae.config.shift_factor) * vae.config.scaling_factor
            partial = target.with_suffix(".part.npy")
            np.save(partial, latent.numpy().astype(np.float16))
            partial.rename(target)


def load(folder: Path) -> tuple[Tensor, Tensor]:
    """Latents (n, channels, 8, 8) in float16 and token ids (n, MAX_TOKENS) of all encoded shards."""
    tokenizer = build_tokenizer()
    latents, tokens = [], []
    for path in sorted(folder.glob("?????.latents.npy")):
        latents.append(torch.from_numpy(np.load(path)))
        captions = data.captions_of(folder / path.name.replace(".latents.npy", ".npy"))
        ids = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True)["input_ids"]
        tokens.append(torch.tensor(ids, dtype=torch.int16))
    return torch.cat(latents), torch.cat(tokens)


def optimizers_of(model: Denoiser, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the transformer's blocks, AdamW for everything else."""
    matrices, rest = [], []
    for name, param in model.named_parameters():
        hidden = param.ndim == 2 and "transformer_blocks" in name and ".linear." not in name
        (matrices if hidden else rest).append(param)
    return [
        Muon(matrices, lr=rate, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=rate * 0.15, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_at(passed: float, step: int) -> float:
    """The learning rate's factor: warm-up over 200 steps, flat to 45 % of the time, then straight to zero."""
    return min(1.0, (step + 1) / 200, max(0.0, (1 - passed) / 0.55))


def train(worker: int, options: argparse.Namespace) -> None:
    """One worker process."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(options.port))
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    dist.init_process_group("gloo", rank=worker, world_size=options.workers)
    vae = AutoencoderKL.from_pretrained(options.vae)
    latents_of(options.data, vae, slice(worker, None, options.workers))
    dist.barrier()
    latents, tokens = load(options.data)
    empty = torch.tensor(build_tokenizer()("", padding="max_length", max_length=MAX_TOKENS)["input_ids"])
    model = Denoiser(build_tokenizer(), latents.shape[1])
    params = list(model.parameters())
    optimizers = optimizers_of(model, options.rate)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    step, spent, seen, saved = 0, 0.0, 0, options.out / "state.safetensors"
    if saved.exists():
        groups, numbers = load_state(saved, optimizers)
        model.load_state_dict(groups["model"])
        average, spent = groups["average"], numbers["spent"]
        step, seen = int(numbers["step"]), int(numbers["seen"])
    if worker == 0:
        print(
            f"{len(latents)} pictures, {sum(p.numel() for p in params):,} parameters, from step {step}",
            flush=True,
        )
    forward = torch.compile(model) if options.compile else model
    began, last, mean = time.monotonic() - spent, time.monotonic(), 0.0
    reported, since = step, time.monotonic()
    while True:
        # All workers must agree on when to stop, so the first one's clock counts.
        clock = torch.tensor([(time.monotonic() - began) / (60 * options.minutes)])
        if step % 10 == 0:
            dist.broadcast(clock, 0)
            passed = clock.item()
            if passed >= 1:
                break
        for optimizer, base in zip(optimizers, (options.rate, options.rate * 0.15), strict=True):
            optimizer.param_groups[0]["lr"] = base * rate_at(passed, step)
        draw = torch.Generator().manual_seed((options.seed * 1_000_003 + step) * 64 + worker)
        rows = torch.randint(len(latents), (options.batch,), generator=draw)
        clean = latents[rows].float()
        ids = tokens[rows].long()
        ids[torch.rand(options.batch, generator=draw) < 0.1] = empty
        sigma = torch.sigmoid(options.spread * torch.randn(options.batch, generator=draw))
        noise = torch.randn(clean.shape, generator=draw)
        level = sigma[:, None, None, None]
        made = forward((1 - level) * clean + level * noise, sigma, ids)
        loss = (made - (noise - clean)).square().mean()
        model.zero_grad(set_to_none=True)
        loss.backward()
        flat = torch.cat([p.grad.flatten() if p.grad is not None else torch.zeros(p.numel()) for p in params])
        dist.all_reduce(flat)
        flat /= options.workers
        flat *= min(1.0, 1.0 / (flat.norm().item() + 1e-6))
        for param, grad in zip(params, flat.split([p.numel() for p in params]), strict=True):
            param.grad = grad.view_as(param)
        for optimizer in optimizers:
            optimizer.step()
        step, seen = step + 1, seen + options.batch * options.workers
        if worker == 0:
            decay = min(options.decay, step / (step + 10))
            names = list(average)
            held = model.state_dict()
            torch._foreach_lerp_(
                [average[n] for n in names if average[n].is_floating_point()],
                [held[n] for n in names if average[n].is_floating_point()],
                1 - decay,
            )
        mean += (loss.item() - mean) * max(0.01, 1 / (step - reported)) if step > reported else 0.0
        if worker == 0 and time.monotonic() - last > 30:
            last = time.monotonic()
            speed = (step - reported) * options.batch * options.workers / (last - since)
            print(f"{passed:6.1%} step {step} seen {seen} loss {mean:.4f} {speed:.0f} pictures/s", flush=True)
            reported, since = step, last
            numbers = {"step": step, "spent": last - began, "seen": seen}
            save_state(saved, {"model": model.state_dict(), "average": average}, optimizers, numbers)
    if worker == 0:
        numbers = {"step": step, "spent": time.monotonic() - began, "seen": seen}
        save_state(saved, {"model": model.state_dict(), "average": average}, optimizers, numbers)
        print(f"done: {step} steps, {seen} pictures, loss {mean:.4f}", flush=True)
    dist.destroy_process_group()


def main() -> None:
    """Trains, or goes on training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64, help="pictures a worker and step")
    parser.add_argument("--rate", type=float, default=0.02, help="Muon's learning rate; AdamW's is 0.15 of it")
    parser.add_argument("--spread", type=float, default=1.2, help="deviation of the logit-normal noise level")
    parser.add_argument("--decay", type=float, default=0.998, help="of the averaged weights, a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=29531)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.workers == 1:
        train(0, options)
    else:
        multiprocessing.spawn(train, args=(options,), nprocs=options.workers)


if __name__ == "__main__":
    main()
