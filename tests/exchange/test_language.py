"""A language model's calibration, exported: what transformers and PEFT load alone says what the calibration says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language as tiny
import torch
import transformers
import trimpot
from applied import calibrated
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.factory import make_transformers
from trimpot.adapters.likeness import weights_of
from trimpot.adapters.sites import find_sites
from trimpot.engine.calibration import Calibration, Provenance
from trimpot.exchange.roads import difference, export, road_of
from trimpot.ground.errors import CalibrationError, ModelError, TrimpotError
from trimpot.proofs.language import causal_classes, examples
from trimpot.proofs.transformers.table import quiet

# Their branches end in what no parameter of their own scales: a convolution that passes its input on, a norm without
# weights, and experts that return their input.
REFUSED = {
    "DoryForCausalLM",
    "Inkling2ForCausalLM",
    "Inkling2LoopForCausalLM",
    "InklingForCausalLM",
    "LongcatFlashForCausalLM",
}
STEEP = {"ZayaForCausalLM": 5e-5}  # it enlarges rounding: in float64, the two are equal
#: Pre-norm, sandwich norms, norms behind, parallel, GPT-2, experts without and with a shared network and with biases,
#: state spaces, hybrids, norms over the sum.
CHEAP = (
    "BambaForCausalLM",
    "BertLMHeadModel",
    "FalconForCausalLM",
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "Gemma3ForCausalLM",
    "GptOssForCausalLM",
    "Lfm2MoeForCausalLM",
    "LlamaForCausalLM",
    "LongcatFlashForCausalLM",
    "MambaForCausalLM",
    "MixtralForCausalLM",
    "Olmo2ForCausalLM",
    "Qwen2MoeForCausalLM",
)


def of(model: Any, path: Path) -> Path:
    """Save a calibration of a model, with a scale for each of its sites."""
    addresses = [site.address for site in find_sites(model)]
    draw = np.random.default_rng(3)
    scales = {address: float(draw.integers(32, 96) / 64) for address in addresses}
    member = {"sees": "all", "weight": 1.0, "neutral_weight": 1.0, "scales": scales}
    kind = type(model).__name__
    weights = weights_of({"": model}, adapted=True)
    Calibration(
        backbone={"id": "tiny", "transformer": kind},
        num_steps=1,
        setting={f"layer.{address}": scale for address, scale in scales.items()},
        apply={"transformer": kind, "weights": weights, "members": [member]},
        provenance=Provenance(run="test-1", created="2026-01-01"),
    ).save(path)
    return path


@torch.no_grad()
def logits(model: Any, call: dict[str, Any]) -> torch.Tensor:
    return model(**call).logits


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def loaded(model: Any, folder: Path) -> Any:
    """What transformers alone loads from a folder with a model of the same class, which is saved there if it is new."""
    if not folder.exists():
        model.save_pretrained(folder)
    known = type(model.config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    auto = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(model.config)] if known else None
    loader = transformers.AutoModelForCausalLM if auto is type(model) else type(model)
    return loader.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def check_baked(kind: str, home: Path) -> None:
    """A model of this class, baked and loaded by transformers alone, gives the logits of the calibrated one."""
    with quiet():
        example = examples()[kind]
        call = example.arguments(2)
        model = loaded(example.build(), home / "neutral")  # as its users have it: some rows are zeroed in loading
        file = of(model, home / "calibration.json")
        calibration = Calibration.load(file)
        if kind in REFUSED:
            with pytest.raises(CalibrationError, match=r"cannot be folded into weights; apply the calibration"):
                export(model, calibration, "baked", home / "baked")
            assert not (home / "baked").exists()
            return
        before = {name: value.clone() for name, value in model.state_dict().items()}
        neutral = logits(model, call)
        with trimpot.load_calibration(model, file):
            expected = logits(model, call)
        folder = export(model, calibration, "baked", home / "baked")
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert apart(logits(loaded(model, folder), call), expected) <= STEEP.get(kind, 1e-5), kind
        assert apart(neutral, expected) > 1e-3, "the scales do nothing"


@pytest.mark.parametrize("kind", CHEAP)
def test_a_baked_model_is_loaded_by_transformers_alone(kind: str, tmp_path: Path) -> None:
    check_baked(kind, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(examples()) - set(CHEAP)))
def test_every_class_is_baked_or_refused(kind: str, tmp_path: Path) -> None:
    check_baked(kind, tmp_path)


def test_what_is_refused_names_a_class_that_there_is() -> None:
    assert set(causal_classes()) >= REFUSED


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a tiny model and a calibration of it, by kind."""
    made: dict[str, Path] = {}

    def home(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            options = {
                "model": str(tiny.folder(made[kind] / "model", kind)),
                "mode": "generate",
                "max_new_tokens": 6,
                "device": "cpu",
            }
            adapter = make_transformers(**options)
            assert isinstance(adapter, LanguageAdapter)
            vector = 1 + np.random.default_rng(0).uniform(-0.8, 0.8, len(adapter.space))
            file = calibrated(adapter, adapter.space.to_setting(vector), made[kind] / "calibration.json")  # type: ignore[arg-type]
            values = json.loads(file.read_text())
            values["provenance"]["config"] = {"adapter": {"name": "transformers", **options}}
            file.write_text(json.dumps(values))
            adapter.close()
        return made[kind]

    return home


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft reads what transformers has renamed
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_every_road_says_what_the_calibration_says(homes: Callable[[str], Path], kind: str, tmp_path: Path) -> None:
    """GPT-2 holds its weights turned, which IA3 has an option for."""
    peft = pytest.importorskip("peft")
    file = homes(kind) / "calibration.json"
    pipe = trimpot.load_pipeline(file)
    prompt = "what is 12+13="
    with trimpot.load_calibration(pipe, file) as applied:
        said = pipe(prompt, **applied.recommended)
        assert applied.recommended == {"max_new_tokens": 6, "do_sample": False, "repetition_penalty": 1.0}
    for road, most in {"native": 0.0, "baked": 1e-5, "ia3": 1e-5}.items():
        folder = export(pipe, Calibration.load(file), road, tmp_path / road)
        assert road_of(folder) == road
        assert difference(pipe, file, folder) <= most
    alone = transformers.pipeline("text-generation", model=str(tmp_path / "baked"), device="cpu", dtype="float32")
    assert alone(prompt, **applied.recommended) == said
    plain = transformers.AutoModelForCausalLM.from_pretrained(homes(kind) / "model")
    merged = peft.PeftModel.from_pretrained(plain, tmp_path / "ia3").merge_and_unload()
    call = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    with trimpot.load_calibration(pipe.model, file):
        assert apart(logits(merged, call), logits(pipe.model, call)) <= 1e-5
    assert apart(logits(merged, call), logits(pipe.model, call)) > 1e-3
    found = json.loads((tmp_path / "ia3" / "adapter_config.json").read_text())
    assert found["task_type"] == "CAUSAL_LM" and found["fan_in_fan_out"] == (kind == "gpt2")


def test_a_baked_folder_is_a_plain_checkpoint(homes: Callable[[str], Path], tmp_path: Path) -> None:
    file = homes("llama") / "calibration.json"
    folder = export(trimpot.load_pipeline(file), Calibration.load(file), "baked", tmp_path / "baked")
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "baked.json"}
    assert names <= {path.name for path in folder.iterdir()}
    model = make_transformers(model=str(folder), device="cpu").model  # type: ignore[attr-defined]
    scale = next(iter(Calibration.load(file).apply["members"][0]["scales"].values()))
    name = "model.layers.0.self_attn.o_proj.weight"
    before = trimpot.load_pipeline(file).model.get_parameter(name)
    torch.testing.assert_close(model.get_parameter(name), before * scale)


def test_norms_that_add_one_to_their_weight_hold_the_scale(tmp_path: Path) -> None:
    model = tiny.model("gemma2")
    file = of(model, tmp_path / "calibration.json")
    folder = export(model, Calibration.load(file), "baked", tmp_path / "baked")
    baked = transformers.AutoModelForCausalLM.from_pretrained(folder)
    for address, scale in Calibration.load(file).apply["members"][0]["scales"].items():
        norm = model.get_submodule(address).weight
        torch.testing.assert_close(1 + baked.get_submodule(address).weight, scale * (1 + norm))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_be_exported_is_one_sentence(homes: Callable[[str], Path], tmp_path: Path) -> None:
    file = homes("llama") / "calibration.json"
    calibration = Calibration.load(file)

    def refused(what: Any, road: str, said: str, **more: Any) -> None:
        with pytest.raises(TrimpotError, match=said) as error:
            export(what, calibration, road, tmp_path / "out", **more)
        assert "\n" not in str(error.value) and not list(tmp_path.glob("*out*"))

    refused(tiny.model("gpt2"), "baked", "this calibration is for a LlamaForCausalLM, the pipeline has a GPT2LMHead")
    refused(tiny.model("gpt2"), "ia3", "this calibration is for a LlamaForCausalLM, the pipeline has a GPT2LMHead")
    refused(None, "comfyui", "a LlamaForCausalLM cannot be exported for ComfyUI")
    single = homes("llama") / "model" / "model.safetensors"
    refused(tiny.model("llama"), "baked", "diffusers loads no LlamaForCausalLM from a single file", single_file=single)
    gemma = tiny.model("gemma2")
    calibration = Calibration.load(of(gemma, tmp_path / "gemma2.json"))
    refused(gemma, "ia3", "is a Gemma2RMSNorm, and IA3 scales linear layers only; export it as baked")
    mixtral = tiny.model("mixtral")
    calibration = Calibration.load(of(mixtral, tmp_path / "mixtral.json"))
    refused(mixtral, "ia3", "IA3 scales linear layers only; export it as baked")


def test_a_branch_whose_weights_are_used_elsewhere_is_refused(tmp_path: Path) -> None:
    model = tiny.model("llama")
    first, second = model.model.layers
    second.mlp.down_proj.weight = first.mlp.down_proj.weight
    calibration = Calibration.load(of(model, tmp_path / "calibration.json"))
    with pytest.raises(CalibrationError, match=r"layers\.0\.mlp\.down_proj\.weight is .*layers\.1\.mlp.* as well"):
        export(model, calibration, "baked", tmp_path / "out")


def test_a_model_that_uses_a_branch_in_another_place_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = tiny.model("llama")
    weight = model.model.layers[0].mlp.down_proj.weight
    model.lm_head.register_forward_hook(lambda _module, _args, output: output + weight.abs().sum())
    calibration = Calibration.load(of(model, tmp_path / "calibration.json"))
    kept = weight.clone()
    with pytest.raises(CalibrationError, match=r"uses weights in more places .* apply the calibration with trimpot"):
        export(model, calibration, "baked", tmp_path / "out")
    assert torch.equal(weight, kept) and not list(tmp_path.glob("*out*"))


def test_a_quantized_model_is_refused(homes: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    file = homes("llama") / "calibration.json"
    pipe = trimpot.load_pipeline(file, quantization="torchao-int8")
    for road in ("baked", "ia3"):
        with pytest.raises(CalibrationError, match="are quantized or not in memory, so nothing can be folded"):
            export(pipe, Calibration.load(file), road, tmp_path / "out")


def test_a_pipeline_without_tokenizer_or_with_unknown_options_is_refused(
    homes: Callable[[str], Path], tmp_path: Path
) -> None:
    file = homes("llama") / "calibration.json"
    shutil.copytree(homes("llama") / "model", tmp_path / "model")
    for path in (tmp_path / "model").glob("tokenizer*"):
        path.unlink()
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"has no tokenizer"):
        trimpot.load_pipeline(file, model=str(tmp_path / "model"))
    with pytest.raises(ModelError, match="no option is called 'devise'; did you mean 'device'"):
        trimpot.load_pipeline(file, devise="cpu")


def test_a_damaged_export_is_one_sentence(homes: Callable[[str], Path], tmp_path: Path) -> None:
    file = homes("llama") / "calibration.json"
    pipe = trimpot.load_pipeline(file)
    folder = export(pipe, Calibration.load(file), "baked", tmp_path / "baked")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CalibrationError, match=r"cannot be loaded: .*; export it again") as error:
        difference(pipe, file, folder)
    assert "\n" not in str(error.value)


def test_a_file_whose_setting_is_not_what_it_applies_is_refused(homes: Callable[[str], Path], tmp_path: Path) -> None:
    values = json.loads((homes("llama") / "calibration.json").read_text())
    values["setting"]["layer.00.attn"] = 1.99
    (tmp_path / "other.json").write_text(json.dumps(values))
    with pytest.raises(CalibrationError, match=r"layer\.00\.attn is 1.99, and nothing applies that"):
        export(None, Calibration.load(tmp_path / "other.json"), "native", tmp_path / "out")
