"""A run on a tiny language model: its configuration, with files of sums, and a reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prompt_lists import write
from trimpot.engine.hooks import hookimpl
from trimpot.engine.seams import Objective
from trimpot.setup.plugins import Plugins


class Likely(Objective):
    """How likely the prompt's own answer is, by token."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> Any:
        return np.array([output.reference.per_token for output in outputs])


def plugins() -> Plugins:
    class Plugin:
        @hookimpl
        def register_objectives(self, register: Any) -> None:
            register("likely", Likely)

    known = Plugins()
    known.add(Plugin(), name="likely-plugin", origin="tests")
    return known


def config(folder: Path, **adapter: Any) -> dict[str, Any]:
    rows = [(f"{number}+{number + 1}=", {"answer": str(2 * number + 1)}) for number in range(24)]
    files = {
        name: str(write(folder, "jsonl", rows[start : start + 8], name))
        for name, start in (("train", 0), ("validation", 8), ("test", 16))
    }
    return {
        "adapter": {"name": "transformers", "model": str(folder / "llama"), "device": "cpu", **adapter},
        "objectives": "likely",
        "prompts": {"name": "files", "column": "prompt", **files},
        "optimizer": "cma-es",
        "generations": 8,
        "bucket_size": 8,
        "validation": {"num_prompts": 8, "every": 2},
        "test": {"num_prompts": 8},
    }
