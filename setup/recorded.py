"""Read a recorded run with the weights and the combination of its configuration."""

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
from .plugins import Plugins, plugins


class RecordedRun(Protocol):
    """The stored facts of a run besides its evaluations, such as `storage.RunRow`."""

    @property
    def id(self) -> str:
        """The name of the run."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The validated configuration."""

    @property
    def outcome(self) -> Mapping[str, Any] | None:
        """The result of the run, or None if the run has not finished."""


def record_of(
    run: RecordedRun, evaluations: Iterable[tuple[Place, Evaluation]], known: Plugins | None = None
) -> Record:
    """Read a run, finished or not.

    If the combination is needed to tell which checks it admits, but cannot be made any more, a warning says that every
    check counts as admitted.

    Args:
        run: The stored facts of the run.
        evaluations: The recorded evaluations in the order of the store, of all stages or of those needed.
        known: The plugins of the run, if it is at work; None for those installed, so that looking at a run executes no
            file that it names.
    """
    weights = {name: reward["weight"] for name, reward in run.config["objectives"].items() if reward["weight"]}

    @cache
    def combination() -> Combination | None:
        options = dict(run.config.get("combine", {"name": "weighted"}))
        try:
            made: Combination = (known or plugins()).make("combinations", options.pop("name"), options, weights)
        except TrimpotError as error:
            warnings.warn(
                f"the combination of run {run.id} cannot be made, so every check counts as admitted "
                f"until the run goes on: {error}",
                Notice,
                stacklevel=2,
            )
            return None
        return made

    def admitted(candidate: Evaluation, neutral: Evaluation) -> bool:
        made = combination()
        return made is None or admits(made, candidate, neutral)

    given = run.config.get("generations") == 0
    return Record(evaluations, weights, run.config["objectives"], admitted, run.outcome, given=given)
