"""A calibration goes wherever its transformer goes: into every diffusers pipeline, and under PEFT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimpot
from applied import by_hand, calibrated, made
from generated import candidates
from pipeline_classes import NAMES, TABLE, UNCALLED, built, drawn
from trimpot.ground.errors import CalibrationError, ModelError


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
