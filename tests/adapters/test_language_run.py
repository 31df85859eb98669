"""A whole run on a tiny language model, from files of records to the choice of a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language as tiny
from closed_form import MemoryStore, Notes
from language_run import Likely, config, plugins
from prompt_lists import write
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import ModelError, TrimpotError
from trimpot.objectives.text import REWARDS
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins
from trimpot.setup.telling import unreadable

PARTS = ("train", "validation", "test")


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


WRITES: Any = {"mode": "generate", "max_new_tokens": 4}
#: What rewards of texts read, by the way in which the adapter is set: their names, and what is said of the others.
READABLE: dict[str, tuple[dict[str, Any], set[str], str]] = {
    "likelihood": (
        {},
        {"exact-match", "multiple-choice", "margin", "log-likelihood", "perplexity", "bits-per-byte"},
        "set mode: ",
    ),
    "divergence": (
        {"divergence": True},
        {"exact-match", "multiple-choice", "margin", "log-likelihood", "perplexity", "bits-per-byte", "kl-to-neutral"},
        "needs texts that the model wrote, which the adapter does not give as it is set; set mode: generate",
    ),
    "generate": (
        WRITES,
        {"exact-match", "contains", "regex", "json", "length", "repetition", "distinct-n", "refusals", "unit-tests"},
        "does not give as it is set; set mode: likelihood",
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "judge": {"url": "http://127.0.0.1:1", "model": "m"},
    "regex": {"pattern": "1"},
    "unit-tests": {"allow_execution": True},
}


@pytest.mark.filterwarnings("ignore::trimpot.ground.errors.Notice")
@pytest.mark.parametrize("way", READABLE)
def test_a_reward_that_cannot_be_computed_from_the_output_is_refused_before_the_run(tmp_path: Path, way: str) -> None:
    tiny.folder(tmp_path / "llama")
    known, (options, readable, said) = Plugins(), READABLE[way]
    adapter = known.make("adapters", "transformers", {"model": str(tmp_path / "llama"), "device": "cpu", **options})
    found = {name: unreadable(adapter, name, known.make("objectives", name, OPTIONS.get(name, {}))) for name in REWARDS}
    assert {name for name, why in found.items() if why is None} - {"judge"} == readable
    assert all(said in why and "\n" not in why for why in found.values() if why)
    assert (found["judge"] is None) is (way == "generate")


@pytest.mark.parametrize(
    ("options", "objectives", "said"),
    [
        ({}, "contains", "objective 'contains' needs texts that the model wrote, which the adapter does not"),
        (WRITES, "log-likelihood", "objective 'log-likelihood' needs how likely the answer is, which"),
        (WRITES, "multiple-choice", "needs how likely each of the options is, which"),
        ({}, "kl-to-neutral", "needs the divergence from the neutral model, which"),
        ({}, "jpeg-size", "objective 'jpeg-size' scores images and videos, and the adapter makes texts"),
        ({}, "value", "objective 'value' scores numbers, and the adapter makes texts; choose a reward of"),
        ({}, {"exact-match": {}, "entropy": {"weight": 0}}, "objective 'entropy' scores images and videos"),
        ({}, "multiple-choice", "objective 'multiple-choice' needs the `options` of every prompt"),
    ],
)
def test_such_a_run_does_not_begin(tmp_path: Path, options: dict[str, Any], objectives: Any, said: str) -> None:
    tiny.folder(tmp_path / "llama")
    asked = {**config(tmp_path, **options), "objectives": objectives}
    with pytest.raises(TrimpotError) as refused:
        assemble("llama-1", load_config(asked), plugins())
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_reward_of_texts_is_refused_for_a_backbone_of_images(tmp_path: Path) -> None:
    prompts = {"name": "files", **{part: str(write(tmp_path, "txt", [(part, {})] * 1, part)) for part in PARTS}}
    known, asked = Plugins(), {"adapter": "shapes", "objectives": "exact-match", "prompts": prompts}
    with pytest.raises(TrimpotError, match="objective 'exact-match' scores texts, and the adapter makes images"):
        assemble("shapes-1", load_config(asked), known)


def test_options_without_an_answer_have_no_likelihood_to_optimise(tmp_path: Path) -> None:
    tiny.folder(tmp_path / "llama")
    asked = {**config(tmp_path), "objectives": "log-likelihood"}
    write(tmp_path, "jsonl", [(f"{number}=", {"options": ["1", "2"]}) for number in range(8)], "test")
    with pytest.raises(TrimpotError, match="'log-likelihood' needs the `answer` of every prompt that has options"):
        assemble("llama-1", load_config(asked), plugins())


def test_statistics_of_texts_are_watched_where_there_are_texts(tmp_path: Path) -> None:
    tiny.folder(tmp_path / "llama")
    for options, watched in (({}, set()), (WRITES, {"length", "repetition", "distinct-n", "refusals"})):
        asked = {**config(tmp_path, **options), "objectives": "exact-match"}
        assert set(assemble("llama-1", load_config(asked), plugins()).objectives) == {"exact-match", *watched}


def test_a_plan_needs_no_weights(tmp_path: Path) -> None:
    tiny.folder(tmp_path / "llama")
    whole = assemble("", load_config(config(tmp_path)), plugins())
    (tmp_path / "llama" / "model.safetensors").write_bytes(b"")
    outline = assemble("", load_config(config(tmp_path)), plugins(), outline=True)
    assert outline.adapter.space.fingerprint == whole.adapter.space.fingerprint
    assert outline.adapter.uses_seed is False
