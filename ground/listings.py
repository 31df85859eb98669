"""Read a file of prompts and recognize its format by its content.

    first bytes       PAR1 is Parquet; archives, databases, UTF-16 and other binary files are refused by name
    first characters  {"  [{  ["  are JSON: one value, or several values as in JSON lines
    suffix            .csv and .tsv are tables whose first line names the columns; .txt or none is one prompt per line

A notice says if the suffix and the content disagree, if a column was guessed, or if anything was left out. A file that
can be read in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ConfigError, near_misses
from .formats import Record, contents, decoded, json_records, line_records, parquet_records, table_records

KNOWN = ("prompt", "prompts", "caption", "captions", "text", "texts")
LONGEST = 20_000  # characters; a longer text is no prompt, but a file whose format was mistaken
LONGEST_EXACT = 1_000_000  # characters of a prompt that is taken exactly as its format gives it, such as prose
_LINES, _TABLES, _JSON = (
    ("", ".txt", ".text", ".list", ".lst", ".prompts"),
    (".csv", ".tsv", ".tab"),
    (".json", ".jsonl", ".ndjson"),
)
_PARQUET = (".parquet", ".pq")
_BREAKS = "\v\f\x85\u2028\u2029"
_LIKE_JSON = re.compile(r'\s*(\{\s*("|$|\})|\[\s*(["{]|$|\]))', re.MULTILINE)
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_LIKE_NAME = re.compile(r"\w[\w .#-]{0,30}")


class Row(NamedTuple):
    """A prompt, the values of the other columns of its row, and its place in the file, such as `line 3`."""

    prompt: str
    metadata: Mapping[str, Any]
    place: str = ""


@dataclass(frozen=True)
class Listing:
    """The content of a file of prompts.

    Attributes:
        path: The file.
        rows: Its prompts in order, including repeated ones.
        column: The name of the column of prompts, or None if the file has no columns.
        others: The names of the other columns.
        notices: Sentences about guesses and about lines or columns left out.
    """

    path: Path
    rows: tuple[Row, ...]
    column: str | None
    others: tuple[str, ...]
    notices: tuple[str, ...]


def read_listing(
    path: Path, column: str | None = None, others: Collection[str] | None = None, *, exact: bool = False
) -> Listing:
    """Read a file of prompts.

    Args:
        path: A file of text with one prompt per line, CSV, TSV, JSON, JSON lines or Parquet.
        column: The name of the column of prompts, in a file with columns; None looks for one of the names in `KNOWN`.
        others: The names of the other columns to read, if they are there, in any case; None reads all columns.
        exact: Whether white space around the prompts of JSON and Parquet belongs to them, as it does for a language
            model. In lines and tables it never does.

    Raises:
        ConfigError: If the file cannot be read, holds no prompts or something else, or its column of prompts is
            unknown.
    """
    notices: list[str] = []
    taken = None if others is None else {_plain(name) for name in others}
    found_records, structured = _records(path, column, notices, taken)
    records = list(found_records)
    mappings = [record for _, record in records if isinstance(record, Mapping)]
    if mappings and len(mappings) < len(records):
        raise ConfigError(f"{path} mixes strings with objects; give one or the other")
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    found = _column(list(names), column, path) if mappings else None
    read = tuple(name for name in names if name != found and (taken is None or _plain(name) in taken))
    kept = set(read)
    rows, without = [], 0
    whole = exact and structured
    for place, record in records:
        prompt = record if isinstance(record, str) else record.get(str(found))
        if prompt is None or (isinstance(prompt, str) and not _stripped(prompt)):
            without += 1
            continue
        values: Mapping[str, Any] = {} if isinstance(record, str) else record
        about = {name: values[name] for name in values if name in kept}
        rows.append(Row(_checked(prompt, place, path, exact=whole), about, place))
    if not rows:
        raise ConfigError(f"the prompt file {path} is empty; give it at least one prompt")
    if without:
        notices.append(f"{without} row(s) of {path} have no prompt and were left out")
    return Listing(path, tuple(rows), found, read, tuple(notices))


def _plain(name: str) -> str:
    return name.strip().casefold()


def _wanted(names: Sequence[str], column: str | None, taken: Collection[str] | None) -> list[str]:
    """Return the columns to read from a file that need not be read whole: all, if none is known to hold prompts."""
    asked = KNOWN if column is None else (_plain(column),)
    if taken is None or not any(_plain(name) in asked for name in names):
        return list(names)
    return [name for name in names if _plain(name) in (*asked, *taken)]


def _records(
    path: Path, column: str | None, notices: list[str], taken: Collection[str] | None
) -> tuple[Iterable[Record], bool]:
    """Read the records of a file in the format that its content shows, and say whether it is JSON or Parquet."""
    data, suffix = contents(path), path.suffix.lower()
    if data is None:
        records, unread = parquet_records(path, lambda names: _wanted(names, column, taken))
        if unread:
            notices.append(f"the columns {', '.join(unread)} of {path} hold neither text nor numbers and were left out")
        return records, True
    if suffix in _PARQUET:
        raise ConfigError(f"{path} is no Parquet file, though its name ends in {suffix}")
    text = decoded(data, path)
    if suffix in _JSON or _LIKE_JSON.match(text):
        if suffix not in _JSON:
            notices.append(f"{path} holds JSON and was read as such, though its name ends in {suffix or 'nothing'}")
        names = KNOWN if column is None else (column.casefold(),)
        return json_records(text, path, names), True
    if suffix in _TABLES:
        return table_records(text, path, "," if suffix == ".csv" else "\t"), False
    if suffix not in _LINES:
        raise ConfigError(
            f"{path} is none of the files that hold prompts: txt, csv, tsv, json, jsonl, parquet; rename it to .txt "
            f"if it holds one prompt per line"
        )
    delimiter = _names_columns(text)
    if delimiter:
        notices.append(f"the first line of {path} names columns, so it was read as a table")
        return table_records(text, path, delimiter), False
    return _lines(line_records(text), path, notices), False


def _lines(lines: Iterable[tuple[str, str]], path: Path, notices: list[str]) -> list[Record]:
    """Remove comments from lines of prompts, and the first line if it names a column."""
    kept: list[Record] = []
    comments: list[str] = []
    unusual = 0
    for place, line in lines:
        stripped = _stripped(line)
        if not kept and not comments and stripped.casefold() in KNOWN:
            notices.append(f"the first line of {path}, {stripped!r}, was taken for a heading and left out")
        elif stripped.startswith("#"):
            comments.append(stripped)
        else:
            unusual += any(mark in stripped for mark in _BREAKS)
            kept.append((place, re.sub(r"^\\(?=\\*#)", "", stripped)))
    if comments:
        notices.append(
            f"{len(comments)} line(s) of {path} that begin with # were left out as comments, such as "
            f"{comments[0][:60]!r}; write \\# for a prompt that begins so"
        )
    if unusual:
        notices.append(
            f"{unusual} prompt(s) of {path} hold form feeds or Unicode line separators; these end no line and are "
            f"part of the prompt"
        )
    return kept


def _names_columns(text: str) -> str | None:
    """Return the separator of the first line if that line names columns, or None if it is a prompt."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    for delimiter in "\t,":
        cells = [cell.strip('"') for cell in first.split(delimiter)]
        known = any(cell.casefold() in KNOWN for cell in cells)
        if len(cells) > 1 and known and all(_LIKE_NAME.fullmatch(cell) for cell in cells):
            return delimiter
    return None


def _column(names: Sequence[str], wanted: str | None, path: Path) -> str:
    """Return the name of the column that holds the prompts."""
    if wanted is not None:
        found = [name for name in names if name == wanted] or [name for name in names if _plain(name) == _plain(wanted)]
        if len(found) != 1:
            raise ConfigError(f"{path} has no column {wanted!r}; {near_misses(wanted, names)}")
        return found[0]
    found = [name for name in names if _plain(name) in KNOWN]
    if len(found) != 1:
        reason = f"{' and '.join(map(repr, found))} could" if found else f"none of {_listed(names)} is known to"
        raise ConfigError(f"{reason} hold the prompts of {path}; name its column with `column`")
    return found[0]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:8])
    return f"its columns ({shown}{', ...' if len(names) > 8 else ''})"


def _stripped(prompt: str) -> str:
    return prompt.strip().strip("\ufeff").strip()


def _checked(prompt: object, where: str, path: Path, *, exact: bool) -> str:
    """Check a prompt, and remove the white space around it unless it is taken exactly."""
    if not isinstance(prompt, str):
        raise ConfigError(f"the prompt in {where} of {path} is a {type(prompt).__name__}, {prompt!r:.60}; give text")
    stripped = prompt if exact else _stripped(prompt)
    if len(stripped) > (LONGEST_EXACT if exact else LONGEST):
        raise ConfigError(
            f"the prompt in {where} of {path} has {len(stripped)} characters; is it a file of another kind?"
        )
    strange = _NO_TEXT.search(stripped)
    if strange:
        raise ConfigError(
            f"the prompt in {where} of {path} holds the character U+{ord(strange[0]):04X}, which is no text; "
            f"is it a file of another kind?"
        )
    return stripped
