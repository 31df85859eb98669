"""Buckets: what candidates are compared on is drawn by name, and the three pools never meet."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimpot.engine.bucket import Bucket, PromptSet, draw_bucket
from trimpot.ground.errors import ConfigError

keys = st.lists(st.integers(0, 2**32), min_size=1, max_size=3)
POOL = tuple(f"prompt {number}" for number in range(10))


@given(keys, st.integers(1, 30))
def test_the_same_key_draws_the_same_bucket_whatever_was_drawn_before(key: list[int], size: int) -> None:
    first = draw_bucket(POOL, size, *key)
    draw_bucket(POOL, 3, 99)
    assert draw_bucket(POOL, size, *key) == first
    assert len(first) == len(first.prompts) == len(first.seeds) == size
    assert all(0 <= seed < 2**31 for seed in first.seeds)


@given(keys, st.integers(1, 30))
def test_no_prompt_is_used_again_before_all_have_been(key: list[int], size: int) -> None:
    uses = Counter(draw_bucket(POOL, size, *key).prompts)
    counts = [uses[prompt] for prompt in POOL]
    assert max(counts) - min(counts) <= 1


def test_generations_see_different_prompts_and_seeds() -> None:
    buckets = [draw_bucket(POOL, 4, 0, generation) for generation in range(50)]
    assert len({bucket.fingerprint for bucket in buckets}) == 50
    assert len({seed for bucket in buckets for seed in bucket.seeds}) == 200


def test_a_bucket_has_one_seed_a_prompt() -> None:
    with pytest.raises(ConfigError, match="2 prompts needs as many seeds, not 1"):
        Bucket(("a", "b"), (1,))


def test_the_head_of_a_bucket_keeps_seeds_with_their_prompts() -> None:
    bucket = draw_bucket(POOL, 6, 1)
    assert bucket.head(2) == Bucket(bucket.prompts[:2], bucket.seeds[:2])
    assert bucket.head(100) == bucket


def test_fingerprints_know_prompts_and_seeds_and_their_order() -> None:
    buckets = [Bucket(("a", "b"), (1, 2)), Bucket(("b", "a"), (1, 2)), Bucket(("a", "b"), (2, 1)), Bucket(("a",), (1,))]
    assert len({bucket.fingerprint for bucket in buckets}) == len(buckets)


@pytest.mark.parametrize("shared", [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_pools_that_share_a_prompt_are_refused_naming_both_and_the_prompt(shared: tuple[str, str]) -> None:
    pools = {"train": ("a",), "validation": ("b",), "test": ("c",)}
    for name in shared:
        pools[name] = (*pools[name], "a cat")
    with pytest.raises(ConfigError, match=rf"{shared[0]} and the {shared[1]} prompts, such as 'a cat'"):
        PromptSet(**pools)


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
def test_an_empty_pool_is_named(empty: str) -> None:
    pools = {"train": ("a",), "validation": ("b",), "test": ("c",), empty: ()}
    with pytest.raises(ConfigError, match=f"the {empty} prompts are empty"):
        PromptSet(**pools)
