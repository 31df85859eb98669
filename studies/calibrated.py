"""Pictures of calibrations and of their neutral models, on prompts that no search saw.

A picture that was made before is not made again: the images that a run kept are read, and what is made here is
recorded picture by picture, for this study and for later ones.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.bucket import Bucket, PromptSet, draw_bucket
from ..engine.calibration import Calibration
from ..engine.evaluation import COMBINED, Evaluation
from ..engine.identity import described
from ..engine.knobs import Setting, digest
from ..engine.seams import Adapter
from ..ground.errors import CalibrationError, ConfigError, Notice
from ..ground.listings import read_listing
from ..runs.measuring import UNWATCHED, configured
from ..runs.session import parts_for, prompts_of
from ..runs.work import ENCODED
from ..setup.starting import start_of
from ..storage import RunRow, SqliteStore, Studies
from .design import Item
from .pictures import Sets

NEUTRAL, CALIBRATED = 0, 1  # positions of a run's test
Progress = Callable[[int, int], None]


class Model:
    """A calibration with the means to make its pictures, loaded when they are needed.

    Args:
        file: The calibration file.
        store: The store; a run of it lends its prompts, its kept images and its scores.
    """

    def __init__(self, file: Path, store: SqliteStore) -> None:
        self.file, self._store = file, store
        self.calibration = Calibration.load(file)
        # Nothing is scored here: the rewards of a file from elsewhere need not be there, nor be reached.
        self.config = configured(file, None, ["objectives=entropy", UNWATCHED], folder=store.folder)
        self.known = parts_for(self.config)
        self.row = self._row()

    @property
    def label(self) -> str:
        """The name of the run that found the calibration, or that of its file."""
        return self.row.id if self.row else self.calibration.provenance.run or self.file.stem

    @cached_property
    def prompts(self) -> PromptSet:
        """The prompts of the run, or those that the calibration's configuration names."""
        found = prompts_of(self.row, self._store, self.known) if self.row else None
        made: PromptSet = found or self.known.make("prompts", self.config.prompts.name, self.config.prompts.options)
        return made

    @property
    def bucket(self) -> Bucket:
        """The held-out prompts and seeds on which the gain was measured."""
        test, repeats = self.config.test, self.config.seeds_per_prompt
        size = test.num_prompts * repeats
        return draw_bucket(self.prompts.test, size, test.seed, seeds_per_prompt=repeats)

    @cached_property
    def adapter(self) -> Adapter:
        """The backbone.

        Raises:
            ConfigError: If it makes no pictures.
        """
        part = self.config.adapter
        made: Adapter = self.known.make("adapters", part.name, part.options)
        if made.makes != "image":
            raise ConfigError(f"a study shows pictures, and the adapter {part.name!r} of {self.label} makes none")
        made.keep_in(self._store.folder / ENCODED)
        return made

    @cached_property
    def backbone(self) -> str:
        """A digest of all that determines a picture besides setting, steps, prompt and seed."""
        part = self.config.adapter
        made = self.known.made_of("adapters", part.name, self.adapter, part.options)
        return digest([described("adapter", part.name, self.adapter, made), self.adapter.space.fingerprint])

    @cached_property
    def tested(self) -> list[tuple[int, str, Evaluation]]:
        """The evaluations of the run's test: position, key, and evaluation."""
        if self.row is None:
            return []
        rows = self._store.records.whole("candidates", self.row.id)
        keys = {(row["generation"], row["position"]): row["evaluation"] for row in rows if row["stage"] == "test"}
        return [
            (place.position, keys[place.generation, place.position], evaluation)
            for place, evaluation in self._store.evaluations(self.row.id, ("test",))
        ]

    def _row(self) -> RunRow | None:
        name = self.calibration.provenance.run
        own = self.file.resolve() == (self._store.folder / name / self.file.name).resolve()
        return next((row for row in self._store.runs() if row.id == name), None) if own else None


@dataclass(frozen=True)
class Side:
    """One setting of a model: the neutral one or the calibrated one.

    Attributes:
        model: The model.
        position: `NEUTRAL` or `CALIBRATED`.
        steps: Denoising steps; None for those of the calibration.
    """

    model: Model
    position: int
    steps: int | None = None

    @property
    def same_as(self) -> object:
        """Equal for two sides whose pictures are the same: neutral settings of one backbone."""
        if self.position == CALIBRATED:
            return id(self)
        made = self.model.calibration
        return json.dumps([made.backbone, made.neutral_label, self.steps or made.num_steps], sort_keys=True)

    @cached_property
    def evaluation(self) -> tuple[str, Evaluation] | None:
        """The key and the evaluation of the run's test on this side, if there is one."""
        steps = self.steps or self.model.calibration.num_steps
        found = [(key, each) for at, key, each in self.model.tested if (at, each.num_steps) == (self.position, steps)]
        return found[0] if found else None

    def setting(self) -> Setting:
        """Return the setting."""
        model = self.model
        if self.position == CALIBRATED:
            return start_of(str(model.file), model.adapter, exactly=True)
        if self.evaluation is not None:
            return self.evaluation[1].setting
        neutrals = dict(model.adapter.neutrals())
        label = model.calibration.neutral_label
        if label not in neutrals:
            label = next(iter(neutrals))
            warnings.warn(
                f"{model.label} does not say which neutral setting it was measured against; the study shows {label!r}",
                Notice,
                stacklevel=2,
            )
        return neutrals[label]

    def kept(self, store: SqliteStore) -> dict[tuple[str, int], Any]:
        """Return the images that the run kept of this side, by prompt and seed."""
        if self.evaluation is None:
            return {}
        key, evaluation = self.evaluation
        bucket = evaluation.bucket
        return dict(zip(zip(bucket.prompts, bucket.seeds, strict=True), store.outputs(key), strict=False))

    def scores(self, items: Sequence[Item]) -> dict[str, list[float | None]]:
        """Return the score that every reward of the run gave the picture of each item, if it did.

        What is watched of every run besides, such as the share of dark pixels, is not better where it is higher.
        """
        if self.evaluation is None or self.model.row is None:
            return {}
        bucket = self.evaluation[1].bucket
        index = {each: at for at, each in enumerate(zip(bucket.prompts, bucket.seeds, strict=True))}
        places = [index.get((item.prompt, item.seed or 0)) for item in items]
        rewards = (*self.model.row.config["objectives"], COMBINED)
        scores = {name: row for name, row in self.evaluation[1].scores.items() if name in rewards}
        return {name: [None if at is None else row[at] for at in places] for name, row in scores.items()}


def calibrated_sets(
    files: Sequence[Path],
    store: SqliteStore,
    *,
    most: int,
    prompts: Path | None = None,
    seed: int = 0,
    neutral_steps: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Sets:
    """Return the pictures of calibrations and of their neutral models.

    Args:
        files: Calibration files; the first one's held-out prompts are taken.
        store: The store, open for writing.
        most: The most items to show.
        prompts: A file of other prompts; their seeds are drawn.
        seed: Draws those seeds.
        neutral_steps: Denoising steps of the neutral side; None for those of the calibration.
        progress: Is called with the number of pictures that are there and that are needed.

    Raises:
        ConfigError: If a search has seen a prompt, or a backbone makes no pictures.
        CalibrationError: If a calibration cannot be read, or does not say how to make its pictures.
    """
    models = [Model(file, store) for file in files]
    bucket = _bucket(models, prompts, seed).head(most)
    items = tuple(
        Item(prompt, each, "") for prompt, each in dict.fromkeys(zip(bucket.prompts, bucket.seeds, strict=True))
    )
    _refuse_seen(models, items)
    sides = _sides(models, neutral_steps)
    labels = _labels(sides)
    made: list[tuple[Any, ...]] = []
    total = len(items) * len(sides)
    for side in sides:
        made.append(_pictures(side, items, store, lambda there: progress(len(made) * len(items) + there, total)))
    scores = [side.scores(items) for side in sides]
    rewards = sorted({name for each in scores for name in each})
    unknown: list[float | None] = [None] * len(items)
    origin = {label: _origin(side) for label, side in zip(labels, sides, strict=True)}
    table = {name: [each.get(name, unknown) for each in scores] for name in rewards}
    return Sets(labels, items, tuple(made), table, {"origin": origin})


def _bucket(models: Sequence[Model], file: Path | None, seed: int) -> Bucket:
    if file is None:
        return models[0].bucket
    listing = read_listing(file)
    for notice in listing.notices:
        warnings.warn(notice, Notice, stacklevel=4)
    prompts = list(dict.fromkeys(row.prompt for row in listing.rows))
    return draw_bucket(prompts, len(prompts), seed)


def _refuse_seen(models: Sequence[Model], items: Sequence[Item]) -> None:
    for model in models:
        seen = {*model.prompts.train, *model.prompts.validation} & {item.prompt for item in items}
        if seen:
            raise ConfigError(
                f"the search of {model.label} has seen {len(seen)} of these prompts, such as {min(seen)!r}, so a study "
                f"on them would flatter it; give prompts that none has seen with --prompts"
            )


def _sides(models: Sequence[Model], neutral_steps: int | None) -> list[Side]:
    """Return the calibrations, and then their neutral models, each once."""
    neutrals: dict[object, Side] = {}
    for model in models:
        side = Side(model, NEUTRAL, neutral_steps)
        neutrals.setdefault(side.same_as, side)
    return [*(Side(model, CALIBRATED) for model in models), *neutrals.values()]


def _labels(sides: Sequence[Side]) -> tuple[str, ...]:
    neutrals = [side for side in sides if side.position == NEUTRAL]
    labels: list[str] = []
    for side in sides:
        label = side.model.label
        if side.position == NEUTRAL:
            label = "neutral" if len(neutrals) == 1 else f"neutral of {label}"
        while label in labels:
            label = f"{label}'"
        labels.append(label)
    return tuple(labels)


def _pictures(
    side: Side, items: Sequence[Item], store: SqliteStore, progress: Callable[[int], None]
) -> tuple[Any, ...]:
    """Return the picture of every item: kept by the run, made before, or made now and recorded."""
    studies, found = Studies(store), side.kept(store)
    pictures: dict[int, Any] = {
        at: found[item.prompt, item.seed or 0] for at, item in enumerate(items) if (item.prompt, item.seed) in found
    }
    lacking = [at for at in range(len(items)) if at not in pictures]
    if lacking:
        adapter, setting = side.model.adapter, side.setting()
        if side.steps is not None and side.steps != adapter.num_steps:
            adapter = adapter.with_steps(side.steps)
        origin = [side.model.backbone, sorted(setting.items()), adapter.num_steps]
        keys = {at: digest([*origin, items[at].prompt, items[at].seed]) for at in lacking}
        made = {at: studies.picture(keys[at]) for at in lacking}
        pictures |= {at: studies.image(file) for at, file in made.items() if file is not None}
        missing = [at for at in lacking if made[at] is None]
        for first in range(0, len(missing), adapter.outputs_per_call):
            progress(len(items) - len(missing) + first)
            several = missing[first : first + adapter.outputs_per_call]
            outputs = _generated(adapter, setting, [items[at] for at in several])
            files = store.keeper(outputs)
            studies.record_pictures({keys[at]: file for at, file in zip(several, files, strict=True)})
            pictures |= dict(zip(several, outputs, strict=True))
    progress(len(items))
    return tuple(pictures[at] for at in range(len(items)))


def _generated(adapter: Adapter, setting: Mapping[str, float], items: Sequence[Item]) -> list[Any]:
    from PIL.Image import Image

    bucket = Bucket(tuple(item.prompt for item in items), tuple(item.seed or 0 for item in items))
    [outputs] = adapter.generate(np.stack([adapter.space.to_vector(setting)]), bucket)
    made = list(outputs)
    if len(made) != len(items) or not all(isinstance(each, Image) for each in made):
        raise CalibrationError("the backbone did not make one picture for each prompt, so there is nothing to show")
    return made


def _origin(side: Side) -> dict[str, Any]:
    made = side.model.calibration
    told = {"run": made.provenance.run, "steps": side.steps or made.num_steps}
    return {**told, "neutral": made.neutral_label} if side.position == NEUTRAL else {**told, "gain": made.told_gain}
