"""What is said of scores by steps and of several seeds: on numbers made up for it."""

from __future__ import annotations

import numpy as np
import pytest
from trimpot.analyses.cost import CostOptions
from trimpot.analyses.curves import Curves, Point
from trimpot.analyses.gains import cell, corrected
from trimpot.analyses.granularity import GranularityOptions
from trimpot.analyses.rewards import RewardsOptions
from trimpot.analyses.steps import StepsOptions
from trimpot.engine.schema import Section
from trimpot.setup.yaml_text import read_yaml

PROMPTS = tuple(f"prompt {number}" for number in range(40))
WOBBLE = np.tile([-0.1, 0.1], 20)  # of the difference, so that its interval is about 0.03 to either side


def point(steps: int, score: float, validation: float | None = None, wobble: float = 0.0) -> Point:
    values = np.stack([score + wobble * WOBBLE] * 2)
    return Point(steps, 2 * steps, values, 0.1 * steps, "neutral" if validation is not None else "", validation)


def curves(scores: dict[int, float], margin: float = 0.0) -> Curves:
    """Neutral scores 0.5 at 8 steps, which validation prompts say is its best, and more at 20 by luck."""
    neutral = {2: point(2, 0.1, 0.1), 8: point(8, 0.5, 0.6), 20: point(20, 0.9, 0.55)}
    return Curves(
        PROMPTS, neutral, {"ours": {steps: point(steps, score, wobble=1) for steps, score in scores.items()}}, margin
    )


def test_neutral_at_its_best_is_chosen_on_validation_prompts() -> None:
    assert curves({2: 0.5}).best.steps == 8


@pytest.mark.parametrize(
    ("scores", "margin", "equal", "better"),
    [
        ({2: 0.4, 4: 0.49, 8: 0.56}, 0.0, 4, 8),  # 0.49 ± 0.03 reaches 0.5, 0.56 ± 0.03 lies above it
        ({2: 0.4, 4: 0.49, 8: 0.56}, 0.02, 8, 8),  # 0.49 - 0.03 lies below 0.5 - 0.02
        ({2: 0.4, 4: 0.49, 8: 0.56}, 0.2, 2, 8),
        ({2: 0.1, 8: 0.2}, 0.0, None, None),
        ({8: 0.5, 2: 0.6}, 0.0, 2, 2),  # the fewest, in whichever order
    ],
)
def test_equal_and_better_are_told_from_the_fewest_steps(
    scores: dict[int, float], margin: float, equal: int | None, better: int | None
) -> None:
    found = curves(scores, margin)
    assert (found.equals_best("ours"), found.beats_best("ours")) == (equal, better)


def test_a_gain_counts_only_if_all_seeds_agree_on_it() -> None:
    neutral = np.linspace(0, 1, 40)
    both, one = ([neutral + shift + 0.2 * WOBBLE for shift in shifts] for shifts in ((0.1, 0.3), (-0.1, 0.5)))
    cells = corrected({("both",): cell(both, [neutral] * 2, PROMPTS), ("one",): cell(one, [neutral] * 2, PROMPTS)})
    assert cells["both",].gain.mean == pytest.approx(cells["one",].gain.mean) == pytest.approx(0.2)
    assert (cells["both",].standing, cells["one",].standing) == ("better", "uncertain")
    assert cells["one",].difference.beyond_noise
    assert cells["both",].by_seed == pytest.approx((0.1, 0.3))
    assert cells["both",].effect == pytest.approx(0.2 / neutral.std(ddof=1))


def test_cells_are_corrected_for_their_number() -> None:
    neutral = np.linspace(0, 1, 40)
    cells = {(str(shift),): cell([neutral + shift + WOBBLE], [neutral], PROMPTS) for shift in (0.03, 0.0301, 0.0302)}
    found = corrected(cells)
    assert found["0.0302",].difference.adjusted == pytest.approx(3 * cells["0.0302",].difference.p)


@pytest.mark.parametrize(
    ("options", "name", "values"),
    [
        (StepsOptions, "steps", (4, 8, 12)),
        (StepsOptions, "ensembles", (1, 2)),
        (StepsOptions, "seeds", (5, 7)),
        (GranularityOptions, "seeds", (5, 7)),
        (GranularityOptions, "granularities", ("block", "gate")),
        (RewardsOptions, "rewards", ("clean", "crisp")),
        (RewardsOptions, "granularities", ("block", "gate")),
        (CostOptions, "runs", ("shapes-1", "shapes-2")),
    ],
)
def test_several_values_are_given_with_commas_or_as_a_list(
    options: type[Section], name: str, values: tuple[object, ...]
) -> None:
    """As they are typed: `steps=4,8,12` and `steps=[4,8,12]`; and a single one by itself."""
    words = ",".join(map(str, values))
    for typed in (words, words.replace(",", ", "), f"[{words}]"):
        assert getattr(options.model_validate({name: read_yaml(typed, name)}), name) == values
    if name == "seeds":
        assert options.model_validate({name: read_yaml("3", name)}).model_dump()[name] == 3
    else:
        assert getattr(options.model_validate({name: read_yaml(str(values[0]), name)}), name) == values[:1]
