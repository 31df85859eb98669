"""Several workers, one queue: whoever dies, hangs or is another, no job is lost and no number is another."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from benches import Bench, job
from trimpot.ground.errors import ModelError
from trimpot.workshops import processes
from trimpot.workshops.crew import Crew
from trimpot.workshops.processes import ProcessSeat
from trimpot.workshops.seats import SeatLostError
from waiting import LONG, until


@contextmanager
def crew_of(*benches: Bench, **options: Any) -> Iterator[Crew]:
    """A crew of processes, one a bench."""
    seats = [ProcessSeat(f"worker {n}", bench, {"TRIMPOT_TEST": str(n)}) for n, bench in enumerate(benches, 1)]
    crew = Crew(seats, rest=0.01, **options)
    try:
        crew.open()
        yield crew
    finally:
        crew.close()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """A crew of one worker, which survives what it is asked."""
    with crew_of(Bench(tmp_path_factory.mktemp("one"))) as crew:
        yield crew


def scores(crew: Crew, positions: range) -> list[float]:
    futures = [crew.submit(job(position)) for position in positions]
    return [future.result(LONG)[0].scores["height"][0] for future in futures]


def test_jobs_are_done_by_whoever_is_free(tmp_path: Path) -> None:
    with crew_of(*[Bench(tmp_path, meet=((2, 3, 4),))] * 3) as crew:
        assert scores(crew, range(8)) == [float(position) for position in range(8)]
        assert crew.width == 3


def test_workers_are_started_at_the_same_time(tmp_path: Path) -> None:
    with crew_of(*[Bench(tmp_path, making=2)] * 2):
        assert len((tmp_path / "starts").read_text()) == 2, "the second was begun before the first was ready"


def test_a_worker_that_is_just_being_started_is_ended_too(tmp_path: Path) -> None:
    """One thread has made the process and not begun it yet, as where several begin at once; another ends the seat."""
    seat = ProcessSeat("worker 1", Bench(tmp_path))

    def start() -> None:
        with suppress(SeatLostError):
            seat.start()

    threads = [Thread(target=start), Thread(target=seat.kill)]
    with processes._SPAWNING:
        threads[0].start()
        until(lambda: seat._process is not None)
        threads[1].start()
    for thread in threads:
        thread.join(LONG)
    assert not seat._process.is_alive()


def test_a_worker_that_dies_is_started_again_and_its_job_done_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "trimpot"), crew_of(Bench(tmp_path, deadly={2: 1, 4: 1})) as crew:
        assert scores(crew, range(6)) == [float(position) for position in range(6)]
    assert "worker 1 was killed by SIGKILL during search generation 0, candidate 2" in caplog.text
    assert [len((tmp_path / f"job-{n}").read_text()) for n in range(6)] == [1, 1, 2, 1, 2, 1]


def test_a_job_that_takes_two_workers_with_it_fails_by_name_and_the_others_are_done(tmp_path: Path) -> None:
    with crew_of(*[Bench(tmp_path, deadly={1: 9})] * 2) as crew:
        good, bad, other = (crew.submit(job(position)) for position in (0, 1, 2))
        with pytest.raises(
            ModelError, match=r"candidate 1, on prompts such as 'view 0': 2 workers were lost during this job"
        ):
            bad.result(LONG)
        assert [each.result(LONG)[0].scores["height"] for each in (good, other)] == [(0.0,), (2.0,)]


def test_a_worker_that_hangs_is_ended_and_its_job_done_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trimpot"), crew_of(Bench(tmp_path, hangs=(5,)), least_deadline=3) as crew:
        assert scores(crew, range(8)) == [float(position) for position in range(8)]
    assert "has not answered for" in caplog.text


@pytest.mark.parametrize(
    ("position", "said"),
    [
        (666, "^this candidate is cursed$"),
        (667, "a worker failed: ZeroDivisionError: nobody"),
        (668, "^this class stays here$"),
    ],
)
def test_what_a_worker_says_is_wrong_is_said_here_and_the_worker_lives(position: int, said: str, one: Crew) -> None:
    before = one.call("whoami").result(LONG)
    with pytest.raises(ModelError, match=said):
        one.submit(job(position)).result(LONG)
    assert one.call("whoami").result(LONG) == before


@pytest.mark.parametrize(
    ("other", "mixed", "said"),
    [
        (
            {"parts": "others"},
            False,
            "worker 2 has other parts than the first worker .*install the same versions",
        ),
        ({"hardware": "another"}, False, r"worker 2 works on another, but the first on device: .*workers\.mixed: true"),
        ({"hardware": "another"}, True, None),
    ],
)
def test_a_worker_with_other_parts_or_another_device_is_refused(
    other: dict[str, str], mixed: bool, said: str | None, tmp_path: Path
) -> None:
    both = ((0, 1),)
    with crew_of(Bench(tmp_path, meet=both), Bench(tmp_path, meet=both, **other), mixed=mixed) as crew:
        if said is None:
            assert scores(crew, range(2)) == [0, 1]
        else:
            until(lambda: crew.submit(job(2)).exception(LONG) is not None)
            with pytest.raises(ModelError, match=said):
                scores(crew, range(1))


def test_parts_that_cannot_be_made_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^no such model$"), crew_of(Bench(tmp_path, refuses="no such model")):
        pass


def test_a_worker_that_dies_as_it_starts_is_tried_again_a_few_times(tmp_path: Path) -> None:
    with crew_of(Bench(tmp_path, dies_at_start=2)) as crew:
        assert scores(crew, range(2)) == [0.0, 1.0]
    (tmp_path / "starts").unlink()
    with pytest.raises(ModelError, match="could not be started 4 times: it was killed by SIGKILL"):  # noqa: SIM117
        with crew_of(Bench(tmp_path, dies_at_start=99)):
            pass


def test_closing_ends_every_worker_and_cancels_what_waits(tmp_path: Path) -> None:
    with crew_of(Bench(tmp_path, hangs=(0,))) as crew:
        process, _ = crew.call("whoami").result(LONG)
        futures = [crew.submit(job(position)) for position in range(3)]
        until((tmp_path / "job-0").exists)
    with pytest.raises(CancelledError):
        futures[2].result(0)
    until(lambda: not psutil.pid_exists(process))


def test_a_batch_that_one_worker_had_to_halve_is_halved_by_all(tmp_path: Path) -> None:
    """Two workers begin without knowing of each other; then both work again."""
    meet = ((0, 1), (2, 3))
    with crew_of(Bench(tmp_path, meet=meet, batch=8), Bench(tmp_path, meet=meet)) as crew:
        scores(crew, range(2))
        scores(crew, range(2, 8))
    found = [int((tmp_path / f"batch-{n}").read_text()) for n in range(8)]
    assert sorted(found[:2]) == [8, 16] and set(found[2:]) == {8}


def test_an_answer_that_cannot_be_sent_is_said_and_nobody_waits_for_it(one: Crew) -> None:
    before = one.call("whoami").result(LONG)
    with pytest.raises(ModelError, match="a worker's answer cannot be sent: "):
        one.call("secret").result(LONG)
    assert one.call("whoami").result(LONG) == before


def test_a_job_whose_worker_died_goes_before_those_that_wait(tmp_path: Path) -> None:
    done: list[int] = []
    with crew_of(Bench(tmp_path, deadly={0: 1})) as crew:
        futures = [crew.submit(job(position)) for position in range(4)]
        for position, future in enumerate(futures):
            future.add_done_callback(lambda _, position=position: done.append(position))
        for future in futures:
            future.result(LONG)
    assert done == [0, 1, 2, 3]
