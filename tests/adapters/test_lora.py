"""A merged LoRA is the LoRA: held against PEFT's own merge and against the formula, and nothing half-merged."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from trimpot.adapters.checkpoints import Loading, load_pipeline
from trimpot.adapters.lora import FLOW_GRPO, merge_lora
from trimpot.ground.errors import ModelError

peft = pytest.importorskip("peft")

COMMIT = "beef" * 10
TARGETS = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.to_add_out"]
WEIGHTS = "adapter_model.safetensors"


def peft_model(base: nn.Module, **options: Any) -> Any:
    """A model with a LoRA whose B, which starts at zero, is random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT says of models that are not language models
        config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TARGETS, **options})
        model = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def saved(folder: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_model(tiny_models.tiny_sd3_transformer(), **options).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("lora") / "tiny-lora")


@pytest.fixture
def lora(original: Path, tmp_path: Path) -> Path:
    """A LoRA folder that a test may spoil."""
    shutil.copytree(original, tmp_path / "tiny-lora")
    return tmp_path / "tiny-lora"


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def forward(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    output: torch.Tensor = model(
        hidden_states=torch.randn(2, 4, 4, 4, generator=generator),
        encoder_hidden_states=torch.randn(2, 6, 32, generator=generator),
        pooled_projections=torch.randn(2, 16, generator=generator),
        timestep=torch.tensor([500.0, 500.0]),
    ).sample
    return output


@pytest.mark.parametrize(
    ("options", "scaling"),
    [
        ({}, 8 / 4),
        ({"use_rslora": True}, 8 / math.sqrt(4)),
        ({"r": 3, "lora_alpha": 5}, 5 / 3),
        ({"rank_pattern": {"0.attn.to_q": 2}, "alpha_pattern": {r"1\.attn\.to_\w": 3}}, None),
    ],
)
def test_a_merge_is_the_formula_and_what_peft_computes(
    tmp_path: Path, options: dict[str, Any], scaling: float | None
) -> None:
    folder = saved(tmp_path / "lora", **options)
    base = tiny_models.tiny_sd3_transformer()
    before = state(base)
    merge_lora(base, folder)
    tensors = load_file(folder / WEIGHTS)
    touched = 0
    for name, value in base.state_dict().items():
        prefix = "base_model.model." + name.removesuffix(".weight")
        if prefix + ".lora_A.weight" not in tensors:
            assert torch.equal(value, before[name]), name
            continue
        touched += 1
        product = tensors[prefix + ".lora_B.weight"].double() @ tensors[prefix + ".lora_A.weight"].double()
        if scaling is not None:  # otherwise it differs, and what PEFT computes is held against it below
            assert torch.allclose(value.double(), before[name].double() + scaling * product, rtol=0, atol=1e-6), name
        assert (value - before[name]).abs().max() > 0.01
    assert touched == len(tensors) / 2 > 0

    theirs = peft_model(tiny_models.tiny_sd3_transformer(), **options)
    unmerged = forward(theirs)
    assert torch.allclose(forward(base), unmerged, rtol=0, atol=1e-4)
    assert torch.allclose(forward(base), forward(theirs.merge_and_unload()), rtol=0, atol=1e-6)
    assert (forward(base) - forward(tiny_models.tiny_sd3_transformer())).abs().max() > 0.01


def test_what_was_merged_is_described(lora: Path) -> None:
    described = merge_lora(tiny_models.tiny_sd3_transformer(), lora)
    num_modules = len(load_file(lora / WEIGHTS)) // 2
    weights = described.pop("weights")
    assert described == {"id": "tiny-lora", "rank": 4, "alpha": 8, "num_modules": num_modules}
    tensors = load_file(lora / WEIGHTS)
    next(iter(tensors.values())).flatten()[0].add_(1)
    save_file(tensors, lora / WEIGHTS)
    assert merge_lora(tiny_models.tiny_sd3_transformer(), lora)["weights"] != weights


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_rounded_once(lora: Path, dtype: torch.dtype) -> None:
    half = tiny_models.tiny_sd3_transformer().to(dtype)
    wide = tiny_models.tiny_sd3_transformer().to(dtype).float()
    merge_lora(half, lora)
    merge_lora(wide, lora)
    for (name, one), other in zip(half.state_dict().items(), wide.state_dict().values(), strict=True):
        assert torch.equal(one, other.to(dtype)), name


def test_a_transformer_keeps_its_parameters_and_has_no_peft_left(lora: Path) -> None:
    base = tiny_models.tiny_sd3_transformer()
    names, parameters = list(base.state_dict()), list(base.parameters())
    merge_lora(base, lora)
    assert list(base.state_dict()) == names
    assert all(one is other for one, other in zip(base.parameters(), parameters, strict=True))


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def edit_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS)

    return edit


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


LAST = "base_model.model.transformer_blocks.2.attn.to_v.lora_{}.weight"
SPOILED = {
    "unused key": (edit_weights(lambda t: t.update(zzz=torch.ones(1))), "that no linear layer's LoRA uses: zzz"),
    "dora weight": (
        edit_weights(lambda t: t.update({LAST.format("magnitude_vector"): torch.ones(16)})),
        "is a DoRA, which rescales whole weights and cannot be merged here, first: .*lora_magnitude_vector",
    ),
    "diffusers prefix": (
        edit_weights(lambda t: t.update({LAST.format("A")[11:]: t.pop(LAST.format("A"))})),
        "only half of the LoRA of .*to_v: lora_",
    ),
    "half a pair": (edit_weights(lambda t: t.pop(LAST.format("B"))), "only half of the LoRA of .*to_v: lora_A"),
    "wrong A": (edit_weights(lambda t: t.update({LAST.format("A"): torch.ones(4, 15)})), r"its A is \(4, 15\)"),
    "wrong B": (edit_weights(lambda t: t.update({LAST.format("B"): torch.ones(17, 4)})), r"its B is \(17, 4\)"),
    "wrong rank": (edit_config(r=5), "its rank is 4, but its configuration says 5"),
    "another model": (
        edit_weights(lambda t: [t.update({n.replace("blocks.2", "blocks.9"): t.pop(n)}) for n in list(t)]),
        r"has no module transformer_blocks\.9",
    ),
    "convolution": (
        edit_weights(
            lambda t: t.update({f"base_model.model.pos_embed.proj.lora_{s}.weight": torch.ones(4, 4) for s in "AB"})
        ),
        "is for a Conv2d; only linear layers",
    ),
    "too large": (
        edit_weights(lambda t: (t[LAST.format("A")].fill_(1e30), t[LAST.format("B")].fill_(1e30))),
        "makes weights of .*to_v that are not finite",
    ),
    "not finite": (edit_weights(lambda t: t[LAST.format("A")].fill_(math.nan)), "not finite, first in .*to_v.lora_A"),
    "empty": (edit_weights(lambda t: t.clear()), "is empty"),
    "broken": (
        lambda folder: (folder / WEIGHTS).write_bytes(b"none"),
        "cannot load .* as a LoRA: .* is damaged or incomplete",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
    "pickled": (pickled, r"as a pickle \(adapter_model.bin\), which can run code"),
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
    "no json": (lambda folder: (folder / "adapter_config.json").write_text("{"), "does not describe a LoRA"),
    "not a lora": (edit_config(peft_type="LOHA"), "does not describe a LoRA"),
    "dora": (edit_config(use_dora=True), "uses use_dora"),
    "other ranks": (edit_config(rank_pattern={"to_q": 8}), "its rank is 4, but its configuration says 8"),
    "no ranks": (edit_config(rank_pattern={"to_q": 0}), "must give rank and alpha"),
    "no alphas": (edit_config(alpha_pattern={"to_q": None}), "must give rank and alpha"),
    "no pattern": (edit_config(alpha_pattern={"(": 8}), "alpha_pattern is not a mapping"),
    "transposed": (edit_config(fan_in_fan_out=True), "uses fan_in_fan_out"),
    "whole modules": (edit_config(modules_to_save=["proj_out"]), "uses modules_to_save"),
    "biases": (edit_config(bias="all"), "also trained biases"),
    "changed base": (edit_config(init_lora_weights="pissa"), "'pissa', which changes the base model"),
    "something new": (edit_config(use_better_lora=True), "uses use_better_lora"),
    "no rank": (edit_config(r=0), "must give rank and alpha"),
    "no alpha": (edit_config(lora_alpha=None), "must give rank and alpha"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_cannot_be_merged_exactly_leaves_the_model_as_it_was(lora: Path, case: str) -> None:
    spoil, message = SPOILED[case]
    spoil(lora)
    base = tiny_models.tiny_sd3_transformer()
    before = state(base)
    with pytest.raises(ModelError, match=message) as error:
        merge_lora(base, lora)
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "no LoRA /no/such/folder; give a .safetensors file"),
        ("genevall", "no LoRA is named 'genevall'; did you mean 'geneval'"),
        ("somewhere/lora.safetensors", "no LoRA somewhere"),
    ],
)
def test_a_lora_that_is_not_there_is_said_in_a_sentence(source: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        merge_lora(tiny_models.tiny_sd3_transformer(), source)


def test_quantized_weights_are_refused(sd3_folder: Path, lora: Path) -> None:
    pytest.importorskip("torchao")
    pipe, _ = load_pipeline(None, str(sd3_folder), Loading(quantization="torchao-int8"))
    with pytest.raises(ModelError, match="which a LoRA cannot be merged into"):
        merge_lora(pipe.transformer, lora)


def test_weights_that_are_offloaded_already_are_refused(sd3_folder: Path, lora: Path) -> None:
    for mode in ("group", "sequential"):
        pipe, _ = load_pipeline(None, str(sd3_folder), Loading(dtype="float32"))
        if mode == "group":
            pipe.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")
        else:
            from accelerate import cpu_offload

            cpu_offload(pipe.transformer, torch.device("cpu"))
        with pytest.raises(ModelError, match="already offloaded"):
            merge_lora(pipe.transformer, lora)


def test_a_pipeline_is_loaded_with_its_lora(sd3_folder: Path, lora: Path) -> None:
    plain, _ = load_pipeline(None, str(sd3_folder), Loading(dtype="float32"))
    pipe, source = load_pipeline(None, str(sd3_folder), Loading(dtype="float32", lora=str(lora)))
    assert source["lora"] == merge_lora(plain.transformer, lora)
    assert torch.equal(forward(pipe.transformer), forward(plain.transformer))
    again, _ = load_pipeline(None, str(sd3_folder), Loading(dtype="float32"))
    assert not torch.equal(forward(again.transformer), forward(pipe.transformer)), "the files are as they were"


@pytest.mark.parametrize("source", [*FLOW_GRPO, "owner/some-lora"])
def test_a_lora_on_the_hub_is_known_by_its_commit(
    lora: Path, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = FLOW_GRPO.get(source, source)
    with pytest.raises(ModelError, match=f"the hub cannot be reached and {repository}"):
        merge_lora(tiny_models.tiny_sd3_transformer(), source)
    home = tmp_path / "hub" / ("models--" + repository.replace("/", "--"))
    shutil.copytree(lora, home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    described = merge_lora(tiny_models.tiny_sd3_transformer(), source)
    assert (described["id"], described["revision"]) == (repository, COMMIT)
