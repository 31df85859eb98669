"""The result of a study as far as it is answered: read from the store, computed, ready to be shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from ..storage import SqliteStore, Studies, StudyRow
from .design import QUESTIONS, Design, chosen, expected
from .estimates import Estimate, alpha, holm, mean, same_answers, share, strengths_with_intervals


class Rated(NamedTuple):
    """An answer with all that belongs to it.

    Attributes:
        rater: The rater's number.
        position: The pair's place in the rater's order, from 0.
        kind: `pair`, or the kind of check.
        item: The index of the item.
        left: The entrant on the left; -1 for a shuffled picture.
        right: The entrant on the right.
        question: The question.
        answer: `left`, `right` or `same`.
        choice: The entrant chosen, or None for no difference.
        right_answer: Whether a check was answered rightly; None for a pair.
        seconds: How long it took, if known.
        answered: ISO time, UTC.
    """

    rater: int
    position: int
    kind: str
    item: int
    left: int
    right: int
    question: str
    answer: str
    choice: int | None
    right_answer: bool | None
    seconds: float | None
    answered: str


@dataclass(frozen=True)
class Rater:
    """What a rater has done.

    Attributes:
        number: The rater's number.
        num_pairs: Pairs answered on every question, checks included.
        num_shown: Pairs that the rater will have seen at the end.
        checks: Checks answered.
        passed: Checks answered rightly, on every question.
        counts: Whether the rater counts in the result.
    """

    number: int
    num_pairs: int
    num_shown: int
    checks: int
    passed: int
    counts: bool


@dataclass(frozen=True)
class Match:
    """How two entrants compare in one question.

    Attributes:
        first: The entrant that is spoken of.
        second: The entrant that it is compared with.
        wins: The share of answers that chose the first.
        ties: The share of answers that saw no difference.
        losses: The share of answers that chose the second.
        net: Wins minus losses.
        p: The p-value of `net` being 0, adjusted for the number of matches.
    """

    first: int
    second: int
    wins: Estimate
    ties: Estimate
    losses: Estimate
    net: Estimate
    p: float

    @property
    def standing(self) -> str:
        """`better`, `worse`, or `uncertain`: what may be said of the first entrant."""
        if self.p >= 0.05:
            return "uncertain"
        return "better" if self.net.value > 0 else "worse"


@dataclass(frozen=True)
class Reward:
    """How often a reward and the raters choose the same picture, of the answers in which both choose one.

    Attributes:
        name: The reward.
        agreement: The share; a coin has 0.5.
    """

    name: str
    agreement: Estimate


@dataclass(frozen=True)
class Verdicts:
    """What some raters say to one question.

    Attributes:
        matches: Every two entrants that were rated.
        strengths: The Bradley-Terry strength of each entrant, if there are more than two.
        alpha: Krippendorff's alpha, or None.
        same: The share of two raters of one pair that answered the same, and the number of such twos.
        rewards: The rewards whose scores are known.
    """

    matches: tuple[Match, ...]
    strengths: tuple[Estimate, ...]
    alpha: float | None
    same: tuple[float, int]
    rewards: tuple[Reward, ...]


@dataclass(frozen=True)
class Result:
    """The result of a study as far as it is answered.

    Attributes:
        row: The study.
        design: What it shows.
        raters: The raters.
        rated: Every answer.
    """

    row: StudyRow
    design: Design
    raters: tuple[Rater, ...]
    rated: tuple[Rated, ...]

    @cached_property
    def verdicts(self) -> dict[str, Verdicts]:
        """What the raters that count say, by question; a question that nobody answered is left out."""
        counting = {rater.number for rater in self.raters if rater.counts}
        return self._verdicts([each for each in self.rated if each.rater in counting])

    @cached_property
    def of_all(self) -> dict[str, Verdicts]:
        """What all raters say, those left out included."""
        return self._verdicts(self.rated)

    @property
    def left_out(self) -> list[Rater]:
        """The raters that do not count."""
        return [rater for rater in self.raters if not rater.counts]

    def counting(self, question: str) -> list[Rated]:
        """Return the answers about pairs, without checks, of the raters that count."""
        numbers = {rater.number for rater in self.raters if rater.counts}
        return [
            each for each in self.rated if (each.question, each.kind) == (question, "pair") and each.rater in numbers
        ]

    def _verdicts(self, rated: Sequence[Rated]) -> dict[str, Verdicts]:
        found = {}
        for question in QUESTIONS:
            answers = [each for each in rated if each.question == question and each.kind == "pair"]
            if answers:
                found[question] = _verdicts(self.design, answers)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-like values; a number that does not exist is null."""
        design = self.design
        return {
            "study": self.row.id,
            "created": self.row.created,
            "entrants": list(design.entrants),
            "num_items": len(design.items),
            "num_answers": sum(each.kind == "pair" for each in self.rated),
            "raters": [vars(rater) for rater in self.raters],
            "rule": f"a rater counts who answers at least {design.passed:.0%} of the checks rightly",
            "questions": {name: _as_json(design, each) for name, each in self.verdicts.items()},
            "with_all_raters": {name: _as_json(design, each) for name, each in self.of_all.items()},
        }


def results(store: SqliteStore, study: str) -> Result:
    """Read the answers of a study.

    Args:
        store: An open store; it may be one that can only be read.
        study: The study's name.

    Raises:
        StoreError: If there is no such study, or a record is damaged.
    """
    studies = Studies(store)
    row = studies.get(study)
    design = Design.from_json(row.config)
    raters, rated = list[Rater](), list[Rated]()
    for each in studies.raters(study):
        own = []
        for answer in studies.answers(each.id):
            shown = each.plan[answer.position]
            known = expected(shown)
            choice = chosen(shown, answer.answer)
            place = (each.number, answer.position, shown["kind"], shown["item"], shown["left"], shown["right"])
            right = None if known is None else answer.answer == known
            own.append(Rated(*place, answer.question, answer.answer, choice, right, answer.seconds, answer.answered))
        rated += own
        raters.append(_rater(each.number, len(each.plan), own, design.passed))
    return Result(row, design, tuple(raters), tuple(rated))


def _rater(number: int, num_shown: int, own: Sequence[Rated], least: float) -> Rater:
    given = Counter(each.position for each in own)
    whole = {position for position, count in given.items() if count == len(QUESTIONS)}
    checks = {each.position for each in own if each.right_answer is not None} & whole
    wrong = {each.position for each in own if each.right_answer is False}
    passed = len(checks - wrong)
    return Rater(number, len(whole), num_shown, len(checks), passed, not checks or passed / len(checks) >= least)


def _verdicts(design: Design, answers: Sequence[Rated]) -> Verdicts:
    prompts = [design.items[each.item].prompt for each in answers]
    pairs = [(min(each.left, each.right), max(each.left, each.right)) for each in answers]
    values = [
        0 if each.choice is None else 1 if each.choice == first else -1
        for each, (first, _) in zip(answers, pairs, strict=True)
    ]
    raters = [each.rater for each in answers]
    matches = []
    for match in design.matches:
        index = [at for at, pair in enumerate(pairs) if pair == match]
        if index:
            own, who, texts = ([column[at] for at in index] for column in (values, raters, prompts))
            wins, ties, losses = (share([value == each for value in own], who, texts) for each in (1, 0, -1))
            matches.append(Match(*match, wins, ties, losses, *mean(own, who, texts)))
    adjusted = holm([each.p for each in matches])
    units: dict[tuple[int, Any], list[int]] = {}
    for each, pair, value in zip(answers, pairs, values, strict=True):
        units.setdefault((each.item, pair), []).append(value)
    several = len(design.entrants) > 2
    found = strengths_with_intervals(pairs, values, raters, prompts, len(design.entrants)) if several else []
    return Verdicts(
        matches=tuple(replace(each, p=p) for each, p in zip(matches, adjusted, strict=True)),
        strengths=tuple(found),
        alpha=alpha(list(units.values())),
        same=same_answers(list(units.values())),
        rewards=tuple(_rewards(design, answers, pairs, values)),
    )


def _rewards(design: Design, answers: Sequence[Rated], pairs: Sequence[Any], values: Sequence[int]) -> list[Reward]:
    """Compare the sign of every reward's difference with the choices, where both choose a picture."""
    found = []
    for name, scores in design.scores.items():
        agreed, raters, prompts = [], [], []
        for each, (first, second), value in zip(answers, pairs, values, strict=True):
            one, other = scores[first][each.item], scores[second][each.item]
            if value and one is not None and other is not None and one != other:
                agreed.append((one > other) == (value > 0))
                raters.append(each.rater)
                prompts.append(design.items[each.item].prompt)
        if agreed:
            found.append(Reward(name, share(agreed, raters, prompts)))
    return sorted(found, key=lambda each: -each.agreement.value)


def _as_json(design: Design, verdicts: Verdicts) -> dict[str, Any]:
    share_same, num_twos = verdicts.same
    return {
        "matches": [
            {
                "first": design.entrants[each.first],
                "second": design.entrants[each.second],
                **{name: _numbers(getattr(each, name)) for name in ("wins", "ties", "losses", "net")},
                "p": each.p,
                "standing": each.standing,
            }
            for each in verdicts.matches
        ],
        "strengths": {name: _numbers(each) for name, each in zip(design.entrants, verdicts.strengths, strict=False)},
        "alpha": verdicts.alpha,
        "same_answers": share_same if num_twos else None,
        "rewards": {each.name: _numbers(each.agreement) for each in verdicts.rewards},
    }


def _numbers(estimate: Estimate) -> Mapping[str, Any]:
    told = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "num_answers": estimate.num_answers}
    return {name: value if math.isfinite(value) else None for name, value in told.items()}
