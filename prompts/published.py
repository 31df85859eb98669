"""Published sets of prompts by name: where their files lie, and which prompts train, validate and test.

A prompt's split, if its set does not say it, depends on the digest of its text alone: neither the order of the files,
nor their format, nor the other prompts matter. Pools are in the order of the digests too, so that a copy of a set
in another format gives the same prompts in the same order, and fewer prompts are always the first of more.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.bucket import PromptSet
from ..ground.datasets import SPLITS, WHOLE, Layout, Part, find_parts, in_order, place_of
from ..ground.errors import ConfigError, Notice, near_misses
from ..ground.listings import Listing, read_listing
from ..ground.plain import plain

TEST_SHARE, VALIDATION_SHARE = 0.3, 0.2  # of a set without splits
OF_TRAINING = 0.1  # the validation prompts' share of the training files, if only validation prompts must be drawn
DRAWN = "by the digest of the prompt, as it has no splits: about 30 % test, 20 % validation, 50 % training"
_GITHUB = "https://github.com/"

Known = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Published:
    """A published set of prompts.

    Attributes:
        title: The set in a few words.
        hub: The hub id of a data set with its files, the default source.
        home: The place where its authors publish its files.
        layouts: The layouts of its files; see `ground.datasets`.
        split: The rule of its splits in words.
        licence: The licence that its authors or its page state.
        citation: The paper.
        metadata: The columns to keep as metadata, in lower case.
        most: Split to the number of prompts that is used unless another is asked for; all without an entry.
    """

    title: str
    hub: str
    home: str
    layouts: tuple[Layout, ...]
    split: str
    licence: str
    citation: str
    metadata: tuple[str, ...] = ()
    most: Mapping[str, int] = field(default_factory=dict)


PUBLISHED: dict[str, Published] = {
    "t2i-compbench": Published(
        title="T2I-CompBench++, compositional prompts in 8 categories",
        hub="NinaKarine/t2i-compbench",
        home=f"{_GITHUB}Karine-Huang/T2I-CompBench, examples/dataset",
        layouts=(
            Layout({"train": ("*_train.txt",), "test": ("*_val.txt",)}, categories=True),
            Layout(
                {"train": ("examples/dataset/*_train.txt",), "test": ("examples/dataset/*_val.txt",)}, categories=True
            ),
            Layout({"train": ("*_train/train-*.parquet",), "test": ("*_val/val-*.parquet",)}, categories=True),
        ),
        split="test: its val lists; training: its train lists, of which by digest 10 % validate",
        licence="MIT",
        citation="Huang et al. 2025, T2I-CompBench++, TPAMI 47, arXiv 2307.06350",
    ),
    "hpdv3": Published(
        title="HPDv3, the prompts of a preference data set",
        hub="MizzenAI/HPDv3",
        home="https://huggingface.co/datasets/MizzenAI/HPDv3",
        layouts=(Layout({"train": ("train.json",), "test": ("test.json",)}),),
        split="test: its test file; training: its train file, of which by digest 10 % validate",
        licence="MIT",
        citation="Ma et al. 2025, HPSv3, arXiv 2508.03789",
        most={"train": 20_000, "validation": 2_000},
    ),
    "parti": Published(
        title="PartiPrompts, 1,632 prompts in 12 categories",
        hub="nateraw/parti-prompts",
        home=f"{_GITHUB}google-research/parti, PartiPrompts.tsv",
        layouts=(Layout({WHOLE: ("PartiPrompts.tsv", "default/train/*.parquet")}),),
        split=DRAWN,
        licence="Apache-2.0",
        citation="Yu et al. 2022, Parti, arXiv 2206.10789",
        metadata=("category", "challenge"),
    ),
    "drawbench": Published(
        title="DrawBench, 200 prompts in 11 categories",
        hub="sayakpaul/drawbench",
        home="https://imagen.research.google",
        layouts=(Layout({WHOLE: ("[dD]raw[bB]ench.csv", "[dD]raw[bB]ench.tsv", "[dD]raw[bB]ench.txt")}),),
        split=DRAWN,
        licence="none stated by its authors",
        citation="Saharia et al. 2022, Imagen, arXiv 2205.11487",
        metadata=("category",),
    ),
    "pickapic": Published(
        title="Pick-a-Pic v2, prompts that users wrote (unfiltered)",
        hub="yuvalkirstain/pickapic_v2_no_images",
        home="https://huggingface.co/yuvalkirstain",
        layouts=(
            Layout(
                {
                    "train": ("data/train-*.parquet",),
                    "validation": ("data/validation_unique-*.parquet",),
                    "test": ("data/test_unique-*.parquet",),
                }
            ),
        ),
        split="its own splits, with one entry for each prompt in validation_unique and test_unique",
        licence="none stated on its page",
        citation="Kirstain et al. 2023, Pick-a-Pic, arXiv 2305.01569",
        most={"train": 20_000, "validation": 2_000},
    ),
}


@dataclass(frozen=True)
class Choice:
    """What a user asks of a published set; see docs/prompts.md."""

    source: str | None = None
    revision: str | None = None
    column: str | None = None
    categories: Sequence[str] | None = None


def published_prompts(name: str, choice: Choice, numbers: Mapping[str, int | None]) -> PromptSet:
    """Read a published set of prompts and split it.

    A prompt in the files of several splits is kept in one: in the test prompts first, then in the validation prompts.

    Args:
        name: A name of `PUBLISHED`.
        choice: The source of the files, and which of their rows to use.
        numbers: Split to the number of prompts asked for, or None.

    Raises:
        ConfigError: If the files cannot be found, downloaded or read, or hold fewer prompts than are asked for.
    """
    pools, known = read_pools(name, choice)
    return make_set(name, apart(name, splits_of(pools)), known, PUBLISHED[name].most, numbers)


def calibri_prompts(t2i_compbench: Choice, hpdv3: Choice, numbers: Mapping[str, int | None]) -> PromptSet:
    """Read the prompts of the paper's protocol: T2I-CompBench++ trains and selects, HPDv3's test prompts report.

    "Train prompts were used to sample buckets", T2I-CompBench++'s test prompts (its val lists) "to select the best
    coefficients", and "HPDv3 test prompts for evaluation": "Calibri", section 4, implementation details and evaluation.

    Args:
        t2i_compbench: The source of T2I-CompBench++.
        hpdv3: The source of HPDv3, or a file of its test prompts.
        numbers: Split to the number of prompts asked for, or None.

    Raises:
        ConfigError: If the files cannot be found, downloaded or read, or hold fewer prompts than are asked for.
    """
    search, known = read_pools("t2i-compbench", t2i_compbench, ("train", "test"))
    if WHOLE in search:
        raise ConfigError(
            f"prompts 'calibri': {t2i_compbench.source} has no split for training and another for selecting; give "
            f"t2i_compbench the folder of its train and val lists"
        )
    report, _ = read_pools("hpdv3", hpdv3, ("test",))
    [test] = report.values()
    pools = apart("calibri", {"train": search["train"], "validation": search["test"], "test": test})
    return make_set("calibri", pools, known, {}, numbers)


def read_pools(name: str, choice: Choice, splits: Collection[str] = SPLITS) -> tuple[dict[str, list[str]], Known]:
    """Read the files of a published set.

    Returns:
        Split to the prompts of its files, and prompt to its metadata.

    Raises:
        ConfigError: If the files cannot be found, downloaded or read, or none of their rows is of the categories.
    """
    if choice.categories is not None and not choice.categories:
        raise ConfigError(f"prompts {name!r}: categories is empty; leave it out for all, or name some")
    row = PUBLISHED[name]
    parts = find_parts(
        row.hub if choice.source is None else choice.source, row.layouts, name, row.home, choice.revision, splits
    )
    known: Known = {}
    met: dict[str, None] = {}
    pools: dict[str, list[str]] = {}
    columns: set[str | None] = set()
    for split, files in parts.items():
        pools[split] = []
        for part in files:
            listing = read_listing(part.path, choice.column, row.metadata)
            columns.add(listing.column)
            for prompt, about in _described(listing, part):
                category = about.get("category")
                met |= {category: None} if isinstance(category, str) else {}
                if choice.categories is None or category in choice.categories:
                    pools[split].append(prompt)
                    known.setdefault(prompt, about)
    if choice.column is not None and columns == {None}:
        raise ConfigError(
            f"prompts {name!r}: none of its files has columns, so `column: {choice.column}` cannot be used; "
            f"leave it out"
        )
    for category in choice.categories or ():
        if category not in met:
            said = near_misses(category, met) if met else "its files name none; leave `categories` out"
            raise ConfigError(f"prompts {name!r} have no category {category!r}; {said}")
    return pools, {prompt: about for prompt, about in known.items() if about}


def _described(listing: Listing, part: Part) -> list[tuple[str, dict[str, Any]]]:
    """Return the prompts of a file, each with the columns that describe it."""
    for notice in listing.notices:
        warnings.warn(notice, Notice, stacklevel=2)
    named = {} if part.category is None else {"category": part.category}
    return [
        (
            each.prompt,
            named | {key.strip().casefold(): plain(said, f"{key} of a prompt") for key, said in each.metadata.items()},
        )
        for each in listing.rows
    ]


def splits_of(pools: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Draw the splits that the files do not have, by the digest of each prompt; see `DRAWN` and `OF_TRAINING`."""
    if WHOLE in pools:
        held_out = TEST_SHARE + VALIDATION_SHARE
        return {
            "test": [prompt for prompt in pools[WHOLE] if place_of(prompt) < TEST_SHARE],
            "validation": [prompt for prompt in pools[WHOLE] if TEST_SHARE <= place_of(prompt) < held_out],
            "train": [prompt for prompt in pools[WHOLE] if place_of(prompt) >= held_out],
        }
    found = {split: list(prompts) for split, prompts in pools.items()}
    for split in ("validation", "test"):
        if split not in found:  # never both, for then the files have no splits
            found[split] = [prompt for prompt in found["train"] if place_of(prompt) < OF_TRAINING]
            found["train"] = [prompt for prompt in found["train"] if place_of(prompt) >= OF_TRAINING]
    return found


def apart(name: str, pools: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Order the pools by digest, and remove the prompts that are held out from the pools below them.

    A notice says how many of a split's own prompts were removed.
    """
    found: dict[str, list[str]] = {}
    taken: set[str] = set()
    for split in ("test", "validation", "train"):
        ordered = in_order(pools[split])
        found[split] = [prompt for prompt in ordered if prompt not in taken]
        if len(found[split]) < len(ordered):
            shared = next(prompt for prompt in ordered if prompt in taken)
            warnings.warn(
                f"prompts {name!r}: {len(ordered) - len(found[split])} of its {len(ordered)} {split} prompts are held "
                f"out too, such as {shared[:60]!r}, and were left out of the {split} prompts",
                Notice,
                stacklevel=2,
            )
        taken.update(found[split])
    return found


def make_set(
    name: str, pools: Mapping[str, list[str]], known: Known, most: Mapping[str, int], numbers: Mapping[str, int | None]
) -> PromptSet:
    """Make a prompt set of as many prompts as are asked for.

    Args:
        name: The name of the set.
        pools: Split to its prompts.
        known: Prompt to its metadata.
        most: Split to the number of prompts that is used by default; all without an entry.
        numbers: Split to the number asked for, or None.

    Raises:
        ConfigError: If a pool is empty, or has fewer prompts than are asked for.
    """
    chosen: dict[str, tuple[str, ...]] = {}
    for split, pool in pools.items():
        asked = numbers.get(split)
        if not pool:
            left = sum(map(len, pools.values()))
            raise ConfigError(
                f"prompts {name!r}: none of its {left} prompts are left for {split}; give a source or categories with "
                f"more prompts"
            )
        if asked is not None and asked > len(pool):
            raise ConfigError(
                f"prompts {name!r} have {len(pool)} {split} prompts, not {asked}; set num_{split} to at most "
                f"{len(pool)}"
            )
        chosen[split] = tuple(pool[: most.get(split, len(pool)) if asked is None else asked])
    kept = {prompt: known[prompt] for pool in chosen.values() for prompt in pool if prompt in known}
    return PromptSet(chosen["train"], chosen["validation"], chosen["test"], source=f"prompts {name!r}", metadata=kept)
