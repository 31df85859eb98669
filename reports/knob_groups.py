"""Grouping knobs for figures by the member, branch and depth in their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_MEMBER = re.compile(r"(member\d+)\.(.+)")
_NUMBERED = re.compile(r"([A-Za-z_]*)(\d+)")


@dataclass
class KnobGroups:
    """Knobs, grouped and ordered for drawing.

    Attributes:
        by_depth: Panel (member, or empty) to line (branch and stream) to depth and knob name.
        single: Knobs without a depth: output weights and plain names.
        starts: Depth at which each kind of block begins, in order.
    """

    by_depth: dict[str, dict[str, list[tuple[int, str]]]] = field(default_factory=dict)
    single: list[str] = field(default_factory=list)
    starts: dict[str, int] = field(default_factory=dict)


def group_knobs(names: Iterable[str]) -> KnobGroups:
    """Group knobs by the parts of their names.

    `member1.double.07.attn.image` belongs to the panel `member1` and the line `attn.image`, at depth 7;
    `single.12` belongs to the line `single`, after the last double block. A name without a number has no depth.

    Args:
        names: Knob names in vector order.
    """
    groups = KnobGroups()
    placed: list[tuple[str, str, str, int, str]] = []
    for name in names:
        match = _MEMBER.fullmatch(name)
        panel, rest = (match[1], match[2]) if match else ("", name)
        found = _depth(rest.split("."))
        if found is None:
            groups.single.append(name)
        else:
            placed.append((panel, *found, name))
    deepest: dict[str, int] = {}
    for _, kind, _, number, _ in placed:
        deepest[kind] = max(deepest.get(kind, 0), number)
    start = 0
    for kind, last in deepest.items():
        groups.starts[kind] = start
        start += last + 1
    for panel, kind, line, number, name in placed:
        lines = groups.by_depth.setdefault(panel, {})
        lines.setdefault(line, []).append((groups.starts[kind] + number, name))
    for lines in groups.by_depth.values():
        for points in lines.values():
            points.sort()
    return groups


def _depth(words: list[str]) -> tuple[str, str, int] | None:
    """Return kind of block, line and number of a name, or None if the name has no number."""
    for position, word in enumerate(words):
        match = _NUMBERED.fullmatch(word)
        if match is None:
            continue
        kind = ".".join([*words[:position], *([match[1]] if match[1] else [])]) or "knob"
        return kind, ".".join(words[position + 1 :]) or kind, int(match[2])
    return None
