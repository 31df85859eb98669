"""A stand-in for ComfyUI's FLUX and its patcher, with the same module paths, and calibrations for it."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from trimpot.engine.calibration import Calibration, Provenance
from trimpot.exchange import comfyui_node
from trimpot.exchange.comfyui import mapped

FLUX = [
    "transformer_blocks.0.norm1[1]",
    "transformer_blocks.1.norm1_context[4]",
    "single_transformer_blocks.0.norm[1]",
]
QWEN = ["transformer_blocks.0.attn[0]", "transformer_blocks.0.txt_mlp"]
SCALES = (0.5, 2.0, 1.25)
WEIGHTS = {1: [1.0], 2: [2.5, -1.25], 3: [2.5, -1.25, -0.5]}
NEUTRAL = {1: [1.0], 2: [1.5, -0.5], 3: [1.5, -0.5, 0.0]}


def calibration(
    sees: Sequence[str] = ("all",),
    addresses: Sequence[str] = FLUX,
    transformer: str = "FluxTransformer2DModel",
    run: str = "test-1",
) -> Calibration:
    members = [
        {
            "sees": each,
            "weight": WEIGHTS[len(sees)][at],
            "neutral_weight": NEUTRAL[len(sees)][at],
            "scales": {address: scale + at for address, scale in zip(addresses, SCALES, strict=False)},
        }
        for at, each in enumerate(sees)
    ]
    return Calibration(
        backbone={"id": "somebody/model", "height": 512, "width": 768, "guidance_scale": 3.5},
        num_steps=15,
        setting={"a": 1.0},
        apply={"transformer": transformer, "members": members},
        objectives={},
        neutral_label="neutral",
        gain=None,
        by_steps=(),
        provenance=Provenance(
            run=run,
            created="2026-01-01T00:00:00+00:00",
            digest="0",
            stop_reason="done",
            num_evaluations=1,
            num_images=1,
            versions={},
            config={},
        ),
    )


class Modulation(nn.Module):
    def __init__(self, parts: int) -> None:
        super().__init__()
        self.lin = nn.Linear(2, 2 * parts)


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.img_mod, self.txt_mod = Modulation(6), Modulation(6)


class Single(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.modulation = Modulation(3)


class Flux(nn.Module):
    """A stand-in for ComfyUI's class of this name: modules at the same paths, whose outputs it returns side by side."""

    def __init__(self, doubles: int = 2, singles: int = 1) -> None:
        super().__init__()
        self.double_blocks = nn.ModuleList(Double() for _ in range(doubles))
        self.single_blocks = nn.ModuleList(Single() for _ in range(singles))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        called = [module for module in self.modules() if isinstance(module, nn.Linear)]
        return torch.cat([module(x[:, :2]) for module in called], dim=-1)


class Base:
    def __init__(self, model: nn.Module) -> None:
        self.diffusion_model: Any = model


class Patcher:
    """A stand-in for the few methods of ComfyUI's ModelPatcher that the node calls, and for its sampler's step."""

    def __init__(self, model: nn.Module) -> None:
        self.model = Base(model)
        self.model_options: dict[str, Any] = {}
        self.wrappers: dict[str, dict[str, list[Any]]] = {}

    def clone(self) -> Patcher:
        made = Patcher(self.model.diffusion_model)
        made.model_options = copy.deepcopy(self.model_options)
        made.wrappers = {kind: {key: list(each) for key, each in keys.items()} for kind, keys in self.wrappers.items()}
        return made

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Any) -> None:
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def get_wrappers(self, kind: str, key: str) -> list[Any]:
        return self.wrappers.get(kind, {}).get(key, [])

    def set_model_sampler_cfg_function(self, function: Any, disable_cfg1_optimization: bool) -> None:
        self.model_options["sampler_cfg_function"] = function
        self.model_options["disable_cfg1_optimization"] = disable_cfg1_optimization

    def run(self, x: Tensor, kinds: Sequence[int] | None = (0,)) -> Tensor:
        """The model's prediction of the clean latents at sigma 1: x less the velocity."""

        def original(x: Tensor, _t: Tensor, _options: Any) -> Tensor:
            return x - self.model.diffusion_model(x)

        class Executor:
            class_obj = self.model

            def __call__(self, *args: Any) -> Tensor:
                return original(*args)

        options = {"wrappers": self.wrappers} | ({} if kinds is None else {"cond_or_uncond": list(kinds)})
        [wrapper] = self.wrappers["apply_model"]["trimpot"]
        return torch.as_tensor(wrapper(Executor(), x, torch.ones(len(x)), options))


def applied(sees: Sequence[str] = ("all",), strength: float = 1.0, model: nn.Module | None = None) -> Patcher:
    found = json.loads(json.dumps(mapped(calibration(sees))))
    made = comfyui_node.Calibrated(found, strength).attach(Patcher(model or Flux()))
    assert isinstance(made, Patcher)
    return made


def velocity(x: Tensor, scales: Sequence[float]) -> Tensor:
    """What the stand-in returns with scaled gates, by its layout: 2 double blocks of 2 x 12 columns, then 6 more."""
    made = Flux()(x)
    for begin, scale in zip((4, 24 + 12 + 10, 48 + 4), scales, strict=True):
        made[:, begin : begin + 2] *= scale
    return made


INPUT = torch.randn(4, 54, generator=torch.Generator().manual_seed(3))
