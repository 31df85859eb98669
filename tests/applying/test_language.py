"""A calibration of a language model, applied to the model as transformers loads it. See docs/language-models.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language as tiny
import torch
import trimpot
from applied import calibrated
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.options import LanguageOptions
from trimpot.adapters.rows import unwrapped
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import CalibrationError, Notice
from trimpot.proofs.language import examples
from trimpot.proofs.transformers.table import quiet

IDS = torch.tensor([[5, 6, 7], [7, 8, 9]])


def made(kind: str, path: Path) -> tuple[Path, dict[str, float], LanguageAdapter]:
    """A calibration file, its setting, and the adapter that it was made with."""
    options = LanguageOptions(model=kind, mode="generate", max_new_tokens=6)
    adapter = LanguageAdapter(tiny.model(kind), tiny.tokenizer(), {"id": kind, "weights": "0"}, options)
    vector = 1 + np.random.default_rng(0).uniform(-0.8, 0.8, len(adapter.space))
    setting = adapter.space.to_setting(vector)
    return calibrated(adapter, setting, path), setting, adapter  # type: ignore[arg-type]


@torch.no_grad()
def logits(model: Any, **given: Any) -> torch.Tensor:
    found: torch.Tensor = model(**(given or {"input_ids": IDS})).logits
    return found


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "mamba"])
def test_an_applied_calibration_answers_as_it_was_measured(kind: str, tmp_path: Path) -> None:
    file, setting, adapter = made(kind, tmp_path / "calibration.json")
    prompts = ("12+13=", "what is")
    [measured] = adapter.generate(adapter.space.to_vector(setting)[None], Bucket(prompts, (0, 1)))
    model, tokens = tiny.model(kind), tiny.tokenizer()
    before = logits(model)
    applied = trimpot.load_calibration(model, file)
    for prompt, answer in zip(prompts, measured, strict=True):
        ids = tokens(prompt, return_tensors="pt")["input_ids"]
        said = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6)
        assert tuple(said[0, ids.shape[1] :].tolist())[: len(answer.tokens)] == answer.tokens
    assert not torch.equal(logits(model), before)
    torch.testing.assert_close(logits(model, inputs_embeds=model.get_input_embeddings()(IDS)), logits(model))
    applied.strength = 0
    assert torch.equal(logits(model), before)
    applied.remove()
    assert torch.equal(logits(model), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "mixtral", "mamba", "bert"])
def test_it_is_switched_off_and_on_and_removed_to_the_bit(kind: str, tmp_path: Path) -> None:
    file, setting, adapter = made(kind, tmp_path / "calibration.json")
    adapter.close()
    model = tiny.model(kind)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = logits(model)
    with trimpot.load_calibration(model, file) as applied:
        after = logits(model)
        assert not torch.equal(after, before)
        applied.disable()
        assert torch.equal(logits(model), before) and not applied.enabled
        applied.enable()
        assert torch.equal(logits(model), after)
        applied.strength = 0.5
        half = logits(model)
        assert not torch.equal(half, before) and not torch.equal(half, after)
        applied.strength = 0.0
        assert torch.equal(logits(model), before)
        applied.strength = 1.0
        assert torch.equal(logits(model), after)
    assert torch.equal(logits(model), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    middle = adapter.space.to_setting((adapter.space.to_vector(setting) + 1) / 2)
    between = calibrated(adapter, middle, tmp_path / "between.json")  # type: ignore[arg-type]
    with trimpot.load_calibration(model, between):
        torch.testing.assert_close(logits(model), half)


def test_only_a_wrapper_of_peft_is_looked_into() -> None:
    """Some language models have a `base_model` with a `model` of their own."""
    with quiet():
        model = examples()["Llama4ForCausalLM"].build()
    assert hasattr(model.base_model, "model") and unwrapped(model) is model


def test_another_model_is_refused_or_told(tmp_path: Path) -> None:
    file, _, _ = made("llama", tmp_path / "calibration.json")
    with pytest.raises(CalibrationError, match="this calibration is for a LlamaForCausalLM, the pipeline has a GPT2"):
        trimpot.load_calibration(tiny.model("gpt2"), file)
    with pytest.warns(Notice, match="its transformer's weights are not those of llama"):
        trimpot.load_calibration(tiny.model("llama", seed=1), file)
