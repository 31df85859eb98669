"""Backbones that make text: their answers, what they are told of prompts, and that they may use no seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL
from prompt_lists import write
from trimpot.engine.answer import FLOOR, Answer, Likelihood, text_of
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Place
from trimpot.engine.hooks import hookimpl
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.outputs import NotFinite, checked, shown
from trimpot.engine.proof import prove
from trimpot.engine.seams import Adapter, Objective
from trimpot.ground.errors import ConfigError, ModelError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins

YES = Likelihood("yes", -0.5, 1, True)
NO = Likelihood("no, never", -6.0, 3, False)
SPOKEN = Answer("a b", (1, 2), (-0.5, -1.0), True)
CHOSEN = Answer("yes", reference=YES, options=(YES, NO), divergence=0.25)
PLACE = {stage: Place(stage, 0, 0) for stage in ("search", "validation")}


class Speaker(Adapter):
    """Says what it is told to say."""

    space = KnobSpace([Knob("loudness")])
    makes = "text"
    uses_seed = False

    def __init__(self, said: Sequence[Any] = (CHOSEN,)) -> None:
        self.said, self.calls = list(said), 0
        self.known: list[Mapping[str, Any]] = []

    def take_metadata(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        self.known.append(metadata)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            if "?" in prompt:
                raise ModelError(f"the prompt {prompt!r} is a question")

    def generate(self, population: Any, bucket: Bucket) -> list[list[Any]]:
        self.calls += 1
        return [[self.said[(self.calls - 1) % len(self.said)]] * len(bucket) for _ in population]

    def describe(self) -> dict[str, Any]:
        return {"id": "speaker"}


class Worth(Objective):
    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> Any:
        return np.array([float(len(text_of(output))) for output in outputs])


def config(folder: Path, **changed: Any) -> dict[str, Any]:
    rows = [(f"sum {number}", {"answer": str(number)}) for number in range(60)]
    files = {
        name: str(write(folder, "jsonl", rows[start : start + 20], name))
        for name, start in (("train", 0), ("validation", 20), ("test", 40))
    }
    sizes = {"bucket_size": 8, "validation": {"num_prompts": 20}, "test": {"num_prompts": 20}}
    parts = {
        "adapter": "speaker",
        "objectives": {"worth": {}},
        "prompts": {"name": "files", "column": "prompt", **files},
    }
    return {**SMALL, **parts, **sizes, **changed}


def plugins(adapter: Adapter) -> Plugins:
    class Plugin:
        @hookimpl
        def register_adapters(self, register: Any) -> None:
            register("speaker", lambda: adapter)

        @hookimpl
        def register_objectives(self, register: Any) -> None:
            register("worth", Worth)

    known = Plugins()
    known.add(Plugin(), name="speaker-plugin", origin="tests")
    return known


def test_a_backbone_is_told_the_metadata_once_and_they_belong_to_its_identity(tmp_path: Path) -> None:
    speaker = Speaker()
    known = plugins(speaker)
    run = assemble("", load_config(config(tmp_path)), known)
    assert speaker.known == [run.prompts.metadata] and speaker.known[0]["sum 3"] == {"answer": "3"}
    assemble("", load_config(config(tmp_path)), known, sharing=run)
    assert len(speaker.known) == 1
    bare = config(tmp_path)
    without = assemble("", load_config({**bare, "prompts": {**bare["prompts"], "metadata": []}}), known)
    assert run.context != without.context


def test_prompts_that_a_backbone_cannot_use_are_refused_before_a_run_begins(tmp_path: Path) -> None:
    asked = config(tmp_path)
    write(tmp_path, "jsonl", [("sum 50?", {"answer": "50"}), ("sum 51", {"answer": "51"})], "test")
    with pytest.raises(ModelError, match=r"the prompt 'sum 50\?' is a question"):
        assemble("", load_config({**asked, "test": {"num_prompts": 2}}), plugins(Speaker()))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seeds_per_prompt": 2}, "uses no seed, so a prompt has one output only; leave out seeds_per_prompt: 2"),
        ({"bucket_size": 21}, "bucket_size is 21 with 20 train prompts; set it to at most 20"),
        ({"validation": {"num_prompts": 30}}, "validation.num_prompts is 30 with 20 validation prompts"),
        ({"test": {"num_prompts": 21}}, "test.num_prompts is 21 with 20 test prompts"),
        ({"adaptive_bucket": {"largest": 64}}, "adaptive_bucket.largest is 64 with 20 train prompts"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_a_prompt_counts_once_if_no_seed_tells_its_outputs_apart(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    speaker, asked = Speaker(), load_config(config(tmp_path, **changed))
    with pytest.raises(ConfigError, match=said):
        assemble("", asked, plugins(speaker))
    speaker.uses_seed = True
    assemble("", asked, plugins(speaker))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda bad: replace(SPOKEN, logprobs=(-0.5, bad)),
        lambda bad: replace(CHOSEN, divergence=bad),
        lambda bad: replace(CHOSEN, reference=replace(YES, logprob=bad)),
        lambda bad: replace(CHOSEN, options=(NO, replace(YES, logprob=bad))),
    ],
    ids=["tokens", "divergence", "reference", "options"],
)
def test_an_answer_without_finite_numbers_is_the_worst_in_the_search_and_refused_elsewhere(
    spoil: Any, bad: float
) -> None:
    answer, bucket, speaker = spoil(bad), Bucket(("q",), (0,)), Speaker()
    [found] = checked(speaker, [answer], bucket, PLACE["search"])
    assert isinstance(found, NotFinite)
    [failed] = shown([found])
    assert failed.finite and failed.text == "" and failed.ended == answer.ended
    assert [each.logprob for each in failed.likelihoods] == [FLOOR * each.num_tokens for each in answer.likelihoods]
    with pytest.raises(ModelError, match="of prompt 'q', the model's numbers are not finite"):
        checked(speaker, [answer], bucket, PLACE["validation"])


def test_a_backbone_of_text_makes_texts() -> None:
    bucket = Bucket(("q",), (0,))
    for said in ("", "a text", SPOKEN, CHOSEN):
        assert checked(Speaker(), [said], bucket, PLACE["validation"]) == [said]
    for said in (3, np.zeros((4, 4, 3)), None, ["a text"]):
        with pytest.raises(ModelError, match="the adapter says it makes texts, and made a"):
            checked(Speaker(), [said], bucket, PLACE["validation"])


@pytest.mark.parametrize(
    ("other", "sound"),
    [
        (replace(CHOSEN, divergence=0.25 + 1e-6), True),
        (replace(CHOSEN, options=(YES, replace(NO, logprob=-6.0005))), True),
        (replace(CHOSEN, options=(YES, replace(NO, logprob=-6.1))), False),
        (replace(CHOSEN, reference=replace(YES, logprob=-0.6)), False),
        (replace(CHOSEN, reference=replace(YES, greedy=False)), True),  # as likely as another, but for rounding
        (replace(CHOSEN, divergence=None), False),
        (replace(CHOSEN, options=(YES,)), False),
    ],
)
def test_the_same_likelihoods_differ_by_rounding_only(other: Answer, sound: bool) -> None:
    _proves([CHOSEN, other, CHOSEN], sound)


@pytest.mark.parametrize(
    ("other", "sound"),
    [
        (replace(SPOKEN, logprobs=(-0.5001, -1.0)), True),
        (replace(SPOKEN, logprobs=(-0.6, -1.0)), False),
        (Answer("a c", (1, 3), (-0.5, -1.0001), True), True),  # a tie, which rounding decides
        (Answer("a c", (1, 3), (-0.5, -1.2), True), False),
        (Answer("a", (1,), (-0.5,), True), False),
        (Answer("another text"), False),
        ("a b", False),
    ],
)
def test_the_same_text_may_part_only_where_two_tokens_are_as_likely(other: Any, sound: bool) -> None:
    _proves([SPOKEN, other, SPOKEN], sound)


def _proves(said: list[Any], sound: bool) -> None:
    speaker, bucket = Speaker(said), Bucket(("q", "r"), (0, 1))
    if sound:
        prove(speaker, bucket, speaker.generate)
        return
    with pytest.raises(ModelError, match="beside another candidate and prompt the backbone made another output"):
        prove(speaker, bucket, speaker.generate)


def test_what_an_answer_says_of_itself() -> None:
    assert str(CHOSEN) == text_of(CHOSEN) == "yes" and text_of("as it is") == "as it is"
    assert list(CHOSEN.likelihoods) == [YES, YES, NO]
    assert NO.per_token == -2.0 and Likelihood("é", 0.0, 1, True).num_bytes == 2
