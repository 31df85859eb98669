"""Reading a recorded run by its configuration: what its scores weigh, and what its combination admits."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Protocol

from ..engine.evaluation import Evaluation, Place
from ..engine.record import Record
from ..engine.scoring import admits
from ..engine.seams import Combination
from ..ground.errors import Notice, TrimpotError
from .plugins import plugins


class RecordedRun(Protocol):
    """What is known of a run besides its evaluations; `storage.RunRow` is one."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration as it was validated."""

    @property
    def outcome(self) -> Mapping[str, Any] | None:
        """What it found, or None while it has not finished."""


def record_of(run: RecordedRun, evaluations: Iterable[tuple[Place, Evaluation]]) -> Record:
    """Read a run, finished or not.

    Where what a combination admits has to be asked, and the combination can no longer be had, a warning says that
    every check counts as admitted.

    Args:
        run: What is known of it.
        evaluations: Those recorded, as the store gives them, or those of the stages that are asked about.
    """
    weights = {name: reward["weight"] for name, reward in run.config["objectives"].items() if reward["weight"]}

    @cache
    def combination() -> Combination | None:
        options = dict(run.config.get("combine", {"name": "weighted"}))
        try:
            made: Combination = plugins().make("combinations", options.pop("name"), options, weights)
        except TrimpotError as error:
            warnings.warn(
                f"what the combination of run {run.id} admits cannot be told, so every check counts as admitted "
                f"until the run goes on: {error}",
                Notice,
                stacklevel=2,
            )
            return None
        return made

    def admitted(candidate: Evaluation, neutral: Evaluation) -> bool:
        made = combination()
        return made is None or admits(made, candidate, neutral)

    return Record(evaluations, weights, run.config["objectives"], admitted, run.outcome)
