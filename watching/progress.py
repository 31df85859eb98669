"""How far a run is, and how long it will take at most: from its configuration and what it has recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..engine.checking import num_checks
from ..engine.evaluation import POOL, watching_stages
from ..engine.schema import Validation
from ..storage import RunRow
from .course import Course, Speed


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Denoising steps over all images so far.
        total: The most that it can take, as far as is known; at least `done`.
        images: Images so far.
        most_images: The most images that it can take, as far as is known.
        known: Whether the size of a generation is known, without which most of the work is not counted yet.
        speed: How fast it has gone of late, or None.
        seconds_left: The most seconds that are left at that speed, or None if unknown.
    """

    done: int
    total: int
    images: int
    most_images: int
    known: bool
    speed: Speed | None
    seconds_left: float | None

    @property
    def estimated(self) -> bool:
        """Whether more is to come, and how much of it is known."""
        return self.known and self.total > self.done

    @property
    def share(self) -> float:
        """The part that is done, from 0 to 1; 0 while most of the work is not counted yet."""
        return self.done / self.total if self.total and self.known else 0.0


def progress_of(row: RunRow, course: Course) -> Progress:
    """Return how far a run is. What the store does not say yet, such as the population's size, is not counted."""
    expected = _expected(row, course)
    images = {stage: max(expected.get(stage, 0), course.images[stage]) for stage in {*expected, *course.images}}
    done, steps = sum(course.work.values()), _steps(course)
    if row.outcome is not None:
        return Progress(done, done, course.num_images, course.num_images, True, None, None)
    left = {stage: (most - course.images[stage]) * steps for stage, most in images.items() if stage != "elsewhere"}
    left["elsewhere"] = _elsewhere(row, course)
    speed = course.speed()
    seconds = None
    known = bool(course.sigmas) or not row.config["generations"]
    if speed is not None and known:
        seconds = sum(left.values()) / speed.work
        if (allowed := _seconds_allowed(row)) is not None:
            tests = ["test", "elsewhere", *(watching_stages(name)[1] for name in row.config.get("watch") or ())]
            held_out = sum(left.get(stage, 0) for stage in tests) / speed.work
            seconds = min(seconds, max(0.0, allowed - row.seconds) + held_out)
    return Progress(done, done + sum(left.values()), course.num_images, sum(images.values()), known, speed, seconds)


def _expected(row: RunRow, course: Course) -> dict[str, int]:
    """Return the most images of every stage, without those at other numbers of steps."""
    config = row.config
    repeats, rungs = config.get("seeds_per_prompt", 1), [*(config.get("ladder") or {}).values()]
    rungs = rungs or [config["generations"]]
    generations = sum(rungs)
    population = max(course.candidates.values(), default=0)
    size = course.images["search"] / max(1, sum(course.candidates.values()))
    searched = math.ceil(size * population * generations)
    budget = (config.get("budget") or {}).get("images")
    if budget is not None:
        searched = min(searched, budget)
    validation = Validation.model_validate(config["validation"])
    checks = num_checks(validation, rungs, searched) if generations else 1
    judged = validation.num_prompts * repeats
    found = {
        "search": searched,
        "reference": config["bucket_size"] if generations else 0,
        "validation": checks * judged,
        "test": 2 * config["test"]["num_prompts"] * repeats,
    }
    if course.pools:
        found["search" + POOL] = math.ceil(course.images["search" + POOL] / len(course.pools) * generations)
    held_out = course.images["baseline" + POOL] / max(1, course.images["baseline"])  # neutral images for each
    for stage, share in (("validation", 1.0), ("test", 0.5)):  # both sides of a test have one pool
        found[stage + POOL] = math.ceil(held_out * share * found[stage])
    for name, each in (config.get("watch") or {}).items():
        checked, tested = watching_stages(name)
        found[checked] = (1 + checks) * each["num_validation"] * repeats
        found[tested] = 2 * each["num_prompts"] * repeats
    return found


def _steps(course: Course) -> int:
    """Return the denoising steps of an image of the search; 1 before any is made, or without steps."""
    images = course.images["search"] or course.images["baseline"]
    work = course.work["search"] if course.images["search"] else course.work["baseline"]
    return max(1, round(work / images)) if images else 1


def _elsewhere(row: RunRow, course: Course) -> int:
    """Return the denoising steps at other numbers of steps that are still to come."""
    config = row.config
    other, repeats = config.get("by_steps") or {}, int(config.get("seeds_per_prompt", 1))
    steps = [int(each) for each in other.get("steps", ()) if each != _steps(course)]
    if not steps:
        return 0
    validation, test = int(config["validation"]["num_prompts"]), int(config["test"]["num_prompts"])
    measured = 2 * min(int(other["num_prompts"]), test) * repeats
    neutrals = max(1, course.images["baseline"] // (validation * repeats))
    chosen = neutrals * min(int(other["num_validation"]), validation) * repeats
    share = (course.images["test"] - 2 * test * repeats) / (measured * len(steps))
    return round((measured + chosen) * sum(steps) * (1 - min(1.0, max(0.0, share))))


def _seconds_allowed(row: RunRow) -> float | None:
    budget = row.config.get("budget") or {}
    limits = [budget["seconds"]] if budget.get("seconds") else []
    if budget.get("gpu_hours"):
        limits.append(budget["gpu_hours"] * 3600 / budget.get("devices", 1))
    return min(limits, default=None)
