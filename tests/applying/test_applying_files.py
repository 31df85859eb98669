"""Whatever is in a calibration file: it is applied and gives images, or one sentence refuses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimpot
from applied import calibrated, made, refused
from generated import candidates
from mutated import mutations
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.ground.errors import CalibrationError

CALL: dict[str, Any] = {"height": 16, "width": 16, "max_sequence_length": 4, "num_inference_steps": 1}


@pytest.fixture(scope="module")
def adapter(sd3_folder: Path) -> PipelineAdapter:
    """A tiny SD3, its pipeline free again."""
    found = made("sd3", sd3_folder)
    found.close()
    return found


@pytest.fixture
def file(adapter: PipelineAdapter, tmp_path: Path) -> Path:
    """Its calibration file."""
    [vector] = candidates(adapter, 1)
    return calibrated(adapter, adapter.space.to_setting(vector), tmp_path / "calibration.json")


def changed(file: Path, change: Any) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


@pytest.mark.parametrize("key", ["weight", "neutral_weight", "scale"])
@pytest.mark.parametrize("wrong", [1e308, 101, -101, "1", None, True, [1.0], 10**400])
def test_what_is_multiplied_with_is_finite_and_small(
    adapter: PipelineAdapter, file: Path, key: str, wrong: Any
) -> None:
    """Scales and weights, of every member."""
    for index in range(2):

        def change(values: Any, index: int = index) -> None:
            member = values["apply"]["members"][index]
            if key == "scale":
                member["scales"][next(iter(member["scales"]))] = wrong
            else:
                member[key] = wrong

        text = file.read_text()
        changed(file, change)
        refused(adapter.pipe, file, "calibration")
        file.write_text(text)


def renamed(values: Any, change: Any) -> None:
    """Every member scales another module first."""
    for member in values["apply"]["members"]:
        first = next(iter(member["scales"]))
        member["scales"][change(first)] = member["scales"].pop(first)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: renamed(values, lambda name: name.split("[")[0] + "[9]"), r"\[9\] is not a site"),
        (lambda values: renamed(values, lambda name: name + "@9"), "@9 is not a site"),
        (lambda values: renamed(values, lambda name: name.split("[")[0]), "is not a site"),
        (lambda values: renamed(values, lambda _: "proj_out"), "proj_out is not a site"),
        (lambda values: renamed(values, lambda _: "../x"), "not a module address"),
        (lambda values: renamed(values, lambda _: "transformer_2.proj_out"), "no module 'transformer_2"),
        (lambda values: values["apply"].update(members=values["apply"]["members"] * 10_000), "64 or fewer entries"),
        (lambda values: [each.update(sees="unconditional") for each in values["apply"]["members"]], "conditional"),
        (lambda values: values["apply"]["members"][0].update(sees="all"), "must be its only member"),
        (lambda values: [each.update(scales={}) for each in values["apply"]["members"]], "scales"),
        (lambda values: values["backbone"].update(max_sequence_length=10**9), "max_sequence_length"),
        (lambda values: values["backbone"].update(max_sequence_length="9"), "max_sequence_length"),
        (lambda values: values["apply"].update(blocks={"JointTransformerBlock": "x"}), "site line"),
        (lambda values: values.update(num_steps=-3), "num_steps"),
    ],
)
def test_a_recipe_that_cannot_be_cooked_is_refused(
    adapter: PipelineAdapter, file: Path, change: Any, said: str
) -> None:
    """Before anything is attached, in one sentence."""
    changed(file, change)
    refused(adapter.pipe, file, said)


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -1.5, 2.5, 1e308, "1", None, True])
def test_a_strength_that_is_none_is_refused(adapter: PipelineAdapter, file: Path, strength: Any) -> None:
    """When it is applied and afterwards, and what was set stays."""
    with pytest.raises(CalibrationError, match="strength must"):
        trimpot.load_calibration(adapter.pipe, file, strength=strength)
    with trimpot.load_calibration(adapter.pipe, file, strength=0.5) as applied:
        with pytest.raises(CalibrationError, match="strength must"):
            applied.strength = strength
        assert applied.strength == 0.5


def holds(adapter: PipelineAdapter, file: Path, content: bytes) -> bool:
    """Whether changed content was applied; then its images are images, and else the pipeline is untouched."""
    file.write_bytes(content)
    try:
        with trimpot.load_calibration(adapter.pipe, file):
            result = adapter.pipe("a cat", output_type="np", guidance_scale=1.0, **CALL).images
            assert np.isfinite(result).all()
        applied = True
    except CalibrationError as error:
        assert str(error) and "\n" not in str(error)
        str(error).encode()
        applied = False
    modules = adapter.pipe.transformer.modules()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    return applied


@pytest.mark.filterwarnings("ignore::trimpot.ground.errors.Notice")  # a backbone whose description was changed
def test_a_damaged_file_is_applied_or_refused(adapter: PipelineAdapter, file: Path) -> None:
    """A few hundred mutations of a file, each told in one sentence or applied."""
    applied = [holds(adapter, file, content) for content in mutations(file.read_text(), 250)]
    assert any(applied) and not all(applied)
