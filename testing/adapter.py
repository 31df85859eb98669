"""The contract of adapters."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from copy import copy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ..engine.bucket import Bucket
from ..engine.identity import described
from ..engine.proof import prove
from ..engine.seams import Adapter, Output, Population

Outputs = list[list[NDArray[Any]]]


class AdapterContract:
    """Tests of an adapter. Inherit, override the fixture `adapter`, and set prompts that suit the adapter.

    Attributes:
        prompts: At least two prompts.
        tolerance: The largest change of an output when the other candidates of a population change; 0 unless the
            model's arithmetic depends on the batch.
        num_candidates: Size of the populations in these tests.
    """

    prompts: Sequence[str] = ("one", "two")
    tolerance: float = 0.0
    num_candidates: int = 3

    @pytest.fixture
    def adapter(self) -> Adapter:
        """The adapter. If loading takes long, request a fixture of your own with a wider scope here."""
        raise NotImplementedError("override the fixture `adapter`")

    def as_array(self, output: Output) -> NDArray[Any]:
        """Convert an output to an array, to compare outputs."""
        return np.asarray(output)

    def dead_knobs(self, adapter: Adapter) -> Collection[str]:
        """Return the names of knobs that are known to change no output."""
        return ()

    def test_every_candidate_gets_one_output_a_prompt(self, adapter: Adapter) -> None:
        """There are as many lists as candidates, and each holds as many outputs as prompts."""
        made = list(adapter.generate(self._population(adapter), self._bucket()))
        assert [len(outputs) for outputs in made] == [len(self.prompts)] * self.num_candidates

    def test_the_same_request_makes_the_same_outputs(self, adapter: Adapter) -> None:
        """Outputs are bit-identical, no matter what was generated in between."""
        first = self._generate(adapter, self._population(adapter), self._bucket())
        self._generate(adapter, self._population(adapter)[:1], self._bucket(seed=99))
        second = self._generate(adapter, self._population(adapter), self._bucket())
        for before, after in zip(first, second, strict=True):
            for one, other in zip(before, after, strict=True):
                assert np.array_equal(one, other)

    def test_global_random_state_is_not_touched(self, adapter: Adapter) -> None:
        """Noise comes from the bucket's seeds; numpy's global generator is neither read nor written."""
        before = str(np.random.get_state())
        self._generate(adapter, self._population(adapter), self._bucket())
        assert str(np.random.get_state()) == before

    def test_outputs_come_in_the_order_of_the_candidates(self, adapter: Adapter) -> None:
        """A reversed population gives reversed outputs."""
        population = self._population(adapter)
        forward = self._generate(adapter, population, self._bucket())
        self._assert_close(self._generate(adapter, population[::-1].copy(), self._bucket())[::-1], forward)

    def test_outputs_come_in_the_order_of_the_prompts(self, adapter: Adapter) -> None:
        """A reversed bucket gives reversed outputs: a seed belongs to its prompt, not to a position."""
        population, bucket = self._population(adapter), self._bucket()
        turned = Bucket(bucket.prompts[::-1], bucket.seeds[::-1])
        back = [outputs[::-1] for outputs in self._generate(adapter, population, turned)]
        self._assert_close(back, self._generate(adapter, population, bucket))

    def test_a_candidate_alone_equals_itself_in_a_population(self, adapter: Adapter) -> None:
        """A candidate's outputs do not depend on the other candidates."""
        population = self._population(adapter)
        alone = [self._generate(adapter, row[None], self._bucket())[0] for row in population]
        self._assert_close(alone, self._generate(adapter, population, self._bucket()))

    def test_a_run_can_prove_that_outputs_depend_on_candidate_prompt_and_seed_alone(self, adapter: Adapter) -> None:
        """A run's initial proof passes: an output is the same alone, beside a neighbour, and alone again."""
        prove(
            copy(adapter), self._bucket(), lambda rows, bucket: [list(each) for each in adapter.generate(rows, bucket)]
        )

    def test_every_knob_moves_an_output(self, adapter: Adapter) -> None:
        """No knob is dead: changing any single knob of a neutral candidate changes an output."""
        bucket, dead = self._bucket(), set(self.dead_knobs(adapter))
        neutral = adapter.space.defaults
        [before] = self._generate(adapter, neutral[None], bucket)
        still = []
        for index, knob in enumerate(adapter.space):
            up, down = min(knob.high, knob.default + knob.spread), max(knob.low, knob.default - knob.spread)
            turned = neutral.copy()
            turned[index] = up if up - knob.default >= knob.default - down else down
            if not knob.searched:
                turned[index] = next(value for value in self._choices(adapter, knob.name) if value != knob.default)
            [after] = self._generate(adapter, turned[None], bucket)
            if all(np.array_equal(one, other) for one, other in zip(before, after, strict=True)):
                still.append(knob.name)
        assert set(still) == dead, f"knobs that move nothing: {still}, said to be dead: {sorted(dead)}"

    def test_prompt_and_seed_reach_the_output(self, adapter: Adapter) -> None:
        """Another prompt gives another output, and so does another seed, unless `ignores_seed` is overridden."""
        neutral, bucket = adapter.space.defaults[None], self._bucket()
        [[first, second, *_]] = self._generate(adapter, neutral, bucket)
        assert first.shape != second.shape or not np.array_equal(first, second)
        if not self.ignores_seed(adapter):
            [[other, *_]] = self._generate(adapter, neutral, self._bucket(seed=99))
            assert first.shape != other.shape or not np.array_equal(first, other)

    def ignores_seed(self, adapter: Adapter) -> bool:
        """Return whether outputs depend on candidate and prompt alone; by default what the adapter says."""
        return not adapter.uses_seed

    def test_an_adapter_without_seeds_ignores_them(self, adapter: Adapter) -> None:
        """Other seeds give the same outputs, if the adapter says that it uses none."""
        if adapter.uses_seed:
            pytest.skip("the adapter uses seeds")
        neutral = adapter.space.defaults[None]
        one, other = (self._generate(adapter, neutral, self._bucket(seed)) for seed in (7, 99))
        self._assert_close(one, other)

    @pytest.fixture
    def others(self) -> Sequence[Adapter]:
        """Variants of the adapter, each with other weights or with one other option that changes an output."""
        pytest.skip("the fixture `others` gives no variants")

    def test_its_description_is_json_like_and_names_it(self, adapter: Adapter) -> None:
        """The description has an `id` and is the same in every process, because the run's fingerprint includes it."""
        assert self._says(adapter) == self._says(adapter)
        assert json.loads(self._says(adapter))["id"]

    def test_its_description_does_not_change_with_use(self, adapter: Adapter) -> None:
        """The description is the same before and after generating: a resumed run must recognize the adapter."""
        before = self._says(adapter)
        self._generate(adapter, self._population(adapter)[:1], self._bucket())
        assert self._says(adapter) == before

    def test_what_makes_other_outputs_describes_itself_otherwise(
        self, adapter: Adapter, others: Sequence[Adapter]
    ) -> None:
        """Adapters that differ have different identities; otherwise one would get the other's scores from the store."""
        says = [self._says(each) for each in (adapter, *others)]
        assert len(set(says)) == len(says)

    def test_its_export_is_json_like(self, adapter: Adapter) -> None:
        """The export can be written to a calibration file."""
        neutral = next(iter(adapter.neutrals().values()))
        exported = dict(adapter.export(neutral, neutral))
        assert json.loads(json.dumps(exported, allow_nan=False)) is not None

    def test_its_neutrals_are_points_of_the_space(self, adapter: Adapter) -> None:
        """There is at least one neutral setting, and each has every knob inside its bounds."""
        low, high = adapter.space.bounds
        neutrals = adapter.neutrals()
        assert neutrals
        for setting in neutrals.values():
            vector = adapter.space.to_vector(setting)
            assert set(setting) == set(adapter.space.names)
            assert np.all((vector >= low) & (vector <= high))

    def test_it_takes_at_least_one_output_a_call(self, adapter: Adapter) -> None:
        """`outputs_per_call` is at least 1; with 0, candidates would be lost."""
        assert adapter.outputs_per_call >= 1

    def test_candidates_on_buckets_of_their_own_are_each_what_they_are_alone(self, adapter: Adapter) -> None:
        """Sharing a call changes no output, whichever candidates share it."""
        population = self._population(adapter)
        buckets = [self._bucket(seed).head(1 + seed % 2) for seed in range(len(population))]
        together = [[self.as_array(each) for each in made] for made in adapter.generate_each(population, buckets)]
        for row, bucket, outputs in zip(population, buckets, together, strict=True):
            self._assert_close([outputs], self._generate(adapter, row[None], bucket))

    def _says(self, adapter: Adapter) -> str:
        return json.dumps(described("adapter", None, adapter, None), sort_keys=True, allow_nan=False)

    def _bucket(self, seed: int = 7) -> Bucket:
        return Bucket(tuple(self.prompts), tuple(seed + index for index in range(len(self.prompts))))

    def _population(self, adapter: Adapter) -> Population:
        space, generator = adapter.space, np.random.default_rng(0)
        steps = space.searched * generator.standard_normal((self.num_candidates, len(space)))
        return np.clip(space.defaults + 0.25 * space.spreads * steps, *space.bounds)

    def _choices(self, adapter: Adapter, name: str) -> list[float]:
        return [setting[name] for setting in adapter.neutrals().values()]

    def _generate(self, adapter: Adapter, population: Population, bucket: Bucket) -> Outputs:
        return [[self.as_array(output) for output in outputs] for outputs in adapter.generate(population, bucket)]

    def _assert_close(self, first: Outputs, second: Outputs) -> None:
        for one, other in zip(first, second, strict=True):
            for left, right in zip(one, other, strict=True):
                np.testing.assert_allclose(left, right, rtol=0, atol=self.tolerance)
