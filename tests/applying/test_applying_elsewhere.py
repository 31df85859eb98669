"""A calibration on another model than its own is applied with a warning that names what differs."""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trimpot
from applied import calibrated, made, refused
from trimpot.adapters.likeness import same_weights, weights_of
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.ground.errors import CalibrationError, Notice


@pytest.fixture
def adapter(flux_folder: Path) -> PipelineAdapter:
    """A tiny FLUX of this test's own."""
    found = made("flux", flux_folder)
    found.close()
    return found


@pytest.fixture
def file(adapter: PipelineAdapter, tmp_path: Path) -> Path:
    """Its calibration file."""
    return calibrated(adapter, dict.fromkeys(adapter.space.names, 0.5), tmp_path / "calibration.json")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_its_own_model_is_known_in_every_precision(adapter: PipelineAdapter, file: Path, dtype: torch.dtype) -> None:
    adapter.pipe.transformer.to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trimpot.load_calibration(adapter.pipe, file).remove()


def test_another_fine_tune_is_told(adapter: PipelineAdapter, file: Path) -> None:
    """It is applied all the same."""
    with torch.no_grad():
        for value in adapter.pipe.transformer.parameters():
            value.mul_(1.1)
    with pytest.warns(Notice, match="made on another model: its transformer's weights are not those of"):
        applied = trimpot.load_calibration(adapter.pipe, file)
    assert adapter.pipe.transformer._forward_pre_hooks
    applied.remove()


def test_a_lora_it_was_not_made_on_is_told(adapter: PipelineAdapter, file: Path) -> None:
    peft = pytest.importorskip("peft")
    adapter.pipe.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    with pytest.warns(Notice, match="it has a LoRA that the calibration was not made on"):
        trimpot.load_calibration(adapter.pipe, file).remove()


@pytest.mark.parametrize("flat", [True, False])
def test_a_file_without_weights_is_told_by_names(adapter: PipelineAdapter, file: Path, flat: bool) -> None:
    """Older files hold no sample of weights, and where the model comes from beside everything else."""
    values: dict[str, Any] = json.loads(file.read_text())
    del values["apply"]["weights"]
    source = {"id": "owner/another", "lora": {"id": "x"}}
    values["backbone"] = source if flat else {"source": source}
    file.write_text(json.dumps(values))
    with pytest.warns(Notice, match=r"not from owner/another and it lacks the LoRA"):
        trimpot.load_calibration(adapter.pipe, file).remove()


def test_it_is_applied_once_and_taken_off_as_often_as_one_likes(adapter: PipelineAdapter, file: Path) -> None:
    applied = trimpot.load_calibration(adapter.pipe, file)
    hooks = len(adapter.pipe.transformer._forward_pre_hooks)
    with pytest.raises(CalibrationError, match="already has scales"):
        trimpot.load_calibration(adapter.pipe, file)
    assert len(adapter.pipe.transformer._forward_pre_hooks) == hooks
    applied.remove()
    applied.remove()
    trimpot.load_calibration(adapter.pipe, file).remove()
    adapter.pipe.transformer.single_transformer_blocks = torch.nn.ModuleList()
    refused(adapter.pipe, file, "has no module")


def test_a_sample_tells_as_much_as_is_in_it() -> None:
    """Yes, no, or that it cannot be told."""
    model = torch.nn.Linear(3, 3)
    assert weights_of({"": model})["sample"] == [pytest.approx(model.weight.flatten()[4].item(), rel=0.01)]
    assert weights_of({"": model.to("meta")})["sample"] == [None]
    assert same_weights([1.0, 2.0], [1.0, 2.001]) is True
    assert same_weights([1.0, 2.0], [1.0, 2.1]) is False
    assert same_weights([1.0, None, None], [2.0, None, 3.0]) is False
    for one, other in (([], [1.0]), ([1.0], []), ([], []), ([1.0], [1.0, 2.0]), ([1.0, 2.0, 3.0], [1.0, None, None])):
        assert same_weights(one, other) is None


KINDS = ("sd3", "flux", "pixart")
NOTHING = None
OTHER = "was made on another model"
UNKNOWN = "may have been made on another model: the transformer's weights cannot be compared"


def fine_tuned(pipe: Any) -> None:
    with torch.no_grad():
        for value in pipe.transformer.parameters():
            value.mul_(1.1)


def deeper(pipe: Any) -> None:
    """A block more than that of the calibration, which has a name for every site."""
    for name in ("transformer_blocks", "single_transformer_blocks"):
        blocks = getattr(pipe.transformer, name, None)
        if blocks:
            blocks.append(type(blocks[-1]).__new__(type(blocks[-1])))
            blocks[-1].__dict__.update(copy.deepcopy(blocks[-2]).__dict__)


def offloaded(pipe: Any) -> None:
    pytest.importorskip("accelerate").cpu_offload(pipe.transformer, execution_device="cpu")


def grouped(pipe: Any, **further: Any) -> None:
    cpu = torch.device("cpu")
    pipe.transformer.enable_group_offload(cpu, cpu, offload_type="leaf_level", **further)


def on_disk(pipe: Any) -> None:
    grouped(pipe, offload_to_disk_path=tempfile.mkdtemp())


def quantized(pipe: Any) -> None:
    torchao = pytest.importorskip("torchao.quantization")
    torchao.quantize_(pipe.transformer, torchao.Int8WeightOnlyConfig())


def narrow(pipe: Any) -> None:
    pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def lora(pipe: Any) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(5)
    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, pipe.transformer)


def strengthen(pipe: Any, factor: float) -> None:
    for module in pipe.transformer.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("default", factor)


def merge(pipe: Any, *, back: bool = False) -> None:
    for module in pipe.transformer.modules():
        if hasattr(module, "unmerge"):
            module.unmerge() if back else module.merge()


def merged(pipe: Any) -> None:
    lora(pipe)
    merge(pipe)


# What becomes of the pipeline that a calibration is loaded on, and what is said of it.
CHANGES: dict[str, tuple[list[Any], str | None]] = {
    "itself": ([], NOTHING),
    "offloaded": ([offloaded], NOTHING),
    "offloaded in groups": ([grouped], NOTHING),
    "offloaded to disk": ([on_disk], UNKNOWN),
    "quantized": ([quantized], UNKNOWN),
    "stored in eight bits": ([narrow], UNKNOWN),
    "on the meta device": ([lambda pipe: pipe.transformer.to("meta")], UNKNOWN),
    "another": ([fine_tuned], OTHER),
    "another, offloaded": ([fine_tuned, offloaded], OTHER),
    "another, offloaded in groups": ([fine_tuned, grouped], OTHER),
    "a deeper one": ([deeper], OTHER),
    "a deeper one, offloaded": ([deeper, offloaded], OTHER),
    "a deeper one, quantized": ([deeper, quantized], UNKNOWN),
    "a LoRA": ([lora], "it has a LoRA that the calibration was not made on$"),
    "a LoRA, merged": ([merged], "weights are not those of"),
    "another with a LoRA": ([fine_tuned, lora], "weights are not those of .* and it has a LoRA"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torchao, about itself
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_that_differs_is_told(
    tiny_folder: Callable[[str], Path], tmp_path: Path, kind: str, change: str
) -> None:
    """And one that does not is not; under `warnings.simplefilter("error")` nothing is left behind."""
    adapter = made(kind, tiny_folder(kind))
    adapter.close()
    file = calibrated(adapter, dict.fromkeys(adapter.space.names, 0.5), tmp_path / "calibration.json")
    changes, said = CHANGES[change]
    for each in changes:
        each(adapter.pipe)
    hooks = num_hooks(adapter.pipe.transformer)
    if said is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Notice)
            trimpot.load_calibration(adapter.pipe, file).remove()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        with pytest.raises(Notice, match=said):
            trimpot.load_calibration(adapter.pipe, file)
    assert num_hooks(adapter.pipe.transformer) == hooks


def num_hooks(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_a_calibration_made_with_a_lora_knows_it_however_it_is_there(
    tiny_folder: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    """Merged while the calibration was made, or beside the weights now; one of another strength is told."""
    adapter = made(kind, tiny_folder(kind))
    adapter.close()
    pipe, file = adapter.pipe, tmp_path / "calibration.json"
    lora(pipe)
    calibrated(adapter, dict.fromkeys(adapter.space.names, 0.5), file)
    values = json.loads(file.read_text())
    values["backbone"]["source"]["lora"] = {"id": "x"}
    file.write_text(json.dumps(values))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        trimpot.load_calibration(pipe, file).remove()
        merge(pipe)
        trimpot.load_calibration(pipe, file).remove()
        merge(pipe, back=True)
    strengthen(pipe, 0.2)
    with pytest.warns(Notice, match="weights are not those of .* with its LoRA"):
        trimpot.load_calibration(pipe, file).remove()
    strengthen(pipe, 1.0)
    fine_tuned(pipe)
    with pytest.warns(Notice, match="weights are not those of .* with its LoRA"):
        trimpot.load_calibration(pipe, file).remove()
    for module in pipe.transformer.modules():
        if hasattr(module, "unmerge"):
            module.enable_adapters(False)
    with pytest.warns(Notice, match="weights are not those of .* with its LoRA"):
        trimpot.load_calibration(pipe, file).remove()
