"""The formats that a calibration can be exported to, and how each is loaded again by its own side."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..adapters.rows import is_language_model, transformer_of, unwrapped
from ..applying.applied import load_calibration
from ..applying.located import FILE_NAME
from ..applying.recipe import recipe_of
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError, Notice, near_misses
from ..ground.extras import require
from ..ground.folders import whole_folder
from . import comfyui_node, language
from .baked import NOTE, TRANSFORMER, bake
from .comfyui import write_comfyui
from .ia3 import CONFIG, write_ia3
from .original import bake_file, entries_of

PROMPT, SEED = "a photo of a cat", 0


class Road(NamedTuple):
    """One format.

    Attributes:
        mark: A file or folder that tells an export of this format from the others.
        write: Writes the export of a calibration of a pipeline into a folder.
        loaded: Returns a context in which a pipeline runs with what a folder holds; None if no pipeline can.
        needs_pipe: Whether writing needs the pipeline that was calibrated, or only the calibration.
    """

    mark: str
    write: Callable[[Any, Calibration, Path], Path]
    loaded: Callable[[Any, Path], Any] | None
    needs_pipe: bool = True


def _write_native(_pipe: Any, calibration: Calibration, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    calibration.save(folder / FILE_NAME)
    return folder


@contextmanager
def _native(pipe: Any, folder: Path) -> Iterator[None]:
    with load_calibration(pipe, folder):
        yield


@contextmanager
def _baked(pipe: Any, folder: Path) -> Iterator[None]:
    kept = pipe.transformer
    kind: Any = type(unwrapped(kept))
    if (folder / TRANSFORMER).exists():
        baked = kind.from_pretrained(str(folder / TRANSFORMER), torch_dtype=kept.dtype)
    else:
        baked = _from_single_file(kind, folder, kept.dtype)
    pipe.transformer = baked.to(kept.device)
    try:
        yield
    finally:
        pipe.transformer = kept


def _from_single_file(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1 or not hasattr(kind, "from_single_file"):
        raise CalibrationError(f"{folder} holds no baked transformer; export it again")
    return kind.from_single_file(str(files[0]), config=str(folder), local_files_only=True, torch_dtype=dtype)


@contextmanager
def _ia3(pipe: Any, folder: Path) -> Iterator[None]:
    require("an IA3 adapter", "peft")
    from peft import PeftModel

    kept = pipe.transformer
    wrapped = PeftModel.from_pretrained(kept, str(folder))
    pipe.transformer = wrapped.base_model.model
    try:
        yield
    finally:
        pipe.transformer = wrapped.unload()


ROADS: dict[str, Road] = {
    "native": Road(FILE_NAME, _write_native, _native, needs_pipe=False),
    "baked": Road(NOTE, bake, _baked),
    "ia3": Road(CONFIG, write_ia3, _ia3),
    "comfyui": Road(comfyui_node.FOLDER, write_comfyui, None, needs_pipe=False),
}


def export(pipe: Any, calibration: Calibration, road: str, folder: Path, *, single_file: Path | None = None) -> Path:
    """Write an export, whole or not at all.

    Args:
        pipe: The pipeline that was calibrated, which is not changed. None for a format that does not need it.
        calibration: The calibration.
        road: `native`, `baked`, `ia3` or `comfyui`.
        folder: The folder to write, which does not exist yet.
        single_file: For `baked`, the single file that the transformer came from. A copy of it, with the calibration
            folded in, is written instead of a folder for `from_pretrained`.

    Returns:
        The folder.

    Raises:
        CalibrationError: If there is no such format, the folder exists, or the calibration cannot be expressed.
    """
    check_road(road, single_file)
    asking = recipe_of(calibration).asking if calibration.apply else None  # also for the calibration's own file
    if asking and asking.told and road != "native":
        warnings.warn(
            f"the export holds the scales; the calibration was measured with {asking.told}, which whoever uses it must "
            "do as well",
            Notice,
            stacklevel=2,
        )
    with whole_folder(folder, error=CalibrationError) as partial:
        if single_file is None:
            ROADS[road].write(pipe, calibration, partial)
        else:
            bake_file(pipe, calibration, single_file, partial)
    return folder


def check_road(road: str, single_file: Path | None = None) -> None:
    """Check what `export` is asked for, before a pipeline is loaded for it.

    Raises:
        CalibrationError: If there is no such format, or it is not one of a single file, or the file cannot be baked.
    """
    if road not in ROADS:
        raise CalibrationError(f"no format {road!r}; {near_misses(road, ROADS)}")
    if single_file is not None:
        if road != "baked":
            raise CalibrationError(f"only baked writes a copy of a single file, not {road}; leave the file out")
        entries_of(single_file)


def road_of(folder: Path) -> str:
    """Return the format of an export.

    Raises:
        CalibrationError: If the folder holds none.
    """
    for name, road in ROADS.items():
        if (folder / road.mark).exists():
            return name
    marks = ", ".join(road.mark for road in ROADS.values())
    raise CalibrationError(f"{folder} holds no export of a calibration: none of {marks}")


def loader_of(folder: Path) -> Callable[[Any, Path], Any]:
    """Return what loads an export into a pipeline, as `Road.loaded`.

    Raises:
        CalibrationError: If the folder holds no export, or one that no pipeline loads.
    """
    loaded = ROADS[road_of(folder)].loaded
    if loaded is None:
        raise CalibrationError(
            f"{folder} is for ComfyUI, and no pipeline of diffusers loads it; COMFYUI_PATH=... python -m "
            "trimpot.proofs.comfyui compares such a folder in ComfyUI with diffusers"
        )
    return loaded


def compared(pipe: Any) -> str:
    """Return the name of what `difference` compares of a pipeline."""
    return "logits" if is_language_model(transformer_of(pipe)) else "final latents"


def difference(pipe: Any, calibration: Path, folder: Path) -> float:
    """Compare an export, loaded by its own side, with the calibration applied by trimpot.

    Args:
        pipe: The pipeline that was calibrated, untouched.
        calibration: The calibration file.
        folder: The export.

    Returns:
        The largest difference of the final latents, or of a language model's logits, relative to the largest value.

    Raises:
        CalibrationError: If the folder holds no export, or one that no pipeline loads.
    """
    loaded = loader_of(folder)
    if is_language_model(transformer_of(pipe)):
        return language.difference(pipe, calibration, folder, road_of(folder))
    with load_calibration(pipe, calibration) as applied:
        call = applied.recommended
        expected = _latents(pipe, call)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the calibration's remarks on the pipeline were made above
        with loaded(pipe, folder):
            found = _latents(pipe, call)
    return float((found - expected).abs().max() / expected.abs().max())


def _latents(pipe: Any, call: dict[str, Any]) -> torch.Tensor:
    """Return the final latents of one image or video."""
    generator = torch.Generator().manual_seed(SEED)
    result = pipe(prompt=PROMPT, generator=generator, output_type="latent", **call)
    made = result.frames if hasattr(result, "frames") else result.images
    return torch.as_tensor(made).detach().double().cpu()
