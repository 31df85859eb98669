"""Where an analysis works: it has settings evaluated and runs calibrated, all recorded and found again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..engine.bucket import PromptSet
from ..engine.evaluator import Evaluator
from ..engine.run import Run
from ..engine.schema import Config
from ..engine.worker import Worker
from ..engine.workshop import Here
from ..runs.work import ENCODED, work
from ..setup.assembly import assemble
from ..setup.config import plugins_of
from ..setup.plan import planned_work
from ..storage import Analyses, AnalysisPlaces, RunRow, SqliteStore
from ..workshops import hired
from ..workshops.hiring import Hired
from .progress import Progress
from .target import Target


class Bench:
    """Where an analysis works; used as a context manager, which ends the workers.

    The backbone, the rewards and their workers are kept as long as what follows uses the same ones.

    Attributes:
        name: The name of the analysis in the store.
        store: The open store.
        progress: Is told of everything that is recorded.

    Args:
        name: The name of the analysis in the store.
        store: The open store, which the analysis holds its lock of.
        progress: Is told of everything that is recorded.
    """

    def __init__(self, name: str, store: SqliteStore, progress: Progress) -> None:
        self.name = name
        self.store = store
        self.progress = progress
        self._stack = contextlib.ExitStack()
        self._kept: tuple[Any, Hired, Run] | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def expect(self, work: int) -> None:
        """Say how much work the analysis is in all: denoising steps, or images of a backbone that has no steps.

        Call this before the first evaluation, and with more whenever more is known to come.
        """
        done = sum(each.evaluation.work for each in Analyses(self.store).history(self.name))
        self.progress.expect(work, done)

    @contextlib.contextmanager
    def opened(self, target: Target, config: Config | None = None) -> Iterator[Evaluator]:
        """Load a target's backbone and rewards; calibrate nothing until the end of the block.

        The evaluator records under the analysis's name, and finds what any run or analysis of the store has evaluated
        with the same parts, on the same bucket. Its `run` has the parts, the prompts and the buckets.

        Args:
            target: The target.
            config: Its configuration with changes, such as to the adapter; None for its own.

        Raises:
            TrimpotError: If a part cannot be made.
        """
        config, folder = config or target.config, self.store.folder / ENCODED
        crew, run = self._assembled(self.name, config, target.prompts)
        run.adapter.keep_in(folder)
        run.adapter.prepare((*run.prompts.validation, *run.prompts.test))
        here = Here(Worker(run.adapter, run.objectives, self.store.keeper, proof=run.test_bucket.head(2)))
        places = AnalysisPlaces(self.store)
        yield Evaluator(run, places, self.progress, crew.workshop or here, apart=True)

    def calibrated(self, label: str, target: Target, config: Config) -> RunRow:
        """Return the finished run of a configuration: found in the store, gone on with, or begun.

        The run is one like any other, and stays when the analysis is deleted.

        Args:
            label: Its name begins with the analysis's name and this.
            target: Whose recorded prompts are used, if the configuration names the same prompts.
            config: The configuration of the run.

        Raises:
            TrimpotError: If the run stops early.
        """
        store = self.store
        prompts = target.prompts if config.prompts == target.config.prompts else None
        crew, run = self._assembled("", config, prompts)
        found = self._same(run)
        if found is not None and found.outcome is not None:
            self.progress.passed(planned_work(run))
            return found
        name = found.id if found else self._begin(label, config, run)
        run = replace(run, id=name)
        work(run, store, plugins_of(config), (self.progress,), illustrated=False, workshop=crew.workshop)
        return store.run(name)

    def _assembled(self, name: str, config: Config, prompts: PromptSet | None) -> tuple[Hired, Run]:
        """Return the workers of a configuration and its run; both have the parts of the last one if these are equal."""
        rewards = {each: (reward.name, reward.options) for each, reward in config.objectives.items()}
        parts = (config.adapter, rewards, config.combine, config.prompts, config.plugins, config.workers, prompts)
        if self._kept is None or self._kept[0] != parts:
            self._kept = None
            self._stack.close()  # before others are hired: a device may have room for one backbone
            folder = self.store.folder / ENCODED
            crew = self._stack.enter_context(hired(config, self.store.keeper, prompts=prompts, folder=folder))
            run = assemble(name, config, plugins_of(config), sharing=crew.parts, prompts=prompts)
            self._kept = parts, crew, run
            return crew, run
        _, crew, first = self._kept
        return crew, assemble(name, config, plugins_of(config), sharing=first)

    def _begin(self, label: str, config: Config, run: Run) -> str:
        dumped = config.model_dump(mode="json")
        prefix = f"{self.name}.{label}"
        return self.store.add_run(prefix, run.identity, dumped, run.versions, run.prompts, run.start, parts=run.parts)

    def _same(self, run: Run) -> RunRow | None:
        """Return the run of the store that is the same, finished ones first; None if there is none."""
        rows = [row for row in self.store.runs() if row.identity == run.identity and not row.locked]
        rows = [row for row in rows if (row.versions, row.continued) == (dict(run.versions), [])]
        return next(iter(sorted(rows, key=lambda row: row.outcome is None)), None)
