"""GenEval's prompts as a prompt set: the benchmark for the test, other prompts of its grammar for the search.

The benchmark's prompts are generated, so no file is needed. A folder of the benchmark's files, or of Flow-GRPO's,
brings its own prompts, with the metadata that says what each must show.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import numpy as np

from ...engine.bucket import PromptSet
from ...ground.datasets import WHOLE, Layout, Part, find_parts, in_order, place_of
from ...ground.errors import ConfigError, Notice
from ...ground.listings import Row, read_listing
from .geneval_scenes import Tag, benchmark, draw, parse, phrase, scene_of

_PATIENCE = 2000
_HOME = "https://github.com/djghosh13/geneval, prompts"
_LAYOUTS = (
    Layout({"test": ("evaluation_metadata.jsonl", "prompts/evaluation_metadata.jsonl")}),
    Layout({"train": ("train_metadata.jsonl",), "test": ("test_metadata.jsonl",)}),
)
_OF_TRAINING = 0.1  # the share of the training prompts that validates


def prompt_set(tags: Sequence[Tag] | None, train: int, validation: int, seed: int) -> PromptSet:
    """Draw training and validation prompts; the test prompts are the benchmark's.

    Only the test prompts hold single objects, because the benchmark contains all eighty of these prompts.

    Args:
        tags: The benchmark's categories to use; None uses all.
        train: The number of training prompts in each category.
        validation: The number of validation prompts in each category.
        seed: The seed of the draw.

    Raises:
        ConfigError: If a category has too few prompts left outside the benchmark.
    """
    chosen = tuple(tags or get_args(Tag))
    test = [prompt for prompt in benchmark() if parse(prompt).tag in chosen]
    found, held_out = _drawn(chosen, train, validation, seed, [])
    return PromptSet(found, held_out, tuple(test), source="prompts 'geneval'")


def read_prompt_set(
    source: str, revision: str | None, tags: Sequence[Tag] | None, train: int, validation: int, seed: int
) -> PromptSet:
    """Read the test prompts, and the training prompts if the files hold some; otherwise these are drawn.

    A tenth of the training prompts, by the digest of the prompt, validates.

    Args:
        source: A folder, a file or a hub id with the benchmark's files.
        revision: A branch, tag or commit on the hub.
        tags: The benchmark's categories to use; None uses all.
        train: The largest number of training prompts in each category.
        validation: The largest number of validation prompts in each category.
        seed: The seed of the draw.

    Raises:
        ConfigError: If the files cannot be read, are not of the benchmark's form, or hold no prompts of a category.
    """
    chosen = tuple(tags or get_args(Tag))
    parts = find_parts(source, _LAYOUTS, "geneval", _HOME, revision)
    rows = {split: _rows(files, chosen) for split, files in parts.items()}
    test = rows.get("test", rows.get(WHOLE, {}))
    if "train" in rows:
        pool = in_order(prompt for prompt in rows["train"] if prompt not in test)
        found, held_out = (
            tuple(
                prompt
                for tag in chosen
                for prompt in [each for each in part if rows["train"][each]["tag"] == tag][:count]
            )
            for part, count in (
                ([prompt for prompt in pool if place_of(prompt) >= _OF_TRAINING], train),
                ([prompt for prompt in pool if place_of(prompt) < _OF_TRAINING], validation),
            )
        )
    else:
        found, held_out = _drawn(chosen, train, validation, seed, test)
    known = {**rows.get("train", {}), **test}
    metadata = {prompt: known[prompt] for prompt in (*found, *held_out, *test) if prompt in known}
    return PromptSet(found, held_out, tuple(test), source=f"prompts 'geneval' of {source}", metadata=metadata)


def _rows(files: Iterable[Part], chosen: Sequence[Tag]) -> dict[str, dict[str, Any]]:
    """Read the prompts of some categories from files, each with its metadata."""
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        listing = read_listing(file.path, "prompt")
        for notice in listing.notices:
            warnings.warn(notice, Notice, stacklevel=2)
        found |= {row.prompt: dict(row.metadata) for row in listing.rows if _tag(row) in chosen}
    return found


def _tag(row: Row) -> str:
    """Return the category of a prompt of a file."""
    scene = scene_of(row.prompt, row.metadata)
    if scene is None:
        raise ConfigError(
            f"prompts 'geneval': a file of the source does not say what {row.prompt[:80]!r} includes; give {_HOME}"
        )
    return scene.tag


def _drawn(
    chosen: Sequence[Tag], train: int, validation: int, seed: int, test: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Draw training and validation prompts that are neither the benchmark's nor among others for the test."""
    drawable = [tag for tag in chosen if tag != "single_object"]
    if not drawable:
        raise ConfigError("prompts 'geneval': the benchmark holds every prompt of single_object; name another tag too")
    taken = dict.fromkeys((*benchmark(), *test))
    found, held_out = (
        tuple(
            prompt
            for tag in drawable
            for prompt in _fresh(tag, count, taken, np.random.default_rng([seed, stage, get_args(Tag).index(tag)]))
        )
        for stage, count in enumerate((train, validation))
    )
    return found, held_out


def _fresh(tag: Tag, count: int, taken: dict[str, None], rng: np.random.Generator) -> list[str]:
    found: list[str] = []
    misses = 0
    while len(found) < count and misses < _PATIENCE:
        prompt = phrase(draw(tag, rng))
        misses = misses + 1 if prompt in taken else 0
        if prompt not in taken:
            taken[prompt] = None
            found.append(prompt)
    if len(found) < count:
        raise ConfigError(
            f"prompts 'geneval': only {len(found)} more prompts of {tag} were found; ask for {len(found)}"
        )
    return found
