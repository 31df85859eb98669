"""The course of a run as far as it is recorded, read piece by piece while the run goes on."""

from __future__ import annotations

import datetime
import math
import warnings
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..engine.evaluation import POOL, Evaluation, Place, watched_at
from ..engine.knobs import Setting
from ..engine.noise import Noise, estimate_noise
from ..engine.record import DECISIVE, Check, Record, decisive
from ..ground.errors import Notice
from ..reports.facts import Facts, Generation
from ..reports.watched import OnWatched, on_watched
from ..setup.recorded import record_of
from ..storage import Look, RunRow

REMEMBERED = 256  # evaluations from which speed and load are taken
NOISY = 24  # generations from which the noise is taken
QUIET = 60.0  # seconds without a result, at least, after which a pause is not counted as work


class Made(NamedTuple):
    """What making an evaluation took: when it was recorded (seconds since 1970), its work, and the time it took."""

    when: float
    work: int
    num_images: int
    generate_seconds: float
    score_seconds: float


class Speed(NamedTuple):
    """How fast a run has gone of late.

    Attributes:
        work: Denoising steps a second, over all images.
        images: Images a second.
        generating: Workers' seconds of generating, a second.
        scoring: Workers' seconds of scoring, a second.
        seconds: The time from which this was taken.
        pause: The longest time between two results in it.
    """

    work: float
    images: float
    generating: float
    scoring: float
    seconds: float
    pause: float


class Decided(NamedTuple):
    """What the evaluations that decide about a run's result say.

    Attributes:
        record: The record of the run.
        shown: The check whose setting is shown; see `Facts`.
        on_watched: Scores on watched prompts.
        notes: What had to be said while the record was read.
    """

    record: Record
    shown: Check | None
    on_watched: Sequence[OnWatched]
    notes: tuple[str, ...]


class Course:
    """What is known of a run's evaluations. Candidates of the search are reduced to numbers; the others are kept.

    Args:
        row: The run.
    """

    def __init__(self, row: RunRow) -> None:
        self.run = row.id
        self._weights = {name: each["weight"] for name, each in row.config["objectives"].items() if each["weight"]}
        self.sigmas: Mapping[int, float | None] = {}  # by generation that the optimizer was told
        self._forget()

    def _forget(self) -> None:
        self._number, self._sum = 0, 0
        self.images: Counter[str] = Counter()
        self.work: Counter[str] = Counter()
        self.candidates: Counter[int] = Counter()  # by generation of the search
        self.pools: set[int] = set()  # generations whose neutral outputs are there to compare with
        self.keys: dict[Place, str] = {}
        self.last: str | None = None
        self._decisive: list[tuple[Place, Evaluation]] = []
        self._fitness: dict[int, list[float]] = {}
        self._values: dict[tuple[int, str], list[NDArray[np.float64]]] = {}
        self._tables: dict[tuple[int, str], NDArray[np.float64]] = {}  # of the same groups
        self._made: deque[Made] = deque(maxlen=REMEMBERED)
        self._settings: tuple[int, list[Setting]] = (-1, [])
        self._now: Setting | None = None
        self._decided: tuple[object, int, Decided] | None = None

    def read(self, look: Look) -> None:
        """Read what has been recorded since the last time.

        Raises:
            StoreError: If a record is damaged or lost.
        """
        self.sigmas = look.sigmas(self.run)
        found = look.since(self.run, self._number, self._sum)
        if found is None:  # the run was extended, which sets its end aside
            self._forget()
            found = look.since(self.run, 0, 0)
        if found is None:
            look.records.whole("candidates", self.run)  # raises
            return
        recorded, self._sum = found
        for each in recorded:
            self._number += 1
            self._add(each.place, each.evaluation.weighed(self._weights))
            self.keys[each.place] = each.key
            if each.fresh:
                made = each.evaluation
                when = datetime.datetime.fromisoformat(each.when).timestamp()
                self.last = max(self.last or each.when, each.when)
                self._made.append(Made(when, made.work, made.num_images, made.generate_seconds, made.score_seconds))

    def _add(self, place: Place, made: Evaluation) -> None:
        stage = place.stage
        self.images[stage] += made.num_images
        self.work[stage] += made.work
        if stage == "search":
            generation = place.generation
            self.candidates[generation] += 1
            self._fitness.setdefault(generation, []).append(made.fitness)
            self._values.setdefault((generation, made.bucket.fingerprint), []).append(made.values)
            for old in [key for key in self._values if key[0] <= generation - NOISY]:
                del self._values[old]
                self._tables.pop(old, None)
            if generation > self._settings[0]:
                self._settings = (generation, [])
            if generation == self._settings[0]:
                self._settings[1].append(made.setting)
                self._now = None
        elif stage == "search" + POOL:
            self.pools.add(place.generation)
        elif stage in DECISIVE or watched_at(stage):
            self._decisive.append((place, made))

    @property
    def state(self) -> tuple[int, int, int]:
        """What changes whenever anything is read: the numbers of evaluations and generations, the sum of checksums."""
        return self._number, len(self.sigmas), self._sum

    @property
    def num_images(self) -> int:
        """How many images are recorded, in all stages."""
        return sum(self.images.values())

    @property
    def stage(self) -> str:
        """The stage that was recorded last, or "" before anything is."""
        order = ("test", "validation", "search", "sensitivity", "reference", "baseline")
        reached = next((stage for stage in order if self.images[stage]), "")
        return "search" if reached == "validation" else reached

    def now(self) -> Setting | None:
        """The mean setting of the latest generation's candidates: where the search is."""
        settings = self._settings[1]
        if self._now is None and settings:
            self._now = {name: math.fsum(each[name] for each in settings) / len(settings) for name in settings[0]}
        return self._now

    def noise(self) -> Noise | None:
        """The sources of variance in the scores of the latest generations, or None if there are too few."""
        for key, group in self._values.items():
            if len(self._tables.get(key, ())) != len(group):
                alike = len({len(values) for values in group}) == 1
                self._tables[key] = np.stack(group) if alike else np.empty((len(group), 0))
        tables = [self._tables[key] for key in self._values if min(self._tables[key].shape) > 1]
        return estimate_noise(tables) if tables else None

    def speed(self) -> Speed | None:
        """How fast the run has gone since its last pause, or None if there are too few results."""
        made = sorted(self._made)
        pauses = [later.when - earlier.when for earlier, later in pairwise(made)]
        some = sorted(each for each in pauses if each > 0.01)  # those of a batch are recorded together
        if not some:
            return None
        longest = max(QUIET, 10 * some[len(some) // 2])
        begin = max((number + 1 for number, pause in enumerate(pauses) if pause > longest), default=0)
        recent, seconds = made[begin:], made[-1].when - made[begin].when
        later = [each for each in recent if each.when > recent[0].when + 0.01]  # what was made within these seconds
        if not later or seconds <= 0:
            return None
        return Speed(
            work=sum(each.work for each in later) / seconds,
            images=sum(each.num_images for each in later) / seconds,
            generating=math.fsum(each.generate_seconds for each in later) / seconds,
            scoring=math.fsum(each.score_seconds for each in later) / seconds,
            seconds=seconds,
            pause=max(pauses[begin:]),
        )

    def decided(self, row: RunRow) -> Decided:
        """What the checks and tests of the run say; it is worked out again only when there is another of them."""
        known, decided = (row.outcome, row.config), self._decided
        fresh, record = self._decisive, None
        notes: tuple[str, ...] = ()
        if decided is not None and decided[0] == known:
            if len(self._decisive) == decided[1]:
                return decided[2]
            fresh, record, notes = self._decisive[decided[1] :], decided[2].record, decided[2].notes
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", Notice)
            if record is not None and {place.stage for place, _ in fresh} == {"validation"}:
                for place, judged in fresh:  # what was told of earlier checks stands
                    record.add(place.generation, judged)
            else:
                order = {stage: number for number, stage in enumerate(decisive(row.config))}
                record = record_of(row, sorted(self._decisive, key=lambda each: (order[each[0].stage], each[0])))
            shown = record.chosen if row.outcome else record.recommended
            on_prompts = on_watched(record, shown.generation if shown else 0)
        told = [str(each.message) for each in said if issubclass(each.category, Notice)]
        made = Decided(record, shown, on_prompts, tuple(dict.fromkeys((*notes, *told))))
        self._decided = (known, len(self._decisive), made)
        return made

    def facts(self, row: RunRow) -> Facts:
        """The facts of the run that sentences are made of."""
        outcome, repeats = row.outcome or {}, row.config.get("seeds_per_prompt", 1)
        record, shown, on_prompts, _ = self.decided(row)
        return Facts(
            row=row,
            record=record,
            shown=shown,
            totals={"num_evaluations": self._number, "num_images": self.num_images},
            generations=[
                Generation(number + 1, max(values), math.fsum(values) / len(values), self.sigmas[number])
                for number, values in sorted(self._fitness.items())
                if number in self.sigmas
            ],
            comparisons=outcome.get("comparisons", ()),
            noise=self.noise(),
            by_tag={},
            on_watched=on_prompts,
            rescores={},
            sizes={
                "training": row.config["bucket_size"],
                **{stage: row.config[stage]["num_prompts"] * repeats for stage in ("validation", "test")},
            },
        )
