"""The folder of a published calibration: file, card, pictures, and the configuration that reproduces it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..applying.located import FILE_NAME
from ..applying.recipe import recipe_of
from ..engine.calibration import Calibration, write_text
from ..engine.nouns import noun, told_config
from ..ground.errors import CalibrationError
from ..ground.folders import whole_folder
from ..reports.gallery import INDEX, read_answers, read_pictures
from .card import model_card

CARD, REPRODUCE, IMAGES = "README.md", "reproduce.yaml", "images"
#: What a published folder holds; nothing else is pushed or pulled.
PATTERNS = (FILE_NAME, CARD, REPRODUCE, f"{IMAGES}/*.png", f"{IMAGES}/{INDEX}")


def write_folder(file: Path, folder: Path, name: str, licence: str | None = None) -> Path:
    """Write the folder of a calibration, whole or not at all.

    Args:
        file: The calibration file; its before-and-after pictures lie beside it.
        folder: The folder to write, which does not exist yet.
        name: The hub id, for the card.
        licence: The licence of the base model.

    Raises:
        CalibrationError: If the calibration cannot be read or applied, or the folder cannot be written.
    """
    calibration = Calibration.load(file)
    if calibration.apply:
        recipe_of(calibration)  # what nobody could apply is published to nobody
    with whole_folder(folder, error=CalibrationError) as partial:
        calibration.save(partial / FILE_NAME)
        pictures = read_pictures(file.parent / IMAGES)
        answers = read_answers(file.parent / IMAGES)
        if pictures or answers:
            shutil.copytree(file.parent / IMAGES, partial / IMAGES)
        write_text(partial / REPRODUCE, reproduction(calibration))
        write_text(partial / CARD, model_card(calibration, pictures, name, licence, answers))
    return folder


def reproduction(calibration: Calibration) -> str:
    """Return the configuration of a calibration's run as YAML, with the versions as comments.

    Absolute paths are shortened to the name of their file, since they say where the run's owner keeps files.
    """
    made = calibration.provenance
    versions = "".join(f"#   {name} {version}\n" for name, version in sorted(made.versions.items()))
    config = yaml.safe_dump(
        _without_homes(told_config(made.config, noun(made.makes))), sort_keys=False, allow_unicode=True
    )
    return (
        f"# The configuration of run {made.run}, digest {made.digest}. Its versions:\n{versions}"
        f"# trimpot calibrate {REPRODUCE}\n{config}"
    )


def _without_homes(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_homes(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_homes(each) for each in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value
