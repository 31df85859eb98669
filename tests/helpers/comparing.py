"""A hill to compare searchers on, and what is told of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from closed_form import Hill, Notes, hill_plugin
from numpy.typing import NDArray
from trimpot.comparison.design import Design, make_design
from trimpot.engine.hooks import hookimpl
from trimpot.engine.run import Run
from trimpot.optimizers import make_random_search
from trimpot.setup.plugins import Plugins

SHARED = {
    "adapter": "hill",
    "objectives": "height",
    "prompts": "views",
    "optimizer": "cma-es",
    "bucket_size": 2,
    "validation": {"num_prompts": 4},
    "test": {"num_prompts": 5},
}


def small(**changes: Any) -> Design:
    """Two contenders, three seeds, sixty images."""
    asked = {"config": SHARED, "contenders": ["cma-es", "random"], "seeds": 3, "images": 60, "checks": 3, **changes}
    return make_design(asked)


class Told:
    """Writes down what a comparison tells; a run is stopped with Ctrl-C after `patience` evaluations."""

    def __init__(self, patience: int | None = None) -> None:
        self.watcher = Notes(patience)
        self.started: list[tuple[str, int]] = []
        self.errors: dict[tuple[str, int], str] = {}

    def comparison_started(self, comparison: str, design: Design, firsts: Sequence[Run]) -> None:
        self.comparison = comparison

    def member_started(self, contender: str, seed: int) -> None:
        self.started.append((contender, seed))

    def member_ended(self, contender: str, seed: int, error: str | None) -> None:
        if error:
            self.errors[contender, seed] = error

    @property
    def num_made(self) -> int:
        return len(self.watcher.evaluations)


class Clumsy:
    """An optimizer that falls over when it is told something, save with seed 1."""

    @hookimpl
    def register_optimizers(self, register: Any) -> None:
        def make_clumsy(space: Any, *, start: Any, seed: int) -> Any:
            made = make_random_search(space, start=start, seed=seed)

            def tell(population: NDArray[np.float64], fitness: NDArray[np.float64]) -> None:
                raise RuntimeError("I fell\nover")

            if seed != 1:
                made.tell = tell  # type: ignore[method-assign]
            return made

        register("clumsy", make_clumsy)


class Installed:
    """What is installed in this process: the hill, counted whenever it is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.put(Hill())

    def put(self, adapter: Hill) -> None:
        self.adapter, self.num_made = adapter, 0
        known = Plugins()
        known.add(hill_plugin(adapter), name="hill-plugin", origin="tests")
        known.add(Clumsy(), name="clumsy-plugin", origin="tests")
        make = known.make

        def counted(kind: str, *arguments: Any, **given: Any) -> Any:
            self.num_made += kind == "adapters"
            return make(kind, *arguments, **given)

        self._monkeypatch.setattr(known, "make", counted)
        self.known = known
        self._monkeypatch.setattr(Design, "plugins", property(lambda _design: known))
