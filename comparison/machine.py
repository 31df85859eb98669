"""A comparison in machine-readable form: as JSON, and as a CSV table of every check."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from .gains import interval
from .results import Results
from .summary import SHARES, Summary, as_numbers, finite
from .words import description, failures, headline, stop_reasons, verdict

COLUMNS = ("contender", "seed", "images", "validation", "chosen")


def as_json(summary: Summary) -> dict[str, Any]:
    """Return the whole comparison as JSON values; a number that does not exist is null."""
    results, found = summary.results, summary.ranking
    return {
        "comparison": results.row.id,
        "created": results.row.created,
        "headline": headline(summary),
        "verdict": verdict(summary),
        "failures": failures(summary),
        "images": results.budget,
        "seeds": list(results.design.seeds),
        "leader": summary.leader,
        "contenders": {label: contender_json(summary, label) for label in results.labels},
        "pairs": [{**vars(pair), "difference": as_numbers(pair.difference)} for pair in summary.pairs],
        "ranking": {**vars(found), "groups": [list(group) for group in found.groups]} if found else None,
        "runs": [
            {
                "contender": each.contender,
                "seed": each.seed,
                "run": each.run,
                "status": each.status,
                "error": each.error,
                "gain": dict(each.gain) if each.gain else None,
                "images": each.spent,
                "stop_reason": each.stop_reason,
            }
            for each in results.courses.values()
        ],
    }


def contender_json(summary: Summary, label: str) -> dict[str, Any]:
    """Return a contender as JSON values."""
    gains, finished = summary.results.gains(label), summary.results.of(label)
    reached = {f"{share:g}": summary.expected(label, share) if finished else None for share in SHARES}
    return {
        "finished": len(finished),
        "gain": as_numbers(summary.gains[label]) if finished else None,
        "median": float(np.median(gains)) if finished else None,
        "lowest": float(gains.min()) if finished else None,
        "highest": float(gains.max()) if finished else None,
        "validation": as_numbers(interval([each.chosen[-1] for each in finished])) if finished else None,
        "images_to": {
            share: {"expected": finite(found[0]), "reached": found[1]} if found else None
            for share, found in reached.items()
        },
        "changes": summary.results.design.asked["contenders"][label],
        "description": description(summary, label),
        "stop_reasons": dict(stop_reasons(summary, label)),
    }


def as_csv(results: Results) -> str:
    """Return a CSV line for every check of every run: contender, seed, images, validation score, best so far."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for course in results.courses.values():
        for row in zip(course.images, course.validation, course.chosen, strict=True):
            writer.writerow([course.contender, course.seed, *row])
    return file.getvalue()
