"""The SQLite store: evaluations, and what is known of them.

One writer, write-ahead log, a commit for each call of the backbone. Numbers are kept as JSON with the shortest digits
that read back to the same float64, so what is found equals what was recorded, bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.bucket import Bucket
from ..engine.evaluation import POOL, STAGES, Evaluation, Place
from ..engine.knobs import digest
from .images import IMAGES, Keeper, read_image
from .places import Places
from .records import Row, name_of
from .runs import Runs, dump, now
from .sentences import damaged, decoding

_ORDER = {name: number for number, name in enumerate(name for stage in STAGES for name in (stage + POOL, stage))}


class Recorded(NamedTuple):
    """An evaluation where it stands in a run: its number in the order of recording, and whether it was made there."""

    place: Place
    number: int
    fresh: bool
    evaluation: Evaluation


class SqliteStore(Runs):
    """Runs and evaluations in one folder: a database and a folder for each run's files.

    Args:
        folder: Where the database lies; made if absent.
        create: Whether to make the database if it is absent, and to write it.

    Raises:
        StoreError: If the folder cannot be written or the file is corrupt, foreign or newer.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        super().__init__(folder, create=create)
        self._places = Places(self.records)

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def recorded(self, run: str, stage: str, generation: int) -> dict[int, Evaluation]:
        """Evaluations recorded at a stage and generation of a run, by position."""
        rows = sorted(self._places.at(run, stage, generation), key=_order)
        return {each.place.position: each.evaluation for each in self._evaluated(rows)}

    def find(self, key: str) -> Evaluation | None:
        """An evaluation with this key, of any run."""
        row = self.records.one("evaluations", key=key)
        return None if row is None else self._evaluation(row, {})

    def record(self, run: str, made: Sequence[tuple[Place, str, Evaluation]]) -> None:
        """Commit evaluations with their places and keys, all or none; durable when this returns."""
        with self._transaction():
            number, _ = self.records.tally("candidates", run)
            rows: list[Row] = []
            for place, key, evaluation in made:
                row = {"run": run, **place._asdict(), "number": number + len(rows), "evaluation": key}
                rows.append({**row, "fresh": int(self._insert(key, evaluation))})
            self._places.insert(run, rows)
            if run in self._clocks:
                self._update_run(run)

    def _insert(self, key: str, evaluation: Evaluation) -> bool:
        """Keep an evaluation and its bucket; whether it was not there yet."""
        bucket = evaluation.bucket
        row = {"id": bucket.fingerprint, "prompts": dump(bucket.prompts), "seeds": dump(bucket.seeds)}
        self.records.insert("buckets", row, ignore=True)
        return self.records.insert(
            "evaluations",
            {
                "key": key,
                "setting": dump(evaluation.setting),
                "bucket": bucket.fingerprint,
                "num_steps": evaluation.num_steps,
                "scores": dump(evaluation.scores),
                "generate_seconds": evaluation.generate_seconds,
                "score_seconds": evaluation.score_seconds,
                "recorded": now(),
            },
            ignore=True,
        )

    @property
    def keeper(self) -> Keeper:
        """What writes images below `images/`; it can be sent to another process."""
        return Keeper(self.folder / IMAGES)

    def record_outputs(self, key: str, files: Sequence[str]) -> None:
        """Keep the names of the files of an evaluation's images; once, however often they are made."""
        with self._transaction():
            for position, name in enumerate(files):
                self.records.insert("outputs", {"evaluation": key, "position": position, "file": name}, ignore=True)

    def outputs(self, key: str) -> list[Any]:
        """The kept images of an evaluation, in bucket order; none if they were not kept.

        Raises:
            StoreError: If a file is gone or damaged.
        """
        rows = sorted(self.records.read("outputs", evaluation=key), key=lambda row: int(row["position"]))
        evaluation = self.find(key)
        if rows and evaluation and len(rows) != evaluation.num_images:
            raise damaged(self.path, f"evaluations {key!r}", f"{len(rows)} of {evaluation.num_images} images are found")
        return [read_image(self.folder / IMAGES, row["file"]) for row in rows]

    def kept(self, run: str) -> list[tuple[Place, str]]:
        """Place and key of every evaluation of a run whose images were kept."""
        known = {row["evaluation"] for row in self.records.whole("outputs")}
        rows = self.records.whole("candidates", run)
        return sorted((_place(row), row["evaluation"]) for row in rows if row["evaluation"] in known)

    def record_rescore(self, key: str, objective: str, fingerprint: str, scores: Sequence[float]) -> None:
        """Keep what a later reward gave an evaluation's kept images."""
        row = {"evaluation": key, "objective": objective, "fingerprint": fingerprint, "scores": dump(list(scores))}
        with self._transaction():
            self.records.insert("rescores", {**row, "recorded": now()}, ignore=True)

    def rescore(self, key: str, objective: str, fingerprint: str) -> tuple[float, ...] | None:
        """What a later reward gave an evaluation's kept images, if it has scored them."""
        row = self.records.one("rescores", evaluation=key, objective=objective, fingerprint=fingerprint)
        return None if row is None else tuple(json.loads(row["scores"]))

    def rescores(self, run: str) -> dict[tuple[str, str], dict[Place, tuple[float, ...]]]:
        """What later rewards gave the kept images of a run: reward and fingerprint to scores by place."""
        places: dict[str, list[Place]] = {}
        for row in self.records.whole("candidates", run):
            places.setdefault(row["evaluation"], []).append(_place(row))
        found: dict[tuple[str, str], dict[Place, tuple[float, ...]]] = {}
        for row in sorted(self.records.whole("rescores"), key=lambda row: str(row["recorded"])):
            for place in places.get(row["evaluation"], ()):
                found.setdefault((row["objective"], row["fingerprint"]), {})[place] = tuple(json.loads(row["scores"]))
        return found

    def record_generation(self, run: str, generation: int, sigma: float | None) -> None:
        """Keep the step size after a generation; once, however often a run is replayed."""
        with self._transaction():
            row = {"run": run, "generation": generation, "sigma": sigma}
            self.records.insert("generations", row, ignore=True)

    def sigmas(self, run: str) -> dict[int, float | None]:
        """Generation to the optimizer's step size after it."""
        return dict(sorted((row["generation"], row["sigma"]) for row in self.records.whole("generations", run)))

    def history(self, run: str) -> list[Recorded]:
        """Everything recorded of a run, in the order in which it was recorded.

        Raises:
            StoreError: If any of it is damaged or lost.
        """
        rows = sorted(self.records.whole("candidates", run), key=lambda row: int(row["number"]))
        return list(self._evaluated(rows))

    def evaluations(self, run: str) -> Iterator[tuple[Place, Evaluation]]:
        """Every evaluation of a run with its place, in the order of stages, generations and positions.

        Raises:
            StoreError: If any of them is damaged or lost.
        """
        for each in self._evaluated(sorted(self.records.whole("candidates", run), key=_order)):
            yield each.place, each.evaluation

    def totals(self, run: str) -> dict[str, Any]:
        """What a run amounts to.

        Returns:
            `digest` of all settings and scores in order, `num_evaluations`, `num_images`, and the seconds
            spent generating and scoring what this run did not find in the store.
        """
        entries = []
        num_images, generate_seconds, score_seconds = 0, 0.0, 0.0
        for place, _, fresh, evaluation in self._evaluated(sorted(self.records.whole("candidates", run), key=_order)):
            num_images += evaluation.num_images
            generate_seconds += fresh * evaluation.generate_seconds
            score_seconds += fresh * evaluation.score_seconds
            entries.append([*place, sorted(evaluation.setting.items()), evaluation.bucket.fingerprint,
                            {name: list(scores) for name, scores in evaluation.scores.items()}])  # fmt: skip
        return {
            "digest": digest(entries),
            "num_evaluations": len(entries),
            "num_images": num_images,
            "generate_seconds": generate_seconds,
            "score_seconds": score_seconds,
        }

    def _evaluated(self, candidates: Sequence[Row]) -> Iterator[Recorded]:
        """The evaluations that candidates name."""
        buckets: dict[str, Bucket] = {}
        for row in candidates:
            evaluation = self.records.named(name_of("candidates", row), "evaluations", key=row["evaluation"])
            yield Recorded(_place(row), row["number"], bool(row["fresh"]), self._evaluation(evaluation, buckets))

    def _evaluation(self, row: Row, buckets: dict[str, Bucket]) -> Evaluation:
        """Rebuild an evaluation; weights belong to the run and are set by whoever asks."""
        with decoding(self.path, name_of("evaluations", row)):
            bucket = buckets.get(row["bucket"])
            if bucket is None:
                found = self.records.named(name_of("evaluations", row), "buckets", id=row["bucket"])
                bucket = Bucket(tuple(json.loads(found["prompts"])), tuple(json.loads(found["seeds"])))
                buckets[row["bucket"]] = bucket
            scores = {name: tuple(values) for name, values in json.loads(row["scores"]).items()}
            return Evaluation(
                setting=json.loads(row["setting"]),
                bucket=bucket,
                num_steps=row["num_steps"],
                scores=scores,
                weights=dict.fromkeys(scores, 1.0),
                generate_seconds=row["generate_seconds"],
                score_seconds=row["score_seconds"],
            )


def _place(row: Row) -> Place:
    return Place(row["stage"], row["generation"], row["position"])


def _order(row: Row) -> tuple[int, int, int]:
    return _ORDER.get(row["stage"], len(_ORDER)), row["generation"], row["position"]
