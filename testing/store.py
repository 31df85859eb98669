"""The contract of stores."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..engine.bucket import Bucket
from ..engine.evaluation import Evaluation, Place
from ..engine.seams import Store
from ..ground.errors import StoreError

_floats = st.floats(allow_nan=False, allow_infinity=False)
_numbers = itertools.count()


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    """Generate evaluations with any finite numbers, any text as prompts, and names in any alphabet."""
    size = draw(st.integers(1, 4))
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3, unique=True))
    scores = {name: tuple(draw(st.lists(_floats, min_size=size, max_size=size))) for name in names}
    return Evaluation(
        setting=draw(st.dictionaries(st.text(min_size=1, max_size=8), _floats, min_size=1, max_size=4)),
        bucket=Bucket(
            tuple(draw(st.lists(st.text(max_size=12), min_size=size, max_size=size))),
            tuple(draw(st.lists(st.integers(0, 2**31 - 1), min_size=size, max_size=size))),
        ),
        num_steps=draw(st.none() | st.integers(1, 100)),
        scores=scores,
        weights=dict.fromkeys(scores, 1.0),
        generate_seconds=draw(st.floats(0, 1e6)),
        score_seconds=draw(st.floats(0, 1e6)),
    )


def _any_evaluation(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test with generated evaluations, all on the same store."""
    allowed = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors, HealthCheck.too_slow]
    limited = settings(max_examples=30, deadline=None, suppress_health_check=allowed)
    return limited(given(evaluation=evaluations())(test))


class StoreContract:
    """Tests of a store. Inherit, and override the fixture `store` and the methods `begin_run` and `reopen`."""

    @pytest.fixture
    def store(self) -> Store:
        """An empty store."""
        raise NotImplementedError("override the fixture `store`")

    def begin_run(self, store: Store) -> str:
        """Begin another run, and return its name."""
        raise NotImplementedError("override begin_run()")

    def reopen(self, store: Store) -> Store:
        """Return the store as another process would open it, or the store itself if it cannot be opened again."""
        return store

    @_any_evaluation
    def test_what_is_recorded_is_found_bit_for_bit(self, store: Store, evaluation: Evaluation) -> None:
        """Evaluations are found by place and by key, also after the store is reopened."""
        run, key, place = self.begin_run(store), _new_key(), Place("search", 3, 1)
        store.record(run, [(place, key, evaluation)])
        for reader in (store, self.reopen(store)):
            by_key = reader.find(key)
            assert by_key is not None
            for found in (by_key, reader.recorded(run, "search", 3)[1]):
                assert _exact(found) == _exact(evaluation)

    def test_places_are_ordered_and_kept_apart(self, store: Store) -> None:
        """Evaluations are returned by position, not by order of recording, and only for the requested stage."""
        run, other = self.begin_run(store), self.begin_run(store)
        for position in (2, 0, 1):
            store.record(run, [(Place("search", 0, position), _new_key(), _example(float(position)))])
        store.record(run, [(Place("search", 1, 0), _new_key(), _example(10.0))])
        store.record(run, [(Place("validation", 0, 0), _new_key(), _example(20.0))])
        store.record(other, [(Place("search", 0, 0), _new_key(), _example(30.0))])
        found = store.recorded(run, "search", 0)
        assert list(found) == [0, 1, 2]
        assert [each.scores["reward"][0] for each in found.values()] == [0.0, 1.0, 2.0]
        assert store.recorded(run, "test", 0) == {}

    def test_a_place_is_taken_once(self, store: Store) -> None:
        """A second record for the same place is refused, and the first stays."""
        run, place = self.begin_run(store), Place("search", 0, 0)
        store.record(run, [(place, _new_key(), _example(1.0))])
        with pytest.raises(StoreError):
            store.record(run, [(place, _new_key(), _example(2.0))])
        assert store.recorded(run, "search", 0)[0].scores["reward"][0] == 1.0

    def test_what_is_recorded_together_is_recorded_whole_or_not_at_all(self, store: Store) -> None:
        """The evaluations of one call are recorded completely or not at all."""
        run, taken = self.begin_run(store), Place("search", 0, 1)
        store.record(run, [(taken, _new_key(), _example(1.0))])
        with pytest.raises(StoreError):
            store.record(run, [(Place("search", 0, 0), _new_key(), _example(2.0)), (taken, _new_key(), _example(3.0))])
        assert list(store.recorded(run, "search", 0)) == [1]

    def test_an_evaluation_is_found_across_runs(self, store: Store) -> None:
        """Equal work is done once: a key recorded in one run is found from any run, and may occur in several runs."""
        run, other, key = self.begin_run(store), self.begin_run(store), _new_key()
        assert store.find(key) is None
        store.record(run, [(Place("baseline", 0, 0), key, _example(1.0))])
        found = store.find(key)
        assert found is not None
        store.record(other, [(Place("test", 0, 0), key, found)])
        assert _exact(store.recorded(other, "test", 0)[0]) == _exact(store.recorded(run, "baseline", 0)[0])

    def test_what_is_read_back_has_no_weights(self, store: Store) -> None:
        """Weights belong to a run, and an evaluation may stand in several: whoever reads it gives it its own."""
        run, key, place = self.begin_run(store), _new_key(), Place("search", 0, 0)
        store.record(run, [(place, key, _example(1.0))])
        for found in (store.find(key), store.recorded(run, "search", 0)[0]):
            assert found is not None and found.weights is None
            assert found.weighed({"reward": 2.0}).fitness == 2.0

    def test_a_generation_may_be_recorded_again(self, store: Store) -> None:
        """A generation may be recorded twice, because a resumed run records its generations again."""
        run = self.begin_run(store)
        store.record_generation(run, 0, 0.25)
        store.record_generation(run, 0, 0.25)
        store.record_generation(run, 1, None)


def _new_key() -> str:
    return f"{next(_numbers):016x}"


def _example(score: float) -> Evaluation:
    bucket = Bucket(("a prompt", "another"), (1, 2))
    return Evaluation({"knob": 1.0}, bucket, None, {"reward": (score, score)}, {"reward": 1.0})


def _exact(evaluation: Evaluation) -> list[object]:
    """Return everything that a store must keep, with floats in hexadecimal (so that -0.0 is not 0.0)."""
    return [
        [(name, value.hex()) for name, value in sorted(evaluation.setting.items())],
        evaluation.bucket,
        evaluation.num_steps,
        sorted((name, [score.hex() for score in scores]) for name, scores in evaluation.scores.items()),
        evaluation.generate_seconds.hex(),
        evaluation.score_seconds.hex(),
    ]
