"""Find the files of prompts that a published data set consists of, in a folder or on the hub.

A data set is laid out in one of a few ways. A layout names, for each split, the patterns of the files that hold it.
Only these files are downloaded: data sets of prompts often hold many gigabytes of pictures too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from .errors import ConfigError, first_line
from .hub import hub_folder

WHOLE = "whole"  # the split of a file that holds all prompts of a data set
SPLITS = ("train", "validation", "test")
SUFFIXES = ("txt", "csv", "tsv", "json", "jsonl", "parquet")
_PAGE = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/datasets/([^/?#]+/[^/?#]+)/?", re.IGNORECASE)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Layout:
    """The places of the files of a data set in its folder.

    Attributes:
        files: Split to the patterns of its files, such as `*_train.txt`; a file counts if one pattern fits its path.
        categories: Whether the text that the first `*` of a pattern stands for is the category of the file's prompts.
    """

    files: Mapping[str, tuple[str, ...]]
    categories: bool = False

    def only(self, splits: Collection[str]) -> Layout:
        """Return the layout of some splits; files without splits belong to all."""
        files = {split: patterns for split, patterns in self.files.items() if split in (WHOLE, *splits)}
        return replace(self, files=files)

    def __str__(self) -> str:
        return " with ".join(patterns[0] for patterns in self.files.values())


class Part(NamedTuple):
    """A file of a data set, and the category of its prompts or None."""

    path: Path
    category: str | None


def _named(split: str, *others: str) -> tuple[str, ...]:
    names = (split, *others)
    plain = [f"{name}.{suffix}" for name in names for suffix in SUFFIXES]
    sharded = [pattern for name in names for pattern in (f"data/{name}-*.parquet", f"{name}/*.parquet")]
    return (*plain, *sharded)


#: The layout of any folder whose files are called by their splits; a split may be missing.
BY_SPLIT = Layout({"train": _named("train"), "validation": _named("validation", "val"), "test": _named("test")})


def find_parts(
    source: str,
    layouts: Sequence[Layout],
    name: str,
    where: str,
    revision: str | None = None,
    splits: Collection[str] = SPLITS,
) -> dict[str, list[Part]]:
    """Find the files of a data set by split.

    Args:
        source: A hub id of a data set, the address of its page, a folder, or a file that holds all prompts.
        layouts: The layouts of the data set, the preferred one first; `BY_SPLIT` is tried last.
        name: The name of the data set in error messages.
        where: The place that publishes its files, for error messages.
        revision: A branch, tag or commit on the hub; None for the default branch.
        splits: The splits that are needed; the files of no other split are downloaded.

    Returns:
        Split to files, in the order of their paths. `WHOLE` is the only split if the files have none.

    Raises:
        ConfigError: If `source` is none of these, the files cannot be downloaded, or no layout fits.
    """
    path = _path(source, name, where)
    known = [each for layout in (*layouts, BY_SPLIT) if (each := layout.only(splits)).files]
    if path is None:
        patterns = [each for layout in known for found in layout.files.values() for each in found]
        page = _PAGE.fullmatch(source)
        hub_id = page[1] if page else source
        path = hub_folder(hub_id, patterns, revision, error=ConfigError, kind="dataset")
        source = f"{hub_id}, as downloaded from the hub,"
    elif revision is not None:
        raise ConfigError(f"prompts {name!r}: {source} is not on the hub, so `revision` cannot be used; leave it out")
    if path.is_file():
        return {WHOLE: [Part(path, None)]}
    for layout in known[:-1]:
        parts = _laid_out(path, layout)
        if all(parts.values()):
            _check_categories(parts, name, source)
            return parts
    parts = {split: found for split, found in _laid_out(path, known[-1]).items() if found}
    if len(parts) == 1:
        return {WHOLE: next(iter(parts.values()))}
    if "train" in parts:
        return parts
    raise ConfigError(
        f"prompts {name!r}: {source} holds neither {' nor '.join(map(str, known))}; give the folder that holds the "
        f"files of {where}, or one file of prompts"
    )


def _path(source: str, name: str, where: str) -> Path | None:
    """Return the existing path that a source names, or None if it is the id or the address of a data set of the hub."""
    try:
        path = Path(source).expanduser()
        if source.strip() and path.exists():
            return path
    except (OSError, ValueError, RuntimeError) as error:  # too long, a character of code 0, an unknown ~user
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ConfigError(f"prompts {name!r}: source {source[:60]!r} is no path: {reason}") from None
    if _PAGE.fullmatch(source) or (_HUB_ID.fullmatch(source) and not source.startswith(".")):
        return None
    raise ConfigError(
        f"prompts {name!r}: source {source[:200]!r} is neither a folder here nor a hub id such as owner/name, nor a "
        f"file of prompts; the files are those of {where}"
    )


def _laid_out(folder: Path, layout: Layout) -> dict[str, list[Part]]:
    """Return the files of a folder that a layout names, by split."""
    found: dict[str, list[Part]] = {}
    for split, patterns in layout.files.items():
        parts = [
            Part(path, _category(path.relative_to(folder), pattern) if layout.categories else None)
            for pattern in patterns
            for path in folder.glob(pattern)
            if path.is_file()
        ]
        found[split] = sorted(dict.fromkeys(parts), key=lambda part: part.path)
    return found


def _check_categories(parts: Mapping[str, list[Part]], name: str, source: str) -> None:
    """Refuse a folder in which a category has files of only some splits, as an interrupted download leaves it."""
    categories = {split: dict.fromkeys(part.category for part in found) for split, found in parts.items()}
    for category in dict.fromkeys(each for found in categories.values() for each in found):
        for split, found in categories.items():
            if category not in found:
                raise ConfigError(
                    f"prompts {name!r}: {source} holds no {split} list of {category}, though another list of it; "
                    f"download its files again"
                )


def _category(path: Path, pattern: str) -> str:
    """Return the text that the first `*` of a pattern stands for in a path."""
    before, _, after = pattern.partition("*")
    after = after.partition("*")[0].partition("/")[0]
    return path.as_posix().removeprefix(before).partition("/")[0].removesuffix(after)


def place_of(prompt: str) -> float:
    """Return the place of a prompt from 0 to 1 by the SHA-256 digest of its text, regardless of all other prompts."""
    return int.from_bytes(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()[:6], "big") / 2**48


def in_order(prompts: Iterable[str]) -> list[str]:
    """Return the distinct prompts in the order of their places, which does not depend on the files' order."""
    return sorted(dict.fromkeys(prompts), key=lambda prompt: (place_of(prompt), prompt))
