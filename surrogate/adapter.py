"""The surrogate: an adapter that scores settings by a model of a finished run, so that searches take seconds.

A comparison on the surrogate tells which searches are worth trying on the backbone; it proves nothing about the
backbone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from ..engine.bucket import Bucket
from ..engine.evaluation import POOL, watched_at
from ..engine.hooks import Register, hookimpl
from ..engine.knobs import KnobSpace, Setting
from ..engine.seams import Adapter, Population

if TYPE_CHECKING:
    from ..storage import RunRow
    from .fitting import Fit

_NORMAL = NormalDist()
LEAST_EXPLAINED = 0.1  # a smaller share may be luck, because cross-validation chose the best of many models


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the noise of scores.

    Attributes:
        prompts: Of the part that a prompt and seed add to the scores of all candidates alike.
        outputs: Of the part that is drawn for each output on its own.
    """

    prompts: float
    outputs: float


class Surrogate(Adapter):
    """An adapter whose outputs are scores: those of a fitted model, plus noise like the backbone's.

    The objective `value` returns an output as its score.

    Args:
        space: The knobs of the backbone.
        fit: The fitted model.
        noise: The noise to add, one part by prompt and seed, one by prompt, seed and candidate. The second part is
            independent even for two nearly equal candidates, so common seeds help less than on most backbones.
        neutral: The best neutral setting of the run.
        score: The expected score of `neutral`: its validation score in the run.
        identity: The run and the fit, for `describe`.
    """

    outputs_per_call = 65_536  # more than any call asks for

    def __init__(
        self, space: KnobSpace, fit: Fit, noise: Noise, neutral: Setting, score: float, identity: Mapping[str, Any]
    ) -> None:
        self.space = space
        self._fit, self._noise, self._neutral, self._identity = fit, noise, dict(neutral), dict(identity)
        self._offset = score - fit.at(space.to_vector(neutral))

    def generate(self, population: Population, bucket: Bucket) -> Iterator[list[float]]:
        """Score every candidate on every prompt. See `Adapter.generate`."""
        pairs = [f"{seed} {prompt}".encode() for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True)]
        shared = [self._noise.prompts * _normal(pair) for pair in pairs]
        for row, expected in zip(population, self.exact(population), strict=True):
            own = [self._noise.outputs * _normal(pair + b"\0" + row.tobytes()) for pair in pairs]
            yield [float(expected + a + b) for a, b in zip(shared, own, strict=True)]

    def exact(self, population: Population) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the expected score of every candidate, shape (population_size,)."""
        return np.array([self._offset + self._fit.at(row) for row in population])

    def neutrals(self) -> Mapping[str, Setting]:
        """Return the best neutral setting of the run."""
        return {"neutral": self._neutral}

    def describe(self) -> dict[str, Any]:
        """Return the run that the model was fitted to, and how well it fits. See `Adapter.describe`."""
        return {"id": "surrogate", **self._identity}


def make_surrogate(*, run: Path, noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0) -> Adapter:
    """A model fitted to a finished run, named by its folder; it scores settings at once, with the run's noise."""
    from ..ground.errors import ModelError
    from ..setup.recorded import record_of
    from ..storage import SqliteStore
    from .fitting import fit, table_of

    folder = Path(run)
    with SqliteStore(folder.parent, create=False) as store:
        row = store.run(folder.name)
        if row.outcome is None:
            raise ModelError(f"run {row.id} has not finished; a surrogate is fitted to a finished one")
        record, space = record_of(row, store.evaluations(row.id)), _space(row)
        digest = store.totals(row.id)["digest"]
    neutral = record.neutral
    assert neutral is not None, "it has finished"
    table = table_of(
        (
            evaluation
            for place, evaluation in record.evaluations.items()
            if place.stage != "test"
            and not place.stage.endswith(POOL)
            and not watched_at(place.stage)
            and evaluation.num_steps == neutral.num_steps
        ),
        space,
    )
    found = fit(table, space.spreads)
    if found.r_squared < LEAST_EXPLAINED:
        raise ModelError(
            f"run {row.id} is too short or too noisy for a surrogate: in buckets left out, it explains "
            f"{max(found.r_squared, 0):.0%} of the differences between candidates; fit one to a longer run"
        )
    identity = {
        "of": row.config["adapter"]["name"],
        "run_digest": digest,
        "noise": noise,
        "num_candidates": len(table.values),
        "r_squared": round(found.r_squared, 4),
        "reliability": round(max(table.reliability, found.r_squared), 4),
    }
    scatter = Noise(noise * table.prompts, noise * table.noise)
    return Surrogate(space, found, scatter, neutral.setting, neutral.fitness, identity)


def belief(description: Mapping[str, Any]) -> str:
    """Return a sentence on how well a surrogate fits its run; empty for the description of any other adapter."""
    if description.get("id") != "surrogate":
        return ""
    explained, most = description["r_squared"], description["reliability"]
    return (
        f"the surrogate explains {explained:.0%} of the differences between candidates that it was not fitted to, "
        f"where {most:.0%} are more than noise; it ranks searches, and proves nothing about the backbone"
    )


def _space(row: RunRow) -> KnobSpace:
    """Return the knobs of a run, without loading the backbone's weights if its adapter allows that."""
    from ..ground.errors import ModelError
    from ..setup.plugins import plugins

    known, part = plugins().joined(row.config.get("plugins", ())), row.config["adapter"]
    options = {key: value for key, value in part.items() if key != "name"}
    if "outline" in known.options("adapters", part["name"]):
        options["outline"] = True
    space = known.make("adapters", part["name"], options).space
    assert row.outcome is not None, "looked at before"
    names = set(row.outcome["calibrated"])
    if not names <= set(space.names):
        raise ModelError(
            f"run {row.id} has knobs that its backbone has no more, such as {min(names - set(space.names))!r}"
        )
    return KnobSpace([knob for knob in space if knob.name in names])


def _normal(key: bytes) -> float:
    """Return a standard normal number that depends on `key` alone."""
    drawn = int.from_bytes(hashlib.sha256(key).digest()[:7], "little")
    return _NORMAL.inv_cdf((drawn + 0.5) / 2**56)


@hookimpl
def register_adapters(register: Register) -> None:
    """Register the adapter `surrogate`."""
    register("surrogate", make_surrogate)
