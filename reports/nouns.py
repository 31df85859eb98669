"""What the outputs of a run are called: images, videos, answers, or outputs if nothing more is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.record import Record

NOUNS = {"image": "images", "video": "videos", "text": "answers"}
OF_IMAGES, OF_TEXTS = "edge-density", "refusals"  # statistics that are always watched, each of one medium


def noun(makes: str | None) -> str:
    """Return what the outputs of a backbone are called; see `Adapter.makes`."""
    return NOUNS.get(str(makes), "outputs")


def made_by(outcome: Mapping[str, Any] | None, record: Record) -> str | None:
    """Return what the backbone of a run makes, as its outcome says, or as the statistics that scored it show."""
    if outcome and "makes" in outcome:
        made: str | None = outcome["makes"]
        return made
    scores = record.neutral.scores if record.neutral else {}
    return "image" if OF_IMAGES in scores else "text" if OF_TEXTS in scores else None
