"""Every scheduler class of the installed diffusers, stepping a toy model: rows of their own, the same again."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from trimpot.adapters.row_noise import row_noise
from trimpot.engine.bucket import Bucket
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.proof import prove
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import ModelError

PROVED = "proved: it draws no noise"
DREW = "proved: it draws the rows' own noise"
BREAKS = "its numbers are not finite"
STEPS = 4
SHAPE = (4, 8, 8)
#: Classes that step no latents of a row, and why; with a pipeline of theirs, the proof of a run decides.
NO_LATENTS = {
    **dict.fromkeys(
        ("AmusedScheduler", "BlockRefinementScheduler", "DiscreteDDIMScheduler", "EntropyBoundScheduler",
         "VQDiffusionScheduler"),
        "it steps tokens, not latents",
    ),
    "RFD4ProteinaScheduler": "it steps atoms, not latents",
    **dict.fromkeys(
        ("KarrasVeScheduler", "ScoreSdeVeScheduler", "ScoreSdeVpScheduler"),
        "it has no step(model_output, timestep, sample), and no pipeline with a transformer",
    ),
}  # fmt: skip
#: What classes need beside the number of steps: of their configuration, and of `set_timesteps`.
ONE_STAGE = {"stages": 1, "stage_range": [0, 1]}
CONFIGURED: dict[str, dict[str, Any]] = {
    "HeliosScheduler": ONE_STAGE,
    "HeliosDMDScheduler": ONE_STAGE,
    "PiflowScheduler": {"n_grid": 2},
}
TIMED: dict[str, dict[str, Any]] = {"SCMScheduler": {"intermediate_timesteps": None}}
FEWER = {"ConsistencyDecoderScheduler": 2}
ARRIVING = ("SCMScheduler", "DDPMWuerstchenScheduler")  # their last time is where they arrive
#: Configurations and arguments of `step` with which a class draws noise that it draws none of by itself.
NOISY: dict[str, dict[str, Any]] = {
    "DPMSolverMultistepScheduler": {"algorithm_type": "sde-dpmsolver++"},
    "DPMSolverMultistepInverseScheduler": {"algorithm_type": "sde-dpmsolver++"},
    "DPMSolverSinglestepScheduler": {"algorithm_type": "sde-dpmsolver++"},
    "EDMDPMSolverMultistepScheduler": {"algorithm_type": "sde-dpmsolver++"},
    "FlowMatchEulerDiscreteScheduler": {"stochastic_sampling": True},
}
NOISY_STEP = {"eta": 1.0, "s_churn": 2.0}


def scheduler_classes() -> dict[str, type[Any] | str]:
    """Class by name; in place of one that cannot be imported here, why."""
    package = importlib.import_module("diffusers.schedulers")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
    named = {name: getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Scheduler")}
    absent = {
        name: f"needs {' and '.join(each for each in kind._backends if each != 'torch')}"
        for name, kind in named.items()
        if "dummy" in kind.__module__ and not name.startswith("Flax")
    }
    return dict(sorted({**absent, **{kind.__name__: kind for kind in _below(diffusers.SchedulerMixin)}}.items()))


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith("diffusers.schedulers"):
            yield each
        yield from _below(each)


class Toy(Adapter):
    """Latents denoised by half of themselves, with a scheduler that is given the rows' generators."""

    space = KnobSpace([Knob("gain")])

    def __init__(self, kind: type[Any], noisy: bool) -> None:
        name = kind.__name__
        scheduler = kind(**CONFIGURED.get(name, {}), **(NOISY.get(name, {}) if noisy else {}))
        self.pipe = SimpleNamespace(components={"scheduler": scheduler})
        self.noisy, self.drew = noisy, False

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> list[list[NDArray[np.float32]]]:
        rows = [(gain, seed) for [gain] in population for seed in bucket.seeds]
        generators = [torch.Generator().manual_seed(seed) for _, seed in rows]
        latents = torch.stack([torch.randn(SHAPE, generator=generator) for generator in generators])
        gains = torch.tensor([gain for gain, _ in rows], dtype=torch.float32)[:, None, None, None]
        before = [generator.get_state() for generator in generators]
        with row_noise(self.pipe, generators), torch.no_grad():
            made = list(denoised(self.pipe.components["scheduler"], latents, gains, noisy=self.noisy).numpy())
        after = [generator.get_state() for generator in generators]
        if not np.isfinite(made).all():
            raise ModelError(BREAKS)
        self.drew |= not all(map(torch.equal, before, after))
        return [made[begin : begin + len(bucket)] for begin in range(0, len(made), len(bucket))]

    def describe(self) -> dict[str, Any]:
        return {"id": "toy"}


def denoised(scheduler: Any, latents: torch.Tensor, gains: torch.Tensor, *, noisy: bool) -> torch.Tensor:
    """All steps of a scheduler, as its own pipelines take them."""
    name, takes = type(scheduler).__name__, inspect.signature(scheduler.step).parameters
    scheduler.set_timesteps(FEWER.get(name, STEPS), **TIMED.get(name, {}))
    latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
    if name.startswith("Helios"):  # steps videos
        latents = latents[:, :, None]
    timesteps = list(scheduler.timesteps)[: -1 if name in ARRIVING else None]
    told, kept = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))[:1].expand(latents.shape), None
    for at, timestep in enumerate(timesteps):
        given = scheduler.scale_model_input(latents, timestep) if hasattr(scheduler, "scale_model_input") else latents
        output = 0.5 * gains.reshape(-1, *[1] * (latents.ndim - 1)) * given
        following = timesteps[at + 1] if at + 1 < len(timesteps) else None
        special = {
            "old_pred_original_sample": kept,
            "timestep_back": timesteps[at - 1] if at else None,
            "original_image": torch.zeros_like(latents),
            "mask": torch.full_like(latents, 0.5),
            "prev_timestep": following,
            "r_timestep": torch.tensor(0.0) if following is None else following,
            "cur_sampling_step": at,
            "dmd_noisy_tensor": told,
            "dmd_sigmas": getattr(scheduler, "sigmas", None),
            "dmd_timesteps": scheduler.timesteps,
            "all_timesteps": scheduler.timesteps,
            **(NOISY_STEP if noisy else {}),
        }
        if name == "PiflowScheduler":
            output = torch.cat([output] * scheduler.config.n_grid, dim=-1)
        if name == "DDPMWuerstchenScheduler":
            timestep = timestep.expand(len(latents))
        more = {each: value for each, value in special.items() if each in takes}
        result = scheduler.step(output, timestep=timestep, sample=latents, return_dict=False, **more)
        latents, kept = result[0], result[1] if len(result) > 1 else None
    return latents


def verdict(name: str, kind: type[Any] | str, *, noisy: bool) -> str:
    """`PROVED`, `DREW`, or why neither."""
    if isinstance(kind, str) or name in NO_LATENTS:
        return kind if isinstance(kind, str) else NO_LATENTS[name]
    bucket = Bucket(("a cat", "two dogs"), (11, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what diffusers says of deprecated classes is of no interest here
        toy = Toy(kind, noisy)
        try:
            prove(toy, bucket, toy.generate)
        except ModelError as error:
            return f"refused: {error}"
    return DREW if toy.drew else PROVED


def class_table() -> Iterator[tuple[str, str]]:
    """Class and verdict, with all the noise that it can be told to draw; without where that breaks it by itself."""
    for name, kind in scheduler_classes().items():
        told = verdict(name, kind, noisy=True)
        yield name, verdict(name, kind, noisy=False) if told == f"refused: {BREAKS}" else told
