"""Read the training, validation and test prompts from three files, and remove overlaps."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.bucket import PromptSet
from ..ground.errors import ConfigError, Notice, near_misses
from ..ground.listings import Listing, read_listing
from ..ground.plain import plain, quoted
from .records import ONE_OF_A_PROMPT, checked_fields


def prompt_files(
    *, train: Path, validation: Path, test: Path, column: str | None = None, metadata: list[str] | None = None
) -> PromptSet:
    """Prompts from three files: text with one prompt per line, csv, tsv, json, jsonl or parquet.

    A prompt in several files is kept in only one set: in the test prompts first, then in the validation prompts; two
    prompts that differ only in the white space around them count as one there. The other columns of a prompt's row
    become the prompt's metadata; `answer`, `options` and `tag` must have the types that `prompts.records` gives them.

    Prompts of JSON and Parquet are taken exactly, white space included.

    Args:
        train: The file of prompts for the search.
        validation: The file of prompts for choosing the result.
        test: The file of prompts for measuring the gain.
        column: The name of the column of prompts, in files with columns; None finds the column by its name.
        metadata: Columns to pass to the objectives; None passes all columns that have one value for each prompt.

    Raises:
        ConfigError: If a file cannot be read, a set is left without prompts, a known field has the wrong type, or a
            prompt has two answers.
    """
    listings = {
        name: read_listing(path, column, exact=True)
        for name, path in {"train": train, "validation": validation, "test": test}.items()
    }
    notices = [notice for listing in listings.values() for notice in listing.notices]
    if column is None:
        notices += _guessed(listings.values())
    elif all(listing.column is None for listing in listings.values()):
        raise ConfigError(f"none of the prompt files has columns, so `column: {column}` cannot be used; leave it out")
    pools: dict[str, tuple[str, ...]] = {}
    held_out: dict[str, str] = {}
    for name in ("test", "validation", "train"):
        listing = listings[name]
        distinct = dict.fromkeys(row.prompt for row in listing.rows)
        if len(distinct) < len(listing.rows):
            notices.append(
                f"{listing.path} holds {len(listing.rows)} prompts, {len(distinct)} of them distinct; each counts once"
            )
        pools[name] = tuple(prompt for prompt in distinct if prompt.strip() not in held_out)
        shared = [prompt for prompt in distinct if prompt.strip() in held_out]
        if shared:
            where = " or ".join(sorted({held_out[prompt.strip()] for prompt in shared}))
            if not pools[name]:
                raise ConfigError(
                    f"every prompt of {listing.path} is among the {where} prompts too, so no {name} prompts are left; "
                    f"a gain can only be believed on prompts the search never saw"
                )
            notices.append(
                f"{len(shared)} of the {len(distinct)} prompts of {listing.path} are among the {where} prompts too, "
                f"such as {quoted(shared[0])}, and were left out of the {name} prompts"
            )
        held_out |= dict.fromkeys((prompt.strip() for prompt in pools[name]), name)
    known = _metadata(metadata, listings, notices)
    for notice in notices:
        warnings.warn(notice, Notice, stacklevel=2)
    return PromptSet(pools["train"], pools["validation"], pools["test"], source="prompts", metadata=known)


def _guessed(listings: Iterable[Listing]) -> list[str]:
    """Return a sentence for every column of prompts that was guessed by its name."""
    files: dict[str, dict[str, None]] = {}
    for listing in listings:
        if listing.column is not None and listing.others:
            files.setdefault(listing.column, {})[listing.path.name] = None
    return [
        f"the column {column!r} of {', '.join(names)} was taken for the prompts; `column: {column}` makes sure"
        for column, names in files.items()
    ]


def _metadata(
    wanted: Sequence[str] | None, listings: Mapping[str, Listing], notices: list[str]
) -> dict[str, dict[str, Any]]:
    """Collect the metadata of each prompt from the other columns.

    A column with two different values for one prompt does not describe the prompt, but for example a picture of it. So
    the column is left out, or refused if it was asked for or is the prompt's answer.
    """
    columns = dict.fromkeys(name for listing in listings.values() for name in listing.others)
    for name in wanted or ():
        if name not in columns:
            raise ConfigError(f"metadata: no prompt file has a column {name!r}; {near_misses(name, columns)}")
    taken = columns if wanted is None else dict.fromkeys(wanted)
    known: dict[str, dict[str, Any]] = {}
    differing: dict[str, str] = {}
    places: dict[tuple[str, str], str] = {}
    for listing, row in ((each, row) for each in listings.values() for row in each.rows):
        about, where = known.setdefault(row.prompt, {}), f"{row.place} of {listing.path}"
        for name, value in checked_fields({n: v for n, v in row.metadata.items() if n in taken}, where).items():
            said = plain(value, f"what a prompt file says of {quoted(row.prompt)} in {name!r}")
            first = places.setdefault((row.prompt, name), where)
            if about.setdefault(name, said) == said:
                continue
            if name in ONE_OF_A_PROMPT:
                raise ConfigError(
                    f"{where} and {first} give one prompt, {quoted(row.prompt)}, different {name.rstrip('s')}s; make "
                    f"them agree, or leave the field out of `metadata`"
                )
            differing.setdefault(name, row.prompt)
    if differing:
        name, prompt = next(iter(differing.items()))
        if wanted is not None:
            raise ConfigError(
                f"metadata: the column {name!r} has two different values for the prompt {quoted(prompt)}; "
                f"make its lines agree, or leave the column out of `metadata`"
            )
        notices.append(
            f"the columns {', '.join(differing)} have different values for one prompt, such as {quoted(prompt)} in "
            f"{name!r}, and were left out of the metadata"
        )
    kept = {
        prompt: {name: each for name, each in about.items() if name not in differing} for prompt, about in known.items()
    }
    return {prompt: about for prompt, about in kept.items() if about}
