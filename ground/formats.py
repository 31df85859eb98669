"""Read the records of a file of prompts, in each format.

A record is a prompt, or a mapping from column names to values, with the place where it stands: its line in the text or
its position in a list.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .extras import require

Record = tuple[str, "str | Mapping[str, Any]"]

LARGEST = 1 << 30  # bytes of a text file; the largest published set of prompts is ten times smaller
PARQUET = b"PAR1"
_FOREIGN = (
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
    (b"PK\x03\x04", "is a zip archive, perhaps a spreadsheet; unpack it, or export it as CSV"),
    (b"ARROW1", "is an Arrow file; save it as Parquet"),
    (b"SQLite format 3", "is an SQLite database; export its prompts as CSV"),
    (b"version https://git-lfs", "is a Git LFS pointer and not the file itself; fetch that with `git lfs pull`"),
    (b"<!doctype html", "is a web page; download the raw file"),
    (b"<html", "is a web page; download the raw file"),
)
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SURROGATE, _HALF = re.compile("[\ud800-\udfff]"), re.compile(r"\\u[dD][89a-fA-F]")


def contents(path: Path) -> bytes | None:
    """Return the bytes of a text file, or None if the file is Parquet, which `parquet_records` reads.

    Raises:
        ConfigError: If the file cannot be read, or is of a kind that holds no prompts.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"cannot read the prompt file {path}: it is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise ConfigError(f"cannot read the prompt file {path}: it is a device or a pipe; copy it into a file")
        with path.open("rb") as file:
            start = file.read(64)
            if start.startswith(PARQUET):
                return None
            for mark, sentence in _FOREIGN:
                if start.lower().startswith(mark.lower()):
                    raise ConfigError(f"{path} {sentence}")
            if path.stat().st_size > LARGEST:
                raise ConfigError(f"{path} has more than {LARGEST >> 20} MiB of text; keep the prompts you need")
            return start + file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read the prompt file {path}: {reason}") from None


def decoded(data: bytes, path: Path) -> str:
    r"""Decode the bytes of a text file, remove a byte order mark, and end every line with \n.

    Raises:
        ConfigError: If the bytes are not UTF-8 text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            raise ConfigError(f"{path} is text in {encoding}; save it as UTF-8")
    if b"\0" in data:
        zeros = sorted((data[0::2].count(0), data[1::2].count(0)))
        wide = zeros[0] == 0 and zeros[1] > len(data) // 4
        kind = "looks like text in UTF-16; save it as UTF-8" if wide else "is no text: it holds zero bytes"
        raise ConfigError(f"{path} {kind}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path} is not UTF-8 text: line {line} holds the byte {data[error.start]:#04x}, as text in Latin-1 or "
            f"Windows-1252 does; save it as UTF-8"
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def line_records(text: str) -> Iterator[tuple[str, str]]:
    r"""Yield every line that is not blank with its place; only \n ends a line, not U+2028 or a form feed."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip("\ufeff \t"):
            yield f"line {number}", line.lstrip("\ufeff")


def table_records(text: str, path: Path, preferred: str) -> Iterator[Record]:
    """Yield a record for every row of a table whose first line names the columns.

    Args:
        text: The text of the file.
        path: The file, for error messages.
        preferred: The separator to use if the first line fits several.

    Raises:
        ConfigError: If a row does not have as many cells as the table has columns, or quotes do not match.
    """
    first = next((line for line in text.split("\n") if line.strip()), "")
    try:
        counts = {mark: len(next(csv.reader([first], delimiter=mark))) for mark in (preferred, *",\t;|")}
        delimiter = preferred if counts[preferred] > 1 else max(counts, key=lambda mark: counts[mark])
        rows = _rows(text, delimiter)
        columns = [name.strip() for name in next(rows, (0, []))[1]]
        twice = [name for name in columns if name and columns.count(name) > 1]
        if twice:
            raise ConfigError(f"{path} names the column {twice[0]!r} twice; rename one of them")
        for number, cells in rows:
            if len(cells) != len(columns):
                raise ConfigError(
                    f"line {number} of {path} has {len(cells)} cells where its first line names {len(columns)} "
                    f"columns; a prompt that holds {delimiter!r} must stand in quotes"
                )
            yield f"line {number}", {name: cell for name, cell in zip(columns, cells, strict=True) if name and cell}
    except csv.Error as error:
        raise ConfigError(f"{path} is no table as its name says: {error}; check its quotes") from None


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of every row, with the row's line number.

    Tab-separated files are often written without quoting, and a quotation mark is then a part of the prompt. So if
    every line has as many cells as the first, only quotation marks that enclose a whole cell are removed.
    """
    if delimiter == "\t":
        lines = [(number, line.split("\t")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        width = len(lines[0][1]) if lines else 0
        if width > 1 and all(len(cells) == width for _, cells in lines):
            for number, cells in lines:
                yield number, [_unquoted(cell) for cell in cells]
            return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    for cells in reader:
        if len(cells) > 1 or any(map(str.strip, cells)):
            yield reader.line_num, cells


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell


def json_records(text: str, path: Path, names: Sequence[str]) -> Iterator[Record]:
    """Yield a record for every entry of a JSON list, or for every value of a text of several, such as JSON lines.

    A single JSON object may hold the list, or one list for each column, or one object for each identifier.

    Args:
        text: The text of the file.
        path: The file, for error messages.
        names: The names that the column of prompts may have.

    Raises:
        ConfigError: If the text is not JSON, or holds anything but strings and objects.
    """
    values = list(_json_values(text, path))
    records = [(f"line {number}", value) for number, value in values]
    if len(values) == 1:
        found = values[0][1]
        if isinstance(found, Mapping):
            found = _entries(found, names)
            if found is None:
                raise ConfigError(
                    f"{path} is a JSON object that holds no list of prompts; give a list of strings or of objects"
                )
        entries = found if isinstance(found, list) else [found]
        records = [(f"entry {number}", entry) for number, entry in enumerate(entries, 1)]
    for place, record in records:
        if not isinstance(record, (str, Mapping)):
            raise ConfigError(
                f"{place} of {path} is a JSON {type(record).__name__}; give strings, or objects with a prompt"
            )
        yield place, record


def _json_values(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Yield consecutive JSON values, each with the number of the line that it begins in."""
    decoder, blank = json.JSONDecoder(object_pairs_hook=_without_repeats), re.compile(r"[ \t\n]*")
    at = line = 0
    begin = _after(blank, text, 0)
    while begin < len(text):
        line += text.count("\n", at, begin)
        try:
            value, at = decoder.raw_decode(text, begin)
            if _HALF.search(text, begin, at) and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
                raise ValueError("it holds half a character, such as \\ud83d alone")
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is not valid JSON in line {error.lineno}: {error.msg}") from None
        except RecursionError:
            raise ConfigError(f"{path} is nested too deep to be a list of prompts") from None
        except ValueError as error:
            raise ConfigError(f"{path} cannot be read as JSON from line {line + 1} on: {error}") from None
        yield line + 1, value
        line += text.count("\n", begin, at)
        begin = _after(blank, text, at)


def _after(blank: re.Pattern[str], text: str, at: int) -> int:
    match = blank.match(text, at)
    return match.end() if match else at


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _entries(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the list of records that a single JSON object holds, or None if it holds none."""
    named = [name for name in found if name.strip().casefold() in names]
    nested = any(isinstance(value, (list, Mapping)) for value in found.values())
    if any(isinstance(found[name], str) for name in named) or (found and not nested):
        return [found]
    if not named and found and all(isinstance(value, Mapping) for value in found.values()):
        return list(found.values())  # one object for each identifier
    columns = {
        name: list(value.values()) if named and isinstance(value, Mapping) else value for name, value in found.items()
    }
    lists = [value for value in columns.values() if isinstance(value, list)]
    if len(lists) == 1 and not any(isinstance(value, Mapping) for value in columns.values()):
        return lists[0] if len(named) != 1 or isinstance(columns[named[0]], list) else None
    if len(lists) == len(columns) and len({len(column) for column in lists}) == 1:
        return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
    return None


def parquet_records(path: Path, wanted: Callable[[Sequence[str]], list[str]]) -> tuple[list[Record], list[str]]:
    """Read a Parquet file.

    Args:
        path: The file.
        wanted: Chooses the columns to read from the names of all columns.

    Returns:
        A record for every row, and the names of the columns left out because they hold neither text nor numbers, nor
        lists of these.

    Raises:
        MissingError: If pyarrow is not installed.
        ConfigError: If pyarrow cannot read the file.
    """
    require(f"{path}, a Parquet file,", "pyarrow")
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            asked = wanted(schema.names)
            names = [field.name for field in schema if field.name in asked and _is_plain(field.type)]
            if len(set(schema.names)) < len(schema.names):
                raise ConfigError(f"{path} has two columns with the same name; rename one of them")
            table = file.read(columns=names)
            rows = table.select([name for name in table.column_names if name in names]).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path} begins like a Parquet file, but cannot be read: {reason}") from None
    records = [(f"row {number}", _without_nulls(row)) for number, row in enumerate(rows, 1)]
    return records, [name for name in asked if name not in names]


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    if types.is_struct(kind):
        return all(_is_plain(kind.field(index).type) for index in range(kind.num_fields))
    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    asked = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return types.is_null(kind) or any(ask(kind) for ask in asked)


def _without_nulls(value: Any) -> Any:
    """Remove the nulls that Parquet stores for keys that an object lacks."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
