"""Start the workers that a configuration asks for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..engine.bucket import PromptSet
from ..engine.knobs import Setting
from ..engine.workshop import Workshop
from ..ground.devices import present
from ..ground.errors import ConfigError
from ..setup.config import Config
from ..setup.live import Live
from ..setup.parts import check_parts
from ..setup.plugins import Joined, Plugins
from ..setup.telling import prompts_for
from .bench import Keep, Recipe
from .crew import Crew
from .distant import DistantParts, parts_of
from .processes import ProcessSeat
from .seats import Seat


class Hired(NamedTuple):
    """A workshop and the parts that its workers hold; both are None if this process works alone."""

    workshop: Workshop | None = None
    parts: DistantParts | None = None


@contextlib.contextmanager
def hired(
    config: Config,
    keeper: Keep,
    *,
    prompts: PromptSet | None = None,
    start: Setting | None = None,
    known: Callable[[], Plugins] | None = None,
    live: Live | None = None,
    folder: Path | None = None,
) -> Iterator[Hired]:
    """Run the workers that a configuration asks for until the end of the block.

    Args:
        config: The configuration.
        keeper: Writes images to files; see `Store.keeper`.
        prompts: The recorded prompts of the run, if there are any.
        start: The recorded setting at which the run's search began, if there is one.
        known: Returns the plugins that provide the parts, in every process; None for those of the configuration.
        live: Objects of this program that are parts.
        folder: A folder in which adapters may keep files; see `Adapter.keep_in`.

    Raises:
        ConfigError: If there are not enough devices, no such cluster, or objects that only this program holds.
        TrimpotError: If a worker cannot make its parts.
    """
    workers = config.workers
    known = known or Joined(config.plugins, live.for_workers() if live and not workers.alone else None)
    if workers.alone or (workers.processes == "auto" and workers.ray is None and _num_gpus(config, known()) <= 1):
        yield Hired()
        return
    check_parts(config, known())
    if prompts is None:
        prompts = prompts_for(config, known())
    recipe = Recipe(config.model_dump(mode="json"), prompts, start, keeper, known, folder)
    with contextlib.ExitStack() as stack:
        seats = _ray_seats(recipe, config, stack) if workers.ray is not None else _process_seats(recipe, config)
        crew = Crew(seats, mixed=workers.mixed)
        stack.callback(crew.close)
        hello = crew.open()
        yield Hired(crew, parts_of(crew, hello, config, prompts))


def _ray_seats(recipe: Recipe, config: Config, stack: contextlib.ExitStack) -> Sequence[Seat]:
    from .ray_actors import ray_seats

    workers = config.workers
    assert workers.ray is not None
    return stack.enter_context(ray_seats(recipe, workers.ray, workers.address))


def _process_seats(recipe: Recipe, config: Config) -> list[Seat]:
    """Return a seat for each process: one process per requested GPU, or the requested number sharing the CPU."""
    asked, there = config.workers.processes, _num_gpus(config, recipe.known())
    if there == 0:
        assert asked != "auto", "checked before"
        most = max(8, 2 * _num_cores())
        if asked > most:
            raise ConfigError(
                f"workers: {asked} is more than this machine's {_num_cores()} cores can feed, and it has no GPU; "
                f"ask for {most} at most"
            )
        threads = max(1, _num_cores() // asked)
        return [ProcessSeat(f"worker {n}", recipe, threads=threads) for n in range(1, asked + 1)]
    number = there if asked == "auto" else asked
    if number > there:
        raise ConfigError(
            f"workers: {number} need a GPU each, and {there} {'is' if there == 1 else 'are'} visible; "
            f"ask for {there}, or for auto"
        )
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    names = visible or [str(n) for n in range(there)]
    return [
        ProcessSeat(f"worker {n + 1} (GPU {names[n]})", recipe, {"CUDA_VISIBLE_DEVICES": names[n]})
        for n in range(number)
    ]


def _num_gpus(config: Config, known: Plugins) -> int:
    """Return the number of CUDA GPUs that workers may use, which is 0 if the backbone is on the CPU."""
    backbone = config.adapter
    device = {"device": known.get("adapters", backbone.name).options.default("device"), **backbone.options}["device"]
    if isinstance(device, str) and device.startswith("cuda:"):
        raise ConfigError(f"device: {device} is one GPU, and several workers need one each; leave `device` out")
    return 0 if device == "cpu" else present().get("cuda", 0)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
