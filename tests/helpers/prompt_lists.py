"""Prompt files for tests: written in every format, and mutated by a seed."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimpot.ground.errors import Notice, TrimpotError
from trimpot.ground.listings import LONGEST_EXACT
from trimpot.prompts.files import prompt_files

ROWS = [("a cat, sitting", {"kind": "animals"}), ("a dog", {"kind": "animals"}), ("a hut", {"kind": "houses"})]
Rows = Sequence[tuple[str, Mapping[str, Any]]]


def _txt(rows: Rows) -> bytes:
    return "".join(re.sub(r"^(?=\\*#)", r"\\", prompt) + "\n" for prompt, _ in rows).encode()


def _table(rows: Rows, delimiter: str) -> bytes:
    columns = ["Prompt", *dict.fromkeys(name for _, metadata in rows for name in metadata)]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, restval="", delimiter=delimiter)
    writer.writeheader()
    writer.writerows({"Prompt": prompt, **metadata} for prompt, metadata in rows)
    return file.getvalue().encode()


def _unquoted(rows: Rows) -> bytes:
    columns = ["Prompt", *dict.fromkeys(name for _, metadata in rows for name in metadata)]
    lines = [[prompt, *(str(metadata.get(name, "")) for name in columns[1:])] for prompt, metadata in rows]
    return "".join("\t".join(cells) + "\n" for cells in [columns, *lines]).encode()


def _json(rows: Rows) -> bytes:
    return json.dumps([{"prompt": prompt, **metadata} for prompt, metadata in rows], indent=1).encode()


def _jsonl(rows: Rows) -> bytes:
    lines = (json.dumps({**metadata, "prompt": prompt}, ensure_ascii=False) for prompt, metadata in rows)
    return "\n".join(lines).encode()


def _columns(rows: Rows) -> bytes:
    names = dict.fromkeys(name for _, metadata in rows for name in metadata)
    columns = {name: [metadata.get(name) for _, metadata in rows] for name in names}
    return json.dumps({"prompt": [prompt for prompt, _ in rows], **columns}).encode()


def _identified(rows: Rows) -> bytes:
    return json.dumps({f"{n:04}": {"prompt": prompt, **metadata} for n, (prompt, metadata) in enumerate(rows)}).encode()


def _parquet(rows: Rows) -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([{"prompt": prompt, **metadata} for prompt, metadata in rows]), file)
    return file.getvalue()


#: A name's end to what writes such a file; the second part of `json columns` and the like only tells layouts apart.
WRITERS: dict[str, Callable[[Rows], bytes]] = {
    "txt": _txt,
    "csv": lambda rows: _table(rows, ","),
    "csv semicolons": lambda rows: _table(rows, ";"),
    "tsv": lambda rows: _table(rows, "\t"),
    "tsv unquoted": _unquoted,
    "json": _json,
    "json columns": _columns,
    "json identified": _identified,
    "jsonl": _jsonl,
    "parquet": _parquet,
}


def write(folder: Path, layout: str, rows: Rows, name: str = "prompts") -> Path:
    """A file of these prompts in a layout of `WRITERS`."""
    path = folder / f"{name}.{layout.partition(' ')[0]}"
    path.write_bytes(WRITERS[layout](rows))
    return path


_PIECES = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b"\n\n", b'"', b'""', b"\\", b"{", b"}", b"[", b"]",
    b",", b"\t", b";", b"#", b"\\#", b":", b"null", b"NaN", b"1e999", b"\xe2\x80\xa8", b"\x0c", b"\x1b[31m", b"\\ud800",
    b"PAR1", b"prompt", b'"prompt": 1,', b'"prompt": "x",', b"9" * 5000, b"[" * 3000, b"a" * 30_000,
)  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The same file after one to five accidents: bytes flipped, cut out, repeated, or strange pieces put in."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        at, end = sorted(rng.randint(0, len(made)) for _ in range(2))
        accident = rng.choice(("flip", "cut", "repeat", "insert", "insert", "truncate"))
        if accident == "flip" and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif accident == "cut":
            del made[at : min(end, at + 20)]
        elif accident == "repeat":
            made[at:at] = made[at : min(end, at + 200)]
        elif accident == "truncate" and rng.random() < 0.3:
            del made[at:]
        else:
            made[at:at] = rng.choice(_PIECES)
    return bytes(made)


def told(make: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What it makes, and the sentences it says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = make()
    assert all(issubclass(each.category, Notice) for each in caught)
    return made, [str(each.message) for each in caught]


def accident(folder: Path, seed: int) -> None:
    """One file after accidents: its prompts are text, or it is refused in one sentence."""
    rng = random.Random(seed)
    rows = [*ROWS, ('"Go!" on a banner', {"kind": "writing"}), ("#1 mug", {"kind": "things"}), ("süß", {"kind": "ü"})]
    path = write(folder, rng.choice(list(WRITERS)), rows)
    path.write_bytes(mutated(path.read_bytes(), rng))
    others = {name: write(folder, "txt", [(f"kept for {name}", {})], name) for name in ("validation", "test")}
    try:
        made, _ = told(lambda: prompt_files(train=path, **others))
    except TrimpotError as error:
        assert "\n" not in str(error), (seed, str(error))
        return
    assert made.train, seed
    for prompt in made.all:
        assert prompt.strip() and len(prompt) <= LONGEST_EXACT and prompt.encode(), (seed, prompt)
    assert json.loads(json.dumps(made.metadata, allow_nan=False)) == made.metadata and made.fingerprint, seed
