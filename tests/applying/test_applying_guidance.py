"""Whatever a pipeline is asked for beside a calibration: it acts as it does without one, or one sentence refuses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimpot
from applied import by_hand, calibrated, made
from generated import candidates, pixels
from torch import Tensor
from trimpot.ground.errors import ModelError

SIZE: dict[str, Any] = {"num_inference_steps": 3, "height": 16, "width": 16}
SD3 = {**SIZE, "max_sequence_length": 4}
FLUX = {**SIZE, "max_sequence_length": 16}
SKIP = {"skip_guidance_layers": [1], "skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}

# What is asked for, by family; whether its unconditional rows are the pipeline's own.
CALLS: dict[str, dict[str, dict[str, Any]]] = {
    "sd3": {
        "unguided": {**SD3, "guidance_scale": 1.0},
        "guided": {**SD3, "guidance_scale": 3.0},
        "negative": {**SD3, "guidance_scale": 3.0, "negative_prompt": "a dog"},
        "skipping": {**SD3, "guidance_scale": 3.0, **SKIP},
        "skipping nothing": {**SD3, "guidance_scale": 3.0, **SKIP, "skip_guidance_layers": []},
        "skipping, negative": {**SD3, "guidance_scale": 3.0, "negative_prompt": "a dog", **SKIP},
    },
    "flux": {
        "distilled": {**FLUX, "guidance_scale": 2.0},
        "guided": {**FLUX, "true_cfg_scale": 3.0, "negative_prompt": "a dog"},
    },
    "qwen": {
        "unguided": {**SIZE, "true_cfg_scale": 1.0},
        "guided": {**SIZE, "true_cfg_scale": 3.0, "negative_prompt": " "},
        "negative": {**SIZE, "true_cfg_scale": 3.0, "negative_prompt": "a dog"},
    },
}
TABLE = [(family, call) for family, calls in CALLS.items() for call in calls]
PROMPTS = ("a cat", "two dogs", "a red circle", "a tree")
BATCHES = [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (2, 2)]  # prompts, images of each


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A family's pipeline, free again, with a file of a calibration of so many members, and its scales."""
    known: dict[tuple[str, int], Any] = {}

    def found(family: str, members: int) -> Any:
        if (family, members) not in known:
            sees = ["conditional", "unconditional"][:members]
            adapter = made(family, tiny_folder(family), members=sees)
            [vector] = candidates(adapter, 1)
            file = tmp_path_factory.mktemp("files") / "calibration.json"
            calibrated(adapter, adapter.space.to_setting(vector), file)
            tables = adapter.layout.tables(vector[None])
            adapter.close()
            known[family, members] = (adapter.pipe, file, adapter.layout.sites, tables[0][0], tables[1][0])
        return known[family, members]

    return found


def called(pipe: Any, call: dict[str, Any], num_prompts: int, num_images: int) -> list[Any]:
    """A plain call."""
    prompts = list(PROMPTS[:num_prompts])
    if "negative_prompt" in call:
        call = {**call, "negative_prompt": [call["negative_prompt"]] * num_prompts}
    generators = [torch.Generator().manual_seed(seed) for seed in range(num_prompts * num_images)]
    return pixels(pipe(prompt=prompts, generator=generators, num_images_per_prompt=num_images, **call).images)


def same(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for image, other in zip(found, expected, strict=True):
        assert np.abs(image - other).max() <= 1


@pytest.mark.parametrize(("num_prompts", "num_images"), BATCHES)
@pytest.mark.parametrize(("family", "call"), TABLE)
def test_one_member_is_the_stock_pipeline_of_scaled_modules(
    pipeline: Any, family: str, call: str, num_prompts: int, num_images: int
) -> None:
    """Guidance of every kind has its stock effect."""
    pipe, file, sites, scales, _ = pipeline(family, 1)
    arguments = CALLS[family][call]
    with by_hand(pipe.transformer, sites, scales[0]):
        expected = called(pipe, arguments, num_prompts, num_images)
    with trimpot.load_calibration(pipe, file):
        found = called(pipe, arguments, num_prompts, num_images)
    same(found, expected)
    assert any(
        (image != other).any()
        for image, other in zip(found, called(pipe, arguments, num_prompts, num_images), strict=True)
    )


@pytest.mark.parametrize(("num_prompts", "num_images"), BATCHES)
@pytest.mark.parametrize(("family", "call"), [each for each in TABLE if each[0] != "flux"])
def test_two_neutral_members_are_the_stock_pipeline_at_their_guidance(
    pipeline: Any, family: str, call: str, num_prompts: int, num_images: int
) -> None:
    """At strength 0 every call gives what the stock pipeline gives at the guidance that the weights stand for."""
    pipe, file, *_ = pipeline(family, 2)
    asked = CALLS[family][call]
    scale = "guidance_scale" if family == "sd3" else "true_cfg_scale"
    stock = {
        **asked,
        scale: 3.0 if family == "sd3" else 4.0,
        "negative_prompt": asked.get("negative_prompt", " " if family == "qwen" else ""),
    }
    other = {**asked, scale: 6.0 if asked[scale] > 1 else 1.0}
    expected = called(pipe, stock, num_prompts, num_images)
    with trimpot.load_calibration(pipe, file, strength=0.0):
        if (family, call) == ("qwen", "negative"):
            with pytest.raises(ModelError, match="sees the empty prompt; pass no negative_prompt"):
                called(pipe, other, num_prompts, num_images)
            return
        same(called(pipe, other, num_prompts, num_images), expected)


@pytest.mark.parametrize(("num_prompts", "num_images"), BATCHES)
@pytest.mark.parametrize(("family", "call"), [each for each in TABLE if each[0] == "sd3" and each[1] != "unguided"])
def test_two_members_are_the_sum_by_hand(
    pipeline: Any, family: str, call: str, num_prompts: int, num_images: int
) -> None:
    """Each half of the pipeline's rows through its own scales, and summed by the weights."""
    pipe, file, sites, scales, weights = pipeline(family, 2)
    model, rows = pipe.transformer, num_prompts * num_images
    plain = model.forward
    last: dict[str, Tensor] = {}

    def member(index: int, given: dict[str, Any]) -> Tensor:
        with by_hand(model, sites, scales[index]):
            result: Tensor = plain(**given)[0]
        return result

    def summed(**given: Any) -> tuple[Tensor]:
        tensors = {name for name, value in given.items() if isinstance(value, Tensor)}
        if len(given["hidden_states"]) == rows:  # some layers left out
            return (last["sum"] - last["conditional"] + member(0, given),)
        assert len(given["hidden_states"]) == 2 * rows
        without, wanted = (
            {name: value[part] if name in tensors else value for name, value in given.items()}
            for part in (slice(None, rows), slice(rows, None))
        )
        last["conditional"] = member(0, wanted)
        last["sum"] = float(weights[0]) * last["conditional"] + float(weights[1]) * member(1, without)
        return (torch.cat([last["sum"]] * 2),)

    arguments = CALLS[family][call]
    model.forward = summed
    try:
        expected = called(pipe, arguments, num_prompts, num_images)
    finally:
        model.forward = plain
    with trimpot.load_calibration(pipe, file):
        same(called(pipe, arguments, num_prompts, num_images), expected)
