"""Schedulers of tiny pipelines: whether every image of theirs depends on its candidate, prompt and seed alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import tiny_models
from stock_cases import CASES
from trimpot.adapters import make_diffusers, make_flux, make_qwen_image, make_sd3
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.bucket import Bucket
from trimpot.engine.proof import prove
from trimpot.ground.errors import ModelError

STEPS = 3
BUCKET = Bucket(("a cat", "two dogs"), (11, 12))
NAMED = {"flux": make_flux, "sd3": make_sd3, "qwen": make_qwen_image}
FLOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "FlowMatchEulerDiscreteScheduler": ("FlowMatchEulerDiscreteScheduler", {}),
    "FlowMatchEulerDiscreteScheduler, stochastic": ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
    "FlowMatchLCMScheduler": ("FlowMatchLCMScheduler", {}),
    "FlowMatchHeunDiscreteScheduler": ("FlowMatchHeunDiscreteScheduler", {}),
    "UniPCMultistepScheduler, flow": (
        "UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    ),
    "DPMSolverMultistepScheduler, flow": (
        "DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    ),
    "DPMSolverMultistepScheduler, flow, stochastic": (
        "DPMSolverMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "algorithm_type": "sde-dpmsolver++"},
    ),
}  # fmt: skip
#: The scheduler classes of published checkpoints, by tiny pipeline.
PUBLISHED = {
    **dict.fromkeys(("flux", "sd3", "qwen", "ltx", "hunyuan_video", "lumina2", "zimage", "flux2"),
                    ("FlowMatchEulerDiscreteScheduler",)),
    "wan": ("UniPCMultistepScheduler, flow", "FlowMatchEulerDiscreteScheduler"),
    "wan22": ("UniPCMultistepScheduler, flow",),
    "cogvideox": ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"),
    "latte": ("DDIMScheduler",),
    "pixart": ("DPMSolverMultistepScheduler",),
    "sana": ("DPMSolverMultistepScheduler, flow", "FlowMatchEulerDiscreteScheduler"),
}  # fmt: skip


def make(name: str, folder: Path) -> PipelineAdapter:
    """The adapter of a tiny pipeline."""
    options: dict[str, Any] = {"model": str(folder), "dtype": "float32", "device": "cpu", "num_inference_steps": STEPS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what diffusers says of tiny checkpoints is of no interest here
        made: Any = NAMED[name](**options) if name in NAMED else make_diffusers(**options, **CASES[name].given)
    return made  # type: ignore[no-any-return]


def schedulers_of(name: str, adapter: PipelineAdapter) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Schedulers to try with a pipeline: title, class and what its configuration changes.

    Those of its published checkpoints, every flow-matching one where its own is one, else every class that diffusers
    says is compatible with its own, and their stochastic forms.
    """
    own = adapter.pipe.scheduler
    if name != "pixart" and name != "latte" and name != "cogvideox":
        for title, (kind, changes) in FLOWS.items():
            yield title, kind, changes
        return
    kinds = dict.fromkeys([type(own).__name__, *PUBLISHED[name], *(kind.__name__ for kind in own.compatibles)])
    for kind in kinds:
        if getattr(getattr(diffusers, kind), "from_config", None):
            yield kind, kind, {}
    yield (
        "DPMSolverMultistepScheduler, stochastic",
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++"},
    )


def verdict(adapter: PipelineAdapter, kind: str, changes: dict[str, Any]) -> str:
    """`proved`, or the sentence with which a run would be refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = adapter.pipe.scheduler
        try:
            adapter.pipe.scheduler = getattr(diffusers, kind).from_config(own.config, **changes)
            tried: Any = adapter.with_steps(
                STEPS
            )  # another adapter of the same pipeline: what is proved is proved once
            prove(tried, BUCKET, tried.generate)
            return "proved"
        except ModelError as error:
            return f"refused: {error}"
        except Exception as error:  # a pipeline and a scheduler that do not fit, which diffusers says in many ways
            return f"does not run: {type(error).__name__}: {error}".splitlines()[0]
        finally:
            adapter.pipe.scheduler = own


def table(names: list[str], home: Path) -> Iterator[tuple[str, str, bool, str]]:
    """Pipeline, scheduler, whether a published checkpoint has it, and the verdict."""
    for name in names:
        folder = getattr(tiny_models, f"tiny_{name}")(home / f"tiny-{name}")
        adapter = make(name, folder)
        for title, kind, changes in schedulers_of(name, adapter):
            yield name, title, title in PUBLISHED[name], verdict(adapter, kind, changes)
        adapter.close()
