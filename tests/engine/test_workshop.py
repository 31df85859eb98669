"""The workshop of one process: one thread generates, others score, no reward more often at once than it allows."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from closed_form import Height, Hill, MemoryStore, Notes, Ridge, hill_run
from numpy.typing import NDArray
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Place
from trimpot.engine.evaluator import Evaluator
from trimpot.engine.jobs import Group, Job
from trimpot.engine.loop import calibrate
from trimpot.engine.worker import Worker
from trimpot.engine.workshop import Here, Result
from trimpot.ground.errors import ModelError
from waiting import LONG


class Sight:
    """Who is at work, for those that wait until they see somebody.

    Attributes:
        begun: How often each has begun to work.
        beside: For each, the most of every one at work at the same time, itself included.
    """

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.beside: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._working: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def at_work(self, who: str, until: Callable[[], bool]) -> Iterator[None]:
        with self._changed:
            self.begun[who] += 1
            self._working[who] += 1
            for each in +self._working:
                self.beside[each] |= self._working
            self._changed.notify_all()
            assert self._changed.wait_for(until, LONG), "it was never seen"
        time.sleep(0.02)  # for others to come that must not
        yield
        with self._changed:
            self._working[who] -= 1


class Seen(Hill):
    """A backbone that is seen at work, and works until something holds."""

    def __init__(self, sight: Sight, until: Callable[[], bool] = lambda: True) -> None:
        super().__init__(8)
        self._sight, self._until = sight, until

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        with self._sight.at_work("backbone", self._until):
            return super().generate(population, bucket)


class Judge(Height):
    """A reward that is seen at work, and works until something holds."""

    def __init__(
        self,
        name: str,
        sight: Sight,
        until: Callable[[], bool] = lambda: True,
        *,
        calls_at_once: int = 1,
        waits: bool = False,
    ) -> None:
        self.name, self.calls_at_once, self.waits = name, calls_at_once, waits
        self._sight, self._until = sight, until

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        with self._sight.at_work(self.name, self._until):
            return super().score(outputs, prompts)


def evaluate(adapter: Hill, objectives: dict[str, Height], num_groups: int) -> None:
    """A generation: groups of 8 candidates on a prompt each."""
    run = hill_run(adapter=adapter)
    evaluator = Evaluator(run, MemoryStore(), Notes(), Here(Worker(adapter, objectives)))
    object.__setattr__(run, "objectives", objectives)
    population = np.random.default_rng(0).uniform(0.9, 1.1, (8, 5))
    groups = [Group(population, Bucket((f"view {n}",), (n,))) for n in range(num_groups)]
    made = evaluator.evaluate_groups("validation", 0, groups)
    assert [len(group) for group, _ in made] == [8] * num_groups


def test_one_job_is_scored_while_the_next_is_generated() -> None:
    """Scoring ends only once the next call of the backbone has begun."""
    begun, scored, ahead = 0, 0, threading.Condition()
    alone: list[int] = []

    class Counting(Hill):
        def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
            nonlocal begun
            with ahead:
                begun += 1
                ahead.notify_all()
            return super().generate(population, bucket)

    class Waiting(Height):
        def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
            nonlocal scored
            scored += 1
            with ahead:
                if scored < 6 and not ahead.wait_for(lambda: begun > scored, timeout=LONG):
                    alone.append(scored)
            return super().score(outputs, prompts)

    evaluate(Counting(8), {"height": Waiting()}, num_groups=6)
    assert (scored, alone) == (6, [])


class Later(Future[Result]):
    """Work that is done when somebody waits for it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        super().__init__()
        self._work = work

    def result(self, timeout: float | None = None) -> Result:
        if not self.done():
            self.set_result(self._work())
        return super().result(timeout)


class Lazy:
    """A workshop where nothing is done before somebody waits; it notes how much was handed over by then."""

    width = 1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._handed: Counter[Place] = Counter()
        self.by_then: dict[tuple[str, int], int] = {}

    def submit(self, job: Job) -> Future[Result]:
        where = job.pieces[0].place._replace(position=0)
        self._handed[where] += 1

        def work() -> Result:
            self.by_then.setdefault((where.stage, where.generation), self._handed[where])
            return self._worker.do(job)

        return Later(work)

    def close(self) -> None:
        """There is nothing to stop."""


def test_a_generation_is_handed_over_before_any_of_it_is_waited_for() -> None:
    """All groups of a generation, all neutral settings, both sides of a comparison, and all parts of a long bucket."""
    config = {
        "optimizer": {"name": "cma-es", "population_size": 6},
        "group_size": 2,
        "bucket_size": 2,
        "validation": {"num_prompts": 12, "every": 2},
        "by_steps": {"steps": 4, "num_validation": 5},
    }
    run, store, plain = hill_run(config, adapter=Ridge(5)), MemoryStore(), MemoryStore()
    lazy = Lazy(Worker(run.adapter, run.objectives))
    assert calibrate(run, store, Notes(), lazy) == calibrate(hill_run(config, adapter=Ridge(5)), plain, Notes())
    assert store.digest(run.id) == plain.digest(run.id)
    assert lazy.by_then == {
        ("baseline", 0): 4 * 3,  # 12 prompts are three jobs
        ("reference", 0): 1,
        **{("search", generation): 3 for generation in range(3)},
        ("validation", 2): 3,
        ("validation", 3): 3,
        ("test", 0): 2,
        ("baseline", 1): 4,
        ("test", 1): 2,
    }


def test_a_local_reward_is_never_called_twice_at_once_beside_one_that_is() -> None:
    """Calls of the served one wait for each other, until three have been under way at once."""
    sight = Sight()
    served = Judge("served", sight, lambda: sight.beside["served"]["served"] >= 3, calls_at_once=3)
    evaluate(Seen(sight), {"height": Judge("local", sight), "served": served}, num_groups=12)
    assert sight.beside["local"]["local"] == 1
    assert sight.beside["served"]["served"] == 3


def test_a_reward_that_waits_is_never_called_while_the_backbone_generates() -> None:
    """The other reward and the backbone's second call do wait for each other."""
    sight = Sight()

    def met() -> bool:
        return sight.beside["other"]["backbone"] > 0

    backbone = Seen(sight, lambda: sight.begun["backbone"] == 1 or met())
    waiting, other = Judge("waiting", sight, waits=True), Judge("other", sight, met)
    evaluate(backbone, {"height": waiting, "other": other}, num_groups=6)
    assert sight.beside["waiting"]["waiting"] == 1
    assert sight.beside["waiting"]["backbone"] == 0


def test_outputs_of_few_jobs_are_held_in_memory() -> None:
    """Generating does not run ahead of scoring."""
    ahead: list[int] = []
    made: list[int] = []

    class Fast(Hill):
        def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
            made.append(1)
            return super().generate(population, bucket)

    class Slow(Height):
        def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
            time.sleep(0.01)
            ahead.append(len(made) - len(ahead))
            return super().score(outputs, prompts)

    evaluate(Fast(8), {"height": Slow()}, num_groups=10)
    assert max(ahead) <= 3


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "two", None])
def test_a_part_that_takes_no_whole_number_is_refused(number: Any) -> None:
    adapter, objective = Hill(), Height()
    adapter.outputs_per_call = number
    with pytest.raises(ModelError, match="let outputs_per_call be 1 or more"):
        Evaluator(hill_run(adapter=adapter), MemoryStore(), Notes())
    objective.calls_at_once = number
    with pytest.raises(ModelError, match="let calls_at_once be 1 or more"):
        Worker(Hill(), {"height": objective})
