"""What a calibration for one reward does to the others: optimise each, report all (Calibri, table 7)."""

from __future__ import annotations

from ..engine.schema import Images, Section
from ..storage import SqliteStore
from . import crossing_findings as told
from .analysis import Analysis, Findings
from .bench import Bench
from .crossing import Crossed, Crossing, gather, search
from .equal_images import images_of, seeds_from
from .options import Seeds, Words


class RewardsOptions(Section):
    """What is searched.

    Attributes:
        images: Images of each search; default: `budget.images`, or as many as a finished run's search made.
        seeds: The number of searches of each reward, or their seeds.
        rewards: What to optimise, one after the other; default: every reward of the configuration.
        granularities: Crosses the rewards with these granularities; default: only what the configuration says.
    """

    images: Images | None = None
    seeds: Seeds = 3
    rewards: Words = ()
    granularities: Words = ()


class Rewards(Analysis):
    """See the module."""

    kind = "rewards"
    question = "What does a calibration for one reward do to the others?"
    Options = RewardsOptions
    wants = "backbone"
    searches = True

    options: RewardsOptions

    def check(self, store: SqliteStore) -> None:
        """Refuse searches that cannot be run. See `Analysis.check`."""
        self._crossing(store).check(self.targets[0])

    def examine(self, bench: Bench) -> Findings:
        """Search for every reward with every seed. See `Analysis.examine`."""
        [target] = self.targets
        crossing = self._crossing(bench.store)
        crossed = gather(bench.store, crossing, search(bench, target, crossing))
        return Findings(
            _headline(crossed),
            told.parts(
                crossed,
                "A row is a calibration for one reward, a column is what all of them score by a reward: the gain over "
                "the best uncalibrated setting on test prompts.",
            ),
            sentences=(told.uncalibrated(crossed),),
            cautions=told.cautions(crossed),
            stats=told.stats(crossed),
            numbers=told.numbers(crossed),
            runs=[found.run for found in crossed.tested.values()],
        )

    def _crossing(self, store: SqliteStore) -> Crossing:
        [target], options = self.targets, self.options
        images, rewards = images_of(target, options.images, store), options.rewards or tuple(target.config.objectives)
        return Crossing(target.config, images, seeds_from(options.seeds), options.granularities, rewards)


def _headline(crossed: Crossed) -> str:
    own = [cell for (_, reward, measure), cell in crossed.cells.items() if reward == measure]
    others = [cell for (_, reward, measure), cell in crossed.cells.items() if reward != measure]
    lifted = sum(cell.standing == "better" for cell in own)
    better, worse = (sum(cell.standing == kind for cell in others) for kind in ("better", "worse"))
    return (
        f"{lifted} of {len(own)} calibrations gain beyond noise in the reward that they optimise, over the best "
        f"uncalibrated setting; of {len(others)} pairs with another reward, {better} gain, {worse} lose, and "
        f"{len(others) - better - worse} cannot be told."
    )
