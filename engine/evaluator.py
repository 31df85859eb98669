"""Turning settings into evaluations: found if recorded, otherwise generated, scored and recorded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .bucket import Bucket
from .errors import ModelError, ReplayError, ScoreError, TrimpotError
from .evaluation import Evaluation, Place, Stage, evaluation_key
from .run import Run
from .seams import Adapter, Objective, Output, Population, Store
from .watcher import Watcher


class Evaluator:
    """Scores populations of one run, through its store.

    Resuming needs nothing else: asked the same again, it finds what was recorded and does the rest.

    Args:
        run: The run whose parts are used.
        store: Where evaluations are looked for and kept.
        watch: Told of every evaluation.
    """

    def __init__(self, run: Run, store: Store, watch: Watcher) -> None:
        self.run = run
        self.store = store
        self.watch = watch

    def evaluate(
        self,
        stage: Stage,
        generation: int,
        population: Population,
        bucket: Bucket,
        adapter: Adapter | None = None,
    ) -> list[Evaluation]:
        """Evaluate every candidate of a population on one bucket.

        Args:
            stage: Where in the run this belongs.
            generation: Which generation or comparison of the stage.
            population: Shape (population_size, num_knobs).
            bucket: The prompts and seeds.
            adapter: The backbone to use instead of the run's own, such as one at other steps.

        Raises:
            ReplayError: If something else is recorded at this place.
            ModelError: If the adapter fails; everything scored before stays recorded.
            ScoreError: If an objective fails; likewise.
        """
        adapter = adapter or self.run.adapter
        done = dict(self.store.recorded(self.run.id, stage, generation))
        settings = [adapter.space.to_setting(vector) for vector in population]
        keys = [evaluation_key(self.run.context, setting, bucket, adapter.num_steps) for setting in settings]
        for position, found in done.items():
            _check_replay(self.run, Place(stage, generation, position), settings[position], bucket, found)
        for chunk in _chunks(len(settings), adapter.candidates_per_call(len(bucket))):
            if missing := [position for position in chunk if position not in done]:
                known = {position: self.store.find(keys[position]) for position in chunk}
                if all(known.values()):
                    made = {
                        position: replace(found, weights=self.run.config.weights)
                        for position, found in known.items()
                        if found is not None
                    }
                else:  # the whole chunk again, so that a resumed run computes in the batches it always had
                    made = self._make(adapter, stage, generation, population, bucket, chunk)
                for position in missing:
                    place = Place(stage, generation, position)
                    self.store.record(self.run.id, place, keys[position], made[position])
                    self.watch.evaluation_recorded(run=self.run, place=place, evaluation=made[position])
                    done[position] = made[position]
        return [replace(done[position], weights=self.run.config.weights) for position in range(len(settings))]

    def _make(
        self,
        adapter: Adapter,
        stage: Stage,
        generation: int,
        population: Population,
        bucket: Bucket,
        chunk: range,
    ) -> dict[int, Evaluation]:
        """Generate and score the candidates of a chunk."""
        begun = time.perf_counter()
        first = Place(stage, generation, chunk[0])
        try:
            outputs = list(adapter.generate(population[chunk.start : chunk.stop], bucket))
        except TrimpotError:
            raise
        except Exception as error:  # somebody else's backbone may fail in any way
            raise ModelError(
                f"{first}: the adapter failed on prompts such as {bucket.prompts[0]!r}: {type(error).__name__}: {error}"
            ) from error
        if len(outputs) != len(chunk):
            raise ModelError(f"{first}: the adapter made outputs of {len(outputs)} candidates, not {len(chunk)}")
        generate_seconds = (time.perf_counter() - begun) / len(chunk)
        made = {}
        for position, images in zip(chunk, outputs, strict=True):
            begun = time.perf_counter()
            place = Place(stage, generation, position)
            scores = {
                name: tuple(_score(name, objective, images, bucket, place))
                for name, objective in self.run.objectives.items()
            }
            made[position] = Evaluation(
                adapter.space.to_setting(population[position]),
                bucket,
                adapter.num_steps,
                scores,
                self.run.config.weights,
                generate_seconds,
                time.perf_counter() - begun,
            )
        return made


def _chunks(num_candidates: int, size: int) -> list[range]:
    """Consecutive positions, `size` at a time."""
    return [range(begin, min(begin + size, num_candidates)) for begin in range(0, num_candidates, max(1, size))]


def _score(name: str, objective: Objective, outputs: Sequence[Output], bucket: Bucket, place: Place) -> list[float]:
    """Score outputs and refuse what the optimizer must not be told."""
    if len(outputs) != len(bucket):
        raise ModelError(f"{place}: the adapter made {len(outputs)} outputs for {len(bucket)} prompts")
    try:
        scores: NDArray[np.float64] = np.asarray(objective.score(outputs, bucket.prompts), dtype=np.float64)
    except TrimpotError:
        raise
    except Exception as error:  # somebody else's reward may fail in any way
        raise ScoreError(
            f"{place}: objective {name!r} failed on prompts such as {bucket.prompts[0]!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if scores.shape != (len(bucket),):
        raise ScoreError(
            f"{place}: objective {name!r} returned shape {scores.shape} for {len(bucket)} outputs, "
            f"first prompt {bucket.prompts[0]!r}; it must return one score an output"
        )
    for index in np.flatnonzero(~np.isfinite(scores)):
        raise ScoreError(
            f"{place}: objective {name!r} returned {scores[index]} for prompt {bucket.prompts[index]!r} "
            f"(seed {bucket.seeds[index]}); scores must be finite"
        )
    return [float(score) for score in scores]


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
