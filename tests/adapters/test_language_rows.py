"""One candidate, prompt and seed is one answer of a language model, whatever else is in its batch, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tiny_language as tiny
import torch
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.checkpoints import forget_habits
from trimpot.adapters.language.options import LanguageOptions
from trimpot.engine.answer import Answer
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import ModelError
from trimpot.proofs.language import examples
from trimpot.proofs.transformers.table import quiet

PROMPTS = ("a", "what is it. ", "12+13=", "x" * 40)  # 1 to 40 tokens
SEEDS = (1, 2, 3, 4)
MODES: dict[str, dict[str, Any]] = {
    "likelihood": {},
    "greedy": {"mode": "generate", "max_new_tokens": 4},
    "drawn": {"mode": "generate", "max_new_tokens": 4, "temperature": 1.5},
}
#: Classes with windows that are shorter than the longest prompt, places counted from the mask and from the row's
#: beginning, places counted behind the one for padding, norms behind, experts, and states.
KINDS = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Gemma2ForCausalLM",
    "GPT2LMHeadModel",
    "BartForCausalLM",
    "ProphetNetForCausalLM",
    "Kosmos2TextForCausalLM",
    "MixtralForCausalLM",
    "MambaForCausalLM",
    "RwkvForCausalLM",
)
CLOSE = 2e-3  # nats: rounding in float32, in the steepest of the tiny models
#: Why the adapter refuses the tiny instance of a class.
REFUSED = (
    "sees the tokens after each place",
    "cannot be run on tokens alone",
    "does not predict one token at each place",
)
#: Classes that the library runs wrongly, each with what it does.
MISTAKEN = {"RecurrentGemmaForCausalLM": "a prompt of one token goes on from the state of the call before"}


def adapter_of(kind: str, **options: Any) -> LanguageAdapter:
    with quiet():
        model: Any = examples()[kind].build()
    if hasattr(model.config, "sliding_window"):
        model.config.sliding_window = 8
    forget_habits(model)
    adapter = LanguageAdapter(model, tiny.tokenizer(), {"id": kind}, LanguageOptions(model=kind, **options))
    adapter.take_metadata({prompt: {"answer": "is a b"} for prompt in PROMPTS})
    adapter.check_prompts(PROMPTS)
    return adapter


def apart(one: Answer, other: Answer) -> float:
    """The largest difference of two answers' log-probabilities; infinite if their tokens differ."""
    if (one.text, one.tokens) != (other.text, other.tokens):
        return float("inf")
    pairs = zip(one.likelihoods, other.likelihoods, strict=True)
    numbers = [abs(mine.logprob - yours.logprob) for mine, yours in pairs]
    return max([0.0, *numbers, *np.abs(np.subtract(one.logprobs, other.logprobs))])


def largest_difference(adapter: LanguageAdapter) -> float:
    """Make every answer alone, beside all others, in another order, and as far apart as memory would force."""
    neutral = adapter.space.defaults
    both = np.stack([neutral * 0.7, neutral])
    alone = [adapter.generate(neutral[None], Bucket((p,), (s,)))[0][0] for p, s in zip(PROMPTS, SEEDS, strict=True)]
    beside = adapter.generate(both, Bucket(PROMPTS, SEEDS))[1]
    turned: Sequence[Answer] = adapter.generate(both[::-1], Bucket(PROMPTS[::-1], SEEDS[::-1]))[0][::-1]
    adapter.largest_batch = 3
    fewer = adapter.generate(both, Bucket(PROMPTS, SEEDS))[1]
    return max(apart(*pair) for made in (beside, turned, fewer) for pair in zip(alone, made, strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_does_not_depend_on_its_batch(kind: str, mode: str) -> None:
    assert largest_difference(adapter_of(kind, **MODES[mode])) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_an_answer_of_any_covered_class_does_not_depend_on_its_batch_or_the_class_is_refused(mode: str) -> None:
    found, refused = {}, {}
    for kind in [each for each in examples() if each not in MISTAKEN]:
        try:
            with quiet():
                found[kind] = largest_difference(adapter_of(kind, **MODES[mode]))
        except ModelError as error:
            refused[kind] = str(error)
    assert {kind: apart for kind, apart in found.items() if not apart < CLOSE} == {}
    assert len(found) > 140 and {kind: why for kind, why in refused.items() if not any(x in why for x in REFUSED)} == {}


@pytest.mark.parametrize(
    ("kind", "passes"),
    [
        ("LlamaForCausalLM", [5]),
        ("GPT2LMHeadModel", [5]),
        ("BartForCausalLM", [2, 1, 1, 1]),
        ("MambaForCausalLM", [2, 1, 1, 1]),
        ("RwkvForCausalLM", [1, 1, 1, 1, 1]),
    ],
)
def test_rows_share_a_pass_where_that_changes_none(kind: str, passes: list[int]) -> None:
    adapter = adapter_of(kind, mode="generate", max_new_tokens=2)
    sizes: list[int] = []
    real = adapter.model.generate

    def watched(*args: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        sizes.append(len(input_ids))
        return real(*args, input_ids=input_ids, **kwargs)

    adapter.model.generate = watched
    adapter.generate(adapter.space.defaults[None], Bucket((*PROMPTS, "b"), (*SEEDS, 5)))
    assert sizes == passes


def test_a_model_that_sees_ahead_is_refused() -> None:
    """Its likelihoods would be those of answers that it has been shown."""
    options, source = LanguageOptions(model="m"), {"id": "m"}
    model = tiny.model("bert")  # is_decoder: true
    LanguageAdapter(model, tiny.tokenizer(), source, options)
    import transformers

    name, sizes = tiny.KINDS["bert"]
    config = getattr(transformers, f"{name}Config")(vocab_size=50, **{**sizes, "is_decoder": False})
    with quiet():
        seeing = transformers.BertLMHeadModel(config).eval()
    with pytest.raises(
        ModelError, match="this BertLMHeadModel sees the tokens after each place, so that it predicts no"
    ):
        LanguageAdapter(seeing, tiny.tokenizer(), source, options)
