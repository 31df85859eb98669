"""A run keeps what its prompts were encoded to beside the store, and whoever comes later finds it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sessions import show
from trimpot.adapters import diffusion
from trimpot.runs import session
from trimpot.runs.work import ENCODED
from trimpot.setup.config import load_config

SMALL = [
    "adapter.num_inference_steps=2",
    "generations=1",
    "bucket_size=2",
    "optimizer.population_size=4",
    "group_size=4",
    "validation.num_prompts=2",
    "test.num_prompts=2",
    "by_steps.steps=[]",
    "workers=1",
]


def test_prompts_are_encoded_once_for_all_runs_of_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that it meets and no others; the next run reads them from one file, and its result is the same."""
    encode, asked = diffusion.encode_prompt, list[str]()

    def counted(pipe: Any, family: Any, prompt: str, length: int | None) -> Any:
        asked.append(prompt)
        return encode(pipe, family, prompt, length)

    monkeypatch.setattr(diffusion, "encode_prompt", counted)
    config = load_config("shapes", SMALL)
    run = session.start(config, tmp_path)
    first, shown = [*asked], show(tmp_path, run)
    assert len(set(first)) == len(first) < 30
    for path in tmp_path.glob("trimpot.sqlite*"):
        path.unlink()
    asked.clear()
    run = session.start(config, tmp_path)
    assert asked == first[:1] == [diffusion.PROBE]
    assert show(tmp_path, run)["digest"] == shown["digest"]
    assert [path.suffix for path in (tmp_path / ENCODED).iterdir() if path.is_file() and path.stat().st_size] == [
        ".safetensors"
    ]
