"""Small files in every layout of every published set of prompts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prompt_lists import write

Rows = Sequence[tuple[str, Mapping[str, object]]]
Files = dict[str, bytes]
NUM = 60  # prompts of each list


def rows(*key: str, num: int = NUM) -> list[tuple[str, dict[str, object]]]:
    return [(f"{' '.join(key)} {index}", {}) for index in range(num)]


def lines(given: Rows, end: str = "\r\n") -> bytes:
    return "".join(prompt + end for prompt, _ in given).encode()


def parquet(given: Rows, column: str, **others: object) -> bytes:
    import pyarrow
    from pyarrow import parquet as format_

    file = io.BytesIO()
    entries = [{column: prompt, **others, **about} for prompt, about in given]
    format_.write_table(pyarrow.Table.from_pylist(entries), file)
    return file.getvalue()


def table(given: Rows, column: str, delimiter: str) -> bytes:
    file = io.StringIO(newline="")
    names = [column, *dict.fromkeys(name for _, about in given for name in about)]
    writer = csv.DictWriter(file, names, delimiter=delimiter)
    writer.writeheader()
    writer.writerows({column: prompt, **about} for prompt, about in given)
    return file.getvalue().encode()


COMPBENCH = {
    (category, split): rows(category, split)
    for category in ("color", "3d_spatial", "non_spatial")
    for split in ("train", "val")
}
_COMPBENCH_LISTS = {f"{category}_{split}.txt": lines(given) for (category, split), given in COMPBENCH.items()}
#: What lies beside these lists and is a part of one of them, or all of them together.
_COMPBENCH_LISTS |= {"color.txt": lines(rows("color", "all")), "color_val_seen.txt": lines(rows("color", "val")[:9])}


def _preferences(split: str) -> bytes:
    """Two rows for each prompt, with what is said of a pair of pictures."""
    pair = {"path1": "images/1.jpg", "path2": "images/2.jpg", "model1": "flux", "model2": "sd3", "confidence": 0.9}
    return json.dumps([{"prompt": prompt, **pair} for prompt, _ in rows("lake", split) for _ in range(2)]).encode()


_PARTI: Rows = [
    (prompt, {"Category": f"Kind {index % 3}", "Challenge": "Basic", "Note": "a note"})
    for index, (prompt, _) in enumerate(rows("parti"))
]
_DRAWBENCH: Rows = [(prompt, {"Category": "Colors"}) for prompt, _ in rows("draw, bench")]
_PICKED = {"image_0_uid": "x", "jpg_0": b"\xff\xd8", "user_id": 3}

#: Name of a set to layouts to files by path; every layout of a set gives the same prompts.
LAYOUTS: dict[str, dict[str, Files]] = {
    "t2i-compbench": {
        "lists": _COMPBENCH_LISTS,
        "repository": {f"examples/dataset/{name}": data for name, data in _COMPBENCH_LISTS.items()},
        "hub": {
            f"{category}_{split}/{split}-00000-of-00001.parquet": parquet(given, "text")
            for (category, split), given in COMPBENCH.items()
        }
        | {"color_val_seen/val_seen-00000-of-00001.parquet": parquet(rows("color", "val")[:9], "text")},
    },
    "hpdv3": {
        "hub": {"train.json": _preferences("train"), "test.json": _preferences("test"), "README.md": b"# HPDv3"},
        "by split": {f"{split}.txt": lines(rows("lake", split)) for split in ("train", "test")},
    },
    "parti": {
        "hub": {"PartiPrompts.tsv": table(_PARTI, "Prompt", "\t"), "README.md": b"# P2"},
        "converted": {"default/train/0000.parquet": parquet(_PARTI, "Prompt")},
        "whole": {"train.csv": table(_PARTI, "Prompt", ",")},
    },
    "drawbench": {
        "hub": {"drawbench.csv": table(_DRAWBENCH, "Prompts", ",")},
        "authors'": {"DrawBench.csv": table(_DRAWBENCH, "Prompts", ",")},
        "mirror": {"data/test-00000-of-00001.parquet": parquet(_DRAWBENCH, "prompts")},
    },
    "pickapic": {
        "hub": {
            f"data/{name}-00000-of-00001-0a1b.parquet": parquet(rows("user", name.split("_")[0]), "caption", **_PICKED)
            for name in ("train", "validation_unique", "test_unique")
        }
        | {"data/test-00000-of-00001-0a1b.parquet": parquet(rows("user", "repeated"), "caption")},
        "by split": {f"{split}.txt": lines(rows("user", split), "\n") for split in ("train", "validation", "test")},
    },
}
GENEVAL: dict[str, Files] = {
    "benchmark": {
        "evaluation_metadata.jsonl": "\n".join(
            json.dumps({"tag": "colors", "include": [{"class": name, "count": 1, "color": "red"}]}
                       | {"prompt": f"a photo of a red {name}"})
            for name in ("car", "bench", "dog")
        ).encode(),
    },
    "flow-grpo": {
        f"{split}_metadata.jsonl": "\n".join(
            json.dumps({"tag": "counting", "include": [{"class": name, "count": count}]}
                       | {"exclude": [{"class": name, "count": count + 1}]}
                       | {"prompt": f"a photo of {word} {name}s"})
            for name in names
            for count, word in ((2, "two"), (3, "three"), (4, "four"))
        ).encode()
        for split, names in (("train", ("dog", "cat", "car", "bird", "cup", "boat")), ("test", ("bear", "cat")))
    },
}  # fmt: skip


def lay(folder: Path, files: Files) -> Path:
    """Write files into a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


SINGLE: dict[str, Callable[[Path], Path]] = {
    suffix: lambda folder, suffix=suffix: write(folder, suffix, rows("single"))  # type: ignore[misc]
    for suffix in ("txt", "csv", "tsv", "json", "jsonl", "parquet")
}
