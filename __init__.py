"""trimpot: black-box calibration of frozen models.

    import trimpot

    calibration = trimpot.load_calibration(pipe, "calibration.json")    # a stock diffusers pipeline

To write a backbone, a reward or a searcher: subclass `Adapter`, `Objective`, `Combination` or `Optimizer`, name it with
`@trimpot.hookimpl`, and inherit its contract from `trimpot.testing`. A public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .applying.applied import AppliedCalibration, load_calibration
    from .applying.base import load_pipeline
    from .engine.bucket import Bucket, PromptSet
    from .engine.calibration import Calibration
    from .engine.hooks import Source, hookimpl
    from .engine.knobs import Knob, KnobSpace, Setting
    from .engine.seams import Adapter, Combination, Objective, Optimizer
    from .ground.errors import TrimpotError

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "engine.seams",
    "AppliedCalibration": "applying.applied",
    "Bucket": "engine.bucket",
    "Calibration": "engine.calibration",
    "Combination": "engine.seams",
    "Knob": "engine.knobs",
    "KnobSpace": "engine.knobs",
    "Objective": "engine.seams",
    "Optimizer": "engine.seams",
    "PromptSet": "engine.bucket",
    "Setting": "engine.knobs",
    "Source": "engine.hooks",
    "TrimpotError": "ground.errors",
    "hookimpl": "engine.hooks",
    "load_calibration": "applying.applied",
    "load_pipeline": "applying.base",
}

__all__ = [
    "Adapter",
    "AppliedCalibration",
    "Bucket",
    "Calibration",
    "Combination",
    "Knob",
    "KnobSpace",
    "Objective",
    "Optimizer",
    "PromptSet",
    "Setting",
    "Source",
    "TrimpotError",
    "hookimpl",
    "load_calibration",
    "load_pipeline",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trimpot' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
