"""Several workers, one queue: whoever dies, hangs or is another, no job is lost and no number is another."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from benches import Bench, job
from trimpot.ground.errors import ModelError
from trimpot.workshops.crew import Crew
from trimpot.workshops.processes import ProcessSeat


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


def scores(crew: Crew, positions: range) -> list[float]:
    futures = [crew.submit(job(position)) for position in positions]
    return [future.result(30)[0].scores["height"][0] for future in futures]


def _wait_for_both(crew: Crew) -> None:
    while len({future.result(30)[1] for future in [crew.call("whoami") for _ in range(8)]}) < 2:
        time.sleep(0.05)


def test_jobs_are_done_by_whoever_is_free(tmp_path: Path) -> None:
    with crew_of(*[Bench(tmp_path, seconds=0.2)] * 2) as crew:
        _wait_for_both(crew)
        begun = time.perf_counter()
        assert scores(crew, range(8)) == [float(position) for position in range(8)]
        assert time.perf_counter() - begun < 0.75 * 8 * 0.2
        assert crew.width == 2


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
            bad.result(60)
        assert [each.result(60)[0].scores["height"] for each in (good, other)] == [(0.0,), (2.0,)]


def test_a_worker_that_hangs_is_ended_and_its_job_done_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trimpot"), crew_of(Bench(tmp_path, hangs=(5,)), least_deadline=0.5) as crew:
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
def test_what_a_worker_says_is_wrong_is_said_here_and_the_worker_lives(
    position: int, said: str, tmp_path: Path
) -> None:
    with crew_of(Bench(tmp_path)) as crew:
        before = crew.call("whoami").result(30)
        with pytest.raises(ModelError, match=said):
            crew.submit(job(position)).result(30)
        assert crew.call("whoami").result(30) == before


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
    with crew_of(Bench(tmp_path, seconds=0.3), Bench(tmp_path, seconds=0.3, **other), mixed=mixed) as crew:
        if said is None:
            assert len(scores(crew, range(12))) == 12
        else:
            with pytest.raises(ModelError, match=said):
                for _ in range(40):
                    scores(crew, range(2))


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
    with crew_of(Bench(tmp_path, seconds=5)) as crew:
        process, _ = crew.call("whoami").result(30)
        futures = [crew.submit(job(position)) for position in range(3)]
        while not (tmp_path / "job-0").exists():
            time.sleep(0.01)
    with pytest.raises(CancelledError):
        futures[2].result(1)
    for _ in range(200):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("the worker lives on")


def test_a_batch_that_one_worker_had_to_halve_is_halved_by_all(tmp_path: Path) -> None:
    with crew_of(Bench(tmp_path, seconds=0.05, batch=8), Bench(tmp_path, seconds=0.05)) as crew:
        _wait_for_both(crew)
        scores(crew, range(12))
        scores(crew, range(12, 24))
    assert {int((tmp_path / f"batch-{n}").read_text()) for n in range(12, 24)} == {8}
    assert 16 in {int((tmp_path / f"batch-{n}").read_text()) for n in range(12)}, "the other worker took part"


def test_an_answer_that_cannot_be_sent_is_said_and_nobody_waits_for_it(tmp_path: Path) -> None:
    with crew_of(Bench(tmp_path)) as crew:
        before = crew.call("whoami").result(30)
        with pytest.raises(ModelError, match="a worker's answer cannot be sent: "):
            crew.call("secret").result(30)
        assert crew.call("whoami").result(30) == before


def test_a_job_whose_worker_died_goes_before_those_that_wait(tmp_path: Path) -> None:
    done: list[int] = []
    with crew_of(Bench(tmp_path, deadly={0: 1})) as crew:
        futures = [crew.submit(job(position)) for position in range(4)]
        for position, future in enumerate(futures):
            future.add_done_callback(lambda _, position=position: done.append(position))
        for future in futures:
            future.result(60)
    assert done == [0, 1, 2, 3]
