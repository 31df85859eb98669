"""What is put into a file of encoded prompts, and a process that does it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from trimpot.adapters.encoded_file import EncodedFile, checksum, pack


def same(one: Any, other: Any) -> bool:
    """Whether two encodings are the same to the bit, in form and numbers."""
    return checksum("", *pack(one)) == checksum("", *pack(other))


def value(number: int) -> dict[str, Any]:
    return {"embeds": torch.full((1, 4, 2), float(number), dtype=torch.bfloat16), "mask": torch.ones(1, 4).long()}


def work(folder: Path, mine: int) -> None:
    """Put and get many, beside others; end with 1 if anything but what was put is found."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = EncodedFile(folder, "x")
        for each in range(mine, mine + 60):
            key = str(each % 80)
            if not file.has(key):
                file.put(key, value(int(key)))
            found = file.get(key)
            if not same(found, value(int(key))):
                sys.exit(1)
            if each % 5 == mine % 5:
                file.join()
