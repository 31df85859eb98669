"""Scores by tag of the prompt, for objectives that tag prompts."""

from __future__ import annotations

from collections.abc import Mapping

from ..engine.record import Pair
from .watched import Moved, moved


def movements_by_tag(pair: Pair | None, tags: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Moved]]:
    """Return the change of every objective's score by tag; tags with a single prompt are left out.

    Args:
        pair: Neutral and calibrated on the test bucket.
        tags: Objective to prompt to tag.
    """
    if pair is None:
        return {}
    before, after = pair
    found: dict[str, dict[str, Moved]] = {}
    for name, tag_of in tags.items():
        if name not in before.scores:
            continue
        rows: dict[str, list[tuple[float, float, str]]] = {}
        for row in zip(before.scores[name], after.scores[name], before.bucket.prompts, strict=True):
            if tag := tag_of.get(row[2]):
                rows.setdefault(tag, []).append(row)
        found[name] = {
            tag: moved(*zip(*rows[tag], strict=True)) for tag in sorted(rows) if len({row[2] for row in rows[tag]}) > 1
        }
    return found
