"""How a language model is asked: formats, examples and biases, each by a route of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language as tiny
import torch
import trimpot
from applied import calibrated
from closed_form import MemoryStore, Notes
from language_run import config, plugins
from prompt_lists import write
from tiny_language import by_hand
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.options import LanguageOptions
from trimpot.calibrations.soup import soup
from trimpot.engine.bucket import Bucket, PromptSet
from trimpot.engine.calibration import Calibration
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import CalibrationError, ConfigError, ModelError, Notice
from trimpot.objectives.text.likelihoods import Margin
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.starting import start_of

QUESTION = "q {prompt}\na {answer}"
ABOUT = {
    "1+1=": {"answer": "2"},
    "2+1=": {"answer": "3"},
    "4+2=": {"answer": "6"},
    "3+3=": {"answer": "6"},
    "is it": {"answer": "so", "options": ["no", "so", "it is"]},
}
PROMPTS = PromptSet(
    ("1+1=", "2+1=", "4+2=", "view"),
    ("3+3=",),
    ("is it",),
    metadata=ABOUT,
    watched={"else": PromptSet(("x",), ("what",), ("who",))},
)


def adapter_of(kind: str = "llama", prompts: PromptSet = PROMPTS, **options: Any) -> LanguageAdapter:
    made = LanguageAdapter(
        tiny.model(kind), tiny.tokenizer(), {"id": kind, "weights": "0"}, LanguageOptions(model=kind, **options)
    )
    made.take_metadata(prompts.all_metadata)
    made.take_prompts(prompts)
    return made


def setting_of(adapter: LanguageAdapter, **values: float) -> Any:
    return adapter.space.to_vector({**next(iter(adapter.neutrals().values())), **values})[None]


def shown(adapter: LanguageAdapter) -> list[tuple[str, str]]:
    return list(adapter._manners.examples)


#: Format, whether in a chat, shots, and what the model reads before the answer and of it; ONE and TWO are the examples.
WAYS: dict[str, tuple[dict[str, Any], str, str]] = {
    "plain": ({}, "is it", "so"),
    "a question": ({"formats": [QUESTION]}, "q is it\na", " so"),
    "without a place for the answer": ({"formats": ["q {prompt}\na "]}, "q is it\na ", "so"),
    "no white space": ({"formats": ["{prompt}={answer}"]}, "is it=", "so"),
    "examples": ({"shots": [2]}, "{p1}{a1}\n\n{p2}{a2}\n\nis it", "so"),
    "examples in a format": (
        {"formats": [QUESTION], "shots": [2]},
        "q {p1}\na {a1}\n\nq {p2}\na {a2}\n\nq is it\na",
        " so",
    ),
    "a chat": ({"formats": ["chat"], "system": "c"}, "<|system|>c<|user|>is it<s>", "so"),
    "a chat after a format": ({"formats": ["q {prompt}"], "chat": True}, "<|user|>q is it<s>", "so"),
    "a chat with an example": (
        {"formats": ["chat"], "shots": [1]},
        "<|user|>{p1}<|assistant|>{a1}<|user|>is it<s>",
        "so",
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_prompt_is_asked_in_its_format_after_its_examples(name: str) -> None:
    options, context, answer = WAYS[name]
    adapter, tokens = adapter_of(**options), tiny.tokenizer()
    for at, (prompt, said) in enumerate(shown(adapter), start=1):
        context = context.replace(f"{{p{at}}}", prompt).replace(f"{{a{at}}}", said)
    [[made]] = adapter.generate(adapter.space.defaults[None], Bucket(("is it",), (0,)))
    ids = [*tokens(context)["input_ids"], *tokens(answer)["input_ids"]]
    assert made.reference is not None and made.reference.text == "so"
    wanted = by_hand(adapter.model, ids, len(tokens(answer)["input_ids"]))
    assert made.reference.logprob == pytest.approx(wanted, abs=1e-4)


def test_candidates_that_are_asked_in_other_ways_share_a_pass() -> None:
    adapter = adapter_of(shots=[0, 2], formats=["{prompt}", QUESTION, "chat"], bias_grid=[0.5], divergence=True)
    neutrals = adapter.neutrals()
    assert len(neutrals) == 12 and next(iter(neutrals)) == "shots 0, format 1, bias 0"
    population = np.stack([adapter.space.to_vector(each) for each in neutrals.values()])
    bucket = Bucket(("is it", "1+1="), (0, 0))
    together = adapter.generate(population, bucket)
    assert len({made[0].reference.logprob for made in together}) == 6
    assert len({made[0].options[0].bias for made in together}) == 7  # none, and one for each other way of asking
    for row, made in zip(population, together, strict=True):
        [alone] = adapter.generate(row[None], bucket)
        assert not any(one.differs(other, 1e-3) for one, other in zip(made, alone, strict=True))
        assert all(each.divergence == pytest.approx(0.0, abs=1e-5) for each in made)


def test_a_bias_is_a_share_of_what_an_option_is_worth_without_the_prompt() -> None:
    adapter, tokens = adapter_of(bias_grid=[0.5, 1.0], content_free="n"), tiny.tokenizer()
    assert list(adapter.neutrals()) == ["bias 0", "bias 0.5", "bias 1"]
    bucket = Bucket(("is it",), (0,))
    for share in (0.0, 0.5, -0.7):
        [[made]] = adapter.generate(setting_of(adapter, bias=share), bucket)
        for each in made.options:
            ids = [*tokens("n")["input_ids"], *tokens(each.text)["input_ids"]]
            assert each.bias == pytest.approx(share * by_hand(adapter.model, ids, each.num_tokens), abs=1e-4)
            assert each.unbiased == each.logprob - each.bias
        assert made.reference is not None and made.reference.bias == 0
        assert made.text == max(made.options, key=lambda each: each.logprob - each.bias).text
        margin = Margin("none")
        margin.prepare(ABOUT)
        no, so, it_is = (each.logprob - each.bias for each in made.options)
        assert margin.score([made], ["is it"])[0] == pytest.approx(so - max(no, it_is))


def test_a_bias_of_zero_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapter_of(bias_grid=[1.0])
    rows: list[int] = []
    real = adapter.model.forward

    def counted(*args: Any, input_ids: Any, **kwargs: Any) -> Any:
        rows.append(len(input_ids))
        return real(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(adapter.model, "forward", counted)
    adapter.generate(setting_of(adapter), Bucket(("is it",), (0,)))
    assert sum(rows) == 3
    adapter.generate(np.repeat(setting_of(adapter, bias=1.0), 2, axis=0), Bucket(("is it", "is it"), (0, 0)))
    assert sum(rows) == 3 + 2 * 2 * 3 + 2 * 3  # an option is asked for without a prompt once a candidate


def test_examples_are_training_records_and_never_the_record_that_is_asked() -> None:
    adapter = adapter_of(shots=[2])
    assert {prompt for prompt, _ in shown(adapter)} == {"1+1=", "2+1=", "4+2="}  # of `view`, nobody knows the answer
    manner = adapter._manners.all[0]
    for prompt in ("1+1=", "2+1=", "4+2=", "3+3=", "is it", "of somebody else"):
        examples = adapter._manners.asked(prompt, manner).examples
        assert len(examples) == 2 and prompt not in dict(examples)
    for prompt in ("what", "who"):  # of other prompts that are only watched
        assert adapter._manners.asked(prompt, manner).examples == ()
    turned = PromptSet(PROMPTS.train[::-1], PROMPTS.validation, PROMPTS.test, metadata=ABOUT)
    assert shown(adapter_of(prompts=turned, shots=[2])) == shown(adapter)


def test_other_examples_are_another_adapter() -> None:
    others = PromptSet(("1+1=", "2+1=", "3+3="), ("4+2=",), ("is it",), metadata=ABOUT)
    one, other = (adapter_of(prompts=each, shots=[0, 2]) for each in (PROMPTS, others))
    assert one.describe() != other.describe()
    one, other = (adapter_of(prompts=each) for each in (PROMPTS, others))
    assert one.describe() == other.describe()
    assert adapter_of(mode="generate", shots=[1]).takes_metadata and not adapter_of(mode="generate").takes_metadata


def test_a_text_ends_where_another_example_would_follow() -> None:
    adapter = adapter_of(mode="generate", max_new_tokens=8, shots=[0, 1])
    adapter.model.lm_head = torch.nn.Linear(32, adapter.model.config.vocab_size)
    torch.nn.init.zeros_(adapter.model.lm_head.weight)
    adapter.model.lm_head.bias.data[tiny.tokenizer()("\n")["input_ids"]] = 99.0  # it says nothing but ends of lines
    population = np.concatenate([setting_of(adapter), setting_of(adapter, shots=1)])
    [[bare], [after_examples]] = adapter.generate(population, Bucket(("3+3=",), (0,)))
    assert bare.text == "\n" * 8 and not bare.ended
    assert after_examples.text == "" and after_examples.ended


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"formats": ["a question"]}, "the format 'a question' must hold {prompt} once, or be the word chat"),
        ({"formats": ["{prompt} {prompt}"]}, "must hold {prompt} once"),
        ({"formats": ["{answer} {prompt}"]}, "must end in {answer}, or leave it out"),
        ({"formats": ["{prompt} {answer}."]}, "must end in {answer}, or leave it out"),
        ({"formats": ["{prompt} {answer} {answer}"]}, "must end in {answer}, or leave it out"),
        ({"formats": ["{prompt}", "{prompt}"]}, "formats holds '{prompt}' twice; leave one out"),
        ({"formats": ["chat"], "chat": True}, "chat: true makes every format a message of a chat; leave out chat"),
        ({"formats": [QUESTION], "chat": True}, "in a chat, the answer is the reply; leave {answer} out of the format"),
        ({"system": "c", "formats": ["{prompt}"]}, "system is a message of a chat; set chat: true"),
        ({"shots": [1, 1]}, "shots holds 1 twice; leave one out"),
        ({"shots": [0, 3]}, "shots: 3 needs 4 different training prompts with an answer, so that none is its own"),
        ({"shots": [2], "max_prompt_tokens": 12}, "and at most 12 fit; shorten it, or give fewer shots"),
        ({"bias_grid": [0.5, 0.5]}, "bias_grid holds 0.5 twice; leave one out"),
        ({"mode": "generate", "bias_grid": [0.5]}, "bias_grid is of mode: likelihood, and the mode is generate"),
        ({"content_free": "n"}, "content_free is for a bias of options; set bias_grid, or leave content_free out"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(options: Any, said: str) -> None:
    prompts = PromptSet(PROMPTS.train[:3], ("3+3=",), ("is it",), metadata=ABOUT)
    with pytest.raises(ModelError) as refused:
        adapter_of(prompts=prompts, **options).check_prompts(prompts.all)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_bias_without_options_a_choice_that_is_none_and_examples_without_records_are_one_sentence() -> None:
    bare = PromptSet(("1+1=",), ("2+1=",), ("3+3=",), metadata=ABOUT)
    with pytest.raises(ModelError, match="bias_grid is for prompts with options, and no prompt has any"):
        adapter_of(prompts=bare, bias_grid=[0.5]).check_prompts(bare.all)
    adapter = adapter_of(shots=[0, 2])
    with pytest.raises(ModelError, match="shots is 1, and the choices are 0, 2"):
        adapter.generate(setting_of(adapter, shots=1), Bucket(("is it",), (0,)))
    options = LanguageOptions(model="llama", shots=(1,))
    alone = LanguageAdapter(tiny.model("llama"), tiny.tokenizer(), {"id": "llama"}, options)
    alone.take_metadata(ABOUT)
    with pytest.raises(ModelError, match="shots: 1 shows training prompts with their answers, and none are known"):
        alone.generate(alone.space.defaults[None], Bucket(("is it",), (0,)))


def test_the_best_way_of_asking_is_chosen_on_validation_prompts_and_kept(tmp_path: Path) -> None:
    tiny.folder(tmp_path / "llama")
    further = {"shots": [0, 1], "formats": ["{prompt}", QUESTION], "bias_grid": [0.5], "max_prompt_tokens": 60}
    values = {**config(tmp_path, **further), "generations": 2}
    rows = [(f"{n}=", {"answer": str(n), "options": [str(n), "x"]}) for n in range(8)]
    write(tmp_path, "jsonl", rows, "train")
    run, store = assemble("llama-1", load_config(values), plugins()), MemoryStore()
    outline = assemble("", load_config(values), plugins(), outline=True)
    assert outline.adapter.space.fingerprint == run.adapter.space.fingerprint
    outcome = calibrate(run, store, Notes())
    grid = outcome.baseline.grid
    assert len(grid) == 8 and outcome.baseline.score == max(grid.values()) and len(set(grid.values())) == 4
    made = {place: store.evaluations[key] for (_, place), key in store.keys.items()}
    ways = {
        tuple(each.setting[name] for name in ("shots", "format")) for p, each in made.items() if p.stage == "search"
    }
    assert ways == {tuple(outcome.baseline.setting[name] for name in ("shots", "format"))}
    assert len({each.setting["bias"] for place, each in made.items() if place.stage == "search"}) > 2
    exported = run.adapter.export(outcome.calibrated, outcome.baseline.setting)["asking"]
    assert exported["bias"] == outcome.calibrated["bias"]
    assert len(exported["examples"]) == outcome.baseline.setting["shots"]


def file_of(adapter: LanguageAdapter, path: Path, **values: float) -> Path:
    setting = {**next(iter(adapter.neutrals().values())), **values}
    return calibrated(adapter, setting, path)  # type: ignore[arg-type]


ASKED = {"shots": [0, 2], "formats": ["{prompt}", QUESTION], "bias_grid": [0.5]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"formats": ["{prompt}", "so {prompt}"]}, "asked with format 'q {prompt}"),
        ({"formats": ["{prompt}", "chat"]}, "asked with chat None, and the adapter's with True"),
        ({"content_free": "n"}, "asked with content_free 'N/A', and the adapter's with 'n'"),
        ({"prompts": PromptSet(("1+1=", "3+3=", "4+2="), ("2+1=",), ("is it",), metadata=ABOUT)}, "shows others"),
    ],
)
def test_a_calibration_is_measured_as_it_was_asked_or_not_at_all(changes: Any, said: str, tmp_path: Path) -> None:
    file = file_of(adapter_of(**ASKED), tmp_path / "calibration.json", shots=2, format=2, bias=0.7)
    same = adapter_of(**ASKED)
    assert start_of(str(file), same, exactly=True)["shots"] == 2
    with pytest.raises(ConfigError) as refused:
        start_of(str(file), adapter_of(**{**ASKED, **changes}), exactly=True)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_an_applied_calibration_tells_how_it_was_asked_and_asks_so(tmp_path: Path) -> None:
    adapter = adapter_of(**ASKED)
    file = file_of(adapter, tmp_path / "calibration.json", shots=2, format=2, bias=0.7)
    told = "measured with 2 examples before each prompt and the format .* and 0.7 of each option's log-likelihood"
    with pytest.warns(Notice, match=told):
        applied = trimpot.load_calibration(tiny.model("llama"), file)
    text = applied.asked("is it")
    examples = [f"q {prompt}\na {answer}\n\n" for prompt, answer in shown(adapter)[:2]]
    assert text == "".join(examples) + "q is it\na"
    file = file_of(adapter_of(chat=True, system="c"), tmp_path / "chat.json")
    applied = trimpot.load_calibration(tiny.model("llama"), file)  # nothing to tell
    assert applied.asked("a") == [{"role": "system", "content": "c"}, {"role": "user", "content": "a"}]
    file = file_of(adapter_of(), tmp_path / "plain.json")
    assert "asking" not in Calibration.load(file).apply
    assert trimpot.load_calibration(tiny.model("llama"), file).asked("a") == "a"


def test_calibrations_are_mixed_only_if_they_are_asked_in_one_way(tmp_path: Path) -> None:
    one, other, third = (
        Calibration.load(file_of(adapter_of(**ASKED), tmp_path / f"{n}.json", shots=shots, format=2, bias=bias))
        for n, (shots, bias) in enumerate([(2, 0.4), (2, 1.0), (0, 0.0)])
    )
    mixed = soup([one, other], [0.5, 0.25], name="mixed")
    assert mixed.setting["shots"] == mixed.setting["format"] == 2
    assert mixed.setting["bias"] == mixed.apply["asking"]["bias"] == pytest.approx(0.5 * 0.4 + 0.25 * 1.0)
    assert mixed.apply["asking"]["examples"] == one.apply["asking"]["examples"]
    with pytest.raises(CalibrationError, match="they differ in examples"):
        soup([one, third], name="mixed")
