"""From what a configuration says of workers to who sits where, on machines with GPUs and without."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from accelerator import accelerator
from trimpot.engine.bucket import PromptSet
from trimpot.engine.evaluation import Place
from trimpot.engine.jobs import Piece, cut
from trimpot.ground.errors import ConfigError, MissingError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins
from trimpot.storage.kept import Keeper
from trimpot.workshops import hired
from trimpot.workshops.bench import Recipe
from trimpot.workshops.hiring import _process_seats

SPHERE = {"adapter": {"name": "sphere", "num_knobs": 3}, "objectives": "value", "prompts": "numbers"}
PROMPTS = PromptSet(("a",), ("b", "c"), ("d", "e"))


def seats(workers: Any, **adapter: Any) -> list[tuple[str, dict[str, str]]]:
    """Names of the seats, and what their processes are told."""
    config = load_config({**SPHERE, "adapter": {**SPHERE["adapter"], **adapter}, "workers": workers})  # type: ignore[dict-item]
    recipe = Recipe(config.model_dump(mode="json"), PROMPTS, None, Keeper(Path("images")))
    return [(seat.name, seat._environment) for seat in _process_seats(recipe, config)]


@pytest.mark.parametrize(
    ("workers", "visible", "expected"),
    [
        ("auto", None, ["0", "1", "2"]),
        (2, None, ["0", "1"]),
        (3, "4,6,7", ["4", "6", "7"]),
        ("auto", "GPU-a,GPU-b,GPU-c", ["GPU-a", "GPU-b", "GPU-c"]),
    ],
)
def test_every_worker_sees_one_gpu(
    workers: Any, visible: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with accelerator("cuda", 3):
        found = seats(workers)
    assert [environment["CUDA_VISIBLE_DEVICES"] for _, environment in found] == expected
    assert [name for name, _ in found] == [f"worker {n} (GPU {gpu})" for n, gpu in enumerate(expected, 1)]


def test_more_workers_than_gpus_are_refused() -> None:
    with accelerator("cuda", 2), pytest.raises(ConfigError, match=r"workers: 3 need a GPU each, and 2 are visible"):
        seats(3)


def test_a_backbone_that_is_made_for_the_cpu_asks_for_no_gpu() -> None:
    with accelerator("cuda", 1):
        assert [environment for _, environment in seats(2, name="shapes")] == [{}, {}]
        with pytest.raises(ConfigError, match="workers: 2 need a GPU each, and 1 is visible"):
            seats(2, name="shapes", device="cuda")


def test_a_backbone_on_one_gpu_is_not_for_several_workers() -> None:
    with accelerator("cuda", 2), pytest.raises(ConfigError, match=r"device: cuda:1 is one GPU.*leave `device` out"):
        seats(2, device="cuda:1")


def test_without_gpus_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimpot.workshops.hiring._num_cores", lambda: 8)
    assert [name for name, _ in seats(4)] == ["worker 1", "worker 2", "worker 3", "worker 4"]
    with pytest.raises(ConfigError, match=r"more than this machine's 8 cores can feed.*ask for 16 at most"):
        seats(17)


@pytest.mark.parametrize("workers", [1, "auto", {"processes": 1, "mixed": True}])
def test_one_worker_is_this_process(workers: Any) -> None:
    with hired(load_config({**SPHERE, "workers": workers}), Keeper(Path("images"))) as crew:
        assert (crew.workshop, crew.parts) == (None, None)


def test_ray_without_ray_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = load_config({**SPHERE, "workers": {"ray": 2, "address": "127.0.0.1:1"}})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingError, match=r"install it with: pip install 'trimpot\[ray\]'"), _hired(asked):
            pass


def test_a_generation_of_the_preset_has_equal_work_for_each_of_its_workers() -> None:
    """A batch size that held a whole generation would leave all workers but one without work, and nobody would see."""
    run = assemble("", load_config("shapes"), plugins())
    population = run.optimizer(run.rungs[0].space, run.adapter.space.defaults).ask()
    groups = len(population) // (run.config.group_size or len(population))
    buckets = [run.bucket(0, group, run.config.bucket_size) for group in range(groups)]
    pieces = [
        Piece(Place("search", 0, position), vector, buckets[position * groups // len(population)])
        for position, vector in enumerate(population)
    ]
    jobs = [
        job
        for batch in cut(pieces, run.adapter.outputs_per_call, across=run.adapter.mixes_buckets, whole=False)
        for job in batch
    ]
    sizes = [sum(len(piece.bucket) for piece in job) for job in jobs]
    assert len(sizes) == run.config.workers.processes and len(set(sizes)) == 1


def _hired(config: Any) -> Any:
    return hired(config, Keeper(Path("images")), prompts=PROMPTS)


def test_a_ray_cluster_that_does_not_answer_is_one_sentence() -> None:
    pytest.importorskip("ray")
    asked = load_config({**SPHERE, "workers": {"ray": 2, "address": "127.0.0.1:1"}})
    with pytest.raises(ConfigError, match=r"the Ray cluster at '127.0.0.1:1' does not answer") as caught, _hired(asked):
        pass
    assert "\n" not in str(caught.value)
