"""What a user gets wrong about a backbone is one sentence and exit status 1, on real checkpoints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from trimpot.adapters import make_diffusers, make_sd3
from trimpot.adapters.diffusion import DiffusionAdapter
from trimpot.cli import main
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import ModelError

REAL = ("outline=false", "device=cpu", "dtype=float32")
PIXART = ("height=16", "width=16", "max_sequence_length=8", "pipeline_options={use_resolution_binning: false}")


@pytest.fixture(scope="module")
def folders(
    sd3_folder: Path, flux_folder: Path, pixart_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Checkpoints by name, and folders that are none."""
    empty = tmp_path_factory.mktemp("empty")
    return {"SD3": sd3_folder, "FLUX": flux_folder, "PIXART": pixart_folder, "EMPTY": empty, "NOWHERE": empty / "no"}


@pytest.mark.parametrize(
    ("adapter", "options", "sentence"),
    [
        ("fluxx", (), "no adapter 'fluxx'; did you mean 'flux'?"),
        ("flux", ("granularty=gate",), "takes no option 'granularty'; did you mean 'granularity'?"),
        ("flux", ("granularity=gates",), "'granularity': should be 'block', 'layer' or 'gate', not 'gates'"),
        ("sd3", ("low=3", "high=1"), "low 3 must lie below high 1"),
        ("sd3", ("members=nobody",), "option 'members'"),
        ("sd3", ("model=NOWHERE",), "give a folder with a model_index.json, or a hub id"),
        ("sd3", ("model=EMPTY",), "no file named config.json"),
        ("sd3", ("model=NOWHERE", *REAL), "no checkpoint folder"),
        ("sd3", ("model=EMPTY", *REAL), "is not a diffusers pipeline: it has no model_index.json"),
        ("sd3", ("model=FLUX",), "holds a FluxTransformer2DModel, not a SD3Transformer2DModel"),
        ("flux", ("model=SD3",), "holds a SD3Transformer2DModel, not a FluxTransformer2DModel"),
        ("sd3", ("model=FLUX", *REAL), "holds a FluxPipeline, not a StableDiffusion3Pipeline; use the adapter made"),
        ("diffusers", ("model=NOWHERE",), "give a folder with a model_index.json"),
        ("diffusers", ("model=EMPTY",), "no file named model_index.json"),
        ("diffusers", ("model=PIXART", "pipeline=PixArtSigmaPipelin", *REAL), "did you mean 'PixArtSigmaPipeline'"),
        ("diffusers", ("model=PIXART", "pipeline_options={guidance_scal: 3}", *REAL), "did you mean 'guidance_scale'"),
        ("sd3", ("model=SD3", "blocks={JointBlock: 'joint: attn.image=norm1[1]'}"), "no block of class 'JointBlock'"),
        ("sd3", ("model=SD3", "blocks={JointTransformerBlock: 'joint attn'}"), "must read 'label: branch.stream="),
        ("sd3", ("model=SD3", "blocks={JointTransformerBlock: 'joint: attn'}"), "site 'attn' must read"),
        ("sd3", ("model=SD3", "blocks={JointTransformerBlock: 'joint: attn.image=norm7'}"), "names 'norm7', which"),
        (
            "sd3",
            ("model=SD3", "blocks={JointTransformerBlock: 'joint: attn.image=attn attn.image=ff'}"),
            "names attn.image twice; number one of them, as in attn2.image",
        ),
        (
            "sd3",
            ("model=SD3", "blocks={JointTransformerBlock: 'joint: attn.image=norm1[9]'}"),
            "returns no item [9]; correct the site line",
        ),
        (
            "diffusers",
            ("model=PIXART", *PIXART, "blocks={BasicTransformerBlock: 'b: attn.image=ff[3]'}", *REAL),
            "FeedForward returns no item [3]",
        ),
        ("sd3", ("model=SD3", "device=cpuu", "outline=false"), "there is no device 'cpuu' here; choose cpu"),
        ("sd3", ("model=SD3", "lora=LORA", *REAL), "holds only half of the LoRA of transformer.x: lora_A"),
        ("sd3", ("model",), "is not of the form key=value"),
    ],
)
def test_the_command_line_answers_in_a_sentence(
    folders: dict[str, Path],
    lora: Path,
    adapter: str,
    options: tuple[str, ...],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`trimpot knobs` says what is wrong, on one line, and ends with status 1."""
    arguments = ["trimpot", "knobs", adapter]
    for option in options:
        key, equals, value = option.partition("=")
        arguments += ["-o", key + equals + str({**folders, "LORA": lora}.get(value, value))]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert printed.out == ""
    assert printed.err.startswith("trimpot: ") and printed.err.count("\n") == 1
    assert sentence in printed.err


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA with a key that is none of PEFT's."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("lora")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
    save_file({"transformer.x.lora_A.weight": torch.ones(1, 1)}, folder / "adapter_model.safetensors")
    return folder


def test_an_item_that_is_not_there_is_said_at_the_latest_by_the_first_image(sd3_folder: Path) -> None:
    """Where nothing looks for dead knobs, the line is tried by generating, and the pipeline is idle afterwards."""
    blocks = {"JointTransformerBlock": "joint: attn.image=norm1[9]"}
    adapter = make_sd3(
        model=str(sd3_folder), device="cpu", dtype="float32", dead="keep", blocks=blocks, num_inference_steps=1
    )
    assert isinstance(adapter, DiffusionAdapter)
    with pytest.raises(ModelError, match=r"no item \[9\]"):
        adapter.generate(adapter.space.defaults[None], Bucket(("a",), (0,)))
    call = {"height": 16, "width": 16, "num_inference_steps": 1, "max_sequence_length": 4}
    assert len(adapter.pipe(prompt="a", **call).images) == 1


def test_a_size_that_a_model_cannot_do_is_said_before_the_search(tmp_path: Path) -> None:
    """A video longer than the model's positions reach is refused while dead knobs are looked for."""
    folder = tiny_models.tiny_wan(tmp_path / "wan")
    with pytest.raises(ModelError, match="the WanTransformer3DModel cannot be run with the given inputs"):
        make_diffusers(model=str(folder), device="cpu", dtype="float32", num_frames=81, height=16, width=16)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
def test_a_compiled_pipeline_is_refused(sd3_folder: Path) -> None:
    """Its hooks would silently be ignored, so the order is said."""
    sd3 = make_sd3(model=str(sd3_folder), device="cpu", dtype="float32")
    assert isinstance(sd3, DiffusionAdapter)
    sd3.close()
    sd3.pipe.transformer.compile()
    with pytest.raises(ModelError, match="attach scales, then compile"):
        DiffusionAdapter(sd3.pipe, {"id": "x"}, sd3.options)
