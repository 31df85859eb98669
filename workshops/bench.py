"""What a worker works with: the parts of a run, assembled in the worker's own process from the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.bucket import PromptSet
from ..engine.jobs import Job
from ..engine.knobs import KnobSpace, Setting, digest
from ..engine.worker import Worker
from ..setup.assembly import assemble
from ..setup.config import load_config
from ..setup.plugins import Plugins, plugins
from .seats import Done, Hello

Keep = Callable[[Sequence[Any]], Sequence[str]]


@dataclass(frozen=True)
class Recipe:
    """All that a worker needs to make its parts; it can be pickled.

    Attributes:
        config: A configuration as it was validated.
        prompts: Those of the run.
        start: Where its search begins, if a file says so.
        keeper: Writes images to files; see `Store.keeper`.
        known: Gives the plugins by which parts are found.
        folder: What the adapter may keep things in; see `Adapter.keep_in`.
    """

    config: Mapping[str, Any]
    prompts: PromptSet
    start: Setting | None
    keeper: Keep
    known: Callable[[], Plugins] = plugins
    folder: Path | None = None

    def __call__(self) -> RunBench:
        """Make the parts.

        Raises:
            TrimpotError: If they cannot be made.
        """
        return RunBench(self)


@dataclass(frozen=True)
class Outline:
    """What the driver must know of parts that it does not hold.

    Attributes:
        space: The knobs.
        num_steps: See `Adapter`.
        makes: See `Adapter`.
        frozen: See `Adapter`.
        outputs_per_call: See `Adapter`.
        mixes_buckets: See `Adapter`.
        objectives: Objective name to whether it scores sets, and whether it takes metadata.
        origins: What the parts are made of; see `engine.identity`.
    """

    space: KnobSpace
    num_steps: int | None
    makes: Any
    frozen: tuple[str, ...]
    outputs_per_call: int
    mixes_buckets: bool
    objectives: Mapping[str, tuple[bool, bool]]
    origins: Mapping[str, Any]


class RunBench:
    """The parts of a run, and what can be asked of them.

    Args:
        recipe: How they are made.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.run = assemble("", load_config(recipe.config), recipe.known(), prompts=recipe.prompts, start=recipe.start)
        proof = self.run.bucket(0, size=2)
        self._worker = Worker(self.run.adapter, self.run.objectives, recipe.keeper, proof)
        if recipe.folder:
            self.run.adapter.keep_in(recipe.folder)
        self.run.adapter.prepare(self.run.prompts.all)

    def hello(self) -> Hello:
        """Who is there."""
        versions = self.run.versions
        parts = digest([self.run.description, self.run.adapter.space.fingerprint, self.run.config.weights])
        return Hello(parts, versions.get("gpu") or versions.get("machine", "a CPU"), versions)

    def pid(self) -> int:
        """Of the process."""
        return os.getpid()

    def outline(self) -> Outline:
        """What the driver must know."""
        adapter = self.run.adapter
        return Outline(
            adapter.space,
            adapter.num_steps,
            adapter.makes,
            adapter.frozen,
            adapter.outputs_per_call,
            adapter.mixes_buckets,
            {name: (each.scores_sets, each.takes_metadata) for name, each in self.run.objectives.items()},
            self.run.origins(),
        )

    def do(self, job: Job, largest_batch: int | None) -> Done:
        """Do a job in batches for which the memory of every worker suffices. See `Worker.do`."""
        adapter = self.run.adapter
        if largest_batch is not None and adapter.largest_batch is not None:
            adapter.largest_batch = min(adapter.largest_batch, largest_batch)
        return Done(self._worker.do(job), adapter.largest_batch)

    def adapter(self, num_steps: int | None, method: str, *args: Any) -> Any:
        """Ask the adapter; outputs that it generates are listed."""
        adapter = self.run.adapter if num_steps in (None, self.run.adapter.num_steps) else None
        found = getattr(adapter or self.run.adapter.with_steps(num_steps or 0), method)(*args)
        return [list(each) for each in found] if method in ("generate", "generate_each") else found

    def objective(self, name: str, method: str, *args: Any) -> Any:
        """Ask an objective."""
        return getattr(self.run.objectives[name], method)(*args)
