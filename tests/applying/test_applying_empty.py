"""What an unconditional member sees is an option: it is what the search used, and no call contradicts it in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimpot
from applied import BUCKET, SIZE, calibrated, made, refused
from generated import candidates, drawn, one_by_one
from trimpot.adapters import make_flux, make_qwen_image, make_sd3
from trimpot.ground.errors import CalibrationError, ModelError
from trimpot.setup.plugins import plugins

PROMPT = "a blurred dog"
GUIDED: dict[str, dict[str, Any]] = {
    "sd3": {**SIZE, "max_sequence_length": 4, "guidance_scale": 3.0},
    "qwen": {**SIZE, "true_cfg_scale": 4.0},
}
OFF = {"sd3": "guidance_scale", "qwen": "true_cfg_scale"}


def same(found: list[Any], expected: list[Any]) -> bool:
    return all(np.abs(one - other).max() <= 1 for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("case", list(GUIDED))
def test_the_prompt_that_is_given_is_the_one_that_is_seen(
    tiny_folder: Callable[[str], Path], tmp_path: Path, case: str
) -> None:
    """Neutral is the stock pipeline with this negative prompt; the file, applied, makes the search's images."""
    adapter = made(case, tiny_folder(case), empty=PROMPT)
    pipe, call = adapter.pipe, GUIDED[case]
    neutral = one_by_one(adapter, adapter.space.defaults, BUCKET)
    [vector] = candidates(adapter, 1)
    expected = one_by_one(adapter, vector, BUCKET)
    file = calibrated(adapter, adapter.space.to_setting(vector), tmp_path / "calibration.json")
    adapter.close()
    stock = drawn(pipe, BUCKET, **call, negative_prompt=PROMPT)
    assert same(neutral, stock) and not same(stock, drawn(pipe, BUCKET, **call, negative_prompt=" "))
    assert json.loads(file.read_text())["apply"]["empty"] == adapter.describe()["empty"] == PROMPT
    with trimpot.load_calibration(pipe, file) as applied:
        for agreeing in ({OFF[case]: 1.0}, {"negative_prompt": PROMPT}):
            assert same(drawn(pipe, BUCKET, **{**call, **agreeing}), expected)
        assert same(drawn(pipe, BUCKET, **applied.recommended), expected)
        contradicting: list[dict[str, Any]] = [{"negative_prompt": " "}, {"negative_prompt": "another"}]
        for wrong in [*contradicting, *([{}] if case == "sd3" else [])]:  # without one, it would be the empty prompt
            with pytest.raises(ModelError, match=f"sees '{PROMPT}'; pass no negative_prompt, or {OFF[case]}=1, or neg"):
                drawn(pipe, BUCKET, **call, **wrong)
        assert same(drawn(pipe, BUCKET, **applied.recommended), expected)


@pytest.mark.parametrize(("make", "own"), [(make_sd3, ""), (make_qwen_image, " ")])
def test_the_usual_prompt_in_words_is_the_usual_prompt(make: Any, own: str) -> None:
    """Neither the file nor the description then differ from those without the option."""
    plain, said, other = (make(outline=True, **given) for given in ({}, {"empty": own}, {"empty": "x"}))
    setting = plain.space.to_setting(plain.space.defaults)
    assert plain.describe() == said.describe() != other.describe()
    assert plain.export(setting, setting) == said.export(setting, setting)
    assert "empty" not in plain.describe() and other.export(setting, setting)["empty"] == "x"


def test_another_prompt_is_another_backbone() -> None:
    """Its scores are never taken for those of the usual one."""
    made_of = [plugins().made_of("adapters", "sd3", None, {"empty": empty}) for empty in (None, "one", "two")]
    assert len({json.dumps(each, sort_keys=True) for each in made_of}) == 3


@pytest.mark.parametrize(
    ("make", "options"),
    [(make_flux, {}), (make_flux, {"members": ["conditional"] * 2}), (make_sd3, {"members": ["conditional"]})],
)
def test_where_no_member_sees_it_the_option_is_refused(make: Any, options: dict[str, Any]) -> None:
    for empty in ("", "a dog"):
        with pytest.raises(ModelError, match="is the prompt of an unconditional member, and there is none"):
            make(outline=True, empty=empty, **options)


def test_files_that_contradict_each_other_or_themselves_are_refused(sd3_folder: Path, tmp_path: Path) -> None:
    adapter = made("sd3", sd3_folder)
    setting = adapter.space.to_setting(adapter.space.defaults)
    usual = calibrated(adapter, setting, tmp_path / "usual.json")
    adapter.close()
    values = json.loads(usual.read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**values, "apply": {**values["apply"], "empty": "x"}}))
    with trimpot.load_calibration(adapter.pipe, usual) as applied:
        with pytest.raises(
            CalibrationError, match="cannot be added: their unconditional members see different prompts"
        ):
            applied.add(other, name="other")
        assert list(applied.weights) == ["test-1"]
    members = [{**member, "sees": "conditional"} for member in values["apply"]["members"]]
    other.write_text(json.dumps({**values, "apply": {**values["apply"], "empty": "x", "members": members}}))
    refused(adapter.pipe, other, "names a prompt for no prompt, which none of its members sees")
