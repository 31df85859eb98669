"""Proofs that the rewards compute their published formulas, on tiny checkpoints of the real architectures.

    python -m trimpot.proofs.rewards

No published weights are needed: each proof builds a small checkpoint in code, saves it in the published layout,
loads it through the objective's own loading code, and computes the same scores by an independent route.
Each module of this package with a tuple `PROOFS` adds rows to the table.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Proof:
    """A comparison of one objective with an independent computation.

    Attributes:
        objective: The objective's registered name, with the convention if there are several.
        source: The publication of the formula.
        compares_with: The independent route, in a few words.
        run: Given an empty folder for checkpoints, returns the largest absolute difference of the scores.
        tolerance: The largest difference that passes.
    """

    objective: str
    source: str
    compares_with: str
    run: Callable[[Path], float]
    tolerance: float


def proofs() -> list[Proof]:
    """Return all proofs, sorted by objective."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found = [proof for module in modules for proof in getattr(module, "PROOFS", ())]
    return sorted(found, key=lambda proof: proof.objective)
