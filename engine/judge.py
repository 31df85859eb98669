"""Judging recommendations on the validation bucket during a search: the choice, the reason to stop, the alarms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from .evaluation import Evaluation, Place, watching_stages
from .evaluator import Evaluator
from .knobs import Vector
from .record import REFERENCE, Check, Record
from .scoring import admits
from .stopping import Plateau


class Judge:
    """Judges the recommendations of a search, and keeps the record of its run.

    Attributes:
        record: The run's neutral settings, and every recommendation judged so far.

    Args:
        evaluator: The run's evaluator.
        tried: Evaluations of the neutral settings on the validation bucket, by place.
        reference: The evaluation, on the first training bucket, of the setting that the search began from.
    """

    def __init__(self, evaluator: Evaluator, tried: Mapping[Place, Evaluation], reference: Evaluation) -> None:
        run, known = evaluator.run, {**tried, REFERENCE: reference}
        config, admitted = run.config, partial(admits, run.combination)
        self.record = Record(known.items(), config.weights, config.objectives, admitted, given=config.measures)
        self._evaluator = evaluator
        self._values = [each.values for each in self.record.judged.values()]
        self._plateau: Plateau
        self._watch(0, run.adapter.space.to_vector(self.record.judged[0].setting))
        self._since = -1  # index of the first check given to the plateau; `_seen` is that of the next
        self._seen = 0

    @property
    def latest(self) -> int:
        """Index of the latest check."""
        return len(self._values) - 1

    @property
    def chosen(self) -> Check:
        """The check that is chosen if the search ends now; see `Record.chosen`."""
        chosen = self.record.chosen
        assert chosen is not None, "the neutral setting takes part"
        return chosen

    def check(self, generation: int, recommended: Vector) -> None:
        """Judge a recommendation of shape (num_knobs,), unless this generation's was judged already."""
        if generation in self.record.judged:
            return
        run, heard = self._evaluator.run, len(self.record.alarms)
        [made] = self._evaluator.evaluate("validation", generation, recommended[None], run.validation_bucket)
        check = self.record.add(generation, made)
        self._values.append(made.values)
        self._watch(generation, recommended)
        self._evaluator.watch.recommendation_judged(run=run, check=check)
        for alarm in self.record.alarms[heard:]:
            self._evaluator.watch.alarm_raised(run=run, alarm=alarm)

    def _watch(self, generation: int, setting: Vector) -> None:
        """Score a setting of shape (num_knobs,) on all watched prompts; 0 stands for the neutral setting."""
        for name, (bucket, _) in self._evaluator.run.watched_buckets.items():
            stage, _ = watching_stages(name)
            [made] = self._evaluator.evaluate(stage, generation, setting[None], bucket)
            self.record.note(Place(stage, generation, 0), made)

    def plateau(self, since: int) -> str:
        """Return the reason to stop if checks from index `since` on no longer get better, else an empty string."""
        if since != self._since:
            validation, prompts = self._evaluator.run.config.validation, self._evaluator.run.validation_bucket.prompts
            self._since, self._seen = since, since
            self._plateau = Plateau(prompts, validation.patience, validation.significance)
        for values in self._values[self._seen :]:  # test each check only once
            self._plateau.add(values)
        self._seen = len(self._values)
        return self._plateau.reason
