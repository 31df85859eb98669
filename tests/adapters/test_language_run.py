"""A whole run on a tiny language model, from files of records to the choice of a setting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_language as tiny
from closed_form import MemoryStore, Notes
from language_run import Likely, config, plugins
from prompt_lists import write
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import ModelError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config


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
