"""A worker's bench: the parts of a run, assembled from the configuration in the worker's own process."""

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
    """Everything that a worker needs to make its parts. A recipe can be pickled.

    Attributes:
        config: The validated configuration.
        prompts: The prompts of the run.
        start: The setting at which the search begins, if a file gives one.
        keeper: Writes images to files; see `Store.keeper`.
        known: Returns the plugins that provide the parts.
        folder: A folder in which the adapter may keep files; see `Adapter.keep_in`.
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
            TrimpotError: If a part cannot be made.
        """
        return RunBench(self)


@dataclass(frozen=True)
class Outline:
    """What the driver must know about parts that only the workers hold.

    Attributes:
        space: The knobs.
        num_steps: See `Adapter`.
        makes: See `Adapter`.
        uses_seed: See `Adapter`.
        frozen: See `Adapter`.
        outputs_per_call: See `Adapter`.
        mixes_buckets: See `Adapter`.
        objectives: Objective name to a pair: whether it scores sets, and whether it takes metadata.
        origins: The origins of the parts; see `engine.identity`.
    """

    space: KnobSpace
    num_steps: int | None
    makes: Any
    uses_seed: bool
    frozen: tuple[str, ...]
    outputs_per_call: int
    mixes_buckets: bool
    objectives: Mapping[str, tuple[bool, bool]]
    origins: Mapping[str, Any]


class RunBench:
    """The parts of a run, and the calls that a worker answers with them.

    Args:
        recipe: The recipe by which the parts are made.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.run = assemble("", load_config(recipe.config), recipe.known(), prompts=recipe.prompts, start=recipe.start)
        proof = self.run.bucket(0, size=2)
        self._worker = Worker(self.run.adapter, self.run.objectives, recipe.keeper, proof)
        if recipe.folder:
            self.run.adapter.keep_in(recipe.folder)
        self.run.adapter.prepare(self.run.prompts.all)

    def hello(self) -> Hello:
        """Return what identifies this worker's parts and device."""
        versions = self.run.versions
        parts = digest([self.run.description, self.run.adapter.space.fingerprint, self.run.config.weights])
        return Hello(parts, versions.get("gpu") or versions.get("machine", "a CPU"), versions)

    def pid(self) -> int:
        """Return the id of the worker's process."""
        return os.getpid()

    def outline(self) -> Outline:
        """Return what the driver must know about the parts."""
        adapter = self.run.adapter
        return Outline(
            adapter.space,
            adapter.num_steps,
            adapter.makes,
            adapter.uses_seed,
            adapter.frozen,
            adapter.outputs_per_call,
            adapter.mixes_buckets,
            {name: (each.scores_sets, each.takes_metadata) for name, each in self.run.objectives.items()},
            self.run.origins(),
        )

    def do(self, job: Job, largest_batch: int | None) -> Done:
        """Do a job in batches that fit the memory of every worker. See `Worker.do`."""
        adapter = self.run.adapter
        if largest_batch is not None and adapter.largest_batch is not None:
            adapter.largest_batch = min(adapter.largest_batch, largest_batch)
        return Done(self._worker.do(job), adapter.largest_batch)

    def adapter(self, num_steps: int | None, method: str, *args: Any) -> Any:
        """Call a method of the adapter; generated outputs are returned as a list."""
        adapter = self.run.adapter if num_steps in (None, self.run.adapter.num_steps) else None
        found = getattr(adapter or self.run.adapter.with_steps(num_steps or 0), method)(*args)
        return [list(each) for each in found] if method in ("generate", "generate_each") else found

    def objective(self, name: str, method: str, *args: Any) -> Any:
        """Call a method of an objective."""
        return getattr(self.run.objectives[name], method)(*args)
