"""What a calibration for one reward does to the others: optimise each, report all (Calibri, table 7)."""

from __future__ import annotations

from .crossed_searches import CrossedOptions, CrossedSearches
from .crossing import Crossed
from .options import Words


class RewardsOptions(CrossedOptions):
    """What is searched.

    Attributes:
        rewards: What to optimise, one after the other; default: every reward of the configuration.
    """

    rewards: Words = ()


class Rewards(CrossedSearches):
    """See the module."""

    kind = "rewards"
    question = "What does a calibration for one reward do to the others?"
    caption = (
        "A row is a calibration for one reward, a column is what all of them score by a reward: the gain over the best "
        "uncalibrated setting on test prompts."
    )
    Options = RewardsOptions

    options: RewardsOptions

    @property
    def rewards(self) -> tuple[str, ...]:
        """See `CrossedSearches.rewards`."""
        [target] = self.targets
        return self.options.rewards or tuple(target.config.objectives)

    def headline(self, crossed: Crossed) -> str:
        """Return how many gain in what they optimise and in the rest. See `CrossedSearches.headline`."""
        own = [cell for (_, reward, measure), cell in crossed.cells.items() if reward == measure]
        others = [cell for (_, reward, measure), cell in crossed.cells.items() if reward != measure]
        lifted = sum(cell.standing == "better" for cell in own)
        better, worse = (sum(cell.standing == kind for cell in others) for kind in ("better", "worse"))
        return (
            f"{lifted} of {len(own)} calibrations gain beyond noise in the reward that they optimise, over the best "
            f"uncalibrated setting; of {len(others)} pairs with another reward, {better} gain, {worse} lose, and "
            f"{len(others) - better - worse} cannot be told."
        )
