"""Configurations of a built-in backbone without pictures, which runs in no time."""

from __future__ import annotations

from typing import Any

SPHERE: dict[str, Any] = {
    "adapter": {"name": "sphere", "num_knobs": 4},
    "objectives": "value",
    "prompts": "numbers",
    "optimizer": {"name": "cma-es", "population_size": 4},
    "generations": 2,
    "validation": {"num_prompts": 4},
    "test": {"num_prompts": 8},
    "bucket_size": 2,
}
SMALLER = {**SPHERE, "generations": 1, "validation": {"num_prompts": 2}, "test": {"num_prompts": 2}}
FILES = {"name": "files", "train": "train.txt", "validation": "validation.txt", "test": "test.txt"}
OF_FILES = {**SMALLER, "prompts": FILES}
