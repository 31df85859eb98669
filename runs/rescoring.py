"""Scoring the kept outputs of a run with a reward that the run did not have.

from trimpot.runs.rescoring import rescore
rescored = rescore("shapes-1", "jpeg-size", {}, Path("trimpot-runs"))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..engine.evaluation import Place
from ..engine.identity import described
from ..engine.knobs import digest
from ..engine.record import TEST, decisive
from ..engine.scoring import score_outputs
from ..ground.errors import StoreError
from ..reports.nouns import made_by
from ..reports.watched import Moved, moved
from ..setup.assembly import scoring_versions
from ..setup.plugins import Plugins, plugins
from ..setup.recorded import record_of
from ..setup.telling import tell_metadata, told_of
from ..storage import SqliteStore
from .session import prompts_of

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RescoredCheck:
    """A judged recommendation, scored later.

    Attributes:
        generation: The number of generations before the recommendation.
        chosen: Whether the recommendation is the run's result, or would be if the run ended now.
        moved: The recommendation's score and the neutral setting's, on the validation outputs.
    """

    generation: int
    chosen: bool
    moved: Moved


@dataclass(frozen=True)
class Rescored:
    """A reward's scores of the outputs that a run kept.

    Attributes:
        run: The run's name.
        objective: The reward with its options, as reports name it.
        fingerprint: A digest of the reward's identity, its description and the libraries that it uses.
        num_scored: The number of evaluations scored now; the other ones were scored before.
        num_lacking: The number of judged recommendations whose images were not kept.
        num_prompts: The number of different prompts of the validation outputs.
        num_images: The number of validation outputs of each setting.
        checks: Every judged recommendation whose images were kept, in order.
        test: The neutral and the calibrated score on the test outputs; None if those were not kept.
        makes: What the backbone makes; see `Adapter.makes`.
    """

    run: str
    objective: str
    fingerprint: str
    num_scored: int
    num_lacking: int
    num_prompts: int
    num_images: int
    checks: tuple[RescoredCheck, ...]
    test: Moved | None
    makes: str | None

    def to_json(self) -> dict[str, Any]:
        """Return these fields as JSON-like values."""
        return {
            **asdict(self),
            "checks": [{**asdict(each), "moved": _moved_json(each.moved)} for each in self.checks],
            "test": _moved_json(self.test) if self.test else None,
        }


def _moved_json(moved: Moved) -> dict[str, Any]:
    change = {name: value if math.isfinite(value) else None for name, value in asdict(moved.change).items()}
    return {**moved._asdict(), "change": change}


def rescore(
    run_id: str,
    objective: str,
    options: Mapping[str, Any],
    folder: Path,
    progress: Progress = lambda done, total: None,
    known: Plugins | None = None,
) -> Rescored:
    """Score the kept outputs of the neutral setting, of every judged recommendation, and of the test.

    Scores that the store already holds are read, so that an interrupted rescoring continues where it stopped.

    Args:
        run_id: The run's name.
        objective: A registered objective.
        options: The objective's options.
        folder: The store's folder.
        progress: Is called with the number of scored evaluations and the number of all.
        known: The plugins that provide the objective; None for those installed.

    Raises:
        PluginError: If there is no such objective.
        ConfigError: If an option is wrong.
        StoreError: If there is no such run, the run kept no images, or an image is missing.
        ScoreError: If the objective fails; scores made before stay recorded.
    """
    known = known or plugins()
    reward = known.make("objectives", objective, options)
    label = name_of(objective, options)
    with SqliteStore(folder, create=False) as store:
        store.refuse_read_only()
        row = store.run(run_id)
        made = known.made_of("objectives", objective, reward, options)
        if reward.takes_metadata:
            prompts = prompts_of(row, store, known)
            if prompts is None:
                raise StoreError(
                    f"the prompt files of run {row.id} are gone, and {label} is told what they say; restore them"
                )
            tell_metadata(None, {label: reward}, prompts)
            made = told_of(made, reward, prompts)
        went_through = scoring_versions(known, objective)
        fingerprint = digest([objective, described("objective", objective, reward, made), went_through])
        record, kept = record_of(row, store.evaluations(row.id, decisive(row.config))), dict(store.kept(row.id))
        places, neutral = record.evaluations, record.neutral_place
        judged = [record.place_of(generation) for generation in record.judged if generation]
        wanted = [place for place in (neutral, *judged, *TEST) if place in kept and place in places]
        if neutral is None or neutral not in kept:
            raise StoreError(
                f"run {row.id} has no kept outputs of its neutral setting, so there is nothing to score; they are kept "
                f"by runs with `keep: validation` or `keep: all` whose backbone makes images or texts"
            )
        scores: dict[Place, Sequence[float]] = {}
        num_scored = 0
        for number, place in enumerate(wanted):
            progress(number, len(wanted))
            found = store.rescore(kept[place], label, fingerprint)
            if found is None:
                outputs, bucket = store.outputs(kept[place]), places[place].bucket
                found = score_outputs({label: reward}, outputs, bucket, place)[label]
                store.record_rescore(kept[place], label, fingerprint, found)
                num_scored += 1
            scores[place] = found
        progress(len(wanted), len(wanted))
        chosen = record.chosen
    return Rescored(
        row.id,
        label,
        fingerprint,
        num_scored,
        sum(place not in kept for place in judged),
        places[neutral].bucket.num_prompts,
        len(places[neutral].bucket),
        tuple(
            RescoredCheck(
                place.generation,
                chosen is not None and chosen.generation == place.generation,
                moved(scores[neutral], scores[place], places[place].bucket.prompts),
            )
            for place in judged
            if place in scores
        ),
        moved(scores[TEST[0]], scores[TEST[1]], places[TEST[1]].bucket.prompts)
        if all(place in scores for place in TEST)
        else None,
        made_by(row.outcome, record),
    )


def name_of(objective: str, options: Mapping[str, Any]) -> str:
    """Return an objective's name with its options, as reports name it."""
    return " ".join([objective, *(f"{key}={value}" for key, value in options.items())])
