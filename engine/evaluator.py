"""Evaluate settings: read recorded evaluations from the store, have a workshop make the others, and record them."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby

from ..ground.errors import Notice, ReplayError
from .bucket import Bucket
from .evaluation import COMBINED, POOL, Evaluation, Place, evaluation_key, watched_at
from .jobs import Group, Job, Piece, Scored, cut
from .knobs import Setting, Vector
from .run import Run
from .scoring import combined_values
from .seams import Population, Store
from .vetting import blamed, who_made
from .watcher import Watcher
from .worker import Worker, outputs_per_call
from .workshop import Here, Result, Workshop

KEPT = ("image", "text")  # media whose outputs can be kept


@dataclass
class _Wanted:
    """A candidate to be evaluated, with its evaluation once that is known."""

    place: Place
    vector: Vector
    setting: Setting
    bucket: Bucket
    context: str
    num_steps: int | None
    pool: _Wanted | None
    evaluation: Evaluation | None = None

    @cached_property
    def key(self) -> str:
        """The evaluation's key in the store; slow to compute, and not needed if one is recorded at `place`."""
        return evaluation_key(self.context, self.setting, self.bucket, self.num_steps)


class Evaluator:
    """Evaluates the populations of one run, through its store.

    Resuming a run needs nothing else: asked for the same populations again, the evaluator reads the recorded
    evaluations and has only the missing ones made.

    Attributes:
        images: The number of outputs of all evaluations so far by stage, whether read from the store or made now.
        black: The number of outputs that were made now and scored as black pictures, by stage; see `engine.outputs`.
        seconds: The time spent generating and scoring all those outputs, summed over workers and earlier sessions.

    Args:
        run: The run whose parts are used.
        store: Holds the recorded evaluations.
        watch: Is told of every new evaluation.
        workshop: Makes the missing evaluations; with None, this process does so with the run's own parts.
        apart: Whether candidates never share a call of the backbone, so that nothing that the store knows is made again
            beside something new. Slower where buckets are smaller than a call.
    """

    def __init__(
        self, run: Run, store: Store, watch: Watcher, workshop: Workshop | None = None, *, apart: bool = False
    ) -> None:
        self.run = run
        self.store = store
        self.watch = watch
        self.images: Counter[str] = Counter()
        self.black: Counter[str] = Counter()
        self.seconds = 0.0
        self._workshop = workshop or Here(Worker(run.adapter, run.objectives, store.keeper))
        self._outputs_per_call = outputs_per_call(run.adapter)
        self._apart = apart

    def evaluate(
        self, stage: str, generation: int, population: Population, bucket: Bucket, num_steps: int | None = None
    ) -> list[Evaluation]:
        """Evaluate candidates that share a bucket. See `evaluate_groups`.

        Args:
            stage: The stage of the run.
            generation: The generation or comparison of the stage.
            population: Shape (population_size, num_knobs).
            bucket: The prompts and seeds.
            num_steps: Denoising steps; None for the adapter's own number.
        """
        [(evaluations, _)] = self.evaluate_groups(stage, generation, [Group(population, bucket)], num_steps)
        return evaluations

    def evaluate_groups(
        self, stage: str, generation: int, groups: Sequence[Group], num_steps: int | None = None
    ) -> list[tuple[list[Evaluation], Evaluation | None]]:
        """Evaluate all groups of a generation at once.

        Args:
            stage: The stage of the run.
            generation: The generation or comparison of the stage.
            groups: The candidates, in the order of their positions.
            num_steps: Denoising steps; None for the adapter's own number.

        Returns:
            For each group, the evaluations of its candidates, and the evaluation of the neutral outputs that the
            combination compares them with (None if the combination needs none).

        Raises:
            ReplayError: If a different setting or bucket is recorded at one of the places.
            ModelError: If the adapter fails; everything scored before stays recorded.
            ScoreError: If an objective fails; everything scored before stays recorded.
        """
        pools = self._pools(stage, generation, groups)
        candidates = self._wanted(stage, generation, groups, pools, num_steps)
        everything = [pool for pool in pools if pool] + [each for group in candidates for each in group]
        self._make(everything, num_steps)
        for each in everything:
            made = _evaluated(each)
            self.images[each.place.stage] += made.num_images
            self.seconds += made.generate_seconds + made.score_seconds
        return [
            ([_evaluated(each) for each in group], _evaluated(pool) if pool else None)
            for group, pool in zip(candidates, pools, strict=True)
        ]

    def _pools(self, stage: str, generation: int, groups: Sequence[Group]) -> list[_Wanted | None]:
        """Return, for each group, the neutral outputs that the combination compares it with; None if it needs none.

        They are made at the adapter's own number of steps, so that values at other steps have the same scale.
        """
        combination, neutral = self.run.combination, self.run.adapter.space.defaults[None]
        nowhere: list[_Wanted | None] = [None] * len(groups)
        if (combination.pool_in_search_only and stage != "search") or watched_at(stage):
            return nowhere
        asked = [combination.pool(group.bucket) for group in groups]
        if None in asked:
            return nowhere
        pools = [Group(neutral, bucket) for bucket in asked if bucket is not None]
        return [pool for [pool] in self._wanted(stage + POOL, generation, pools, nowhere, None)]

    def _wanted(
        self,
        stage: str,
        generation: int,
        groups: Sequence[Group],
        pools: Sequence[_Wanted | None],
        num_steps: int | None,
    ) -> list[list[_Wanted]]:
        """List the candidates of each group, with the evaluations that are recorded at their places."""
        run, context, position = self.run, self.run.context_of(stage), 0
        done = self.store.recorded(run.id, stage, generation)
        steps = num_steps or run.adapter.num_steps
        wanted: list[list[_Wanted]] = []
        for group, pool in zip(groups, pools, strict=True):
            wanted.append([])
            for vector in group.population:
                place, setting = Place(stage, generation, position), run.adapter.space.to_setting(vector)
                found = done.get(position)
                if found is not None:
                    _check_replay(run, place, setting, group.bucket, found)
                    found = found.weighed(run.weights_of(stage))
                wanted[-1].append(_Wanted(place, vector, setting, group.bucket, context, steps, pool, found))
                position += 1
        return wanted

    def _make(self, wanted: Sequence[_Wanted], num_steps: int | None) -> None:
        """Have the missing evaluations made, and record them in the order of `wanted`."""
        pending: deque[_Batch] = deque()
        try:
            for batch in self._batches(wanted, num_steps):
                pending.append(batch)
                while pending and pending[0].done:
                    self._record(pending.popleft())
                if batch.failed:
                    break
            while pending:
                self._record(pending.popleft())
        except Exception:  # jobs under way are finished and recorded
            for batch in pending:
                if not batch.cancel():
                    with contextlib.suppress(Exception):
                        self._record(batch)
            raise

    def _batches(self, wanted: Sequence[_Wanted], num_steps: int | None) -> Iterator[_Batch]:
        """Yield the candidates in batches, and submit jobs for those that no run has evaluated yet."""
        run = self.run
        for stage, members in groupby(wanted, key=lambda each: each.place.stage):
            by_place = {each.place: each for each in members}
            objectives = run.scored(stage)
            pieces = [Piece(each.place, each.vector, each.bucket) for each in by_place.values()]
            whole = any(each.scores_sets for each in objectives.values())
            steps = None if stage.endswith(POOL) else num_steps
            most, across = self._outputs_per_call, self.run.adapter.mixes_buckets
            several = [[piece] for piece in pieces] if self._apart else [pieces]
            for jobs in chain.from_iterable(cut(each, most, across=across, whole=whole) for each in several):
                batch = [by_place[place] for place in dict.fromkeys(piece.place for job in jobs for piece in job)]
                if all(each.evaluation is not None for each in batch):
                    continue
                known = [self.store.find(each.key) for each in batch]
                if None not in known:
                    yield _Batch(batch, known=[each for each in known if each is not None])
                else:  # the whole batch again: a resumed run must compute in the same batches, to be equal bit for bit
                    made = [Job(job, steps, tuple(objectives), self._keeps(stage)) for job in jobs]
                    yield _Batch(batch, [self._workshop.submit(job) for job in made], steps or run.adapter.num_steps)

    def _keeps(self, stage: str) -> bool:
        """Return whether the outputs of a stage are kept."""
        kept = self.run.config.keep
        judged = kept == "validation" and stage in ("baseline", "validation")
        return self.run.adapter.makes in KEPT and (kept == "all" or judged)

    def _record(self, batch: _Batch) -> None:
        """Wait for a batch, and record those of its evaluations that are not recorded yet."""
        run, stage = self.run, batch.members[0].place.stage
        fresh: list[tuple[_Wanted, Evaluation]] = []
        for each, made in zip(batch.members, batch.evaluations(), strict=True):
            if each.evaluation is not None:
                continue
            if batch.futures and run.combines and not stage.endswith(POOL) and not watched_at(stage):
                pool = _evaluated(each.pool) if each.pool else None
                with blamed(who_made(run.combination, "the combination")):
                    values = combined_values(run.combination, made.scores, each.bucket, pool, each.place)
                made = replace(made, scores={**made.scores, COMBINED: values})
            fresh.append((each, made.weighed(run.weights_of(stage))))
        for each, kept in zip(batch.members, batch.kept(), strict=True):
            self.store.record_outputs(each.key, kept)
        self.store.record(run.id, [(each.place, each.key, made) for each, made in fresh])
        self._tell_of_black(batch)
        for each, made in fresh:
            each.evaluation = made
            self.watch.evaluation_recorded(run=run, place=each.place, evaluation=made)

    def _tell_of_black(self, batch: _Batch) -> None:
        """Count the outputs that are scored as black pictures, and warn once a run, at the first."""
        instead = "empty answers" if self.run.adapter.makes == "text" else "black pictures"
        for each, (count, why) in zip(batch.members, batch.black(), strict=True):
            if count and not self.black:
                warnings.warn(
                    f"{each.place}: {count} of {len(each.bucket)} outputs are scored as {instead}, and later "
                    f"ones will be without another warning: {why}",
                    Notice,
                    stacklevel=2,
                )
            if count:
                self.black[each.place.stage] += count


@dataclass
class _Batch:
    """Candidates that are recorded together: read from the store, or made by jobs."""

    members: Sequence[_Wanted]
    futures: Sequence[Future[Result]] = ()
    num_steps: int | None = None
    known: Sequence[Evaluation] = ()

    @property
    def done(self) -> bool:
        """Whether every job has finished."""
        return all(future.done() for future in self.futures)

    @property
    def failed(self) -> bool:
        """Whether a finished job has failed."""
        return any(future.done() and future.exception() is not None for future in self.futures)

    def cancel(self) -> bool:
        """Cancel the jobs that no worker has begun; return whether any was cancelled, so that the batch is lost."""
        cancelled = [future.cancel() for future in self.futures]
        return any(cancelled)

    def evaluations(self) -> list[Evaluation]:
        """Return the evaluation of every member, without the combination's values.

        Raises:
            TrimpotError: If a job failed.
        """
        if not self.futures:
            return list(self.known)
        return [
            Evaluation(
                each.setting,
                each.bucket,
                self.num_steps,
                {name: tuple(s for part in parts for s in part.scores[name]) for name in parts[0].scores},
                generate_seconds=sum(part.generate_seconds for part in parts),
                score_seconds=sum(part.score_seconds for part in parts),
            )
            for each, parts in zip(self.members, self._parts(), strict=True)
        ]

    def kept(self) -> list[tuple[str, ...]]:
        """List, for each member, the files that hold its images."""
        if not self.futures:
            return [()] * len(self.members)
        return [tuple(name for part in parts for name in part.kept) for parts in self._parts()]

    def black(self) -> list[tuple[int, str]]:
        """Return, for each member, how many of its outputs are scored as black pictures, and why."""
        if not self.futures:
            return [(0, "")] * len(self.members)
        return [
            (sum(part.black for part in parts), next((part.why for part in parts if part.why), ""))
            for parts in self._parts()
        ]

    def _parts(self) -> list[list[Scored]]:
        """Return the scored pieces of each member: one of a shared job, or, for a single member, one of every job."""
        results = [future.result() for future in self.futures]
        if len(self.members) == 1:
            return [[scored for result in results for scored in result]]
        [result] = results
        return [[scored] for scored in result]


def _evaluated(wanted: _Wanted) -> Evaluation:
    assert wanted.evaluation is not None, f"{wanted.place} has not been evaluated"
    return wanted.evaluation


def _check_replay(run: Run, place: Place, setting: dict[str, float], bucket: Bucket, found: Evaluation) -> None:
    """Compare a requested setting and bucket with the recorded ones, bit for bit.

    Raises:
        ReplayError: If they differ.
    """
    if dict(found.setting) == setting and found.bucket == bucket:
        return
    what = next((name for name in setting if found.setting.get(name) != setting[name]), "the prompts or seeds")
    raise ReplayError(
        f"run {run.id} cannot be continued: at {place}, {what} is not what was recorded, so the search would "
        f"silently become another one; use the library versions it was recorded with "
        f"(`trimpot show {run.id}` lists them; here: "
        + ", ".join(f"{name} {version}" for name, version in run.versions.items())
        + ") or start a new run"
    )
