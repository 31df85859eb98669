"""A whole run on a tiny language model, from files of records to the choice of a setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language as tiny
from closed_form import MemoryStore, Notes
from prompt_lists import write
from trimpot.engine.hooks import hookimpl
from trimpot.engine.loop import calibrate
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ModelError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
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


def test_a_run_says_how_much_likelier_answers_become(tmp_path: Path) -> None:
    tiny.folder(tmp_path / "llama")
    run = assemble("llama-1", load_config(config(tmp_path)), plugins())
    assert run.adapter.space.names == ("layer.00.attn", "layer.00.mlp", "layer.01.attn", "layer.01.mlp")
    outcome = calibrate(run, MemoryStore(), Notes())
    prompts, space = run.test_bucket, run.adapter.space
    settings = np.stack([space.to_vector(outcome.calibrated), space.defaults])
    after, before = (
        Likely().score(made, prompts.prompts) for made in run.adapter.generate_each(settings, [prompts] * 2)
    )
    assert outcome.comparisons[0].gain.mean == pytest.approx(float(np.mean(after - before)), abs=1e-4)
    judged = run.validation_bucket
    after, before = (Likely().score(made, judged.prompts) for made in run.adapter.generate_each(settings, [judged] * 2))
    assert np.mean(after) > np.mean(before)


def test_a_prompt_that_cannot_be_answered_is_refused_before_the_run_begins(tmp_path: Path) -> None:
    tiny.folder(tmp_path / "llama")
    asked = config(tmp_path)
    write(tmp_path, "jsonl", [(f"{number}=", {"reply": "1"}) for number in range(8)], "test")
    with pytest.raises(ModelError, match="the prompt '0=' has neither an answer nor options"):
        assemble("llama-1", load_config(asked), plugins())


def test_a_plan_needs_no_weights(tmp_path: Path) -> None:
    tiny.folder(tmp_path / "llama")
    whole = assemble("", load_config(config(tmp_path)), plugins())
    (tmp_path / "llama" / "model.safetensors").write_bytes(b"")
    outline = assemble("", load_config(config(tmp_path)), plugins(), outline=True)
    assert outline.adapter.space.fingerprint == whole.adapter.space.fingerprint
    assert outline.adapter.uses_seed is False
