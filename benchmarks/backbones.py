"""The cost of knobs and the gain of sharing a batch, on models with random weights; nothing is downloaded.

    python benchmarks/backbones.py overhead
    python benchmarks/backbones.py throughput
    python benchmarks/backbones.py compile --models sd3 --layers 4 --width 64
    python benchmarks/backbones.py overhead --size real

overhead    time of a forward pass of the transformer with knobs attached, idle and set, against the untouched model
throughput  images per second of one generation of a calibration: the adapter against a loop over candidates that
            encodes the prompts again, scales every site by its own hook and calls the stock pipeline with its guidance
compile     number of graphs and recompiles under torch.compile, for one candidate after another

The rows of a table are measured alternately, so that a change of the machine's speed affects all of them equally.
Numbers are medians, with quartiles in brackets. Times are CPU time on a CPU and wall time on a GPU. `--size real` takes
FLUX.1-dev and SD-3.5-medium with their text encoders, 512 pixels and 15 steps, on a GPU of 80 GB; it also prints the
transformer's arithmetic speed as a share of that of a large matrix product, measured in the same call.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from random_models import FAMILIES, SIZES, Size, flops, inputs, pipeline, transformer
from torch import Tensor
from trimpot.adapters.compiling import compile_transformer
from trimpot.adapters.diffusion import DiffusionAdapter
from trimpot.adapters.ensemble import Condition, Ensemble
from trimpot.adapters.options import DiffusionOptions
from trimpot.adapters.sites import find_sites
from trimpot.engine.bucket import Bucket

GUIDANCE = 4.5
TOLERANCE = {"float32": 2, "bfloat16": 24, "float16": 24}  # of 255; the kernels depend on the batch size


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "throughput", "compile"))
    parser.add_argument("--size", choices=("tiny", "real"), default="tiny")
    parser.add_argument("--device", help="cpu or cuda (default: cuda for --size real, else cpu)")
    parser.add_argument("--dtype", choices=tuple(TOLERANCE), help="bfloat16 for --size real, else float32")
    parser.add_argument("--models", nargs="+", choices=tuple(FAMILIES), help="for throughput: flux or sd3 only")
    parser.add_argument("--rounds", type=int, help="measurements of each row, for overhead and throughput")
    parser.add_argument("--rows", type=int, default=4, help="rows of a batch, for overhead and compile")
    parser.add_argument("--candidates", type=int, help="default: 4 for throughput, 8 for compile")
    parser.add_argument("--prompts", type=int, default=4, help="prompts of a bucket, for throughput")
    parser.add_argument("--batch", type=int, default=16, help="most images in a call of the adapter, for throughput")
    parser.add_argument(
        "--steps", type=int, help="denoising steps, for throughput (default: 15 for --size real, else 8)"
    )
    parser.add_argument(
        "--backend", default="inductor", help="backend of torch.compile; eager skips the code generation"
    )
    parser.add_argument("--layers", type=int, help="a different number of blocks, for trials")
    parser.add_argument("--width", type=int, help="a different width of every part, for trials")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    real = options.size == "real"
    options.device = options.device or ("cuda" if real else "cpu")
    options.dtype = options.dtype or ("bfloat16" if real else "float32")
    options.candidates = options.candidates or (4 if options.what == "throughput" else 8)
    options.steps = options.steps or (15 if real else 8)
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit("there is no GPU that torch can use; give --device cpu, with --layers and --width to keep it small")
    if options.what == "throughput" and "qwen" in (options.models or ()):
        sys.exit("throughput knows no pipeline of qwen; give flux or sd3")
    torch.set_num_threads(options.threads)
    machine = torch.cuda.get_device_name() if options.device != "cpu" else f"CPU, threads: {options.threads}"
    print(f"{machine}, {options.dtype}, torch {torch.__version__}")
    {"overhead": overhead, "throughput": throughput, "compile": compilation}[options.what](options)


def overhead(options: argparse.Namespace) -> None:
    """Time a forward pass: of the untouched model, with idle knobs, and with a different candidate in every row."""
    rounds = options.rounds or 40
    print(f"a forward pass of {options.rows} rows; medians of {rounds} rounds [quartiles of each round's ratio]")
    for kind in options.models or (("flux", "sd3", "qwen") if options.size == "tiny" else ("flux", "sd3")):
        size = _size(options, "compute")
        model: Any = transformer(kind, size, options.device, getattr(torch, options.dtype))
        call = inputs(kind, model, size, options.rows)
        scales = 1 + 0.2 * torch.randn(options.rows, 1, len(find_sites(model)), device=options.device)
        _check_neutral(kind, model, call, scales)
        times: dict[str, list[float]] = {"untouched": [], "idle": [], "set": []}
        for round_ in range(rounds + 2):  # two rounds warm up
            for way in _turned(times, round_):
                with _attached(kind, model, way, scales):
                    _forward(model, call)  # as in a run, the tables of scales are made before the timed step
                    times[way].append(_timed(lambda: _forward(model, call), options.device)[0])  # noqa: B023
        found = {way: np.array(measured[2:]) for way, measured in times.items()}
        print(f"\n{kind}: {_describe(model, call)}, {scales.shape[2]} sites")
        for way, seconds in found.items():
            ratio = "" if way == "untouched" else f"   x {_quartiles(seconds / found['untouched'], '.3f')}"
            print(f"  {way:<10} {1e3 * np.median(seconds):9.2f} ms{ratio}", flush=True)
        if options.size == "real":
            _print_speed(flops(model, call), float(np.median(found["set"])), options)


@contextmanager
def _attached(kind: str, model: Any, way: str, scales: Tensor) -> Iterator[None]:
    """Attach knobs to a model: none, idle ones, or ones with a row of scales for each row of the batch."""
    if way == "untouched":
        yield
        return
    ensemble = _ensemble(kind, model, ("conditional",))
    if way == "set":
        ensemble.set(scales, torch.ones(len(scales), 1, dtype=torch.float64, device=scales.device))
    try:
        yield
    finally:
        ensemble.remove()


def _check_neutral(kind: str, model: Any, call: dict[str, Any], scales: Tensor) -> None:
    untouched = _forward(model, call)
    with _attached(kind, model, "set", torch.ones_like(scales)):
        assert torch.equal(_forward(model, call), untouched), f"{kind}: neutral knobs change the output"


def throughput(options: argparse.Namespace) -> None:
    """Time one generation of a calibration, by the adapter and by a loop over candidates."""
    rounds = options.rounds or (5 if options.size == "tiny" else 3)
    print(
        f"a generation of {options.candidates} candidates on {options.prompts} prompts, {options.steps} steps, prompts "
        f"new to both, at most {options.batch} images a call of the adapter; medians of {rounds} rounds "
        "[quartiles of each round's ratio]"
    )
    number = options.candidates * options.prompts
    for kind in options.models or ("flux", "sd3"):
        for bound in ("compute", "overhead") if options.size == "tiny" else ("real",):
            size = _size(options, bound)
            pipe = pipeline(kind, size, options.device, getattr(torch, options.dtype))
            times: dict[str, list[float]] = {"loop": [], "adapter": []}
            worst = 0
            for round_ in range(rounds + 1):  # the first warms up
                images = {}
                for way in _turned(times, round_):
                    seconds, images[way] = _generation(pipe, way, size, _bucket(options.prompts, round_), options)
                    times[way].append(seconds)
                worst = max(worst, int(np.abs(images["loop"] - images["adapter"]).max()))
            assert worst <= TOLERANCE[options.dtype], f"images differ by {worst} of 255"
            loop, shared = (np.array(times[way][1:]) for way in ("loop", "adapter"))
            call = inputs(kind, pipe.transformer, size, 1)
            print(f"\n{kind}, {bound}: {_describe(pipe.transformer, call)}, {size.side * pipe.vae_scale_factor} pixels")
            print(f"  loop over candidates  {number / np.median(loop):8.2f} images/s")
            print(f"  adapter               {number / np.median(shared):8.2f} images/s   x {_quartiles(loop / shared)}")
            print(f"  images differ by at most {worst} of 255 (allowed: {TOLERANCE[options.dtype]})", flush=True)
            if options.size == "real":
                passes = number * options.steps * len(FAMILIES[kind].members)
                _print_speed(passes * flops(pipe.transformer, call), float(np.median(shared)), options)


def _generation(
    pipe: Any, way: str, size: Size, bucket: Bucket, options: argparse.Namespace
) -> tuple[float, np.ndarray[Any, Any]]:
    """Return the seconds of a generation and its images; the preparation that a run does once is not timed."""
    pixels = size.side * pipe.vae_scale_factor
    chosen = DiffusionOptions(
        model="random weights",
        dead="keep",
        num_inference_steps=options.steps,
        guidance_scale=GUIDANCE,
        height=pixels,
        width=pixels,
        max_sequence_length=size.text_tokens,
        batch_size=options.batch,
    )
    adapter = DiffusionAdapter(pipe, {"id": "random weights"}, chosen)
    adapter.prepare(())  # the empty prompt
    population = _population(adapter, options.candidates)
    if way == "adapter":
        seconds, made = _timed(lambda: adapter.generate(population, bucket), options.device)
        adapter.close()
    else:
        adapter.close()
        seconds, made = _timed(lambda: _loop(pipe, chosen, adapter, population, bucket), options.device)
    return seconds, np.array([[np.asarray(image, dtype=int) for image in images] for images in made])


def _loop(
    pipe: Any, chosen: DiffusionOptions, adapter: DiffusionAdapter, population: Any, bucket: Bucket
) -> list[list[Any]]:
    """Generate in the most obvious way: one candidate after another, every site scaled by its own hook."""
    made = []
    for scales, weights in zip(*adapter.layout.tables(population), strict=True):
        stacked = torch.from_numpy(scales[::-1].copy())  # the pipeline puts unconditional rows before conditional ones
        rows = stacked.repeat_interleave(len(bucket), 0).to(pipe._execution_device, torch.float32)
        hooks = [
            pipe.transformer.get_submodule(site.path).register_forward_hook(_times(site.item, rows[:, index]))
            for index, site in enumerate(adapter.layout.sites)
        ]
        result = pipe(
            prompt=list(bucket.prompts),
            generator=[torch.Generator().manual_seed(seed) for seed in bucket.seeds],
            guidance_scale=float(weights[0]) if len(weights) > 1 else chosen.guidance_scale,
            num_inference_steps=chosen.num_inference_steps,
            height=chosen.height,
            width=chosen.width,
            max_sequence_length=chosen.max_sequence_length,
        )
        for hook in hooks:
            hook.remove()
        made.append(result.images)
    return made


def _times(item: int | None, factor: Tensor) -> Callable[..., Any]:
    """Return a hook that multiplies an output, or an item of the output, by a factor per row."""

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        value = output if item is None else output[item]
        scaled = (value * factor.view(-1, *[1] * (value.ndim - 1))).to(value.dtype)
        return scaled if item is None else (*output[:item], scaled, *output[item + 1 :])

    return hook


def _population(adapter: DiffusionAdapter, number: int) -> Any:
    """Return candidates around the neutral setting; their weights equal a guidance value of the stock pipeline."""
    rng = np.random.default_rng(0)
    moved = adapter.space.defaults + rng.normal(0, 0.2, (number, len(adapter.space)))
    population = np.clip(moved, *adapter.space.bounds)
    weights = [index for index, name in enumerate(adapter.space.names) if name.endswith(".weight")]
    if weights:
        population[:, weights] = [(guidance, 1 - guidance) for guidance in rng.uniform(3, 6, number)]
    return population


def _bucket(number: int, round_: int) -> Bucket:
    """Return a bucket of prompts that were never encoded before."""
    return Bucket(tuple(f"photograph {index} of set {round_}" for index in range(number)), tuple(range(number)))


def compilation(options: argparse.Namespace) -> None:
    """Count the graphs compiled for the first candidate, and for the candidates after it."""
    torch.compiler.set_default_backend(options.backend)
    print(f"{options.candidates} candidates, {options.rows} rows, backend {options.backend}")
    print(f"{'model':<6} {'compile':<9} {'graphs':>6} {'recompiles':>11} {'breaks':>7} {'to compile':>11}", end="")
    print(f" {'eager':>9} {'compiled':>10} {'difference':>11}")
    for kind in options.models or (("flux", "sd3", "qwen") if options.size == "tiny" else ("sd3", "flux")):
        for how in ("regional", "full"):
            _print_compiled(kind, how, options)


def _print_compiled(kind: str, how: Any, options: argparse.Namespace) -> None:
    """Print one line, for the family's default ensemble, one candidate after another."""
    from torch._dynamo.utils import counters

    size = _size(options, "compute")
    model: Any = transformer(kind, size, options.device, getattr(torch, options.dtype))
    call = inputs(kind, model, size, options.rows)
    members = FAMILIES[kind].members
    ensemble = _ensemble(kind, model, members)
    prompt = FAMILIES[kind].conditioning.prompt
    ensemble.unconditional = {name: call[name][:1] for name in prompt if name in call}
    torch._dynamo.reset()
    counters.clear()
    compile_transformer(model, {}, how)
    shape = (options.candidates, 1, len(members), len(find_sites(model)))
    scales = 1 + 0.2 * torch.randn(shape, device=options.device)
    graphs, first, worst = 0, 0.0, 0.0
    times: dict[str, list[float]] = {"eager": [], "compiled": []}
    for index in range(options.candidates):
        guidance = GUIDANCE + 0.1 * index
        weights = torch.tensor([[1.0] if len(members) == 1 else [guidance, 1 - guidance]], dtype=torch.float64)
        ensemble.set(scales[index], weights.to(options.device))
        if index == 0:
            begun = time.perf_counter()
            _forward(model, call)
            first, graphs = time.perf_counter() - begun, int(counters["stats"]["unique_graphs"])
        seconds, output = _timed(lambda: _forward(model, call), options.device)
        times["compiled"].append(seconds)
        with torch.compiler.set_stance("force_eager"):
            seconds, expected = _timed(lambda: _forward(model, call), options.device)
        times["eager"].append(seconds)
        worst = max(worst, float((output - expected).abs().max() / expected.abs().max()))
    later = int(counters["stats"]["unique_graphs"]) - graphs
    eager, compiled = (f"{1e3 * np.median(times[way]):.1f} ms" for way in ("eager", "compiled"))
    print(f"{kind:<6} {how:<9} {graphs:>6} {later:>11} {sum(counters['graph_break'].values()):>7} ", end="")
    print(f"{first:>9.1f} s {eager:>9} {compiled:>10} {worst:>11.0e}", flush=True)


def _ensemble(kind: str, model: Any, members: tuple[Condition, ...]) -> Ensemble:
    return Ensemble(model, find_sites(model), members, FAMILIES[kind].conditioning)


@torch.no_grad()
def _forward(model: Any, call: dict[str, Any]) -> Tensor:
    output: Tensor = model(**call).sample
    return output


def _size(options: argparse.Namespace, bound: str) -> Size:
    """Return a size by name, with the changes of the command line; a narrow model gets few text layers."""
    size = SIZES["real" if options.size == "real" else bound]
    if options.width is not None:
        size = replace(size, width=options.width, text_layers=size.text_layers or 2)
    return size if options.layers is None else replace(size, layers=options.layers)


def _turned(ways: Any, round_: int) -> list[str]:
    """Return the names of the ways, rotated by one in every round."""
    names = list(ways)
    return names[round_ % len(names) :] + names[: round_ % len(names)]


def _timed(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Time work: by CPU time, which other processes disturb least, or by wall time until the GPU has finished."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    _finish(device)
    begun = clock()
    result = work()
    _finish(device)
    return clock() - begun, result


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _print_speed(operations: int, seconds: float, options: argparse.Namespace) -> None:
    """Print the transformer's arithmetic speed as a share of that of a large matrix product, measured now."""
    side = 1024 if options.device == "cpu" else 8192
    matrix = torch.randn(side, side, device=options.device).to(getattr(torch, options.dtype))
    best = min(_timed(lambda: matrix @ matrix, options.device)[0] for _ in range(10))
    reached, possible = operations / seconds / 1e12, 2 * side**3 / best / 1e12
    print(f"  {reached:.3g} TFLOP/s of the transformer, {reached / possible:.0%} of a matrix product's {possible:.3g}")


def _describe(model: Any, call: dict[str, Any]) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    width = model.config.num_attention_heads * model.config.attention_head_dim
    shape = call["hidden_states"].shape
    tokens = shape[1] if len(shape) == 3 else shape[2] * shape[3] // 4
    text = call["encoder_hidden_states"].shape[1]
    return f"{parameters / 1e6:,.1f} M parameters, width {width}, {tokens} image and {text} text tokens"


def _quartiles(values: Any, form: str = ".2f") -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:{form}} [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    main()
