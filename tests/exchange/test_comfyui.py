"""An export for ComfyUI: a folder that maps every site to ComfyUI's modules, and refuses what it cannot hold."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from applied import calibrated, made
from comfyui_stand_in import QWEN, calibration
from command_line import typed
from trimpot.adapters.sites import find_sites
from trimpot.engine.calibration import Calibration
from trimpot.exchange.comfyui import LINES, parse_line, place_of
from trimpot.exchange.roads import difference, export, road_of
from trimpot.ground.errors import CalibrationError
from trimpot.proofs.comfyui.proof import CASES, GUIDED, cases, imported
from trimpot.proofs.comfyui.twins import TWINS
from trimpot.proofs.transformers import EXAMPLES


def test_a_folder_works_where_neither_trimpot_nor_diffusers_is(tmp_path: Path) -> None:
    """As ComfyUI imports it, and with the calibrations of two exports in one list."""
    for run in ("first", "a/second one"):
        folder = export(None, calibration(run=run), "comfyui", tmp_path / run[0])
        assert road_of(folder) == "comfyui"
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", "__init__.py", "calibrations"]
    code = textwrap.dedent(
        f"""
        import sys
        for name in ("trimpot", "diffusers", "transformers", "comfy"):
            sys.modules[name] = None
        import importlib.util
        spec = importlib.util.spec_from_file_location("node", {str(tmp_path / "f" / "__init__.py")!r})
        node = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(node)
        kind = node.NODE_CLASS_MAPPINGS["TrimpotCalibration"]
        names = kind.INPUT_TYPES()["required"]["file"][0]
        assert names == ["a/a-second-one", "f/first"], names
        assert len(kind.IS_CHANGED(file=names[0])) == 64
        for file, strength, message in (("f/none", 1.0, "no calibration"), (names[1], 2.5, "from -1 to 2"),
                                        (names[1], float("nan"), "from -1 to 2"), (names[1], 1.0, "update ComfyUI")):
            try:
                kind().apply(None, file, strength)
            except ValueError as error:
                assert message in str(error), error
            else:
                raise AssertionError(message)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_of_a_folder_says_how_it_was_measured(tmp_path: Path) -> None:
    text = (export(None, calibration(), "comfyui", tmp_path / "a") / "README.md").read_text()
    assert "somebody/model" in text and "15 steps, 768 x 512 pixels" in text and "guidance 3.5" in text
    adapted = calibration()
    adapted.backbone["source"] = {"lora": {"id": "somebody/lora"}}
    text = (export(None, adapted, "comfyui", tmp_path / "d") / "README.md").read_text()
    assert "with the lora somebody/lora: load it in ComfyUI too" in text
    text = (export(None, calibration(GUIDED), "comfyui", tmp_path / "b") / "README.md").read_text()
    assert "negative prompt ''" in text
    guided = calibration(GUIDED, QWEN, "QwenImageTransformer2DModel")
    text = (export(None, guided, "comfyui", tmp_path / "c") / "README.md").read_text()
    assert "negative prompt ' '" in text


@pytest.mark.parametrize("transformer", LINES)
def test_every_site_of_a_family_has_a_place_of_its_own(transformer: str) -> None:
    addresses = [site.address for site in find_sites(EXAMPLES[transformer].build())]
    places = [place_of(transformer, address) for address in addresses]
    assert len(set(places)) == len(addresses)
    _, patterns = parse_line(transformer)
    used = {_starred(address) for address in addresses}
    assert used == set(patterns), "a pattern of the line is never used"


def _starred(address: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in address.split("."))


def test_every_family_is_proved() -> None:
    assert {twin.transformer for twin in TWINS.values()} == set(LINES)
    assert all(set(cases(family)) <= set(CASES) for family in TWINS)


def test_what_comfyui_cannot_hold_is_refused_with_the_road_that_works(tmp_path: Path) -> None:
    def refused(made: Calibration, message: str) -> None:
        with pytest.raises(CalibrationError, match=f"{message}.*native"):
            export(None, made, "comfyui", tmp_path / "out")
        assert not list(tmp_path.iterdir())

    others = sorted(set(EXAMPLES) - set(LINES))
    assert len(others) > 50
    for transformer in others:
        refused(calibration(transformer=transformer), f"a {transformer} cannot be exported for ComfyUI")
    for address in ("transformer_blocks.0.ff", "transformer_blocks.0.norm1[2]", "x_embedder", "norm1[1]"):
        refused(calibration(addresses=[address]), "of a site line of your own")
    refused(
        calibration(addresses=["blocks.0.ffn", "transformer_2.blocks.0.ffn"], transformer="WanTransformer3DModel"),
        "scales two transformers",
    )
    three = ("conditional", "unconditional", "conditional")
    refused(calibration(three, QWEN, "QwenImageTransformer2DModel"), "rescaled to the norm of one")
    refused(calibration(GUIDED, ["blocks.0.ffn"], "WanTransformer3DModel"), "no ensembles of a WanTransformer3DModel")


def test_the_command_writes_a_folder_without_loading_the_model(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")  # of a model that is nowhere
    done = typed("export", "calibration.json", "--as", "comfyui", "--to", "node", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "node" / "calibrations" / "test-1.trimpot.json").is_file()
    done = typed("export", "calibration.json", "--as", "comfyui", "--to", "other", "-o", "device=cpu", cwd=tmp_path)
    assert done.returncode != 0
    assert "needs no pipeline" in done.stderr
    assert not (tmp_path / "other").exists()


def test_verifying_names_the_proof_before_a_model_is_loaded(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")
    export(None, calibration(), "comfyui", tmp_path / "node")
    with pytest.raises(CalibrationError, match=r"python -m trimpot\.proofs\.comfyui"):
        difference(None, tmp_path / "calibration.json", tmp_path / "node")
    done = typed("verify", "calibration.json", "node", cwd=tmp_path)
    assert done.returncode != 0
    assert "trimpot.proofs.comfyui" in done.stderr


def test_a_real_calibration_is_mapped_whole(tmp_path: Path, sd3_folder: Path) -> None:
    adapter = made("sd3", sd3_folder)
    file = calibrated(adapter, adapter.space.to_setting(adapter.space.defaults), tmp_path / "calibration.json")
    adapter.close()
    folder = export(None, Calibration.load(file), "comfyui", tmp_path / "node")
    node = imported(folder)
    [path] = node.files().values()
    found = node.read(path)
    assert len(found["sites"]) == len(find_sites(adapter.pipe.transformer))
    assert [member["sees"] for member in found["members"]] == list(GUIDED)
