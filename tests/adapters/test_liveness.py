"""Sites that cannot reach the output are found, without a number where that goes, and the model is left alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trimpot.adapters.liveness import dead_sites
from trimpot.adapters.sites import find_sites
from trimpot.proofs.transformers import EXAMPLES, VARIANTS, Example

LINES = {"TwoStreamBlock": "block: attn.image=image attn.text=text"}


@pytest.fixture(autouse=True)
def without_remarks() -> Iterator[None]:
    """What classes remark on when they are tiny is of no interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def dead_names(example: Example, *, measured: bool = False) -> set[str]:
    model = example.build()
    sites = find_sites(model)
    return {sites[index].name for index in dead_sites(model, sites, example.arguments(), measured=measured)}


def test_the_last_text_update_of_qwen_image_is_dead() -> None:
    """Two sites of every Qwen-Image do nothing: a published set of knobs has them unnoticed."""
    assert dead_names(EXAMPLES["QwenImageTransformer2DModel"]) == {"block.01.attn.text", "block.01.mlp.text"}


@pytest.mark.parametrize("kind", ["SD3Transformer2DModel", "FluxTransformer2DModel", "WanTransformer3DModel"])
def test_where_everything_is_read_nothing_is_dead(kind: str) -> None:
    """SD3 leaves its last text update out, FLUX reads it in its single blocks."""
    assert dead_names(EXAMPLES[kind]) == set()


def test_what_a_call_leaves_out_matters() -> None:
    """FLUX.3's reference blocks are dead without a reference picture, and alive with one."""
    assert {name.split(".")[0] for name in dead_names(EXAMPLES["Flux3Transformer2DModel"])} == {"image_cond"}
    assert dead_names(VARIANTS["flux3-reference"]) == set()


@pytest.mark.parametrize("layers", [2, 3])
def test_what_was_found_once_is_not_taken_for_another_configuration_or_call(layers: int) -> None:
    """Asked in turns and twice in one process, each gets its own answer."""
    qwen, flux = EXAMPLES["QwenImageTransformer2DModel"], EXAMPLES["Flux3Transformer2DModel"]
    pictured = VARIANTS["flux3-reference"]
    for _ in range(2):
        small: Any = qwen.build()
        model = type(small).from_config({**small.config, "num_layers": layers})
        sites = find_sites(model)
        dead = dead_sites(model, sites, qwen.arguments())
        assert {sites[index].block for index in dead} == {f"block.{layers - 1:02}"}
    model = pictured.build()
    sites = find_sites(model)
    for _ in range(2):
        assert dead_sites(model, sites, flux.arguments()) and not dead_sites(model, sites, pictured.arguments())


def test_measuring_finds_what_is_joined_and_cut_apart_again() -> None:
    """CogVideoX joins text and video before its last norm and drops the text after it: only numbers tell."""
    example = EXAMPLES["CogVideoXTransformer3DModel"]
    assert dead_names(example) == {"block.01.mlp.text"}
    assert dead_names(example, measured=True) == {"block.01.attn.text", "block.01.mlp.text"}


class TwoStreamBlock(nn.Module):
    """Each stream gets its own branch; the text reaches the picture one block later."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return image + self.image(image + text), text + self.text(text)


class TwoStreams(nn.Module):
    """A transformer that diffusers does not know: it has no configuration to make a twin from."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([TwoStreamBlock() for _ in range(3)])
        self.calls = 0

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        self.calls += 1
        if image.sum().item() > 1e9:  # needs numbers
            return image
        for block in self.blocks:
            image, text = block(image, text)
        return image


def test_without_a_twin_the_model_itself_is_asked_and_left_as_it_was() -> None:
    """The fallback agrees, runs the model once, keeps no hook, no gradient and no changed number."""
    torch.manual_seed(0)
    model = TwoStreams().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = {"image": torch.randn(2, 4), "text": torch.randn(2, 4)}
    heard: list[str] = []
    model.register_forward_hook(lambda *_: heard.append("call"))
    sites = find_sites(model, LINES)
    dead = dead_sites(model, sites, rows)
    assert [sites[index].name for index in dead] == ["block.02.attn.text"]
    assert model.calls == 1
    assert not heard, "hooks that others put on the model are not for this call"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules() if module is not model)
    with torch.inference_mode():
        assert dead_sites(model, sites, {"image": torch.randn(2, 4), "text": torch.randn(2, 4)}) == dead
    assert dead_sites(model, sites, rows, measured=True) == dead


def test_a_class_that_can_be_run_neither_way_has_no_dead_sites() -> None:
    """Nothing is called dead that was not shown to be; measuring still tells."""
    model = TwoStreams().eval()
    sites = find_sites(model, LINES)
    rows = {"image": torch.randn(2, 4), "text": torch.randn(2, 4)}

    def refuse(module: nn.Module, _args: object) -> None:
        if torch.is_grad_enabled():
            raise NotImplementedError("no autograd here")

    model.blocks[0].register_forward_pre_hook(refuse)
    assert dead_sites(model, sites, rows) == []
    assert [sites[index].name for index in dead_sites(model, sites, rows, measured=True)] == ["block.02.attn.text"]


def test_the_twin_is_free_of_numbers() -> None:
    """A Qwen-Image of the published width is asked where it has no memory at all."""
    from diffusers import QwenImageTransformer2DModel

    with torch.device("meta"):
        model: nn.Module = QwenImageTransformer2DModel(num_layers=4)
    sites = find_sites(model)
    call = {
        "hidden_states": torch.randn(1, 16, 64),
        "encoder_hidden_states": torch.randn(1, 5, 3584),
        "encoder_hidden_states_mask": torch.ones(1, 5, dtype=torch.bool),
        "timestep": torch.tensor([0.5]),
        "img_shapes": [(1, 4, 4)],
        "return_dict": False,
    }
    assert [sites[index].name for index in dead_sites(model, sites, call)] == [
        "block.03.attn.text",
        "block.03.mlp.text",
    ]
