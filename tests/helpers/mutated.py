"""A seeded mutator of JSON files: what a careless hand, a bad disk and a bad program make of one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1e-300, 0.5, -3, 2**31, 2**63, 10**30, 1e99, 1e101, 1e308, -1e308, "", "1", "NaN",
    "\x00", "é" * 200, [], {}, [[]], [1, 2], {"a": 1}, float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
TOKENS = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "0x10", "1_000", "'a'", "undefined", "\\ud800", "//")


def mutations(text: str, number: int, seed: int = 0) -> Iterator[bytes]:
    """Changed copies of a JSON file, the same ones for a seed.

    Args:
        text: The file.
        number: How many.
        seed: Of the choices.
    """
    random_ = random.Random(seed)
    for _ in range(number):
        yield random_.choice(KINDS)(text, random_)


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each key of it."""
    pairs = list(values.items() if isinstance(values, dict) else enumerate(values))
    for key, value in pairs:
        yield values, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _dumped(values: Any) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _another_value(text: str, random_: random.Random) -> bytes:
    values = json.loads(text)
    container, key = random_.choice(list(_places(values)))
    container[key] = random_.choice(WRONG)
    return _dumped(values)


def _another_number(text: str, random_: random.Random) -> bytes:
    values = json.loads(text)
    numbers = [(at, key) for at, key in _places(values) if isinstance(at[key], (int, float))]
    container, key = random_.choice(numbers)
    container[key] = random_.choice([-1, 1]) * 10.0 ** random_.uniform(-12, 12)
    return _dumped(values)


def _without(text: str, random_: random.Random) -> bytes:
    values = json.loads(text)
    container, key = random_.choice(list(_places(values)))
    del container[key]
    return _dumped(values)


def _further(text: str, random_: random.Random) -> bytes:
    values = json.loads(text)
    container, key = random_.choice(list(_places(values)))
    if isinstance(container, dict):
        container[f"{key}{random_.choice(['', ' ', '2', '@9', '[9]', '.x'])}x"] = container[key]
    else:
        container.extend([container[key]] * random_.choice([1, 100]))
    return _dumped(values)


def _renamed(text: str, random_: random.Random) -> bytes:
    """An address of a module, a number of an item, a name."""
    values = json.loads(text)
    named = [(at, key) for at, key in _places(values) if isinstance(at, dict)]
    container, key = random_.choice(named)
    other = random_.choice([f"{key}@9", f"{key}[7]", key[:-1], key.upper(), key.replace("0", "9"), f"../{key}"])
    renamed = {other if name == key else name: value for name, value in container.items()}
    container.clear()
    container.update(renamed)
    return _dumped(values)


def _twice(text: str, random_: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    at = random_.choice([index for index, line in enumerate(lines) if '":' in line])
    return "".join([*lines[:at], lines[at].rstrip("\n").rstrip(",") + ",\n", *lines[at:]]).encode()


def _token(text: str, random_: random.Random) -> bytes:
    at = random_.choice([index for index, letter in enumerate(text) if letter.isdigit()])
    return (text[:at] + random_.choice(TOKENS) + text[at + 1 :]).encode("utf-8", "surrogatepass")


def _bytes(text: str, random_: random.Random) -> bytes:
    found = bytearray(text.encode())
    for _ in range(random_.choice([1, 1, 1, 5, 50])):
        found[random_.randrange(len(found))] = random_.randrange(256)
    return bytes(found)


def _cut(text: str, random_: random.Random) -> bytes:
    begin, end = sorted(random_.choices(range(len(text)), k=2))
    return (text[:begin] + text[end:]).encode()


def _encoded(text: str, random_: random.Random) -> bytes:
    return text.encode(random_.choice(["utf-8-sig", "utf-16", "utf-32", "utf-16-be"]))


def _nested(text: str, random_: random.Random) -> bytes:
    depth = random_.choice([10, 40, 1_000, 100_000])
    values = json.loads(text)
    container, key = random_.choice(list(_places(values)))
    container[key] = "@deep@"
    opening, closing = random_.choice([("[", "]"), ('{"a":', "}")])
    deep = opening * depth + "1" + closing * depth
    return _dumped(values).replace(b'"@deep@"', deep.encode())


KINDS: tuple[Callable[[str, random.Random], bytes], ...] = (
    _another_value, _another_number, _without, _further, _renamed, _twice, _token, _bytes, _cut, _encoded, _nested,
)  # fmt: skip
