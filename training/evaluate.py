"""Prints how good a checkpoint is, and draws a grid of what it makes.

    python training/evaluate.py checker                        the reward on true, shuffled and faulty pictures
    python training/evaluate.py vae      --model DIR           reconstructions of clean pictures
    python training/evaluate.py table    --model DIR           reward by steps and guidance, on validation prompts
    python training/evaluate.py grid     --model DIR --out PNG pictures of test prompts
    python training/evaluate.py schedule --model DIR           reward by the schedule's shift and last step
    python training/evaluate.py cost     --model DIR           size, parameters, milliseconds a picture
    python training/evaluate.py words    --model DIR           reading rate by steps and guidance, on unseen words

Every figure has fixed seeds: prompt number k is drawn with seed 10_000 + k.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import data
import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from trimpot.objectives.judges.ocr import OCR
from trimpot.objectives.shapes import Verdict, check, drawing, scenes
from vae import to_tensor

STEPS = (4, 6, 8, 12, 20, 28)
GUIDANCE = (1.0, 1.5, 2.0, 3.0, 4.5, 6.0)


def load(model: Path) -> StableDiffusion3Pipeline:
    """The checkpoint in float32, silent."""
    pipe = StableDiffusion3Pipeline.from_pretrained(str(model), text_encoder_3=None, tokenizer_3=None).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(
    pipe: StableDiffusion3Pipeline,
    prompts: Sequence[str],
    steps: int,
    guidance: float,
    first_seed: int = 10_000,
) -> NDArray[np.uint8]:
    """Pictures of prompts with the stock pipeline, (n, 32, 32, 3)."""
    made = []
    for start in range(0, len(prompts), 50):
        part = list(prompts[start : start + 50])
        seeds = [torch.Generator().manual_seed(first_seed + start + index) for index in range(len(part))]
        output = pipe(
            part, height=32, width=32, num_inference_steps=steps, guidance_scale=guidance, generator=seeds,
            max_sequence_length=1, output_type="np",
        )  # fmt: skip
        made.append(np.clip(output.images * 255 + 0.5, 0, 255).astype(np.uint8))
    return np.concatenate(made)


def repeated(texts: list[str], count: int) -> list[str]:
    """The first `count` prompts, from the start again when they run out."""
    return [texts[index % len(texts)] for index in range(count)]


def line(name: str, verdicts: Sequence[Verdict]) -> str:
    """One row: the mean of every part of the verdicts, with the standard error of the score."""

    def part(key: str) -> NDArray[np.float64]:
        return np.array([float(getattr(verdict, key)) for verdict in verdicts])

    parts = " ".join(f"{key} {part(key).mean():.3f}" for key in ("strict", "faithful", "vivid", "crisp", "clean"))
    error = part("score").std() / len(verdicts) ** 0.5
    return f"{name:28s} score {part('score').mean():.3f} (SE {error:.3f}) {parts} n {len(verdicts)}"


def checker(count: int) -> None:
    """The reward on pictures whose quality is known."""
    pictures, texts = data.clean_examples("validation", count, seed=1)
    rng = np.random.default_rng(2)
    began = time.process_time()
    clean = [check(picture, text) for picture, text in zip(pictures, texts, strict=True)]
    print(f"{(time.process_time() - began) / count * 1000:.2f} ms a picture")
    print(line("clean", clean))
    order = rng.permutation(count)
    print(
        line(
            "shuffled prompts",
            [check(pictures[i], texts[j]) for i, j in enumerate(order) if texts[i] != texts[j]],
        )
    )
    floats = (pictures / 255).astype(np.float32)
    for name, amounts, change in (
        ("dull, colour kept", (0.25, 0.5, 0.75), drawing.dull),
        ("blur, sigma", (0.5, 1.0, 1.5), drawing.blur),
        ("noise", (0.02, 0.05), lambda picture, amount: drawing.noisy(picture, amount, rng)),
    ):
        for amount in amounts:
            faulty = [drawing.to_bytes(change(picture, amount)) for picture in floats]
            print(line(f"{name} {amount}", [check(p, text) for p, text in zip(faulty, texts, strict=True)]))
    found = [drawing.to_bytes(drawing.weblike(scenes.parse(text), rng)) for text in texts]
    print(line("as in training", [check(p, text) for p, text in zip(found, texts, strict=True)]))


def vae(pipe: StableDiffusion3Pipeline, count: int) -> None:
    """What the autoencoder leaves of clean pictures."""
    pictures, texts = data.clean_examples("validation", count, seed=1)
    with torch.no_grad():
        latent = pipe.vae.encode(to_tensor(pictures)).latent_dist.mean
        again = pipe.vae.decode(latent).sample
    made = ((again.clamp(-1, 1) + 1) * 127.5 + 0.5).permute(0, 2, 3, 1).byte().numpy()
    psnr = -10 * np.log10(np.mean((made / 255.0 - pictures / 255.0) ** 2))
    print(line(f"reconstructed, {psnr:.1f} dB", [check(p, text) for p, text in zip(made, texts, strict=True)]))


def table(pipe: StableDiffusion3Pipeline, count: int, steps: Sequence[int], guidance: Sequence[float]) -> None:
    """Mean score and strict accuracy by steps and guidance on validation prompts, then by kind of scene."""
    texts = repeated(scenes.prompts("validation"), count)
    best: tuple[float, str, list[Verdict]] = (-1.0, "", [])
    for number in steps:
        for weight in guidance:
            verdicts = [check(p, t) for p, t in zip(make(pipe, texts, number, weight), texts, strict=True)]
            name = f"steps {number} guidance {weight}"
            print(line(name, verdicts), flush=True)
            mean = float(np.mean([verdict.score for verdict in verdicts]))
            best = max(best, (mean, name, verdicts), key=lambda entry: entry[0])
    by_kind = defaultdict(list)
    for text, verdict in zip(texts, best[2], strict=True):
        by_kind[scenes.parse(text).kind].append(verdict)
    print(f"best: {best[1]}")
    for kind in scenes.KINDS:
        print(line(f"  {kind}", by_kind[kind]))


def words(pipe: StableDiffusion3Pipeline, count: int, steps: Sequence[int], guidance: Sequence[float]) -> None:
    """What an OCR model reads of words that training never saw, each picture taken as one line of text."""
    unseen = [*scenes.prompts("validation", "words"), *scenes.prompts("test", "words")]
    texts, reader = repeated(unseen, count), OCR(target=r"the word (\w+)", detect=False)
    for number in steps:
        for weight in guidance:
            scores = reader.score([Image.fromarray(p) for p in make(pipe, texts, number, weight)], texts)
            read, error = np.mean(scores == 1), scores.std() / len(scores) ** 0.5
            print(
                f"steps {number} guidance {weight} score {scores.mean():.3f} (SE {error:.3f}) "
                f"read {read:.3f} n {len(scores)}",
                flush=True,
            )


def grid(pipe: StableDiffusion3Pipeline, out: Path, steps: int, guidance: float) -> None:
    """Forty-eight test prompts, scenes first and one row of words last, each picture five times enlarged."""
    texts = [*scenes.prompts("test")[:40], *scenes.prompts("test", "words")[:8]]
    zoom, columns, caption = 5, 8, 22
    width, height = 32 * zoom, 32 * zoom + caption
    sheet = Image.new("RGB", (columns * (width + 6), -(-len(texts) // columns) * (height + 6)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (text, picture) in enumerate(zip(texts, make(pipe, texts, steps, guidance), strict=True)):
        x, y = index % columns * (width + 6), index // columns * (height + 6)
        sheet.paste(Image.fromarray(picture).resize((width, width), Image.Resampling.NEAREST), (x, y))
        words = text.split()
        half = len(words) if len(text) < 28 else len(words) // 2
        pen.text((x + 2, y + width), " ".join(words[:half]), fill="black", font_size=10)
        pen.text((x + 2, y + width + 10), " ".join(words[half:]), fill="black", font_size=10)
    sheet.save(out, optimize=True)
    print(out)


def schedule(pipe: StableDiffusion3Pipeline, count: int, steps: Sequence[int], guidance: float) -> None:
    """The reward by schedule: its shift, and the noise level from which the last step jumps to zero."""
    texts = repeated(scenes.prompts("validation"), count)
    shipped = pipe.scheduler.config
    for shift in (1.0, 2.0, 3.0):
        for terminal in (None, 0.15, 0.25, 0.35):
            pipe.scheduler = type(pipe.scheduler).from_config(shipped, shift=shift, shift_terminal=terminal)
            for number in steps:
                verdicts = [check(p, t) for p, t in zip(make(pipe, texts, number, guidance), texts, strict=True)]
                print(line(f"shift {shift} terminal {terminal} steps {number}", verdicts), flush=True)


def cost(pipe: StableDiffusion3Pipeline, model: Path, steps: int, guidance: float) -> None:
    """Size on disk, parameters, and milliseconds a picture on one thread."""
    torch.set_num_threads(1)
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    counts = {
        name: sum(p.numel() for p in getattr(pipe, name).parameters())
        for name in ("transformer", "vae", "text_encoder", "text_encoder_2")
    }
    print(
        f"{size / 1e6:.2f} MB;",
        ", ".join(f"{name} {count:,}" for name, count in counts.items()),
        f"sum {sum(counts.values()):,}",
    )
    texts = scenes.prompts("validation")[:50]
    make(pipe, texts, steps, guidance)
    began = time.process_time()
    make(pipe, texts, steps, guidance)
    spent = (time.process_time() - began) / len(texts) * 1000
    print(f"{spent:.1f} ms a picture on one thread; {steps} steps, guidance {guidance}")


def main() -> None:
    """Runs one of the seven."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["checker", "vae", "table", "grid", "schedule", "cost", "words"])
    parser.add_argument("--model", type=Path, default=Path("adapters/shapes"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, nargs="+", default=None)
    parser.add_argument("--guidance", type=float, nargs="+", default=None)
    parser.add_argument("--out", type=Path, default=Path("docs/shapes.png"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "checker":
        checker(options.count)
        return
    pipe = load(options.model)
    steps, guidance = options.steps or [6], options.guidance or [2.0]
    if options.what == "vae":
        vae(pipe, options.count)
    elif options.what == "table":
        table(pipe, options.count, options.steps or STEPS, options.guidance or GUIDANCE)
    elif options.what == "words":
        words(pipe, options.count, options.steps or STEPS, options.guidance or GUIDANCE)
    elif options.what == "grid":
        grid(pipe, options.out, steps[0], guidance[0])
    elif options.what == "schedule":
        schedule(pipe, options.count, options.steps or (4, 6), guidance[0])
    else:
        cost(pipe, options.model, steps[0], guidance[0])


if __name__ == "__main__":
    main()
