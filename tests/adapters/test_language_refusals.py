"""What a language model is given by mistake, or asked for in vain, is one sentence; nothing is made up in silence."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language as tiny
import torch
from asked_models import made, refusal
from safetensors.torch import load_file, save_file
from trimpot.adapters.language import gguf
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.options import LanguageOptions
from trimpot.engine.bucket import Bucket
from trimpot.ground import extras
from trimpot.ground.errors import ModelError

State = dict[str, Any]
Spoil = Callable[[Path], object]
WRITES: Any = {"mode": "generate", "max_new_tokens": 4}
QUANTIZED = {"quantization_config": {"quant_method": "unheard-of", "bits": 4}}


def configured(**values: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return spoil


def weights(change: Callable[[State], State]) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file({name: value.clone() for name, value in change(load_file(file)).items()}, file, {"format": "pt"})

    return spoil


def text(name: str, content: str) -> Spoil:
    return lambda folder: (folder / name).write_text(content)


def without(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def small_vocabulary(folder: Path) -> None:
    configured(vocab_size=40)(folder)
    weights(lambda state: {k: v[:40] if "embed" in k or "lm_head" in k else v for k, v in state.items()})(folder)


NORM, UP = "model.norm.weight", "model.layers.1.mlp.up_proj.weight"
FOLDERS: Mapping[str, tuple[Spoil, str]] = {
    "an encoder and decoder": (configured(model_type="t5"), "is a T5, of which transformers has no causal language"),
    "an encoder": (configured(model_type="bert"), "of the BertLMHeadModel's weights, first bert.embeddings"),
    "a strange kind": (configured(model_type="strange"), "as a language model"),
    "heads that do not divide": (configured(num_attention_heads=5), "is not a multiple of the number of attention"),
    "a word for a number": (configured(num_hidden_layers="two"), "'num_hidden_layers' expected int, got str"),
    "no layers": (configured(num_hidden_layers=0), "has 18 weights that a LlamaForCausalLM of this configuration does"),
    "an unknown activation": (configured(hidden_act="nope"), "as a LlamaForCausalLM: 'nope'"),
    "a configuration of nothing": (text("config.json", "{}"), "as a language model: Unrecognized model"),
    "a configuration that is cut off": (text("config.json", "{"), "config.json is not JSON; download it again"),
    "a configuration that is a list": (text("config.json", "[]"), "as a language model"),
    "a missing weight": (
        weights(lambda state: {name: value for name, value in state.items() if name != UP}),
        f"lacks 1 of the LlamaForCausalLM's weights, first {UP}",
    ),
    "a weight left over": (weights(lambda s: {**s, "model.bias": s[NORM]}), "does not use, first model.bias"),
    "a part left over": (weights(lambda s: {**s, "vision_model.a": s[NORM]}), "does not use, first vision_model.a"),
    "a misshapen weight": (weights(lambda s: {**s, NORM: s[NORM][:3]}), f"weights, first {NORM}"),
    "weights of other names": (weights(lambda s: {f"x.{k}": v for k, v in s.items()}), "lacks 21"),
    "whole numbers": (
        weights(lambda state: {**state, UP: state[UP].to(torch.int8)}),
        f"is quantized in a way that its config.json does not tell (it holds I8 numbers as {UP}); give it in float32",
    ),
    "an unknown quantization": (configured(**QUANTIZED), "is quantized by unheard-of, which transformers does not"),
    "a file of another name": (
        lambda folder: (folder / "model.safetensors").rename(folder / "weights.safetensors"),
        "no file named model.safetensors",
    ),
    "a missing shard": (
        lambda folder: (
            (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors"),
            text(
                "model.safetensors.index.json",
                json.dumps({"metadata": {}, "weight_map": {NORM: "model-00002-of-00002.safetensors"}}),
            )(folder),
        ),
        "model-00002-of-00002.safetensors",
    ),
    "a damaged tokenizer": (text("tokenizer.json", "{"), "tokenizer.json is not JSON; download it again"),
    "settings of a tokenizer alone": (without("tokenizer.json"), "has no tokenizer: it holds no tokenizer.json"),
    "a tokenizer that brings code": (
        text("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": ["x.Y", null]}, "tokenizer_class": "Y"}'),
        "cannot load the tokenizer of",
    ),
    "weights behind a pointer": (
        text("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"),
        "is a pointer of git-lfs and not the file itself; run git lfs pull",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_no_whole_model_is_refused(
    language_folders: Callable[[str], Path], tmp_path: Path, case: str
) -> None:
    spoil, said = FOLDERS[case]
    shutil.copytree(language_folders("llama"), tmp_path / "model")
    spoil(tmp_path / "model")
    assert said in refusal(lambda: made(tmp_path / "model"))


@pytest.mark.parametrize("kind", ["XLNet", "Reformer", "XLM"])
def test_a_model_without_a_covered_decoder_is_refused(kind: str) -> None:
    """Classes that `trimpot sites --library transformers` lists with the reason why they have no line."""
    import transformers
    from trimpot.proofs.language.classes import NOT_RUN

    sizes = {"d_model": 8, "emb_dim": 8, "n_layer": 1, "n_layers": 1, "n_head": 2, "n_heads": 2, "d_inner": 8}
    given = (
        {"is_decoder": True, "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [64, 192]}
        if kind == "Reformer"
        else sizes
    )
    config = getattr(transformers, f"{kind}Config")(vocab_size=96, **given)
    model = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).eval()
    assert type(model).__name__ in NOT_RUN
    options = LanguageOptions(model="m")
    said = refusal(lambda: LanguageAdapter(model, tiny.tokenizer(), {"id": "m"}, options))
    assert said.startswith(f"{type(model).__name__} has no block that trimpot knows sites of")


def renamed(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    assert len(old) == len(new)
    return lambda content: content.replace(old, new)


GGUF: Mapping[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut in half": (lambda content: content[: len(content) // 2], "is damaged or incomplete"),
    "without its last bytes": (lambda content: content[:-100], "is damaged or incomplete"),
    "cut in the header": (lambda content: content[:200], "is damaged or incomplete"),
    "empty": (lambda content: b"", "is damaged or incomplete"),
    "something else": (lambda content: b"hello" * 99, "is damaged or incomplete"),
    "a pointer": (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of git-lfs"),
    "an unknown architecture": (
        renamed(b"llama", b"zzzzz"),
        "architecture zzzzz is not supported yet; give the model's folder or hub id instead",
    ),
    "a weight of another name": (renamed(b"blk.1.ffn_down", b"blk.1.ffn_xxxx"), "lacks 1 of the LlamaForCausalLM's"),
    "a weight of another layer": (renamed(b"blk.1.ffn_down", b"blk.7.ffn_down"), "lacks 1 of the LlamaForCausalLM's"),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny.write_gguf(tmp_path_factory.mktemp("gguf") / "whole.gguf").read_bytes()


@pytest.mark.parametrize("case", GGUF)
def test_a_gguf_file_that_is_no_whole_model_is_refused_and_nothing_is_kept(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(gguf, "cache", lambda: tmp_path / "cache")
    spoil, said = GGUF[case]
    (tmp_path / "spoilt.gguf").write_bytes(spoil(whole))
    assert said in refusal(lambda: made(tmp_path / "spoilt.gguf"))
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_gguf_file_with_a_tensor_too_many_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "cache", lambda: tmp_path / "cache")
    for name in ("blk.0.attn_q.bias", "blk.2.attn_norm.weight", "strange.weight"):
        file = tiny.write_gguf(tmp_path / "more.gguf", {name: np.ones(32, np.float32)})
        assert f"has a weight that a LlamaForCausalLM of this configuration does not use, first {name}" in refusal(
            lambda file=file: made(file)  # type: ignore[misc]
        )
    computed = tiny.write_gguf(tmp_path / "rope.gguf", {"rope_freqs.weight": np.ones(4, np.float32)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert len(made(computed).space) == 4


#: Architectures of GGUF whose models have another name in transformers.
ARCHITECTURES = {
    "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gemma3_text": "gemma3", "gemma4_text": "gemma4",
    "minimax_m2": "minimax-m2", "gpt_oss": "gpt-oss",
}  # fmt: skip


@pytest.mark.slow
def test_no_tensor_that_transformers_loads_is_taken_for_one_too_many() -> None:
    """The independent route: the names of tensors as transformers itself maps them, of every architecture."""
    pytest.importorskip("gguf")
    from transformers import modeling_gguf_pytorch_utils as theirs
    from trimpot.proofs.language import causal_classes, examples
    from trimpot.proofs.transformers.table import quiet

    walked, wrong = set(), {}
    for kind, example in examples().items():
        known = causal_classes()[kind].config_class.model_type  # type: ignore[attr-defined]
        name = ARCHITECTURES.get(known, known)
        if known == "mistral" or not {known, name} & set(theirs.GGUF_SUPPORTED_ARCHITECTURES):
            continue  # a Mistral's file says llama
        with quiet():
            model: Any = example.build()
        processor = theirs.TENSOR_PROCESSORS.get(name, theirs.TensorProcessor)(config=model.config.to_dict())
        if extra := gguf.unused(theirs.get_gguf_hf_weights_map(model, processor), name, model):
            wrong[kind] = extra
        walked.add(name)
    assert wrong == {} and len(walked) >= 17


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("wide", {"target_modules": ["q_proj"]}, "does not fit: its A is (2, 64), not (2, 32)"),
        ("deep", {"target_modules": ["q_proj"]}, "has no module model.layers.2.self_attn.q_proj"),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}, "fan_in_fan_out, which cannot be merged"),
        ("llama", {"target_modules": ["q_proj"], "use_dora": True}, "is a DoRA"),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "that no linear layer's LoRA uses"),
        ("llama", {"target_modules": ["q_proj", "embed_tokens"]}, "that no linear layer's LoRA uses"),
    ],
)
def test_a_lora_of_another_model_is_refused(
    language_folders: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    config: Any,
    said: str,
) -> None:
    peft = pytest.importorskip("peft")
    name, sizes = tiny.KINDS["llama"]
    monkeypatch.setitem(tiny.KINDS, "wide", (name, {**sizes, "hidden_size": 64}))
    monkeypatch.setitem(tiny.KINDS, "deep", (name, {**sizes, "num_hidden_layers": 3}))
    wrapped = peft.get_peft_model(tiny.model(kind), peft.LoraConfig(r=2, init_lora_weights=False, **config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.save_pretrained(tmp_path / "lora")
    assert said in refusal(lambda: made(language_folders("llama"), lora=str(tmp_path / "lora")))


A = {"a": {"answer": "b"}}
#: The kind of model, options, the records of prompts, and what is said of them.
ASKED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("llama", {}, {"a": {}}, "'a' has neither an answer nor options"),
    ("llama", {"max_answer_tokens": 3}, {"a": {"answer": "bbbb"}}, "has 4 tokens, and max_answer_tokens is 3"),
    ("gpt2", {}, {"a" * 60: {"answer": "b" * 6}}, "and its answer have 66 tokens, and at most 64 fit; shorten them"),
    ("gpt2", {}, {"a" * 65: {"answer": "b"}}, "has 65 tokens, and at most 64 fit; shorten it"),
    ("gpt2", {"prose": True}, {"a" * 65: {}}, "has 66 tokens, and at most 64 fit; shorten it"),
    ("gpt2", WRITES, {"a" * 62: {}}, "has 62 tokens, and with max_new_tokens: 4 there would be 65, of which"),
    ("llama", {**WRITES, "max_new_tokens": 65}, {"a": {}}, "takes at most 64; shorten it, or lower max_new_tokens"),
    ("llama", {"max_prompt_tokens": 2}, {"aaa": {"answer": "b"}}, "has 3 tokens, and at most 2 fit; shorten it"),
    ("llama", {"max_prompt_tokens": 65}, A, "max_prompt_tokens is 65, and the model takes at most 64 tokens; lower it"),
    ("llama", {"chat": True, "system": "z"}, A, ""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "records", "said"), ASKED, ids=lambda each: str(each)[:40])
def test_more_than_fits_is_refused_before_anything_is_made(
    language_folders: Callable[[str], Path], kind: str, options: dict[str, Any], records: dict[str, Any], said: str
) -> None:
    def ask() -> LanguageAdapter:
        adapter = made(language_folders(kind), **options)
        adapter.take_metadata(records)
        adapter.check_prompts(list(records))
        return adapter

    if said:
        assert said in refusal(ask)
    else:
        ask()


@pytest.mark.parametrize("options", [{}, {"prose": True}, WRITES, {**WRITES, "max_new_tokens": 1}], ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_what_just_fits_is_computed(
    language_folders: Callable[[str], Path], kind: str, options: dict[str, Any]
) -> None:
    """The longest prompt that is not refused needs no place that the model lacks."""
    adapter = made(language_folders(kind), **options)
    written = adapter.options.max_new_tokens if options.get("mode") else 0
    prompt = "a" * (64 - max(written - 1, 0))
    adapter.take_metadata({} if options.get("prose") else {prompt: {"answer": "b"}})
    adapter.check_prompts([prompt])
    [[answer]] = adapter.generate(adapter.space.defaults[None], Bucket((prompt,), (0,)))
    assert answer.finite


def test_a_tokenizer_of_another_model_is_refused(language_folders: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(language_folders("llama"), tmp_path / "model")
    small_vocabulary(tmp_path / "model")
    adapter = made(tmp_path / "model")
    adapter.take_metadata({"a": {"answer": "="}, "=": {"answer": "a"}})
    adapter.check_prompts([])
    for prompt in ("a", "="):
        said = refusal(lambda prompt=prompt: adapter.check_prompts([prompt]))  # type: ignore[misc]
        assert "and the model has 40 tokens; give the tokenizer that belongs to the model" in said


@pytest.mark.parametrize(
    ("template", "options", "said"),
    [
        (None, {}, "the model's tokenizer has no chat template; leave out chat"),
        ("{% for %}", {}, "the model's chat template fails: "),
        ("{{ raise_exception('no') }}", {}, "the model's chat template fails: no"),
        ("hello", {}, "the model's chat template leaves out the prompt; leave out chat"),
        ("{{ messages[-1].content }}", {"system": "z"}, "the model's chat template leaves out the system message"),
    ],
)
def test_a_chat_without_its_template_is_refused(
    language_folders: Callable[[str], Path], tmp_path: Path, template: str | None, options: dict[str, Any], said: str
) -> None:
    shutil.copytree(language_folders("llama"), tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    tiny.tokenizer(template=template).save_pretrained(tmp_path / "model")
    assert said in refusal(lambda: made(tmp_path / "model", chat=True, **options))


def test_too_little_memory_for_the_weights_is_one_sentence(
    language_folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", full)
    said = refusal(lambda: made(language_folders("llama")))
    assert "there is not enough memory to load" in said and "on cpu; choose dtype: bfloat16 or quantization" in said


def test_a_quantization_without_its_package_is_one_sentence(
    language_folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda package: package != "torchao")
    said = refusal(lambda: made(language_folders("llama"), quantization="torchao-int8"))
    assert "torchao" in said and "pip install" in said


def test_a_refusal_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        made(tmp_path)
