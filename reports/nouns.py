"""What is told of the outputs of a stored run: what they are called, and whether they depend on seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.nouns import noun
from ..engine.record import Record

__all__ = ["made_by", "noun", "seeded"]

OF_IMAGES, OF_TEXTS = "edge-density", "refusals"  # statistics that are always watched, each of one medium


def made_by(outcome: Mapping[str, Any] | None, record: Record) -> str | None:
    """Return what the backbone of a run makes, as its outcome says, or as the statistics that scored it show."""
    if outcome and "makes" in outcome:
        made: str | None = outcome["makes"]
        return made
    scores = record.neutral.scores if record.neutral else {}
    return "image" if OF_IMAGES in scores else "text" if OF_TEXTS in scores else None


def seeded(outcome: Mapping[str, Any] | None) -> bool:
    """Return whether the outputs of a run depend on seeds, as its outcome says."""
    return bool((outcome or {}).get("uses_seed", True))
