"""Experiment trackers: TensorBoard, trackio, and Weights & Biases, each in an extra of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..engine.hooks import Register, hookimpl
from ..engine.tracker import Tracker
from ..ground.extras import require

Words = Annotated[str, Field(min_length=1, max_length=200)]


def make_tensorboard(*, folder: Path | None = None) -> Tracker:
    """TensorBoard's files, in the run's folder or below another one: `tensorboard --logdir trimpot-runs`."""
    require("tracker 'tensorboard'", "tensorboard")
    from .tensorboard import TensorBoard

    return TensorBoard(folder)


def make_trackio(*, project: Words = "trimpot", space: Words | None = None) -> Tracker:
    """Trackio, on this machine or in a Space of the Hugging Face hub: `trackio show`."""
    require("tracker 'trackio'", "trackio")
    from .trackio import Trackio

    return Trackio(project, space)


def make_wandb(
    *,
    project: Words = "trimpot",
    entity: Words | None = None,
    mode: Literal["online", "offline"] = "online",
    folder: Path | None = None,
) -> Tracker:
    """Weights & Biases, online or offline; its files lie in the run's folder, or in another one."""
    require("tracker 'wandb'", "wandb")
    from .wandb import WeightsAndBiases

    return WeightsAndBiases(project, entity, mode, folder)


@hookimpl
def register_trackers(register: Register) -> None:
    """Register the built-in trackers by name."""
    register("tensorboard", make_tensorboard)
    register("trackio", make_trackio)
    register("wandb", make_wandb)
