"""Turning settings into evaluations: found if recorded, otherwise generated, scored and recorded."""

from __future__ import annotations

import operator
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import Thread
from typing import SupportsIndex

from .bucket import Bucket
from .errors import ModelError, ReplayError, TrimpotError
from .evaluation import COMBINED, POOL, Evaluation, Place, evaluation_key
from .outputs import check_outputs
from .plain import short
from .proof import prove
from .run import Run
from .scoring import combined_values, score_outputs
from .seams import Adapter, Output, Population, Store
from .vetting import blamed, told, who_made
from .watcher import Watcher

Made = Mapping[int, Evaluation]


class Evaluator:
    """Scores populations of one run, through its store.

    Resuming needs nothing else: asked the same again, it finds what was recorded and does the rest.

    Attributes:
        images: Outputs of every evaluation so far by stage, whether found or made.
        seconds: Spent generating and scoring them, whenever that was.

    Args:
        run: The run whose parts are used.
        store: Where evaluations are looked for and kept.
        watch: Told of every evaluation.
        proving: Whether to prove, before anything is generated, that outputs depend on nothing they should not; see
            `engine.proof`.
    """

    def __init__(self, run: Run, store: Store, watch: Watcher, *, proving: bool = False) -> None:
        self.run = run
        self.store = store
        self.watch = watch
        self.images: Counter[str] = Counter()
        self.seconds = 0.0
        self._proving = proving
        self._pools: dict[tuple[str, int, int], Evaluation] = {}

    def evaluate(
        self,
        stage: str,
        generation: int,
        population: Population,
        bucket: Bucket,
        adapter: Adapter | None = None,
        first: int = 0,
        group: int = 0,
    ) -> list[Evaluation]:
        """Evaluate every candidate of a group on its bucket.

        Args:
            stage: Where in the run this belongs.
            generation: Which generation or comparison of the stage.
            population: Shape (group_size, num_knobs).
            bucket: The prompts and seeds.
            adapter: The backbone to use instead of the run's own, such as one at other steps.
            first: Position of the group's first candidate in the generation's population.
            group: Which group of the generation it is.

        Raises:
            ReplayError: If something else is recorded at this place.
            ModelError: If the adapter fails; everything scored before stays recorded.
            ScoreError: If an objective fails; likewise.
        """
        adapter = adapter or self.run.adapter
        done = dict(self.store.recorded(self.run.id, stage, generation))
        places = [Place(stage, generation, first + index) for index in range(len(population))]
        settings = [adapter.space.to_setting(vector) for vector in population]
        context = self.run.context_of(stage)
        keys = [evaluation_key(context, setting, bucket, adapter.num_steps) for setting in settings]
        found = [done.get(place.position) for place in places]
        for place, setting, recorded in zip(places, settings, found, strict=True):
            if recorded is not None:
                _check_replay(self.run, place, setting, bucket, recorded)
        pool = self.pool(stage, generation, bucket, group)

        def record(made: Made) -> None:
            fresh = {index: evaluation for index, evaluation in made.items() if found[index] is None}
            self.store.record(self.run.id, [(places[index], keys[index], each) for index, each in fresh.items()])
            for index, evaluation in fresh.items():
                found[index] = evaluation
                self.watch.evaluation_recorded(run=self.run, place=places[index], evaluation=evaluation)

        with self._in_turn(record) as hand_over:
            for chunk in _chunks(len(settings), _per_call(adapter, len(bucket))):
                if all(found[index] is not None for index in chunk):
                    continue
                known = {index: self.store.find(keys[index]) for index in chunk}
                if None not in known.values():
                    hand_over(partial(_without_none, known))
                else:  # the whole chunk again, so that a resumed run computes in the batches it always had
                    self._prove(places[chunk.start])
                    outputs, seconds = self._generate(
                        adapter, population[chunk.start : chunk.stop], bucket, places[chunk.start]
                    )
                    images = dict(zip(chunk, outputs, strict=True))
                    for index, made in images.items():
                        with blamed(who_made(adapter, "the adapter")):
                            check_outputs(adapter, made, bucket, places[index])
                    self._keep(stage, {keys[index]: each for index, each in images.items()})
                    hand_over(self._scoring(images, settings, places, bucket, adapter.num_steps, pool, seconds))
        evaluations = [replace(each, weights=self.run.config.weights) for each in found if each is not None]
        self.images[stage] += sum(each.num_images for each in evaluations)
        self.seconds += sum(each.generate_seconds + each.score_seconds for each in evaluations)
        return evaluations

    def pool(self, stage: str, generation: int, bucket: Bucket, group: int = 0) -> Evaluation | None:
        """The neutral model's outputs that a group's are judged against, if the run's combination wants any.

        They are made by the run's own adapter, so that values taken at other steps are on the same scale.
        """
        combination, place = self.run.combination, (stage, generation, group)
        if stage.endswith(POOL) or (combination.pool_in_search_only and stage != "search"):
            return None
        wanted = combination.pool(bucket)
        if wanted is not None and place not in self._pools:
            self._pools = {known: pool for known, pool in self._pools.items() if known[:2] == place[:2]}
            neutral = self.run.adapter.space.defaults[None]
            [self._pools[place]] = self.evaluate(stage + POOL, generation, neutral, wanted, first=group)
        return self._pools.get(place)

    def _prove(self, place: Place) -> None:
        """See to it, before anything is generated, that outputs depend on candidate, prompt and seed alone."""
        if self._proving:
            adapter, self._proving = self.run.adapter, False
            prove(
                adapter,
                self.run.bucket(0, size=2),
                lambda rows, bucket: self._generate(adapter, rows, bucket, place)[0],
            )

    def _generate(
        self, adapter: Adapter, population: Population, bucket: Bucket, place: Place
    ) -> tuple[list[Sequence[Output]], float]:
        """Outputs of some candidates, and the seconds each took."""
        begun = time.perf_counter()
        try:
            outputs: list[Sequence[Output]] = [list(each) for each in adapter.generate(population, bucket)]
        except TrimpotError:
            raise
        except (Exception, SystemExit) as error:  # somebody else's backbone may fail in any way
            raise ModelError(
                f"{place}: {who_made(adapter, 'the adapter')} failed on prompts such as {bucket.prompts[0]!r}: "
                f"{told(error)}"
            ) from error
        if len(outputs) != len(population):
            who = who_made(adapter, "the adapter")
            raise ModelError(f"{place}: {who} made outputs of {len(outputs)} candidates, not {len(population)}")
        return outputs, (time.perf_counter() - begun) / len(population)

    def _scoring(
        self,
        images: Mapping[int, Sequence[Output]],
        settings: Sequence[Mapping[str, float]],
        places: Sequence[Place],
        bucket: Bucket,
        num_steps: int | None,
        pool: Evaluation | None,
        generate_seconds: float,
    ) -> Callable[[], Made]:
        """The work of scoring a chunk, to be done now or behind the next chunk's generating."""
        run, stage = self.run, places[0].stage
        objectives = run.scored(stage)

        def score() -> Made:
            made = {}
            for index, outputs in images.items():
                begun = time.perf_counter()
                scores = score_outputs(objectives, outputs, bucket, places[index])
                if run.combines and not stage.endswith(POOL):
                    with blamed(who_made(run.combination, "the combination")):
                        combination = run.combination
                        scores[COMBINED] = combined_values(combination, scores, bucket, pool, places[index])
                made[index] = Evaluation(
                    settings[index],
                    bucket,
                    num_steps,
                    scores,
                    run.config.weights,
                    generate_seconds,
                    time.perf_counter() - begun,
                )
            return made

        return score

    def _keep(self, stage: str, outputs: Mapping[str, Sequence[Output]]) -> None:
        kept = self.run.config.keep
        judged = kept == "validation" and stage in ("baseline", "validation")
        if self.run.adapter.makes == "image" and (kept == "all" or judged):
            for key, images in outputs.items():
                self.store.keep_outputs(key, images)

    @contextmanager
    def _in_turn(self, record: Callable[[Made], None]) -> Iterator[Callable[[Callable[[], Made]], None]]:
        """Give a function that takes a chunk's scoring; results are recorded in the order they were handed over.

        Where every objective may overlap, a chunk is scored in a thread while the next one is generated.
        """
        if not self.run.overlaps:
            yield lambda score: record(score())
            return
        waiting: deque[Future[Made]] = deque()

        def hand_over(score: Callable[[], Made]) -> None:
            waiting.append(_in_thread(score))
            while len(waiting) > 1:
                record(waiting.popleft().result())

        try:
            yield hand_over
        except Exception:  # what has been generated is still worth recording
            if waiting:
                record(waiting.popleft().result())
            raise
        while waiting:
            record(waiting.popleft().result())


def _in_thread(work: Callable[[], Made]) -> Future[Made]:
    """Work in a thread that nobody waits for when the process is told to end."""
    future: Future[Made] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="scoring", daemon=True).start()
    return future


def _without_none(known: Mapping[int, Evaluation | None]) -> Made:
    return {index: each for index, each in known.items() if each is not None}


def _chunks(num_candidates: int, size: int) -> list[range]:
    """Consecutive candidates, `size` at a time."""
    return [range(begin, min(begin + size, num_candidates)) for begin in range(0, num_candidates, size)]


def _per_call(adapter: Adapter, num_prompts: int) -> int:
    """How many candidates the adapter takes at once.

    Raises:
        ModelError: If it says none, or no whole number: candidates would be lost.
    """
    who = who_made(adapter, "the adapter")
    with blamed(who):
        size: object = adapter.candidates_per_call(num_prompts)
    if not isinstance(size, bool) and isinstance(size, SupportsIndex) and operator.index(size) >= 1:
        return operator.index(size)
    raise ModelError(f"{who} takes {short(size)} candidates a call; let candidates_per_call() return 1 or more")


def _check_replay(run: Run, place: Place, setting: dict[str, float], bucket: Bucket, found: Evaluation) -> None:
    """Hold what is asked now against what was recorded, bit for bit."""
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
