"""The proof of one family: ComfyUI samples with the node of an exported folder, and diffusers with trimpot's scales."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...adapters.ensemble import weighted_sum, with_norm_of
from ...adapters.scaling import Scaling
from ...adapters.sites import find_sites
from ...engine.calibration import Calibration, Provenance
from ...exchange.roads import export
from ...ground.errors import ConfigError
from .twins import CHANNELS, POOLED, SIDE, WIDTH, Twin

SIGMAS = (1.0, 0.7, 0.3, 0.0)
ROWS, TOKENS = 2, 5


class Case(NamedTuple):
    """One ensemble at one strength.

    Attributes:
        sees: What each member sees.
        strength: The strength of the calibration.
        apart: Whether prompt and negative prompt differ in length, so that ComfyUI runs them one after the other.
    """

    sees: tuple[str, ...] = ("all",)
    strength: float = 1.0
    apart: bool = False


GUIDED = ("conditional", "unconditional")
CASES = {
    "neutral": Case(strength=0.0),
    "scaled": Case(),
    "half": Case(strength=0.5),
    "guided": Case(GUIDED),
    "guided, apart": Case(GUIDED, apart=True),
    "guided, neutral": Case(GUIDED, strength=0.0),
    "two members": Case(("conditional", "conditional")),
    "three": Case(("conditional", "unconditional", "conditional")),
}
FEWER = {"wan": 1, "qwen": 2}  # members: trimpot has no ensembles of Wan; Qwen-Image rescales to the norm of one


class Proof:
    """The two models of a family, with the same random weights.

    Args:
        twin: The family.
    """

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        supported = importlib.import_module("comfy.supported_models")
        config = getattr(supported, twin.comfy)({**twin.unet, "dtype": torch.float32})
        self.base: Any = config.get_model({}, "")
        model: nn.Module = self.base.diffusion_model
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for value in (*model.parameters(), *model.buffers()):
                value.copy_(torch.randn(value.shape, generator=generator))
                if value.ndim == 1:
                    value.mul_(0.1).add_(0.5)  # norms and biases
                else:
                    value.div_(value[0].numel() ** 0.5)
        import diffusers

        self.model: Any = getattr(diffusers, twin.transformer)(**twin.config).eval()
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        self.model.load_state_dict(twin.convert(weights, twin.unet))
        frames = (twin.frames,) if twin.frames else ()
        self.noise = torch.randn(ROWS, CHANNELS, *frames, SIDE, SIDE, generator=generator)
        self.prompts = [torch.randn(1, TOKENS, WIDTH, generator=generator) for _ in range(2)]
        patchers, cpu = importlib.import_module("comfy.model_patcher"), torch.device("cpu")
        self.patcher: Any = patchers.ModelPatcher(self.base, load_device=cpu, offload_device=cpu)
        self.pooled = [torch.randn(1, POOLED, generator=generator) for _ in range(2)]
        self.addresses = [site.address for site in find_sites(self.model)]

    def calibration(self, sees: Sequence[str]) -> Calibration:
        """Return a calibration with random scales and weights."""
        generator = torch.Generator().manual_seed(2)
        members = [
            {
                "sees": each,
                "weight": 1.0 if len(sees) == 1 else [2.5, -1.25, -0.5][at],
                "neutral_weight": 1.0 if len(sees) == 1 else [1.5, -0.5, 0.0][at],
                "scales": {
                    address: 0.5 + float(torch.rand(1, generator=generator, dtype=torch.float64))
                    for address in self.addresses
                },
            }
            for at, each in enumerate(sees)
        ]
        return Calibration(
            backbone={"id": "tiny"},
            num_steps=len(SIGMAS) - 1,
            setting={"example": 1.0},
            apply={"transformer": self.twin.transformer, "members": members},
            objectives={},
            neutral_label="neutral",
            gain=None,
            by_steps=(),
            provenance=Provenance(
                run="proof",
                created="2026-01-01T00:00:00+00:00",
                digest="0",
                stop_reason="done",
                num_evaluations=1,
                num_images=1,
                versions={},
                config={},
            ),
        )

    def difference(self, case: Case) -> float:
        """Return the largest relative difference between ComfyUI with the node and diffusers with trimpot."""
        members = self.calibration(case.sees).apply["members"]
        return _difference(self.sample(self.applied(case), case), self.diffusers(members, case))

    def least_effect(self) -> tuple[float, int]:
        """Scale one site after the other alone; return the least relative effect, and how many sites have none.

        A text branch of a last block has none if the text stream ends there.
        """
        [member] = self.calibration(("all",)).apply["members"]
        neutral = self.diffusers([{**member, "scales": dict.fromkeys(self.addresses, 1.0)}], Case())
        effects = []
        for address in self.addresses:
            scales = {**dict.fromkeys(self.addresses, 1.0), address: 1.5}
            effects.append(_difference(self.diffusers([{**member, "scales": scales}], Case()), neutral))
        return min(effect for effect in effects if effect), effects.count(0.0)

    def applied(self, case: Case) -> Any:
        """Return ComfyUI's model with the node of an exported folder applied."""
        with tempfile.TemporaryDirectory() as name:
            folder = export(None, self.calibration(case.sees), "comfyui", Path(name) / "proof")
            node = imported(folder)
            [file] = node.files()
            (model,) = node.TrimpotCalibration().apply(self.patcher, file, case.strength)
        return model.clone()  # as the nodes that follow in a graph do

    def sample(self, model: Any, case: Case, guider: Any = None) -> Tensor:
        """Sample in ComfyUI."""
        samplers = importlib.import_module("comfy.samplers")
        if guider is None:
            guider = samplers.CFGGuider(model)
            positive, negative = (
                [[prompt, {"pooled_output": pooled}]]
                for prompt, pooled in zip(self._prompts(case), self.pooled, strict=True)
            )
            guider.set_conds(positive, negative)
            guider.set_cfg(1.0)
        made: Tensor = guider.sample(
            self.noise,
            torch.zeros_like(self.noise),
            samplers.sampler_object("euler"),
            torch.tensor(SIGMAS),
            disable_pbar=True,
            seed=0,
        )
        if any(module._forward_hooks for module in self.base.modules()):
            raise ConfigError("the node left hooks in the model")
        result: Tensor = self.base.process_latent_in(made)
        return result

    def _prompts(self, case: Case) -> list[Tensor]:
        return [self.prompts[0], self.prompts[1][:, : TOKENS - 2] if case.apart else self.prompts[1]]

    @torch.no_grad()
    def diffusers(self, members: Sequence[Mapping[str, Any]], case: Case) -> Tensor:
        """Sample with the model of diffusers, scaled by trimpot."""
        prompts, strength = self._prompts(case), case.strength
        scaling = Scaling(self.model, find_sites(self.model))
        try:
            latents = self.noise * SIGMAS[0]
            for sigma, following in pairwise(SIGMAS):
                made = []
                for member in members:
                    scales = [1 + strength * (scale - 1) for scale in member["scales"].values()]
                    scaling.set(torch.tensor([scales], dtype=torch.float32))
                    which = int(member["sees"] == "unconditional")
                    made.append(self._predicted(latents, sigma, prompts[which], self.pooled[which]))
                weights = [
                    each["neutral_weight"] + strength * (each["weight"] - each["neutral_weight"]) for each in members
                ]
                total = weighted_sum(torch.stack(made), torch.tensor([weights], dtype=torch.float64))
                if self.twin.rescaled and case.sees == GUIDED:
                    total = with_norm_of(total, made[0])
                latents = latents + (following - sigma) * self.twin.outputs(total, latents)
        finally:
            scaling.remove()
        return latents

    def _predicted(self, latents: Tensor, sigma: float, prompt: Tensor, pooled: Tensor) -> Tensor:
        """Return the transformer's own output."""
        prompt, pooled = (each.expand(ROWS, *each.shape[1:]) for each in (prompt, pooled))
        made: Tensor = self.model(**self.twin.inputs(latents, torch.full((ROWS,), sigma), prompt, pooled)).sample
        return made


def _difference(made: Tensor, expected: Tensor) -> float:
    return float((made - expected).abs().max() / expected.abs().max())


def imported(folder: Path) -> Any:
    """Import an exported folder as ComfyUI imports custom nodes."""
    spec = importlib.util.spec_from_file_location("exported_node", folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare() -> None:
    """Make the modules of ComfyUI importable, on the CPU.

    Raises:
        ConfigError: If `COMFYUI_PATH` names no checkout of ComfyUI, or its requirements are not installed.
    """
    path = os.environ.get("COMFYUI_PATH")
    if not path or not (Path(path) / "comfy" / "model_patcher.py").is_file():
        raise ConfigError("set COMFYUI_PATH to a checkout of ComfyUI, in which there is comfy/model_patcher.py")
    if path not in sys.path:
        sys.path.insert(0, path)
    logging.getLogger().setLevel(logging.ERROR)  # ComfyUI tells what it loads
    try:
        importlib.import_module("comfy.cli_args").args.cpu = True
        importlib.import_module("comfy.samplers")
        importlib.import_module("comfy.supported_models")
    except ImportError as error:
        raise ConfigError(f"ComfyUI cannot be imported: {error}; install its requirements.txt") from None


def cases(family: str) -> list[str]:
    """Return the cases that a family has."""
    return [name for name, case in CASES.items() if len(case.sees) <= FEWER.get(family, 3)]
