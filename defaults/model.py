"""Find out which model a name stands for, from its small files alone: no weights are read or downloaded.

A name is a folder with a model_index.json, one .safetensors or .gguf file with a transformer, a hub id, or the address
of a page on the hub. The configurations of well-known checkpoints are known without a network
(`adapters.published`); of any other checkpoint on the hub, only model_index.json and the config.json of each component
are downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..adapters.checkpoints import own_choices, own_settings, pipeline_class
from ..adapters.published import CHECKPOINTS
from ..adapters.sources import INDEX_FILE, PICKLES, WEIGHTS, OnHub, damage, located
from ..ground.errors import ConfigError, ModelError, near_misses
from ..ground.hub import hub_file
from ..ground.plain import short
from ..ground.weights import quiet_import
from ..setup.config import presets
from .single_file import base_of

GENERAL = "diffusers"  # the adapter of pipelines that have no named one
_CHOICES = f"a preset, a YAML file, a folder with a {INDEX_FILE}, a transformer's file, or a hub id"


@dataclass(frozen=True)
class Model:
    """A model, as far as its configuration tells.

    Attributes:
        given: The name as it was typed.
        source: The checkpoint: a folder or a hub id, as the adapters' option `model` takes it.
        revision: Branch, tag or commit on the hub, if the address of a page names one.
        index: The entries of model_index.json.
        transformer: A file that replaces the checkpoint's transformer, or None.
        settings: The options in the checkpoint's own trimpot.json.
        chosen: The rewards and prompts that the checkpoint's own trimpot.json names.
    """

    given: str
    source: str
    revision: str | None
    index: Mapping[str, Any]
    transformer: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)

    @property
    def pipeline(self) -> Any:
        """The pipeline's class."""
        with quiet_import():
            return pipeline_class(None, self.index, self.source)

    @property
    def adapter(self) -> str:
        """The named adapter of the pipeline's class, or `diffusers`."""
        from ..adapters.families import FAMILIES  # imports torch, which tells nothing of a name

        family = FAMILIES.get(str(self.index.get("_class_name")))
        return family.adapter if family else GENERAL

    @property
    def components(self) -> dict[str, Any]:
        """The entries of model_index.json that name a component, by name."""
        return {
            name: entry
            for name, entry in self.index.items()
            if name[0] != "_" and isinstance(entry, (list, tuple)) and any(entry)
        }

    @property
    def is_local(self) -> bool:
        """Whether the checkpoint is a folder on this machine."""
        return Path(self.source).is_dir()

    @property
    def title(self) -> str:
        """The last part of the name, without a suffix, such as `FLUX.1-dev`."""
        return Path(self.transformer.partition("?")[0]).stem if self.transformer else Path(self.source).absolute().name

    def config(self, component: str) -> dict[str, Any]:
        """Return the configuration of a component.

        Raises:
            ModelError: If the checkpoint has none, or it cannot be read.
        """
        if not self.is_local and self.source in CHECKPOINTS:
            known = CHECKPOINTS[self.source]
            return dict(known.config if component == "transformer" else known.parts[component][2])
        if self.is_local:
            path = Path(self.source) / component / "config.json"
            if not path.is_file():
                raise ModelError(
                    f"{self.source} has no {component}/config.json, although its {INDEX_FILE} names a {component}; "
                    "download the checkpoint again"
                )
        else:
            path = hub_file(self.source, f"{component}/config.json", self.revision, error=ModelError)
        return _read(path)


def is_configuration(name: str) -> bool:
    """Tell whether a name is that of a preset or of a YAML file, and so not of a model."""
    if name in presets() or name.lower().endswith((".yaml", ".yml")):
        return True
    try:
        return Path(name).expanduser().is_file() and Path(name).suffix.lower() not in (*WEIGHTS, *PICKLES)
    except (OSError, ValueError, RuntimeError):  # the name is too long, no path, or has an unknown home folder
        return False


def find_model(given: str, *, base: str | None = None, revision: str | None = None) -> Model:
    """Find out which model a name stands for.

    Args:
        given: The name.
        base: The checkpoint that a single file belongs to; None finds it by the file's keys.
        revision: Branch, tag or commit on the hub.

    Raises:
        ConfigError: If the name can be nothing that is known here.
        ModelError: If there is no such model, or it is not one that trimpot can calibrate.
    """
    place = _place(given, revision)
    transformer = None
    if isinstance(place, Path) and place.is_file() and place.suffix.lower() in PICKLES:
        raise ModelError(f"{given} holds its weights as a pickle, which can run code; save them as .safetensors")
    if _is_weights(place):
        place = _place(given, None)  # the revision is the checkpoint's
        transformer = given if isinstance(place, OnHub) and place.revision else str(place)
        base = base or base_of(place)
        place = _place(base, revision)
        if _is_weights(place):
            raise ModelError(f"{base} is a file too; give the folder or the hub id of the checkpoint it belongs to")
    elif base is not None:
        raise ConfigError(f"{given} is the model already; leave out adapter.model={base}")
    if isinstance(place, OnHub) and place.inside:
        raise ModelError(
            f"{given} is a part of {place.repository}, and a model is a whole repository; give {place.repository}"
        )
    source = str(place)
    revision = revision if isinstance(place, Path) else place.revision
    index = _index(place)
    model = Model(given, source, revision, index, transformer, own_settings(source), own_choices(source))
    _check(model)
    return model


def _place(given: str, revision: str | None) -> Path | OnHub:
    try:
        return located(given, "model", _CHOICES, revision)
    except ModelError as error:
        near = near_misses(given, presets())
        raise ConfigError(
            f"no preset, file or model {short(given)}; {near}" if "did you mean" in near else str(error)
        ) from None


def _is_weights(place: Path | OnHub) -> bool:
    if isinstance(place, OnHub):
        return place.inside.lower().endswith(WEIGHTS)
    return place.is_file()


def _index(place: Path | OnHub) -> dict[str, Any]:
    """Return the entries of a checkpoint's model_index.json."""
    if isinstance(place, OnHub):
        if place.repository in CHECKPOINTS:
            return CHECKPOINTS[place.repository].index
        try:
            return _read(hub_file(place.repository, INDEX_FILE, place.revision, error=ModelError))
        except ModelError as error:
            if f"has no {INDEX_FILE}" in str(error):
                raise ModelError(f"{error}; {_instead(place.repository)}") from None
            raise
    if not (place / INDEX_FILE).is_file():
        names = {path.name for path in place.iterdir()}
        if "adapter_config.json" in names or any("lora" in name.lower() for name in names):
            raise ModelError(
                f"{place} has no {INDEX_FILE} and looks like a LoRA; give the model it belongs to, and "
                f"adapter.lora={place}"
            )
        raise ModelError(f"{place} has no {INDEX_FILE}, so it is no pipeline of diffusers; {_instead(str(place))}")
    return _read(place / INDEX_FILE)


def _instead(name: str) -> str:
    return (
        f"if it is a transformer or a LoRA, give its base model, and adapter.transformer={name} or adapter.lora={name}"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ModelError(damage(path) or f"{path} is not a JSON mapping; download the checkpoint again")
    return values


def _check(model: Model) -> None:
    """Refuse a pipeline that cannot be calibrated, before anything large is downloaded."""
    kind = model.pipeline
    if "transformer" not in model.components:
        net = next((name for name in ("unet", "prior", "decoder") if name in model.components), None)
        has = f"has a {net} and no transformer" if net else "has no transformer"
        raise ModelError(f"{model.given} is a {kind.__name__}, which {has}; trimpot calibrates transformers")
    from ..adapters.stock import check_drivable

    check_drivable(kind)
