"""A calibration goes wherever its transformer goes: into every diffusers pipeline, and under PEFT."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import trimpot
from applied import by_hand, calibrated, made
from generated import candidates, pixels
from PIL import Image
from trimpot.adapters.families import FAMILIES
from trimpot.engine.errors import CalibrationError, ModelError

NAMES = {"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux", "QwenImageTransformer2DModel": "qwen"}


def pipelines_of(transformer: str) -> list[str]:
    """Names of the pipeline classes whose constructors take a transformer of a class, from diffusers' source."""
    found = []
    for file in sorted((Path(diffusers.__file__).parent / "pipelines").glob("*/pipeline_*.py")):
        for part in re.split(r"^class ", file.read_text(encoding="utf-8"), flags=re.M)[1:]:
            name, _, rest = part.partition("(")
            begin = re.search(r"def __init__\((.*?)\):", rest, flags=re.S)
            if begin and re.search(rf"\btransformer: {transformer}\b", begin[1]) and hasattr(diffusers, name):
                found.append(name)
    return found


TABLE = [(family.transformer, name) for family in FAMILIES.values() for name in pipelines_of(family.transformer)]


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (16, 16), colour)


def widened(transformer: Any, num_channels: int) -> Any:
    """The same transformer but for its first layer, which takes a condition's channels beside the latents'."""
    other = type(transformer).from_config({**transformer.config, "in_channels": num_channels, "out_channels": 16})
    weights = {key: value for key, value in transformer.state_dict().items() if not key.startswith("x_embedder")}
    other.load_state_dict(weights, strict=False)
    return other


def controlnet(kind: str, transformer: Any, *, inpainting: bool) -> Any:
    """A ControlNet made of a transformer."""
    cls = {"sd3": "SD3ControlNetModel", "flux": "FluxControlNetModel", "qwen": "QwenImageControlNetModel"}[kind]
    model_class = getattr(diffusers.models, cls)
    takes = set(inspect.signature(model_class.__init__).parameters)
    mask = {"sd3": {"extra_conditioning_channels": 1}, "qwen": {"extra_condition_channels": 4}}
    further = mask.get(kind, {}) if inpainting else {}
    model = model_class(**{key: value for key, value in transformer.config.items() if key in takes}, **further)
    torch.manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if not value.any():
                value.normal_(0, 0.05)  # a ControlNet begins as one that does nothing
    return model


def built(name: str, pipe: Any, kind: str) -> Any:
    """A pipeline of a class from another's components, which has no optional ones."""
    cls = getattr(diffusers, name)
    parts: dict[str, Any] = {}
    for part, parameter in inspect.signature(cls.__init__).parameters.items():
        if part in pipe.components:
            parts[part] = pipe.components[part]
        elif part == "controlnet":
            parts[part] = controlnet(kind, pipe.transformer, inpainting="Inpaint" in name)
        elif part in ("self", "kwargs", "resolution") or parameter.default is not inspect.Parameter.empty:
            continue
        else:
            parts[part] = None
    if "FluxControl" in name and "Net" not in name:
        parts["transformer"] = widened(pipe.transformer, 32)
    if name in ("FluxFillPipeline", "VisualClozePipeline", "VisualClozeGenerationPipeline"):
        parts["transformer"] = widened(pipe.transformer, 96)
    found = cls(**parts)
    found.set_progress_bar_config(disable=True)
    return found


def arguments(pipe: Any, kind: str) -> dict[str, Any]:
    """A call of a pipeline, with whatever pictures it takes."""
    takes = inspect.signature(type(pipe).__call__).parameters
    given: dict[str, Any] = {
        "prompt": "a cat",
        "height": 16,
        "width": 16,
        "num_inference_steps": 3,
        "max_sequence_length": 4 if kind == "sd3" else 16,
        "image": picture("red"),
        "mask_image": picture("white"),
        "control_image": picture("blue"),
        "control_mask": picture("white"),
        "strength": 0.9,
        "pag_scale": 0.0,
        "_auto_resize": False,
        "max_area": 256,
    }
    call = {key: value for key, value in given.items() if key in takes}
    if kind == "qwen":
        call.pop("max_sequence_length", None)
    return {**call, "generator": torch.Generator().manual_seed(3)}


# What cannot be called with parts this small; their transformers are called by themselves.
UNCALLED = (
    "StableDiffusion3InpaintPipeline",  # it wants 16 channels
    "VisualClozePipeline",  # it draws images in rows
    "VisualClozeGenerationPipeline",
    "QwenImageEditPipeline",  # it shows its images to the text encoder
    "QwenImageEditInpaintPipeline",
    "QwenImageEditPlusPipeline",
    "QwenImageLayeredPipeline",  # it makes no image below 640 pixels
)


def drawn(pipe: Any, kind: str, **further: Any) -> Any:
    """What a pipeline makes, or its transformer alone."""
    torch.manual_seed(0)  # some pipelines sample what they encode of a picture
    if type(pipe).__name__ not in UNCALLED:
        return np.stack(pixels(pipe(**{**arguments(pipe, kind), **further}).images))
    model = pipe.transformer
    family = next(each for each in FAMILIES.values() if NAMES[each.transformer] == kind)
    generator = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randn(value.shape, generator=generator) if isinstance(value, torch.Tensor) else value
        for name, value in family.example(model.config).items()
    }
    with torch.no_grad():
        return 100 * model(**inputs, return_dict=False)[0].numpy()


@pytest.fixture(scope="module")
def base(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A family's pipeline, with the file of a calibration of so many members, its sites and scales."""
    known: dict[tuple[str, int], Any] = {}

    def found(kind: str, members: int = 1) -> Any:
        if (kind, members) not in known:
            sees = ["conditional", "unconditional"][:members]
            adapter = made(kind, tiny_folder(kind), members=sees)
            [vector] = candidates(adapter, 1)
            file = tmp_path_factory.mktemp("files") / "calibration.json"
            calibrated(adapter, adapter.space.to_setting(vector), file)
            scales = adapter.layout.tables(vector[None])[0][0]
            adapter.close()
            known[kind, members] = (adapter.pipe, file, adapter.layout.sites, scales)
        return known[kind, members]

    return found


@pytest.mark.filterwarnings("ignore")  # of diffusers, about parts that are missing
@pytest.mark.parametrize(("transformer", "name"), TABLE)
def test_it_goes_to_every_pipeline_of_its_transformer(base: Any, transformer: str, name: str) -> None:
    """And makes there what the stock pipeline makes of modules scaled by hand."""
    kind = NAMES[transformer]
    pipe, file, sites, scales = base(kind)
    pipe = built(name, pipe, kind)
    plain = drawn(pipe, kind)
    with by_hand(pipe.transformer, sites, scales[0]):
        expected = drawn(pipe, kind)
    with trimpot.load_calibration(pipe, file):
        found = drawn(pipe, kind)
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - plain).max() > 1
    np.testing.assert_array_equal(drawn(pipe, kind), plain)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("transformer", "name"), [each for each in TABLE if "Flux" not in each[0]])
def test_an_ensemble_goes_to_every_pipeline_or_one_sentence_says_why_not(
    base: Any, transformer: str, name: str
) -> None:
    """At strength 0 it is the stock pipeline at the guidance that its weights stand for."""
    kind = NAMES[transformer]
    pipe, file, *_ = base(kind, 2)
    pipe = built(name, pipe, kind)
    if "Edit" in name:
        with pytest.raises(CalibrationError, match="encodes a prompt together with its image"):
            trimpot.load_calibration(pipe, file)
        return
    guidance = {"sd3": "guidance_scale", "qwen": "true_cfg_scale"}[kind]
    negative = {"negative_prompt": " "} if kind == "qwen" else {}
    neutral = {"sd3": 3.0, "qwen": 4.0}[kind]
    if name in UNCALLED:
        with trimpot.load_calibration(pipe, file):
            assert pipe.transformer._forward_pre_hooks
        assert not pipe.transformer._forward_pre_hooks
        return
    expected = drawn(pipe, kind, **{guidance: neutral}, **negative)
    with trimpot.load_calibration(pipe, file, strength=0.0):
        assert np.abs(drawn(pipe, kind, **{guidance: 6.0}, **negative) - expected).max() <= 1
        if "PAG" in name:
            processors = pipe.transformer.attn_processors
            with pytest.raises(ModelError, match="pass pag_scale=0"):
                drawn(pipe, kind, **{guidance: 6.0}, pag_scale=3.0)
            pipe.transformer.set_attn_processor(processors)
        if "ControlNet" in name and kind == "sd3":
            with pytest.raises(ModelError, match="pass a guidance_scale above 1"):
                drawn(pipe, kind, **{guidance: 1.0})


def low_rank() -> Any:
    """A LoRA of every query's projection that does something."""
    import peft

    return peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["wrapped", "injected"])
@pytest.mark.parametrize(("kind", "members"), [("sd3", 1), ("sd3", 2), ("flux", 1), ("qwen", 1), ("qwen", 2)])
def test_it_goes_to_a_transformer_with_a_lora(
    base: Any, tiny_folder: Callable[[str], Path], kind: str, members: int, way: str
) -> None:
    """Wrapped by `get_peft_model` or injected by `load_lora_weights`, it is scaled like any."""
    peft = pytest.importorskip("peft")
    _, file, sites, scales = base(kind, members)
    adapter = made(kind, tiny_folder(kind), members=["conditional", "unconditional"][:members])
    adapter.close()
    pipe, inner = adapter.pipe, adapter.pipe.transformer
    torch.manual_seed(0)
    if way == "wrapped":
        pipe.transformer = peft.get_peft_model(inner, low_rank()).eval()
    else:
        inner.add_adapter(low_rank())
    asked = (
        {}
        if kind == "flux"
        else {"guidance_scale" if kind == "sd3" else "true_cfg_scale": 3.0 if kind == "sd3" else 4.0}
    )
    asked = {**asked, "negative_prompt": " "} if kind == "qwen" else asked
    plain = drawn(pipe, kind, **asked)
    if members == 1:
        with by_hand(inner, sites, scales[0]):
            expected = drawn(pipe, kind, **asked)
    with trimpot.load_calibration(pipe, file, strength=1.0 if members == 1 else 0.0) as applied:
        assert np.abs(drawn(pipe, kind, **asked) - (expected if members == 1 else plain)).max() <= 1
        applied.strength = 1.0
        assert np.abs(drawn(pipe, kind, **asked) - plain).max() > 1
    np.testing.assert_array_equal(drawn(pipe, kind, **asked), plain)
