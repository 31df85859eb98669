"""The adapter for language models: the contract of adapters on tiny models, and by routes of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_language as tiny
import torch
from numpy.typing import NDArray
from tiny_language import by_hand
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.options import LanguageOptions
from trimpot.engine.answer import Answer
from trimpot.engine.bucket import Bucket, PromptSet
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import ModelError
from trimpot.testing.adapter import AdapterContract

KINDS = ("llama", "gemma2", "gpt2", "mixtral", "mamba")
PROMPTS = ("12+13=", "what is it. ", "a")
ABOUT = {
    "12+13=": {"answer": "25", "tag": "sum"},
    "what is it. ": {"answer": "a dog", "options": ["a cat", "a dog", "it is a tree"]},
    "a": {"options": ["b", "is"]},
}
LONG = 8  # tokens


def adapter_of(kind: str = "llama", about: Any = ABOUT, **options: Any) -> LanguageAdapter:
    made = LanguageAdapter(
        tiny.model(kind), tiny.tokenizer(), {"id": kind, "weights": "0"}, LanguageOptions(model=kind, **options)
    )
    made.take_metadata(about)
    made.take_prompts(PromptSet(("12+13=", "1+1="), ("b",), ("a",), metadata={"1+1=": {"answer": "2"}, **about}))
    return made


def numbers(answer: Answer) -> NDArray[np.float64]:
    """Everything that an answer says, as numbers."""
    found = [number for each in answer.likelihoods for number in (each.logprob, each.bias)]
    tokens = [*answer.tokens, *[-1] * (LONG - len(answer.tokens))]
    logprobs = [*answer.logprobs, *[0.0] * (LONG - len(answer.logprobs))]
    return np.array([*found, answer.divergence or 0.0, *tokens, *logprobs])


GENERATE = {"mode": "generate", "max_new_tokens": LONG}
DRAWN = {**GENERATE, "temperature": 1.5, "top_k": 40, "top_p": 0.98}
ASKED = {"shots": [0, 1], "formats": ["{prompt}", "q {prompt}"], "bias_grid": [0.5]}
#: Name to the model, its options, and changes that make other answers.
CASES: dict[str, tuple[str, dict[str, Any], Sequence[dict[str, Any]]]] = {
    "llama": ("llama", {"divergence": True, "batch_size": 4}, [{"divergence": False}, {"prose": True}, {"chat": True}]),
    "gemma2": ("gemma2", {}, [{"chat": True}, {"chat": True, "system": "a"}, {"granularity": "block"}]),
    "gpt2": ("gpt2", GENERATE, [{"max_new_tokens": 3}, {"stop": ["a"]}, {"chat": True}, {"temperature": 0.5}]),
    "mixtral": ("mixtral", DRAWN, [{"temperature": 1.0}, {"top_k": 5}, {"top_p": 0.5}, {"top_k": None}]),
    "mamba": ("mamba", GENERATE, []),
    "asked": ("llama", ASKED, [{"shots": [0]}, {"formats": ["{prompt}"]}, {"bias_grid": [1]}, {"content_free": "n"}]),
}


@pytest.fixture(scope="module")
def made() -> dict[str, LanguageAdapter]:
    return {name: adapter_of(kind, **options) for name, (kind, options, _) in CASES.items()}


class TestLanguageAdapter(AdapterContract):
    prompts = PROMPTS
    tolerance = 1e-4

    @pytest.fixture(params=CASES)
    def case(self, request: Any) -> str:
        return str(request.param)

    @pytest.fixture
    def adapter(self, made: dict[str, LanguageAdapter], case: str) -> Adapter:
        return made[case]

    @pytest.fixture
    def others(self, case: str) -> Sequence[Adapter]:
        kind, options, changes = CASES[case]
        return [adapter_of(kind, **{**options, **change}) for change in changes]

    def as_array(self, output: Any) -> NDArray[Any]:
        return numbers(output)


@pytest.mark.parametrize("kind", KINDS)
def test_likelihoods_are_those_of_one_token_after_the_other(kind: str) -> None:
    adapter, tokens = adapter_of(kind, batch_size=5), tiny.tokenizer()
    [answers] = adapter.generate(adapter.space.defaults[None], Bucket(PROMPTS, (0, 1, 2)))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        for each in answer.likelihoods:
            ids = tokens(prompt)["input_ids"] + tokens(each.text)["input_ids"]
            assert each.num_tokens == len(tokens(each.text)["input_ids"])
            assert each.logprob == pytest.approx(by_hand(adapter.model, ids, each.num_tokens), abs=1e-4)
    assert answers[0].reference is not None and answers[0].reference.text == "25" and not answers[0].options
    assert [each.text for each in answers[1].options] == ABOUT["what is it. "]["options"]
    assert answers[1].reference == answers[1].options[1] and answers[2].reference is None
    assert answers[1].text == max(answers[1].options, key=lambda each: each.logprob).text


def greedy(model: Any, ids: list[int], size: int) -> list[int]:
    made: list[int] = []
    with torch.no_grad():
        while len(made) < size and 2 not in made:
            made.append(int(model(input_ids=torch.tensor([ids + made])).logits[0, -1].argmax()))
    return made[: made.index(2)] if 2 in made else made


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_those_of_one_most_likely_token_after_the_other(kind: str) -> None:
    adapter, tokens = adapter_of(kind, mode="generate", max_new_tokens=LONG), tiny.tokenizer()
    [answers] = adapter.generate(adapter.space.defaults[None], Bucket(PROMPTS, (0, 1, 2)))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        made = greedy(adapter.model, tokens(prompt)["input_ids"], LONG)
        assert list(answer.tokens) == made
        assert answer.text == tokens.decode(made, skip_special_tokens=True)
        assert answer.ended is (len(made) < LONG) and len(answer.logprobs) == len(made)
        ids = tokens(prompt)["input_ids"] + made
        assert sum(answer.logprobs) == pytest.approx(by_hand(adapter.model, ids, len(made)), abs=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_scales_are_those_of_the_branches_last_weights(kind: str) -> None:
    """The independent route: multiply the output projections themselves."""
    adapter = adapter_of(kind)
    vector = 1 + 0.5 * np.random.default_rng(0).uniform(-1, 1, len(adapter.space))
    bucket = Bucket(PROMPTS, (0, 1, 2))
    [scaled] = adapter.generate(vector[None], bucket)
    plain = adapter_of(kind)
    paths = {"llama": ("self_attn.o_proj", "mlp.down_proj"), "gpt2": ("attn.c_proj", "mlp.c_proj")}[kind]
    home = {"llama": "model.layers", "gpt2": "transformer.h"}[kind]
    with torch.no_grad():
        for at, (name, scale) in enumerate(adapter.space.to_setting(vector).items()):
            module = plain.model.get_submodule(f"{home}.{at // 2}.{paths[at % 2]}")
            assert name == f"layer.{at // 2:02d}.{('attn', 'mlp')[at % 2]}"
            for parameter in module.parameters():
                parameter.mul_(scale)
    [folded] = plain.generate(plain.space.defaults[None], bucket)
    for one, two in zip(scaled, folded, strict=True):
        np.testing.assert_allclose(numbers(one), numbers(two), atol=1e-4)


def test_the_model_is_untouched_between_calls_and_in_the_end() -> None:
    adapter = adapter_of()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = adapter.model(input_ids=ids).logits
        adapter.generate(adapter.space.defaults[None] * 1.5, Bucket(PROMPTS, (0, 1, 2)))
        assert torch.equal(adapter.model(input_ids=ids).logits, before)
        adapter.close()
        assert torch.equal(adapter.model(input_ids=ids).logits, before)
    assert not any(module._forward_hooks for module in adapter.model.modules())


def test_the_divergence_is_that_of_the_whole_distributions_and_zero_at_neutral() -> None:
    adapter = adapter_of(divergence=True)
    vector = adapter.space.defaults * 1.4
    bucket = Bucket(PROMPTS[:1], (0,))
    [[neutral]], [[moved]] = (
        adapter.generate(adapter.space.defaults[None], bucket),
        adapter.generate(vector[None], bucket),
    )
    ids = tiny.tokenizer()("12+13=25")["input_ids"]
    tables = []
    for scales in (None, torch.full((1, 4), 1.4)):
        adapter._scaling.set(scales)
        with torch.no_grad():
            tables.append(adapter.model(input_ids=torch.tensor([ids])).logits[0, -3:-1].log_softmax(-1))
        adapter._scaling.set(None)
    by_hand = float((tables[0].exp() * (tables[0] - tables[1])).sum(-1).mean())
    assert neutral.divergence == pytest.approx(0.0, abs=1e-5)
    assert moved.divergence == pytest.approx(by_hand, abs=1e-5) and by_hand > 1e-3


def test_a_drawn_text_depends_on_its_own_seed_alone() -> None:
    adapter = adapter_of(mode="generate", temperature=1.0, max_new_tokens=LONG)
    assert adapter.uses_seed and not adapter_of(mode="generate").uses_seed and not adapter_of().uses_seed
    neutral = adapter.space.defaults[None]
    [many] = adapter.generate(neutral, Bucket(("a",) * 6, (1, 2, 3, 1, 4, 5)))
    [[alone]] = adapter.generate(neutral, Bucket(("a",), (3,)))
    assert many[0].tokens == many[3].tokens and many[2].tokens == alone.tokens
    assert len({each.tokens for each in many}) > 3


def test_drawn_tokens_have_the_models_probabilities() -> None:
    adapter = adapter_of(mode="generate", temperature=1.0, max_new_tokens=1, batch_size=500)
    [made] = adapter.generate(adapter.space.defaults[None], Bucket(("a",) * 2000, tuple(range(2000))))
    with torch.no_grad():
        wanted = adapter.model(input_ids=torch.tensor([tiny.tokenizer()("a")["input_ids"]])).logits[0, -1].softmax(-1)
    found = torch.zeros_like(wanted)
    for each in made:
        found[each.tokens[0] if each.tokens else 2] += 1 / len(made)
    assert float((found - wanted).abs().max()) < 4 * math.sqrt(0.25 / len(made))


def test_a_text_ends_before_the_first_stop() -> None:
    open_ended = adapter_of(mode="generate", max_new_tokens=LONG)
    bucket = Bucket(PROMPTS, (0, 1, 2))
    [whole] = open_ended.generate(open_ended.space.defaults[None], bucket)
    text = max((each.text for each in whole), key=len)
    stop = text[2:4]
    adapter = adapter_of(mode="generate", max_new_tokens=LONG, stop=[stop])
    [cut] = adapter.generate(adapter.space.defaults[None], bucket)
    for one, other in zip(whole, cut, strict=True):
        assert other.text == one.text.partition(stop)[0]
        assert other.ended is (stop in one.text or bool(one.ended))


def test_prose_is_a_text_of_its_own() -> None:
    adapter = adapter_of(about={}, prose=True)
    [[answer]] = adapter.generate(adapter.space.defaults[None], Bucket(("it is so",), (0,)))
    ids = tiny.tokenizer()("it is so")["input_ids"]
    assert answer.text == "" and answer.reference is not None and answer.reference.num_tokens == len(ids)
    assert answer.reference.logprob == pytest.approx(by_hand(adapter.model, [1, *ids], len(ids)), abs=1e-4)


def test_the_prompts_tokens_are_those_of_generating() -> None:
    """An answer does not change how its prompt is read: `i` and `s` would become one token."""
    adapter = adapter_of(about={"i": {"answer": "s"}})
    [[answer]] = adapter.generate(adapter.space.defaults[None], Bucket(("i",), (0,)))
    ids = [*tiny.tokenizer()("i")["input_ids"], *tiny.tokenizer()("s")["input_ids"]]
    assert answer.reference is not None
    assert answer.reference.logprob == pytest.approx(by_hand(adapter.model, ids, 1), abs=1e-4)


def test_a_chat_is_the_models_own_template() -> None:
    adapter = adapter_of(about={"a": {"answer": "b"}}, chat=True, system="c")
    [[answer]] = adapter.generate(adapter.space.defaults[None], Bucket(("a",), (0,)))
    ids = tiny.tokenizer()("<|system|>c<|user|>a<s>b")["input_ids"]
    assert answer.reference is not None
    assert answer.reference.logprob == pytest.approx(by_hand(adapter.model, ids, 1), abs=1e-4)


def test_an_answer_of_the_most_likely_tokens_is_said() -> None:
    adapter, tokens = adapter_of(about={}), tiny.tokenizer()
    made = greedy(adapter.model, tokens("12+13=")["input_ids"], 3)
    text = tokens.decode(made, skip_special_tokens=True)
    if tokens(text)["input_ids"] != made:
        pytest.skip("the most likely tokens are no text of their own")
    adapter.take_metadata({"12+13=": {"answer": text}})
    [[answer]] = adapter.generate(adapter.space.defaults[None], Bucket(("12+13=",), (0,)))
    assert answer.text == text and answer.reference is not None and answer.reference.greedy


@pytest.mark.parametrize(
    ("about", "options", "said"),
    [
        ({}, {}, "'a' has neither an answer nor options"),
        ({"a": {"tag": "x"}}, {}, "'a' has neither an answer nor options"),
        ({"a": {"answer": ""}}, {}, "the answer of the prompt 'a' is empty; give a text"),
        ({"a": {"answer": True}}, {}, "the answer of the prompt 'a' is True; give a text"),
        ({"a": {"answer": {"b": 1}}}, {}, "give a text"),
        ({"a": {"options": "bc"}}, {}, "the options of the prompt 'a' are 'bc'; give a list of at least two texts"),
        ({"a": {"options": ["b"]}}, {}, "give a list of at least two texts"),
        ({"a": {"options": ["b", "b"]}}, {}, "two options of the prompt 'a' are the same; leave one out"),
        ({"a": {"options": ["b", "c"], "answer": "d"}}, {}, "is none of its options; give it in the same words"),
        ({"a": {"answer": "b" * 600}}, {}, "has 600 tokens, and max_answer_tokens is 512; shorten it, or raise"),
        ({"a": {"answer": "b" * 70}}, {}, "and its answer have 71 tokens, and at most 64 fit; shorten them"),
        ({"a" * 70: {"answer": "b"}}, {}, "has 70 tokens, and at most 64 fit; shorten it"),
        ({"a": {"answer": "b"}}, {"system": "c"}, "system is a message of a chat; set chat: true, or leave system out"),
        ({}, {"mode": "generate", "prose": True}, "prose is of mode: likelihood, and the mode is generate"),
        ({}, {"mode": "generate", "divergence": True}, "divergence is of mode: likelihood"),
        ({}, {"temperature": 1.0}, "temperature is of mode: generate, and the mode is likelihood; leave temperature"),
        ({}, {"stop": ["a"]}, "stop is of mode: generate"),
        ({}, {"mode": "generate", "top_k": 3}, "top_k is for drawing tokens, and temperature: 0 draws none"),
        ({}, {"low": 1.5}, "the neutral scale 1 must lie between them"),
        ({}, {"low": 2.0, "high": 1.0}, "low is 2 and high is 1; let low be less"),
    ],
)
def test_what_cannot_be_computed_is_one_sentence(about: Any, options: Any, said: str) -> None:
    with pytest.raises(ModelError) as refused:
        made = adapter_of(about=about, **options)
        made.check_prompts(list(about) or ["a"])
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_model_that_cannot_be_scaled_or_worded_is_one_sentence() -> None:
    options, source = LanguageOptions(model="m", chat=True), {"id": "m"}
    with pytest.raises(ModelError, match="the model's tokenizer has no chat template; leave out chat"):
        LanguageAdapter(tiny.model("llama"), tiny.tokenizer(template=None), source, options)
    broken = tiny.tokenizer(template="{{ raise_exception('no system here') }}")
    with pytest.raises(ModelError, match="the model's chat template fails: no system here"):
        LanguageAdapter(tiny.model("llama"), broken, source, options)
    bare = torch.nn.Linear(2, 2)
    bare.config = tiny.model("llama").config  # type: ignore[assignment]
    with pytest.raises(ModelError, match="has no block that trimpot knows sites of"):
        LanguageAdapter(bare, tiny.tokenizer(), source, replace_chat(options))


def replace_chat(options: LanguageOptions) -> LanguageOptions:
    return options.model_copy(update={"chat": False})


def test_a_batch_that_runs_out_of_memory_is_halved_and_a_single_row_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = adapter_of(batch_size=8)
    real, most = adapter.model.forward, [2]
    adapter.generate(adapter.space.defaults[None], Bucket(PROMPTS, (0, 1, 2)))

    def small(*args: Any, input_ids: Any, **kwargs: Any) -> Any:
        if len(input_ids) > most[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(*args, input_ids=input_ids, **kwargs)

    [whole] = adapter.generate(adapter.space.defaults[None], Bucket(PROMPTS, (0, 1, 2)))
    monkeypatch.setattr(adapter.model, "forward", small)
    [halved] = adapter.generate(adapter.space.defaults[None], Bucket(PROMPTS, (0, 1, 2)))
    assert adapter.largest_batch is not None and adapter.largest_batch <= 2
    for one, other in zip(whole, halved, strict=True):
        assert not one.differs(other, 1e-3)
    most[0] = 0
    with pytest.raises(ModelError, match="not enough memory for one text at a time; choose quantization or dtype"):
        adapter.generate(adapter.space.defaults[None], Bucket(PROMPTS, (0, 1, 2)))


def test_numbers_that_are_not_finite_are_told() -> None:
    adapter = adapter_of(divergence=True)
    with torch.no_grad():
        adapter.model.lm_head.weight[5] = math.nan
    [[answer, *_]] = adapter.generate(adapter.space.defaults[None], Bucket(PROMPTS, (0, 1, 2)))
    assert not answer.finite and replace(answer.failed(), text="") == answer.failed()
