"""Runs that are extended, and what one that was asked for as much at first must share with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closed_form import SMALL
from sessions import show
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore

SAME = ("digest", "num_evaluations", "num_images", "gain", "outcome", "stop_reason", "config", "status", "alarms")
PATIENT = {"validation": {"num_prompts": 4, "every": 3, "patience": 50}}  # 20 is no multiple of 3: a check too many


def patient(*parts: Mapping[str, Any], base: Mapping[str, Any] = SMALL) -> Any:
    values = {**base, **PATIENT}
    for part in parts:
        values = {**values, **part}
    return load_config(values)


def assert_same(folder: Path, whole: Path) -> None:
    extended, asked = show(folder), show(whole)
    for key in SAME:
        assert extended[key] == asked[key], key
    with SqliteStore(folder) as one, SqliteStore(whole) as other:
        assert one.run("hill-1").identity == other.run("hill-1").identity
        assert list(one.evaluations("hill-1")) == list(other.evaluations("hill-1"))
        steps = [[each[:1] for each in store.history("hill-1")] for store in (one, other)]
        assert steps[0] == steps[1], "in another order"
        assert [each.number for each in one.history("hill-1")] == list(range(extended["num_evaluations"]))
        assert one.sigmas("hill-1") == other.sigmas("hill-1")
    made = [json.loads((each / "hill-1" / "calibration.json").read_text()) for each in (folder, whole)]
    for each in made:
        del each["provenance"]["created"], each["checksum"]
    assert made[0] == made[1]
