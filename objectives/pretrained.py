"""Loading what other people trained: models, processors and single files, by hub id or from a folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ..ground.errors import ScoreError, first_line
from ..ground.hub import cached_commit, hub_file, hub_meaning
from ..ground.weights import quiet_import, weights_digest

Dtype = Literal["float32", "bfloat16", "float16"]

_FILES = (".pt", ".pth", ".bin", ".safetensors")

_DAMAGED = "it is damaged or holds more than tensors, which is not run; save its tensors as .safetensors"


@dataclass(frozen=True)
class Weights:
    """Which weights: a hub id with its revision, or a local folder.

    Attributes:
        model: Hub id such as `openai/clip-vit-large-patch14`, or a folder.
        revision: Branch, tag or commit on the hub; None is the branch `main`.
    """

    model: str
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder, or None for a hub id.

        Raises:
            ScoreError: If it is written as a path and is not there.
        """
        path = Path(self.model).expanduser()
        if path.is_dir():
            return path
        if path.is_absolute() or self.model.startswith(".") or self.model.count("/") > 1 or path.suffix in _FILES:
            raise ScoreError(f"no checkpoint folder {self.model}; give a folder that is there, or a hub id")
        return None

    def load(self, kind: str, **options: Any) -> Any:
        """Load a model, configuration, tokenizer or processor.

        Args:
            kind: Class name in transformers, such as `CLIPModel` or `AutoTokenizer`.
            **options: For its `from_pretrained`; `dtype` may be a name.

        Returns:
            It; a model is in evaluation mode, on the CPU, and needs no gradient.

        Raises:
            ScoreError: If it cannot be had, or lacks weights that its class needs.
        """
        made, where = getattr(transformers(), kind), self.folder
        source = {"revision": self.revision or "main", "local_files_only": where is not None}
        if not _is_model(made):
            with self._told(f"cannot load {self.model} as a {kind}"):
                return made.from_pretrained(str(where or self.model), **source, **options)
        return self._model(kind, str(where or self.model), **source, **options)

    def assemble(self, kind: str, config: Any, state: Mapping[str, Any], **options: Any) -> Any:
        """Make a model of a state dict that is in hand, whose keys are already those of its class.

        Loading a state dict into a fresh model instead would tie weights that a configuration says are untied,
        and would fill a large model with random numbers first.

        Args:
            kind: As for `load`.
            config: The model's configuration.
            state: Names to tensors.
            **options: As for `load`.

        Raises:
            ScoreError: If weights are missing or have other shapes.
        """
        return self._model(kind, None, config=config, state_dict=dict(state), **options)

    def _model(self, kind: str, source: str | None, **options: Any) -> Any:
        """A model of which every weight was there: one that is not would be random, and so would be every score."""
        made = getattr(transformers(), kind)
        with self._told(f"cannot load {self.model} as a {kind}"):
            model, found = made.from_pretrained(
                source, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
        unlike = [
            f"{name} is {tuple(has)} instead of {tuple(wants)}" for name, has, wants in sorted(found["mismatched_keys"])
        ]
        missing = sorted(set(found["missing_keys"]) - {name for name, *_ in found["mismatched_keys"]})
        if unlike:
            raise ScoreError(
                f"{self.model} is no {kind} of its configuration: {len(unlike)} weights such as {unlike[0]}"
            )
        if missing:
            raise ScoreError(f"{self.model} is no {kind}: it lacks {len(missing)} weights such as {missing[0]}")
        return model.eval().requires_grad_(False)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Load without notices; what goes wrong becomes one sentence."""
        logging = transformers().logging
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            yield
        except Exception as error:  # hub, file and shape errors come in many classes
            told = None if self.folder else hub_meaning(self.model, self.revision, error)
            raise ScoreError(f"{what}: {told or first_line(error)}") from error
        finally:
            logging.set_verbosity(verbosity)

    def file(self, name: str) -> Path:
        """One file of the checkpoint, downloaded if need be.

        Raises:
            ScoreError: If it cannot be had.
        """
        where = self.folder
        if where is not None:
            if not (where / name).is_file():
                raise ScoreError(f"{self.model} has no file {name}; give the folder that holds it")
            return where / name
        return hub_file(self.model, name, self.revision, error=ScoreError)

    def tensors(self, name: str) -> dict[str, Any]:
        """The state dict in one file, read without running any code that it may hold.

        PyTorch's own format is a pickle. Where a reward is published in no other, it is read by PyTorch's reader of
        weights, which makes tensors, numbers and containers of them and calls nothing else that a file names.

        Args:
            name: A file in safetensors, or in PyTorch's own format; there a dict under `state_dict` is unwrapped.

        Raises:
            ScoreError: If it cannot be had or holds anything but tensors.
        """
        path = self.file(name)
        try:
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                return load_file(path)
            import torch

            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling errors come in many classes
            why = _DAMAGED if type(error).__name__ == "UnpicklingError" else first_line(error)
            raise ScoreError(f"{name} of {self.model} is no file of plain tensors: {why}") from error
        state = state.get("state_dict", state) if isinstance(state, Mapping) else None
        if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ScoreError(f"{name} of {self.model} is no state dict; give a file of named tensors")
        return dict(state)

    def describe(self) -> dict[str, Any]:
        """Which weights these are: `id` with the hub's commit as `revision`, or with `weights`, the files' digest.

        A branch or tag is resolved to its commit where the hub's cache knows it, which it does after loading.
        """
        where = self.folder
        if where is not None:
            return {"id": where.resolve().name, "weights": weights_digest(where)}
        return {"id": self.model, "revision": cached_commit(self.model, self.revision)}


def transformers() -> Any:
    """The library transformers, imported when first needed, without notices and progress bars."""
    with quiet_import():
        import transformers as library
    library.logging.disable_progress_bar()
    return library


def _is_model(made: Any) -> bool:
    return hasattr(made, "_model_mapping") or issubclass(made, transformers().PreTrainedModel)


def part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries of a state dict under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def renamed(state: Mapping[str, Any], table: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A state dict under other names: every (pattern, replacement) of the table is tried on each, in order."""
    out = {}
    for name, tensor in state.items():
        new = name
        for pattern, replacement in table:
            new = re.sub(pattern, replacement, new)
        out[new] = tensor
    return out


def versions(*packages: str) -> dict[str, str]:
    """Versions of the packages that a score goes through, by name."""
    return {package: metadata.version(package) for package in packages}
