"""What a study shows to whom: fixed before the first answer, and drawn from a recorded seed.

entrant     a set of pictures that takes part: a calibration, the neutral model, or a folder of pictures; the last one
            is what the others are compared with
item        a prompt, of which every entrant has one picture (of the same seed, where the pictures were made here)
match       two entrants; every two of them meet
pair        a match on an item, with its sides; what a rater sees
check       a pair whose answer is known, to find raters who do not look

Each rater sees other sides, in another order. For every match, each entrant stands on the left as often as on the
right, up to one. Pairs that fewer raters have seen come first, so that all are rated equally often.

Half of the checks show one picture twice: whoever looks sees no difference. The other half show a picture beside one
whose pixels were shuffled to noise: whoever looks chooses the picture. Neither depends on how good any model is, and
neither careless habit, always a side or never one, passes both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from ..ground.errors import ConfigError

OVERALL, ALIGNMENT = "overall", "alignment"
#: The questions about each pair, in the order in which they are asked; those of the paper's Table 3.
QUESTIONS = {OVERALL: "Which picture do you prefer overall?", ALIGNMENT: "Which picture follows the text better?"}
LEFT, SAME, RIGHT = ANSWERS = ("left", "same", "right")
NOISE = -1  # stands for an entrant where a shuffled picture is shown
PASSED = 2 / 3  # a rater who answers a smaller share of the checks rightly is left out of the result
PAIRS, RATERS = 60, 5
MOST_PAIRS, MOST_RATERS, MOST_ENTRANTS = 1000, 1000, 20


class Item(NamedTuple):
    """A prompt with its seed, or None for pictures made elsewhere, and a name: that of the file, in a folder."""

    prompt: str
    seed: int | None
    name: str


@dataclass(frozen=True)
class Check:
    """A pair whose answer is known.

    Attributes:
        kind: `same` shows one picture twice, `noise` a picture beside a shuffled one.
        item: The index of the item.
        entrant: The index of the entrant whose picture it is.
        file: The shuffled picture, or None.
    """

    kind: str
    item: int
    entrant: int
    file: str | None = None


@dataclass(frozen=True)
class Design:
    """All that determines what a study shows.

    Attributes:
        entrants: Labels of the sets of pictures, at least two.
        items: The prompts.
        pictures: For each entrant the image file of every item.
        checks: The pairs whose answer is known; every rater sees all of them.
        pairs: Pairs that a rater sees, besides the checks.
        seed: Draws sides and orders.
        passed: The smallest share of checks, answered rightly, with which a rater counts.
        scores: Reward to the score of every picture, as `pictures` is laid out; None where there is none.
        sources: What the study was begun with, and the origin of each entrant, for the result's page.
    """

    entrants: tuple[str, ...]
    items: tuple[Item, ...]
    pictures: tuple[tuple[str, ...], ...]
    checks: tuple[Check, ...]
    pairs: int
    seed: int = 0
    passed: float = PASSED
    scores: Mapping[str, Sequence[Sequence[float | None]]] = field(default_factory=dict)
    sources: Mapping[str, Any] = field(default_factory=dict)

    @property
    def matches(self) -> list[tuple[int, int]]:
        """Every two entrants."""
        return list(combinations(range(len(self.entrants)), 2))

    @property
    def num_shown(self) -> int:
        """Pairs that a rater sees, checks included."""
        return self.pairs + len(self.checks)

    def file(self, shown: Mapping[str, Any], side: str) -> str:
        """Return the image file that a pair of a plan shows on a side."""
        entrant, item = int(shown[side]), int(shown["item"])
        if entrant == NOISE:
            return str(self.checks[shown["check"]].file)
        return self.pictures[entrant][item]

    def to_json(self) -> dict[str, Any]:
        """Return the design as it is stored."""
        return {
            "entrants": list(self.entrants),
            "items": [list(item) for item in self.items],
            "pictures": [list(files) for files in self.pictures],
            "checks": [vars(check) for check in self.checks],
            "pairs": self.pairs,
            "seed": self.seed,
            "passed": self.passed,
            "scores": {name: [list(row) for row in rows] for name, rows in self.scores.items()},
            "sources": dict(self.sources),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Design:
        """Return the design that `to_json` stored."""
        return cls(
            entrants=tuple(stored["entrants"]),
            items=tuple(Item(*item) for item in stored["items"]),
            pictures=tuple(tuple(files) for files in stored["pictures"]),
            checks=tuple(Check(**check) for check in stored["checks"]),
            pairs=stored["pairs"],
            seed=stored["seed"],
            passed=stored["passed"],
            scores=stored["scores"],
            sources=stored["sources"],
        )


def num_checks(pairs: int) -> int:
    """Return how many checks go with a number of pairs: one to ten, and at least two, one of each kind."""
    return max(2, round(pairs / 10))


def drawn_checks(num_entrants: int, num_items: int, number: int, seed: int) -> list[Check]:
    """Draw the checks, without the files of shuffled pictures; the kinds alternate, and so do the entrants.

    Raises:
        ConfigError: If the number cannot tell anything.
    """
    if number == 1:
        raise ConfigError("a single check cannot tell who looks; give 0, or at least 2")
    generator = _generator(seed, 0)
    items = [int(each) for _ in range(number // num_items + 1) for each in generator.permutation(num_items)]
    first = int(generator.integers(num_entrants))
    kinds = ("noise", "same")
    return [Check(kinds[n % 2], items[n], (first + n // 2) % num_entrants) for n in range(number)]


def plan_for(design: Design, number: int, earlier: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Draw what a rater sees, in order: `kind`, `item`, and the entrants `left` and `right`; of a check also `check`.

    Args:
        design: The study.
        number: The rater's number, from 1; the same number and earlier plans give the same plan.
        earlier: The plans of the raters before.
    """
    generator = _generator(design.seed, number)
    pairs = [
        {"kind": "pair", "item": item, "left": left, "right": right}
        for item, (left, right) in _sided(_drawn(design, earlier, generator), generator)
    ]
    shown = [pairs[index] for index in generator.permutation(len(pairs))]
    noise_left = bool(generator.integers(2))
    for index in generator.permutation(len(design.checks)):
        check = design.checks[index]
        left = right = check.entrant
        if check.kind == "noise":
            left, right = (NOISE, right) if noise_left else (left, NOISE)
            noise_left = not noise_left
        place = {"kind": check.kind, "item": check.item, "left": left, "right": right, "check": int(index)}
        shown.insert(int(generator.integers(len(shown) + 1)), place)
    return shown


def expected(shown: Mapping[str, Any]) -> str | None:
    """Return the answer of whoever looks at a check, or None for a pair that has no right answer."""
    if shown["kind"] == "pair":
        return None
    if shown["kind"] == "same":
        return SAME
    return RIGHT if shown["left"] == NOISE else LEFT


def chosen(shown: Mapping[str, Any], answer: str) -> int | None:
    """Return the entrant that an answer chose, or None for no difference."""
    return None if answer == SAME else int(shown[answer])


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number))))


def _drawn(
    design: Design, earlier: Sequence[Sequence[Mapping[str, Any]]], generator: np.random.Generator
) -> list[tuple[int, tuple[int, int]]]:
    """Draw a rater's items with their matches: every match as often as any other, up to one, and the least seen first.

    A prompt comes again only after the rater has seen all others.
    """
    matches = design.matches
    seen = Counter(
        (shown["item"], tuple(sorted((shown["left"], shown["right"]))))
        for plan in earlier
        for shown in plan
        if shown["kind"] == "pair"
    )
    own = Counter[int]()
    taken = set[tuple[int, tuple[int, int]]]()
    order = [matches[index] for index in generator.permutation(len(matches))]
    for turn in range(design.pairs):
        match = order[turn % len(order)]
        luck = generator.permutation(len(design.items))
        free = [item for item in range(len(design.items)) if (item, match) not in taken]
        item = min(free, key=lambda each: (own[each], seen[each, match], luck[each]))
        own[item] += 1
        taken.add((item, match))
    return sorted(taken)


def _sided(
    drawn: Sequence[tuple[int, tuple[int, int]]], generator: np.random.Generator
) -> list[tuple[int, tuple[int, int]]]:
    """Turn the entrants of half of the pairs of every match around."""
    sided = []
    for match in sorted({match for _, match in drawn}):
        items = [item for item, each in drawn if each == match]
        first = int(generator.integers(2))
        for turn, index in enumerate(generator.permutation(len(items))):
            sided.append((items[index], match if (turn + first) % 2 else match[::-1]))
    return sided
