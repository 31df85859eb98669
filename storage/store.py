"""The SQLite store: evaluations, their places in runs, their kept images and later scores.

One writer, a write-ahead log, and a commit for each call of the backbone. Settings and scores are stored as the bytes
of their float64 (see `packed`), other numbers with the shortest digits that read back exactly, so a number read
equals the number recorded, bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..engine.bucket import Bucket
from ..engine.evaluation import POOL, STAGES, Evaluation, Place
from ..engine.knobs import digest_of_many
from .kept import IMAGES, Keeper, read_output
from .packed import Names, pack_scores, pack_setting, unpack_scores, unpack_setting
from .places import Places
from .records import TALLIED, Row, name_of
from .runs import Runs, dump, now
from .sentences import damaged, decoding

BY_STEPS = ("baseline", "baseline pool", "test", "test pool")  # their generations above 0 are at other steps
_AT_ONCE = 500  # evaluations read at a time
_ORDER = {name: number for number, name in enumerate(name for stage in STAGES for name in (stage + POOL, stage))}


class Recorded(NamedTuple):
    """An evaluation of a run.

    Attributes:
        place: Its place in the run.
        number: Its number in the order of recording.
        fresh: Whether this run made it.
        evaluation: The evaluation.
        key: Its key in the store.
        when: ISO time, UTC, at which it was made.
    """

    place: Place
    number: int
    fresh: bool
    evaluation: Evaluation
    key: str
    when: str


class Step(NamedTuple):
    """An evaluation of a run without setting and scores: stage, generation, bucket fingerprint, number of outputs."""

    stage: str
    generation: int
    bucket: str
    num_images: int


class Spent(NamedTuple):
    """What the evaluations of one stage of a run cost.

    Attributes:
        stage: The stage.
        other_steps: Whether they are at another number of steps than the run's own.
        num_evaluations: Evaluations that were made.
        num_images: Outputs that were made.
        found_images: Outputs of evaluations that others had made before.
        generate_seconds: Time of generating those that were made, summed over workers.
        score_seconds: Time of scoring them.
    """

    stage: str
    other_steps: bool
    num_evaluations: int
    num_images: int
    found_images: int
    generate_seconds: float
    score_seconds: float


class SqliteStore(Runs):
    """Runs and evaluations in one folder: a database and a folder for each run's files.

    Args:
        folder: The folder of the database; made if absent.
        create: Whether to make the database if it is absent, and to open it for writing.

    Raises:
        StoreError: If the folder cannot be written or the file is corrupt, foreign or newer.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        super().__init__(folder, create=create)
        self._places = Places(self.records)
        self._names = Names(self.records)

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def recorded(self, run: str, stage: str, generation: int) -> dict[int, Evaluation]:
        """Return the evaluations recorded at a stage and generation of a run, by position."""
        return self._recorded_at(self._places, run, stage, generation)

    def _recorded_at(self, places: Places, owner: str, stage: str, generation: int) -> dict[int, Evaluation]:
        rows = sorted(places.at(owner, stage, generation), key=_order)
        return {each.place.position: each.evaluation for each in self._evaluated(rows)}

    def find(self, key: str) -> Evaluation | None:
        """Return the evaluation with this key, whichever run made it, or None."""
        row = self.records.one("evaluations", key=key)
        return None if row is None else self._evaluation(row, {})

    def record(self, run: str, made: Sequence[tuple[Place, str, Evaluation]]) -> None:
        """Commit evaluations with their places and keys in one transaction; they are durable when this returns."""
        with self._transaction():
            self._record_at(self._places, run, made)
            if run in self._clocks:
                self._update_run(run)

    def _record_at(self, places: Places, owner: str, made: Sequence[tuple[Place, str, Evaluation]]) -> None:
        """Write evaluations and their places in a run or an analysis; call this in a transaction."""
        number, _ = self.records.tally(places.table, owner)
        rows: list[Row] = []
        for bucket in {evaluation.bucket.fingerprint: evaluation.bucket for _, _, evaluation in made}.values():
            kept = {"id": bucket.fingerprint, "prompts": dump(bucket.prompts), "seeds": dump(bucket.seeds)}
            self.records.insert("buckets", kept, ignore=True)
        lists = {tuple(names) for _, _, each in made for names in (each.setting, each.scores)}
        named = {names: self._names.keep(names) for names in sorted(lists)}
        for place, key, evaluation in made:
            row = {TALLIED[places.table]: owner, **place._asdict(), "number": number + len(rows), "evaluation": key}
            rows.append({**row, "fresh": int(self._insert(key, evaluation, named))})
        places.insert(owner, rows)

    def _insert(self, key: str, evaluation: Evaluation, named: Mapping[tuple[str, ...], str]) -> bool:
        """Write an evaluation unless its key is there already; return whether it was written."""
        return self.records.insert(
            "evaluations",
            {
                "key": key,
                "knobs": named[tuple(evaluation.setting)],
                "setting": pack_setting(evaluation.setting),
                "bucket": evaluation.bucket.fingerprint,
                "num_images": evaluation.num_images,
                "num_steps": evaluation.num_steps,
                "objectives": named[tuple(evaluation.scores)],
                "scores": pack_scores(evaluation.scores, evaluation.num_images),
                "generate_seconds": evaluation.generate_seconds,
                "score_seconds": evaluation.score_seconds,
                "recorded": now(),
            },
            ignore=True,
        )

    @property
    def keeper(self) -> Keeper:
        """A callable that writes images and answers to `images/`; it can be sent to another process."""
        return Keeper(self.folder / IMAGES)

    def record_outputs(self, key: str, files: Sequence[str]) -> None:
        """Record the file names of an evaluation's outputs; a second call for the same evaluation changes nothing."""
        with self._transaction():
            for position, name in enumerate(files):
                self.records.insert("outputs", {"evaluation": key, "position": position, "file": name}, ignore=True)

    def outputs(self, key: str) -> list[Any]:
        """Return the kept outputs of an evaluation, in bucket order; an empty list if they were not kept.

        Raises:
            StoreError: If a file is missing or damaged.
        """
        rows = sorted(self.records.read("outputs", evaluation=key), key=lambda row: int(row["position"]))
        evaluation = self.find(key)
        if rows and evaluation and len(rows) != evaluation.num_images:
            raise damaged(
                self.path, f"evaluations {key!r}", f"{len(rows)} of {evaluation.num_images} outputs are found"
            )
        return [read_output(self.folder / IMAGES, row["file"]) for row in rows]

    def kept(self, run: str) -> list[tuple[Place, str]]:
        """Return place and key of every evaluation of a run whose outputs were kept."""
        known = {row["evaluation"] for row in self.records.whole("outputs")}
        rows = self.records.whole("candidates", run)
        return sorted((_place(row), row["evaluation"]) for row in rows if row["evaluation"] in known)

    def record_rescore(self, key: str, objective: str, fingerprint: str, scores: Sequence[float]) -> None:
        """Record the scores that a reward, added after the run, gave an evaluation's kept images."""
        row = {"evaluation": key, "objective": objective, "fingerprint": fingerprint, "scores": dump(list(scores))}
        with self._transaction():
            self.records.insert("rescores", {**row, "recorded": now()}, ignore=True)

    def rescore(self, key: str, objective: str, fingerprint: str) -> tuple[float, ...] | None:
        """Return the scores that `record_rescore` recorded for an evaluation and a reward, or None."""
        row = self.records.one("rescores", evaluation=key, objective=objective, fingerprint=fingerprint)
        return None if row is None else tuple(json.loads(row["scores"]))

    def rescores(self, run: str) -> dict[tuple[str, str], dict[Place, tuple[float, ...]]]:
        """Return what `record_rescore` recorded for a run: (reward, fingerprint) to scores by place."""
        places: dict[str, list[Place]] = {}
        for row in self.records.whole("candidates", run):
            places.setdefault(row["evaluation"], []).append(_place(row))
        found: dict[tuple[str, str], dict[Place, tuple[float, ...]]] = {}
        for row in sorted(self.records.whole("rescores"), key=lambda row: str(row["recorded"])):
            for place in places.get(row["evaluation"], ()):
                found.setdefault((row["objective"], row["fingerprint"]), {})[place] = tuple(json.loads(row["scores"]))
        return found

    def record_generation(self, run: str, generation: int, sigma: float | None) -> None:
        """Record the optimizer's step size after a generation; a replay of the run changes nothing."""
        with self._transaction():
            row = {"run": run, "generation": generation, "sigma": sigma}
            self.records.insert("generations", row, ignore=True)

    def sigmas(self, run: str) -> dict[int, float | None]:
        """Return a map from generation to the optimizer's step size after it."""
        return dict(sorted((row["generation"], row["sigma"]) for row in self.records.whole("generations", run)))

    def history(self, run: str) -> list[Recorded]:
        """Return all evaluations of a run, in the order of recording.

        Raises:
            StoreError: If any record of the run is damaged or lost.
        """
        rows = sorted(self.records.whole("candidates", run), key=lambda row: int(row["number"]))
        return list(self._evaluated(rows))

    def evaluations(self, run: str, stages: Collection[str] | None = None) -> Iterator[tuple[Place, Evaluation]]:
        """Iterate over the evaluations of a run with their places, ordered by stage, generation and position.

        Args:
            run: The name of the run.
            stages: The stages to include; None for all.

        Raises:
            StoreError: If an evaluation is damaged or lost.
        """
        for each in self._evaluated(self._candidates(run, stages)):
            yield each.place, each.evaluation

    def work(self, run: str) -> int:
        """Return the denoising steps of a run, summed over all its recorded images; see `Evaluation.work`."""
        with decoding(self.path, f"of an evaluation of {run}"):
            return sum(row["num_images"] * (row["num_steps"] or 1) for _, row in self._rows(self._candidates(run)))

    def steps(self, run: str) -> list[Step]:
        """Return all evaluations of a run without settings and scores, in the order of recording.

        Raises:
            StoreError: If any record of the run is damaged or lost.
        """
        rows = sorted(self.records.whole("candidates", run), key=lambda row: int(row["number"]))
        return [
            Step(row["stage"], row["generation"], found["bucket"], found["num_images"])
            for row, found in self._rows(rows)
        ]

    def totals(self, run: str) -> dict[str, Any]:
        """Return the totals of a run.

        Every record is read and checked; settings and scores are unpacked only if no digest is stored yet.

        Returns:
            `digest` of all settings and scores in order, `num_evaluations`, `num_images`, and `generate_seconds` and
            `score_seconds`, spent on the evaluations that this run made (those found in the store do not count).

        Raises:
            StoreError: If any record of the run is damaged or lost.
        """
        candidates, buckets = self._candidates(run), dict[str, Bucket]()
        kept = self._kept_digest(run)
        num_images, generate_seconds, score_seconds = 0, 0.0, 0.0

        def entries() -> Iterator[list[Any]]:
            nonlocal num_images, generate_seconds, score_seconds
            for row, found in self._rows(candidates):
                num_images += found["num_images"]
                generate_seconds += row["fresh"] * found["generate_seconds"]
                score_seconds += row["fresh"] * found["score_seconds"]
                if kept is None:
                    made = self._evaluation(found, buckets)
                    yield [*_place(row), sorted(made.setting.items()), found["bucket"], made.scores]

        digest = digest_of_many(entries())
        if kept is None and run in self._clocks:
            self.update_run(run, digest=[*self.records.tally("candidates", run), digest, num_images])
        return {
            "digest": kept[0] if kept else digest,
            "num_evaluations": len(candidates),
            "num_images": num_images,
            "generate_seconds": generate_seconds,
            "score_seconds": score_seconds,
        }

    def spent(self, owner: str, table: Literal["candidates", "analysed"] = "candidates") -> list[Spent]:
        """Return what each stage of a run cost, in the order of the stages; other numbers of steps by themselves.

        An image counts for the run or analysis that made it, and not for those that found it in the store.

        Args:
            owner: The run, or the analysis.
            table: Where its evaluations have their places: `analysed` for an analysis.

        Raises:
            StoreError: If a record is damaged or lost.
        """
        found: dict[tuple[str, bool], Spent] = {}
        for row, made in self._rows(sorted(self.records.whole(table, owner), key=_order)):
            key = row["stage"], row["stage"] in BY_STEPS and row["generation"] > 0
            one, fresh = found.get(key, Spent(*key, 0, 0, 0, 0.0, 0.0)), bool(row["fresh"])
            found[key] = Spent(
                *key,
                one.num_evaluations + fresh,
                one.num_images + fresh * made["num_images"],
                one.found_images + (not fresh) * made["num_images"],
                one.generate_seconds + fresh * made["generate_seconds"],
                one.score_seconds + fresh * made["score_seconds"],
            )
        return list(found.values())

    def num_images(self, run: str) -> int:
        """Return the number of outputs of a run: as stored when the run finished, else counted in its records.

        Raises:
            StoreError: If a record that is read is damaged or lost.
        """
        kept = self._kept_digest(run)
        if kept and kept[1] is not None:
            return kept[1]
        return sum(found["num_images"] for _, found in self._rows(self._candidates(run)))

    def _kept_digest(self, run: str) -> tuple[str, int | None] | None:
        """Return the stored digest of a run and its number of outputs, or None if there is none or it has changed.

        The number is None if an older trimpot stored the digest.
        """
        row = self.records.named("that is asked for", "runs", id=run)
        with decoding(self.path, f"runs {run!r}"):
            if row["digest"] is None:
                return None
            number, total, digest, *images = json.loads(row["digest"])
            if (number, total) != self.records.tally("candidates", run):
                return None
            return str(digest), int(images[0]) if images else None

    def _candidates(self, run: str, stages: Collection[str] | None = None) -> list[Row]:
        """Return the candidates of a run, ordered by stage, generation and position."""
        rows = self.records.whole("candidates", run)
        return sorted((row for row in rows if stages is None or row["stage"] in stages), key=_order)

    def _rows(self, candidates: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
        """Iterate over candidates, each with the row of its evaluation."""
        for first in range(0, len(candidates), _AT_ONCE):
            several = candidates[first : first + _AT_ONCE]
            found = self.records.by_key("evaluations", [row["evaluation"] for row in several])
            for row in several:
                evaluation = found.get(row["evaluation"])
                if evaluation is None:
                    gone = f"{name_of('evaluations', {'key': row['evaluation']})}, which it names, is gone"
                    raise damaged(self.path, name_of("analysed" if "analysis" in row else "candidates", row), gone)
                if evaluation["num_images"] is None:
                    raise damaged(self.path, name_of("evaluations", evaluation), "it could not be brought up to date")
                yield row, evaluation

    def _evaluated(self, candidates: Sequence[Row]) -> Iterator[Recorded]:
        """Iterate over the evaluations of candidates."""
        buckets: dict[str, Bucket] = {}
        for row, evaluation in self._rows(candidates):
            made = self._evaluation(evaluation, buckets)
            yield Recorded(
                _place(row), row["number"], bool(row["fresh"]), made, row["evaluation"], evaluation["recorded"]
            )

    def _evaluation(self, row: Row, buckets: dict[str, Bucket]) -> Evaluation:
        """Rebuild an evaluation from its row; the caller sets the objectives' weights, which belong to the run."""
        name = name_of("evaluations", row)
        with decoding(self.path, name):
            bucket = buckets.get(row["bucket"])
            if bucket is None:
                found = self.records.named(name, "buckets", id=row["bucket"])
                bucket = Bucket(tuple(json.loads(found["prompts"])), tuple(json.loads(found["seeds"])))
                buckets[row["bucket"]] = bucket
            scores = unpack_scores(self._names.of(name, row["objectives"]), row["scores"], len(bucket))
            return Evaluation(
                setting=unpack_setting(self._names.of(name, row["knobs"]), row["setting"]),
                bucket=bucket,
                num_steps=row["num_steps"],
                scores=scores,
                generate_seconds=row["generate_seconds"],
                score_seconds=row["score_seconds"],
            )


def _place(row: Row) -> Place:
    return Place(row["stage"], row["generation"], row["position"])


def _order(row: Row) -> tuple[int, str, int, int]:
    """Return the place of a candidate among the others: stages as they follow, then watched prompts by name."""
    stage = row["stage"]
    return _ORDER.get(stage, len(_ORDER)), "" if stage in _ORDER else stage, row["generation"], row["position"]
