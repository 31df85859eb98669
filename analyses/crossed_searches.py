"""What the analyses `granularity` and `rewards` have in common: searches that are crossed, and what is told of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from ..engine.schema import Images, Section
from ..storage import SqliteStore
from . import crossing_findings as told
from .analysis import Analysis, Findings
from .bench import Bench
from .crossing import Crossed, Crossing, gather, search
from .equal_images import images_of, seeds_from
from .options import Seeds, Words


class CrossedOptions(Section):
    """What is searched.

    Attributes:
        images: Outputs of each search, also called `outputs`; default: `budget.outputs`, or as many as a finished run's
            search made.
        seeds: The number of searches of each kind, or their seeds.
        granularities: What to compare or to cross with, coarse to fine; default: as the analysis says.
    """

    images: Images | None = None
    seeds: Seeds = 3
    granularities: Words = ()


class CrossedSearches(Analysis):
    """Searches on equally many outputs, by granularity, reward and seed.

    Attributes:
        caption: What its table shows, in words.
    """

    wants = "backbone"
    searches = True
    caption: ClassVar[str]

    options: CrossedOptions

    @property
    def rewards(self) -> tuple[str, ...]:
        """What is optimised, one after the other; empty for what the configuration optimises."""
        return ()

    @abstractmethod
    def headline(self, crossed: Crossed) -> str:
        """Return the answer in one sentence."""

    def check(self, store: SqliteStore) -> None:
        """Refuse searches that cannot be run. See `Analysis.check`."""
        self._crossing(store).check(self.targets[0])

    def examine(self, bench: Bench) -> Findings:
        """Run the searches that are missing, with every seed. See `Analysis.examine`."""
        [target] = self.targets
        crossing = self._crossing(bench.store)
        crossed = gather(bench.store, crossing, search(bench, target, crossing))
        return Findings(
            self.headline(crossed),
            told.parts(crossed, self.caption),
            sentences=(told.uncalibrated(crossed),),
            cautions=told.cautions(crossed),
            stats=told.stats(crossed),
            numbers=told.numbers(crossed),
            runs=[found.run for found in crossed.tested.values()],
            outputs=crossed.outputs,
        )

    def _crossing(self, store: SqliteStore) -> Crossing:
        [target], options = self.targets, self.options
        images = images_of(target, options.images, store)
        return Crossing(target.config, images, seeds_from(options.seeds), options.granularities, self.rewards)
