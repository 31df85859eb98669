"""Every scheduler class of the installed diffusers, stepping a toy model: rows of their own, the same again.

    python tests/helpers/scheduler_classes.py

prints what becomes of each.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from trimpot.adapters.row_noise import row_noise
from trimpot.engine.bucket import Bucket
from trimpot.engine.errors import ModelError
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.proof import prove
from trimpot.engine.seams import Adapter

STEPS = 4
SHAPE = (4, 8, 8)
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


def scheduler_classes() -> dict[str, type[Any] | str]:
    """Class by name; in place of one that cannot be imported, why."""
    package = importlib.import_module("diffusers.schedulers")
    absent: dict[str, type[Any] | str] = {}
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            absent[module.name.rpartition(".")[2]] = f"needs {error.name}"
    return dict(sorted({**{kind.__name__: kind for kind in _below(diffusers.SchedulerMixin)}, **absent}.items()))


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith("diffusers.schedulers"):
            yield each
        yield from _below(each)


class Toy(Adapter):
    """Latents denoised by half of themselves, with a scheduler that is given the rows' generators."""

    space = KnobSpace([Knob("gain")])

    def __init__(self, kind: type[Any], changes: dict[str, Any]) -> None:
        self.pipe = SimpleNamespace(components={"scheduler": kind(**changes)})

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> list[list[NDArray[np.float32]]]:
        rows = [(gain, seed) for [gain] in population for seed in bucket.seeds]
        generators = [torch.Generator().manual_seed(seed) for _, seed in rows]
        latents = torch.stack([torch.randn(SHAPE, generator=generator) for generator in generators])
        gains = torch.tensor([gain for gain, _ in rows], dtype=torch.float32)[:, None, None, None]
        with row_noise(self.pipe, generators), torch.no_grad():
            made = list(denoised(self.pipe.components["scheduler"], latents, gains).numpy())
        return [made[begin : begin + len(bucket)] for begin in range(0, len(made), len(bucket))]

    def describe(self) -> dict[str, Any]:
        return {"id": "toy"}


def denoised(scheduler: Any, latents: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """All steps of a scheduler, as its own pipelines take them."""
    scheduler.set_timesteps(STEPS)
    sigmas = getattr(scheduler, "sigmas", None)
    if hasattr(scheduler, "set_sigmas"):
        scheduler.set_sigmas(STEPS)
    latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
    takes = inspect.signature(scheduler.step if hasattr(scheduler, "step") else scheduler.step_pred).parameters
    timesteps = list(scheduler.timesteps)
    if type(scheduler).__name__ in ("SCMScheduler", "DDPMWuerstchenScheduler"):  # the last is where they arrive
        timesteps = timesteps[:-1]
    kept = None
    for at, timestep in enumerate(timesteps):
        given = scheduler.scale_model_input(latents, timestep) if hasattr(scheduler, "scale_model_input") else latents
        output = 0.5 * gains * given
        following = timesteps[at + 1] if at + 1 < len(timesteps) else None
        special = {
            "old_pred_original_sample": kept,
            "timestep_back": timesteps[at - 1] if at else None,
            "original_image": torch.zeros_like(latents),
            "mask": torch.zeros_like(latents),
            "prev_timestep": following,
            "r_timestep": following if following is not None else torch.tensor(0.0),
        }
        more = {name: value for name, value in special.items() if name in takes}
        result = scheduler.step(output, timestep=timestep, sample=latents, return_dict=False, **more)
        latents = result[0]
        kept = result[1] if len(result) > 1 else None
    return latents


def verdict(kind: type[Any] | str, changes: dict[str, Any]) -> str:
    """`proved`, or why not."""
    if isinstance(kind, str):
        return kind
    bucket = Bucket(("a cat", "two dogs"), (11, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            toy = Toy(kind, changes)
            before = torch.get_rng_state()
            prove(toy, bucket, toy.generate)
            return "proved" if torch.equal(before, torch.get_rng_state()) else "drew from the global generator"
        except ModelError as error:
            return f"refused: {error}"
        except Exception as error:
            import traceback
            tb = traceback.extract_tb(error.__traceback__)[-1]
            return f"does not run: {type(error).__name__}: {error} {tb.filename.split('/')[-1]}:{tb.lineno}".splitlines()[0]


if __name__ == "__main__":
    counts: Counter[str] = Counter()
    for name, kind in scheduler_classes().items():
        found = verdict(kind, {})
        counts[found.partition(":")[0]] += 1
        print(f"{name:<40} {found}")
    print(counts)
