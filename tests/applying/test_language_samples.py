"""`trimpot sample` prints what a calibrated language model answers, as it answered in its run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_language as tiny
import trimpot
from applied import calibrated
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.factory import make_transformers
from trimpot.engine.bucket import Bucket, PromptSet
from typer.testing import CliRunner

PROMPTS = ("12+13=", "what is it")
SUMS = {"1+1=": {"answer": "2"}, "2+1=": {"answer": "3"}}


def made(home: Path, **options: object) -> tuple[Path, dict[str, list[str]]]:
    """A calibration file, and what its run would have said, neutral and calibrated."""
    written = {"mode": "generate", "max_new_tokens": 6, "device": "cpu", **options}
    given = {"model": str(tiny.folder(home / "model", "llama")), **written}
    adapter = make_transformers(**given)
    assert isinstance(adapter, LanguageAdapter)
    adapter.take_prompts(PromptSet(("1+1=", "2+1="), ("a",), ("b",), metadata=SUMS))
    vector = 1 + np.random.default_rng(0).uniform(-0.8, 0.8, len(adapter.space))
    file = calibrated(adapter, adapter.space.to_setting(vector), home / "calibration.json")  # type: ignore[arg-type]
    values = json.loads(file.read_text())
    values["provenance"]["config"] = {"adapter": {"name": "transformers", **given}}
    file.write_text(json.dumps(values))
    bucket = Bucket(PROMPTS, (3, 3))
    answers = adapter.generate(np.stack([adapter.space.defaults, vector]), bucket)
    adapter.close()
    return file, dict(zip(("neutral", "calibrated"), [[str(each) for each in one] for one in answers], strict=True))


def run(*arguments: str) -> str:
    from trimpot.cli import app

    found = CliRunner().invoke(app, ["sample", *arguments])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.stdout


def test_prompts_are_printed_with_neutral_and_calibrated_answers(tmp_path: Path) -> None:
    file, said = made(tmp_path, chat=True)
    assert said["neutral"] != said["calibrated"]
    lines = run(str(file), *PROMPTS, "--compare").splitlines()
    assert lines == [
        line
        for prompt, neutral, ours in zip(PROMPTS, said["neutral"], said["calibrated"], strict=True)
        for line in (prompt, f"  neutral: {neutral}", f"  calibrated: {ours}")
    ]


def test_prompts_are_put_in_the_format_and_after_the_examples_of_the_run(tmp_path: Path) -> None:
    file, said = made(tmp_path / "asked", formats=["q {prompt}\na {answer}"], shots=[1])
    _, plainly = made(tmp_path / "plain")
    assert said["calibrated"] != plainly["calibrated"]
    told = json.loads(run(str(file), *PROMPTS, "--compare", "--json"))
    for side, texts in said.items():
        assert [each[side] for each in told["answers"]] == texts


def test_drawn_answers_are_those_of_their_seeds(tmp_path: Path) -> None:
    file, said = made(tmp_path, temperature=1.5)
    told = json.loads(run(str(file), *PROMPTS, "--seeds", "2", "--first-seed", "2", "--compare", "--json"))
    for side, texts in said.items():
        found = [each[side] for each in told["answers"] if each["seed"] == 3]
        assert found == texts
    assert told["call"]["temperature"] == 1.5


def test_strength_and_ways_of_writing_are_used(tmp_path: Path) -> None:
    file, said = made(tmp_path)
    assert run(str(file), PROMPTS[1], "--strength", "0").splitlines()[1] == f"  calibrated: {said['neutral'][1]}"
    [answer] = json.loads(run(str(file), PROMPTS[1], "-o", "max_new_tokens=2", "--json"))["answers"]
    assert said["calibrated"][1].startswith(answer["calibrated"]) and answer["calibrated"] != said["calibrated"][1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--seeds", "2"), "greedy answers depend on no seed; leave out --seeds"),
        (("--to", "page.html"), "a language model's answers are printed, not"),
        (("--open",), "a language model's answers are printed, not"),
        (("-o", "colour=red"), "no option is called 'colour'"),
        (("-o", "top_k=3"), "top_k is for drawing tokens"),
        (("-o", "max_new_tokens=0"), "max_new_tokens"),
        (("--strength", "9"), "strength"),
    ],
)
def test_what_cannot_be_sampled_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    file, _ = made(tmp_path)
    with pytest.raises(trimpot.TrimpotError, match=told) as error:
        run(str(file), "a", *arguments)
    assert "\n" not in str(error.value)


def test_a_model_of_other_weights_than_were_calibrated_is_told_where_it_is_loaded(tmp_path: Path) -> None:
    file, _ = made(tmp_path)
    trimpot.load_pipeline(file)  # without a warning, which would be an error here
    other = tiny.folder(tmp_path / "other", "llama", seed=1)
    with pytest.warns(trimpot.Notice, match="does not hold the weights that were calibrated") as told:
        trimpot.load_pipeline(file, model=str(other))
    assert [each.filename for each in told] == [__file__]
