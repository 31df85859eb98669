"""What is recorded of an output's size is what was made, and what a pipeline cannot be given is said."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stock_cases import CASES
from trimpot.adapters.factories import make_diffusers, make_flux, make_qwen_image, make_sd3
from trimpot.adapters.sizes import check_made
from trimpot.adapters.stock import needed_beside_prompt, takes_objects
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import ModelError
from trimpot.ground.weights import quiet_import

Folders = Callable[[str], Path]

HOW: dict[str, Any] = {"dtype": "float32", "device": "cpu", "num_inference_steps": 1, "dead": "keep"}
FAMILIES = {"sd3": make_sd3, "flux": make_flux, "qwen": make_qwen_image}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("option", "value", "nearest"), [("height", 20, "16 or 24"), ("width", 31, "24 or 32"), ("width", 3, "8")]
)
def test_a_size_that_a_family_would_round_is_refused_with_the_nearest(
    tiny_folder: Folders, name: str, option: str, value: int, nearest: str
) -> None:
    with pytest.raises(ModelError, match=f"{option}: {value} is not a multiple of 8, as a .* needs; choose {nearest}$"):
        FAMILIES[name](model=str(tiny_folder(name)), **HOW, **{option: value})


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "odd", [{"height": 20}, {"width": 36}, {"height": 33, "width": 40}, {"num_frames": 6}, {"num_frames": 2}]
)
def test_any_pipeline_makes_the_size_asked_for_or_is_refused(
    tiny_folder: Folders, name: str, odd: dict[str, int]
) -> None:
    case = CASES[name]
    if "num_frames" in odd and "num_frames" not in case.options:
        pytest.skip("makes no video, or calls its frames otherwise")
    options = {**HOW, **case.given, **odd, "batch_size": 1}
    try:
        adapter = make_diffusers(model=str(tiny_folder(name)), **options)
        (made,) = adapter.generate(adapter.space.defaults[None], Bucket(["red"], [1]))[0]
    except ModelError as error:
        assert "\n" not in str(error)
        return
    frames = made if isinstance(made, list) else [made]
    assert frames[0].size == (options["width"], options["height"])
    assert "num_frames" not in odd or len(frames) == odd["num_frames"]


def test_what_is_rounded_in_silence_is_told_with_what_is_made() -> None:
    image = Image.fromarray(np.zeros((16, 24, 3), np.uint8))
    check_made([image, image], {"height": 16, "width": 24}, "Pipe")
    check_made([image], {"height": None, "width": 24}, "Pipe")
    check_made([[image] * 5], {"height": 16, "width": 24, "num_frames": 5}, "Pipe")
    for made, asked, message in (
        ([image], {"height": 17, "width": 24}, "cannot make height: 17 and rounds it; ask for height: 16"),
        ([image], {"width": 25}, "cannot make width: 25 and rounds it; ask for width: 24"),
        ([[image] * 5], {"num_frames": 6}, "cannot make num_frames: 6 and rounds it; ask for .*num_frames: 5"),
    ):
        with pytest.raises(ModelError, match=message):
            check_made(made, asked, "Pipe")


# What a configuration cannot hold.


def pipelines() -> list[Any]:
    with quiet_import():
        import diffusers

        kinds = [getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Pipeline")]
        return [kind for kind in kinds if "transformer" in inspect.signature(kind.__init__).parameters]


def test_images_and_tensors_are_told_from_numbers_and_words_in_every_pipeline_s_call() -> None:
    kinds = pipelines()
    assert len(kinds) > 100
    seen = set()
    for kind in kinds:
        for name, parameter in inspect.signature(kind.__call__).parameters.items():
            if name in ("image", "mask_image", "control_image", "latents", "prompt_embeds", "callback_on_step_end"):
                assert takes_objects(parameter) or kind.__name__ == "SanaWMPipeline", name  # whose image may be a path
                seen.add(name)
            if name in ("height", "width", "guidance_scale", "negative_prompt", "sigmas", "attention_kwargs", "eta"):
                assert not takes_objects(parameter), (kind, name)
                seen.add(name)
    assert len(seen) == 13
    needing = {kind.__name__ for kind in kinds if needed_beside_prompt(kind)}
    assert {"WanImageToVideoPipeline", "CogVideoXImageToVideoPipeline"} <= needing
    assert not needing & {"WanPipeline", "FluxPipeline", "Flux2Pipeline", "PixArtSigmaPipeline", "SanaPipeline"}


@pytest.mark.parametrize(
    ("name", "option"), [("flux2", "image"), ("sana", "latents"), ("sana", "prompt_embeds"), ("wan", "latents")]
)
def test_what_a_configuration_cannot_hold_is_refused(tiny_folder: Folders, name: str, option: str) -> None:
    options = {**HOW, **CASES[name].given, "pipeline_options": {option: "cat.png"}}
    with pytest.raises(ModelError, match=f"pipeline_options sets {option}, which a .* takes as an image, a tensor"):
        make_diffusers(model=str(tiny_folder(name)), **options)
