"""What a claim rests on, the one rule by which a verdict follows, and the runs and analyses that are read for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimpot
from numpy.typing import ArrayLike, NDArray
from seeds import same
from trimpot.engine.evaluation import Evaluation
from trimpot.engine.record import decisive
from trimpot.engine.statistics import paired_gain
from trimpot.setup.config import load_config
from trimpot.setup.recorded import record_of
from trimpot.storage import SqliteStore

HOLDS, FAILS, OPEN, LEFT = "holds", "does not", "cannot be told", "left open"
NOT_WORSE = 0.02  # of the score: a difference above minus this counts as "at least equal" and as "kept"


@dataclass(frozen=True)
class Part:
    """A number that a claim says something about.

    Attributes:
        label: What is compared.
        mean: The number: a paired difference, averaged over seeds image by image.
        low: Lower end of its 95 % interval by prompt; None for a number without an interval.
        high: Upper end.
        by_seed: The number of every seed; empty if no search is part of it.
        least: The claim says that the number is larger than this.
        beyond_noise: Whether the number differs from `least` after a correction for all that were tested together;
            None if there is nothing to correct.
    """

    label: str
    mean: float
    low: float | None = None
    high: float | None = None
    by_seed: tuple[float, ...] = ()
    least: float = 0.0
    beyond_noise: bool | None = None

    @property
    def side(self) -> int:
        """1 if the number lies on the claimed side, -1 if on the other, 0 if that cannot be told.

        The whole interval must lie there, and the numbers of more than half of the seeds, and no correction may take
        it back. A number without an interval needs every seed there.
        """
        if self.low is None or self.high is None:
            return 1 if min(self.by_seed) > self.least else -1 if max(self.by_seed) <= self.least else 0
        if self.beyond_noise is False:
            return 0
        for sign, whole in ((1, self.low > self.least), (-1, self.high < self.least)):
            agree = sum(sign * (each - self.least) > 0 for each in self.by_seed)
            if whole and (not self.by_seed or 2 * agree > len(self.by_seed)):
                return sign
        return 0


@dataclass(frozen=True)
class Evidence:
    """What was measured for a claim.

    Attributes:
        ran: What was run, in words.
        uncalibrated: What "best uncalibrated" is here.
        parts: The numbers.
        every: Whether the claim is about every part, or says that there is one.
        seeds: The seeds.
        images: Images of all runs and analyses behind it, shared ones included.
        runs: The names of these runs and analyses in the store.
        besides: Further numbers, on which the verdict does not depend.
    """

    ran: str
    uncalibrated: str
    parts: tuple[Part, ...]
    every: bool
    seeds: tuple[int, ...]
    images: int
    runs: tuple[str, ...]
    besides: tuple[Part, ...] = ()

    @property
    def verdict(self) -> str:
        """The verdict.

        A claim about every part holds if all lie on the claimed side, and does not if one lies on the other. A claim
        that there is a part holds if one lies on the claimed side, and does not if all lie on the other.
        """
        sides = [part.side for part in self.parts]
        yes, no = (all, any) if self.every else (any, all)
        if yes(side == 1 for side in sides):
            return HOLDS
        return FAILS if no(side == -1 for side in sides) else OPEN

    def to_json(self) -> dict[str, Any]:
        """Return the numbers by name, with the verdict."""
        return {**asdict(self), "verdict": self.verdict}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Evidence:
        """Return what `to_json` made numbers of."""
        fields = {name: value for name, value in found.items() if name != "verdict"}
        for name in ("parts", "besides"):
            fields[name] = tuple(Part(**{**part, "by_seed": tuple(part["by_seed"])}) for part in fields[name])
        return cls(**{**fields, "seeds": tuple(fields["seeds"]), "runs": tuple(fields["runs"])})


def compared(
    label: str, after: Sequence[ArrayLike], before: Sequence[ArrayLike], prompts: Sequence[str], least: float = 0.0
) -> Part:
    """Return a paired difference: seeds averaged image by image, with an interval whose unit is the prompt.

    Args:
        label: What is compared.
        after: The values of each seed, each of shape (num_images,).
        before: The values that each is compared with.
        prompts: The prompt of each image.
        least: The claim says that the difference is larger than this.
    """
    gain = paired_gain(np.mean(after, axis=0), np.mean(before, axis=0), prompts)
    by_seed = tuple(float(np.mean(np.subtract(a, b))) for a, b in zip(after, before, strict=True))
    return Part(label, gain.mean, gain.low, gain.high, by_seed, least)


@dataclass(frozen=True)
class Calibrated:
    """A finished run.

    Attributes:
        name: Its name.
        neutral: The best neutral setting on the test images.
        after: The calibrated setting there.
        label: The name of the neutral setting.
        images: Images of the run in all stages.
        searched: Images of its search.
        stopped: Why the search ended.
    """

    name: str
    neutral: Evaluation
    after: Evaluation
    label: str
    images: int
    searched: int
    stopped: str

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of each test image."""
        return self.after.bucket.prompts


def calibrated(source: str, folder: Path, **keys: Any) -> Calibrated:
    """Return a finished run with `trimpot.calibrate`; one that the store has is read, or goes on.

    Args:
        source: A preset.
        folder: The store's folder.
        **keys: Keys of the configuration.
    """
    config = load_config(source, keys)
    row = None
    if folder.exists():
        with SqliteStore(folder) as store:
            row = next((row for row in store.runs() if same(row, config)), None)
    if row is None:
        name = trimpot.calibrate(source, store=folder, **keys).run
    elif row.outcome is None:
        name = trimpot.resume(row.id, store=folder).run
    else:
        name = row.id
    return read(folder, name)


def read(folder: Path, name: str) -> Calibrated:
    """Return a finished run of a store."""
    with SqliteStore(folder) as store:
        row = store.run(name)
        every = list(store.evaluations(name))
        record = record_of(row, [each for each in every if each[0].stage in decisive(row.config)])
    assert record.pair is not None and row.outcome is not None, "it has just finished"
    label = str(row.outcome["comparisons"][0]["baseline"]["label"])
    images = [(place.stage, each.num_images) for place, each in every]
    searched = sum(count for stage, count in images if stage.startswith("search"))
    return Calibrated(name, *record.pair, label, sum(count for _, count in images), searched, str(row.stop_reason))


def analysed(kind: str, targets: str, pairs: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return what `trimpot analyse KIND TARGET... KEY=VALUE... --json` prints; a stopped one goes on.

    Beside it stand `images`, those of its searches included, and `runs`, the names of all that it rests on.

    Raises:
        SystemExit: If the analysis fails; its message is printed.
    """
    command = [
        sys.executable,
        "-m",
        "trimpot",
        "analyse",
        kind,
        *targets.split(),
        *pairs,
        "--store",
        str(folder),
        "--json",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    searches = _names((found["numbers"] or {}).get("runs", {}))
    with SqliteStore(folder) as store:
        images = found["num_images"] + sum(store.num_images(name) for name in searches)
    return {**found, "images": images, "runs": (*searches, found["analysis"])}


def _names(runs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the runs that an analysis rests on, each once."""
    listed = [[each] if isinstance(each, str) else each for each in runs.values()]
    return tuple(dict.fromkeys(name for several in listed for name in several))


def examined(folder: Path, name: str, objectives: Sequence[str]) -> tuple[dict[str, list[NDArray[Any]]], list[str]]:
    """Return the scores of every setting that an analysis examined on test images, and the prompt of each image."""
    from trimpot.storage import Analyses

    with SqliteStore(folder) as store:
        history = [each for each in Analyses(store).history(name) if each.place.stage == "test"]
    made = {(each.place.position, each.place.generation): each.evaluation for each in history}
    settings, buckets = ({key[index] for key in made} for index in (0, 1))
    ordered = [[made[position, number] for number in sorted(buckets)] for position in sorted(settings)]
    scores = {
        objective: [np.concatenate([each.scores[objective] for each in several]) for several in ordered]
        for objective in objectives
    }
    return scores, [prompt for each in ordered[0] for prompt in each.bucket.prompts]
