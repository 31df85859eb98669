"""trimpot: black-box calibration of frozen models.

    import trimpot

    result = trimpot.calibrate("shapes", generations=10)                # as `trimpot calibrate` does
    calibration = trimpot.load_calibration(pipe, result.calibration)    # on a stock diffusers pipeline

A reward or a backbone may be a plain function: `@trimpot.objective`, `@trimpot.adapter`. To write more: subclass
`Adapter`, `Objective`, `Combination` or `Optimizer`, name it with `@trimpot.hookimpl`, and inherit its contract from
`trimpot.testing`. A public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .applying.applied import AppliedCalibration, load_calibration
    from .applying.base import load_pipeline
    from .engine.bucket import Bucket, PromptSet
    from .engine.calibration import Calibration
    from .engine.functions import adapter, objective
    from .engine.hooks import Source, hookimpl
    from .engine.knobs import Knob, KnobSpace, Setting
    from .engine.seams import Adapter, Combination, Objective, Optimizer
    from .ground.errors import (
        CalibrationError,
        ConfigError,
        MissingError,
        ModelError,
        Notice,
        PluginError,
        ReplayError,
        ScoreError,
        StoreError,
        TrimpotError,
    )
    from .runs.python import Result, calibrate, resume
    from .setup.config import Config, load_config

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "engine.seams",
    "AppliedCalibration": "applying.applied",
    "Bucket": "engine.bucket",
    "Calibration": "engine.calibration",
    "CalibrationError": "ground.errors",
    "Combination": "engine.seams",
    "Config": "setup.config",
    "ConfigError": "ground.errors",
    "Knob": "engine.knobs",
    "KnobSpace": "engine.knobs",
    "MissingError": "ground.errors",
    "ModelError": "ground.errors",
    "Notice": "ground.errors",
    "Objective": "engine.seams",
    "Optimizer": "engine.seams",
    "PluginError": "ground.errors",
    "PromptSet": "engine.bucket",
    "ReplayError": "ground.errors",
    "Result": "runs.python",
    "ScoreError": "ground.errors",
    "Setting": "engine.knobs",
    "Source": "engine.hooks",
    "StoreError": "ground.errors",
    "TrimpotError": "ground.errors",
    "adapter": "engine.functions",
    "calibrate": "runs.python",
    "hookimpl": "engine.hooks",
    "load_calibration": "applying.applied",
    "load_pipeline": "applying.base",
    "load_config": "setup.config",
    "objective": "engine.functions",
    "resume": "runs.python",
}

__all__ = [
    "Adapter",
    "AppliedCalibration",
    "Bucket",
    "Calibration",
    "CalibrationError",
    "Combination",
    "Config",
    "ConfigError",
    "Knob",
    "KnobSpace",
    "MissingError",
    "ModelError",
    "Notice",
    "Objective",
    "Optimizer",
    "PluginError",
    "PromptSet",
    "ReplayError",
    "Result",
    "ScoreError",
    "Setting",
    "Source",
    "StoreError",
    "TrimpotError",
    "adapter",
    "calibrate",
    "hookimpl",
    "load_calibration",
    "load_config",
    "load_pipeline",
    "objective",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trimpot' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
