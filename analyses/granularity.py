"""Which granularity is worth its knobs: block, layer and gate on one budget of images (Calibri, table 1)."""

from __future__ import annotations

from ..engine.schema import Images, Section
from ..reports.words import gain_text
from ..storage import SqliteStore
from . import crossing_findings as told
from .analysis import Analysis, Findings
from .bench import Bench
from .crossing import GRANULARITIES, Crossed, Crossing, gather, search
from .equal_images import images_of, seeds_from
from .gains import VALUE
from .options import Seeds, Words


class GranularityOptions(Section):
    """What is searched.

    Attributes:
        images: Images of each search; default: `budget.images`, or as many as a finished run's search made.
        seeds: The number of searches of each granularity, or their seeds.
        granularities: What to compare, coarse to fine.
    """

    images: Images | None = None
    seeds: Seeds = 3
    granularities: Words = GRANULARITIES


class Granularity(Analysis):
    """See the module."""

    kind = "granularity"
    question = "Which granularity is worth its knobs, on one budget of images?"
    Options = GranularityOptions
    wants = "backbone"
    searches = True

    options: GranularityOptions

    def check(self, store: SqliteStore) -> None:
        """Refuse searches that cannot be run. See `Analysis.check`."""
        self._crossing(store).check(self.targets[0])

    def examine(self, bench: Bench) -> Findings:
        """Search every granularity with every seed. See `Analysis.examine`."""
        [target] = self.targets
        crossing = self._crossing(bench.store)
        crossed = gather(bench.store, crossing, search(bench, target, crossing))
        return Findings(
            _headline(crossed),
            told.parts(
                crossed,
                "Gain over the best uncalibrated setting on test prompts, of block, layer and gate knobs that were "
                "searched with equally many images.",
            ),
            sentences=(told.uncalibrated(crossed),),
            cautions=told.cautions(crossed),
            stats=told.stats(crossed),
            numbers=told.numbers(crossed),
            runs=[found.run for found in crossed.tested.values()],
        )

    def _crossing(self, store: SqliteStore) -> Crossing:
        [target], options = self.targets, self.options
        images = images_of(target, options.images, store)
        return Crossing(target.config, images, seeds_from(options.seeds), options.granularities)


def _headline(crossed: Crossed) -> str:
    target = VALUE if VALUE in crossed.measures else next(iter(crossed.crossing.config.weights))
    cells = {row: crossed.cell(row, target) for row in crossed.crossing.rows}
    best, cell = max(cells.items(), key=lambda item: item[1].gain.mean)
    gaining = [told.row_name(row) for row, each in cells.items() if each.standing == "better"]
    others = {key: each for key, each in crossed.pairs.items() if key[3] == target and best[0] in key[:2]}
    apart = [each for each in others.values() if each.standing != "uncertain"]
    rest = "no other can be told from it" if not apart else f"{len(apart)} of {len(others)} others can be told from it"
    if not gaining:
        return (
            f"With {crossed.crossing.images:,} images of search, none gains beyond noise over the best uncalibrated "
            "setting."
        )
    gain = gain_text(vars(cell.gain), told.decimals(cell.gain))
    which = f"{told.joined(gaining)} {'gains' if len(gaining) == 1 else 'gain'} beyond noise"
    return (
        f"With {crossed.crossing.images:,} images of search, {which} over the best uncalibrated setting; "
        f"{told.row_name(best)} gains the most, {gain}, and {rest}."
    )
