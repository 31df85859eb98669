"""Which granularity is worth its knobs: block, layer and gate on one budget of images (Calibri, table 1)."""

from __future__ import annotations

from ..reports.words import gain_text
from . import crossing_findings as told
from .crossed_searches import CrossedOptions, CrossedSearches
from .crossing import GRANULARITIES, Crossed
from .gains import VALUE
from .options import Words


class GranularityOptions(CrossedOptions):
    """What is searched.

    Attributes:
        granularities: What to compare, coarse to fine.
    """

    granularities: Words = GRANULARITIES


class Granularity(CrossedSearches):
    """See the module."""

    kind = "granularity"
    question = "Which granularity is worth its knobs, on equal budgets?"
    caption = (
        "Gain over the best uncalibrated setting on test prompts, of block, layer and gate knobs that were searched "
        "on equal budgets."
    )
    Options = GranularityOptions

    def headline(self, crossed: Crossed) -> str:
        """Return which granularity gains the most. See `CrossedSearches.headline`."""
        target = VALUE if VALUE in crossed.measures else next(iter(crossed.crossing.config.weights))
        cells = {row: crossed.cell(row, target) for row in crossed.crossing.rows}
        best, cell = max(cells.items(), key=lambda item: item[1].gain.mean)
        gaining = [told.row_name(row) for row, each in cells.items() if each.standing == "better"]
        others = {key: each for key, each in crossed.pairs.items() if key[3] == target and best[0] in key[:2]}
        apart = [each for each in others.values() if each.standing != "uncertain"]
        count = f"{len(apart)} of {len(others)} others" if apart else "no other"
        if not gaining:
            searched = f"With {crossed.crossing.images:,} {crossed.outputs} of search"
            return f"{searched}, none gains beyond noise over the best uncalibrated setting."
        gain = gain_text(vars(cell.gain), told.decimals(cell.gain))
        which = f"{told.joined(gaining)} {'gains' if len(gaining) == 1 else 'gain'} beyond noise"
        return (
            f"With {crossed.crossing.images:,} {crossed.outputs} of search, {which} over the best uncalibrated "
            f"setting; {told.row_name(best)} gains the most, {gain}, and {count} can be told from it."
        )
