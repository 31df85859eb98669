"""An export, loaded by the other side's own loader, makes what the calibration makes."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trimpot
from applied import CASES, SIZE, calibrated, made
from full_disk import full_disk
from generated import candidates
from safetensors.torch import save_file
from trimpot.adapters import make_diffusers, make_qwen_image, make_shapes
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.commands.export import FORMATS
from trimpot.engine.calibration import Calibration
from trimpot.exchange.roads import ROADS, difference, export, road_of
from trimpot.ground.errors import CalibrationError

BACKBONES: dict[str, tuple[Any, dict[str, Any]]] = {
    "flux": CASES["flux"][:2],
    "sd3": CASES["sd3-alone"][:2],
    "qwen": (make_qwen_image, {"members": ["conditional"]}),
    "pixart": CASES["pixart"][:2],
    "wan": (make_diffusers, {"height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 16}),
}
LARGEST = {"native": 0.0, "baked": 1e-6, "ia3": 1e-6}
STEPS_AMPLIFY = {"pixart": 50.0}  # its many-step solver enlarges rounding


def exported(folder: Path, backbone: str, where: Path) -> tuple[PipelineAdapter, Path]:
    make, options = BACKBONES[backbone]
    adapter = make(model=str(folder), dtype="float32", device="cpu", num_inference_steps=3, **options)
    [vector] = candidates(adapter, 1)
    file = calibrated(adapter, adapter.space.to_setting(vector), where / "calibration.json")
    adapter.close()
    return adapter, file


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_road_makes_what_the_calibration_makes(
    tiny_folder: Callable[[str], Path], backbone: str, tmp_path: Path
) -> None:
    adapter, file = exported(tiny_folder(backbone), backbone, tmp_path)
    calibration = Calibration.load(file)
    for road in ("native", "ia3", "baked"):
        folder = export(adapter.pipe, calibration, road, tmp_path / road)
        assert road_of(folder) == road
        assert difference(adapter.pipe, file, folder) <= LARGEST[road] * STEPS_AMPLIFY.get(backbone, 1.0)


def test_the_shipped_model_is_baked(tmp_path: Path) -> None:
    """Its scheduler divides by zero when it is asked for a single step, so it is never asked."""
    adapter = make_shapes(members=["conditional"], num_inference_steps=3)
    assert isinstance(adapter, PipelineAdapter)
    [vector] = candidates(adapter, 1)
    file = calibrated(adapter, adapter.space.to_setting(vector), tmp_path / "calibration.json")
    adapter.close()
    folder = export(adapter.pipe, Calibration.load(file), "ia3", tmp_path / "ia3")
    assert difference(adapter.pipe, file, folder) <= 1e-6


def test_peft_alone_loads_an_adapter(flux_folder: Path, tmp_path: Path) -> None:
    """In a process where trimpot cannot be imported."""
    adapter, file = exported(flux_folder, "flux", tmp_path)
    folder = export(adapter.pipe, Calibration.load(file), "ia3", tmp_path / "adapter")
    code = textwrap.dedent(
        f"""
        import sys
        sys.modules["trimpot"] = None
        import torch
        from diffusers import FluxPipeline
        from peft import PeftModel
        pipe = FluxPipeline.from_pretrained({str(flux_folder)!r}, torch_dtype=torch.float32)
        pipe.transformer = PeftModel.from_pretrained(pipe.transformer, {str(folder)!r}).merge_and_unload()
        made = pipe(prompt="a cat", generator=torch.Generator().manual_seed(1), output_type="latent",
                    num_inference_steps=3, height=16, width=16, max_sequence_length=16).images
        torch.save(made, {str(tmp_path / "made.pt")!r})
        """
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)
    found = torch.load(tmp_path / "made.pt", weights_only=True)
    call = {**SIZE, "max_sequence_length": 16}
    with trimpot.load_calibration(adapter.pipe, file):
        expected = adapter.pipe(
            prompt="a cat", generator=torch.Generator().manual_seed(1), output_type="latent", **call
        ).images
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-6


@pytest.mark.parametrize("road", ["baked", "ia3"])
def test_an_ensemble_is_refused_with_the_road_that_works(sd3_folder: Path, road: str, tmp_path: Path) -> None:
    adapter = made("sd3", sd3_folder)
    setting = adapter.space.to_setting(adapter.space.defaults)
    calibration = Calibration.load(calibrated(adapter, setting, tmp_path / "calibration.json"))
    adapter.close()
    kept = {name: value.clone() for name, value in adapter.pipe.transformer.state_dict().items()}
    with pytest.raises(CalibrationError, match=r"ensemble of 2 members .* export it as native"):
        export(adapter.pipe, calibration, road, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))
    assert all(torch.equal(value, kept[name]) for name, value in adapter.pipe.transformer.state_dict().items())


def test_what_cannot_be_written_is_one_sentence(flux_folder: Path, tmp_path: Path) -> None:
    adapter, file = exported(flux_folder, "flux", tmp_path)
    calibration = Calibration.load(file)
    with pytest.raises(CalibrationError, match="no format 'bakde'; did you mean 'baked'"):
        export(adapter.pipe, calibration, "bakde", tmp_path / "out")
    with pytest.raises(CalibrationError, match="exists already"):
        export(adapter.pipe, calibration, "native", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CalibrationError, match="cannot write"):
        export(adapter.pipe, calibration, "ia3", tmp_path / "file" / "out")
    with pytest.raises(CalibrationError, match="holds no export of a calibration"):
        road_of(tmp_path / "elsewhere")
    assert tuple(ROADS) == FORMATS, "the command names other formats"


@pytest.mark.parametrize("road", [*FORMATS, "single file"])
def test_a_full_disk_is_one_sentence_and_leaves_pipeline_and_files_as_they_were(
    flux_folder: Path, road: str, tmp_path: Path
) -> None:
    adapter, file = exported(flux_folder, "flux", tmp_path)
    calibration = Calibration.load(file)
    kept = {name: value.clone() for name, value in adapter.pipe.transformer.state_dict().items()}
    original = tmp_path / "original.safetensors"
    save_file(kept, original)
    options = {"single_file": original} if road == "single file" else {}
    files = sorted(tmp_path.rglob("*"))
    with full_disk(), pytest.raises(CalibrationError, match=r"cannot write \S+out\S*: File too large") as error:
        export(adapter.pipe, calibration, "baked" if options else road, tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == files
    assert all(torch.equal(value, kept[name]) for name, value in adapter.pipe.transformer.state_dict().items())


def test_the_adapter_is_small_and_says_its_base(flux_folder: Path, tmp_path: Path) -> None:
    adapter, file = exported(flux_folder, "flux", tmp_path)
    folder = export(adapter.pipe, Calibration.load(file), "ia3", tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["peft_type"] == "IA3"
    assert config["base_model_name_or_path"] == flux_folder.name
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
