"""Every option of a language model is used or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_language as tiny
from asked_models import made, refusal
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.factory import make_transformers
from trimpot.adapters.language.options import OF_MODE, LanguageOptions, mistake
from trimpot.engine.bucket import Bucket, PromptSet

WRITES: Any = {"mode": "generate", "max_new_tokens": 4}

#: For every option, options with which it is used, beside those of the mode: answers, knobs or the source change; or
#: what is said of it, where it cannot be used here.
USED: Mapping[str, dict[str, Any] | str] = {
    "model": {"model": "another"},
    "mode": WRITES,
    "granularity": {"granularity": "block"},
    "chat": {"chat": True},
    "system": {"chat": True, "system": "z"},
    "formats": {"formats": ["q {prompt}"]},
    "shots": {"shots": [1]},
    "bias_grid": {"bias_grid": [0.5]},
    "content_free": {"bias_grid": [0.5], "content_free": "so"},
    "prose": {"prose": True},
    "divergence": {"divergence": True},
    "max_new_tokens": {**WRITES, "max_new_tokens": 2},
    "temperature": {**WRITES, "temperature": 2.0},
    "top_k": {**WRITES, "temperature": 2.0, "top_k": 2},
    "top_p": {**WRITES, "temperature": 2.0, "top_p": 0.2},
    "stop": {**WRITES, "stop": ["a", "e", "i", "o", "u", "s"]},
    "max_prompt_tokens": "has 6 tokens, and at most 2 fit",
    "max_answer_tokens": "has 2 tokens, and max_answer_tokens is 1",
    "batch_size": {"batch_size": 2},
    "low": {"low": 0.5},
    "high": {"high": 1.5},
    "blocks": {"blocks": {"LlamaDecoderLayer": "layer: attn.text=self_attn"}},
    "revision": "is not on the hub, so it has no revision 'main'; leave the revision out",
    "dtype": {"dtype": "bfloat16"},
    "device": "there is no device 'cuda:77' here",
    "quantization": {"quantization": "torchao-int8"},
    "lora": {"lora": "lora"},
    "lora_revision": "lora_revision is of a LoRA, and there is none; give lora, or leave lora_revision out",
    "outline": {"outline": True},
}
GIVEN = {"max_prompt_tokens": 2, "max_answer_tokens": 1, "revision": "main", "device": "cuda:77", "lora_revision": "v1"}


def made_of(adapter: Any) -> Any:
    """Everything that an option can change."""
    shown = (adapter.describe(), adapter.space.names, [*map(tuple, adapter.space.bounds)], adapter.outputs_per_call)
    if not isinstance(adapter, LanguageAdapter):
        return shown
    asked = {"12+13=": {"answer": "25", "options": ["25", "31"]}, "it is": {"answer": "so", "options": ["so", "no"]}}
    records = {"12+13=": {"answer": "25"}, "it is": {}} if adapter.options.prose else asked
    adapter.take_metadata(records)
    adapter.take_prompts(PromptSet(("a", "12+13="), ("it is",), ("so",), metadata={"a": {"answer": "b"}, **records}))
    adapter.check_prompts(list(records))
    return shown, adapter.generate(adapter.space.defaults[None] * 1.1, Bucket(tuple(records), (0, 1)))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("option", LanguageOptions.model_fields)
def test_every_option_is_used_or_refused(language_folders: Callable[[str], Path], tmp_path: Path, option: str) -> None:
    known = USED[option]
    if isinstance(known, str):
        assert known in refusal(lambda: made_of(made(language_folders("llama"), **{option: GIVEN[option]})))
        return
    given = dict(known)
    if option == "quantization":
        pytest.importorskip("torchao")
    if option == "model":
        given["model"] = str(tiny.folder(tmp_path / "another", seed=1))
    if option == "lora":
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        peft.get_peft_model(tiny.model("llama"), config).save_pretrained(tmp_path / "lora")
        given["lora"] = str(tmp_path / "lora")
    beside = {name: value for name, value in given.items() if name != option}
    if option == "mode":
        beside = {}
    if option == "max_new_tokens":
        beside = WRITES  # the default is more than fits here
    plain, changed = (
        make_transformers(**{"model": str(language_folders("llama")), "device": "cpu", **each})
        for each in (beside, given)
    )
    assert made_of(plain) != made_of(changed)


def test_the_options_of_one_mode_are_refused_in_the_other() -> None:
    values: dict[str, Any] = {"top_k": 3, "top_p": 0.5, "stop": ["a"], "temperature": 1.0, "bias_grid": [0.5]}
    for mode, names in OF_MODE.items():
        other = next(each for each in OF_MODE if each != mode)
        for name in names:
            default = LanguageOptions.model_fields[name].default
            value = values.get(name, default + 1 if isinstance(default, int) and default > 1 else True)
            said = mistake(LanguageOptions(model="m", mode=other, **{name: value}))
            assert said == f"{name} is of mode: {mode}, and the mode is {other}; leave {name} out"
