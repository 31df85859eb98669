"""Load pretrained models, processors and single files, from the hub or from a folder."""

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
    """The source of weights: a hub id with its revision, or a local folder.

    Attributes:
        model: A hub id, such as `openai/clip-vit-large-patch14`, or a folder.
        revision: A branch, tag or commit on the hub; None is the branch `main`.
    """

    model: str
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder, or None for a hub id.

        Raises:
            ScoreError: If `model` is written as a path, but there is no such folder.
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
            kind: The name of a class in transformers, such as `CLIPModel` or `AutoTokenizer`.
            **options: Options for the class's `from_pretrained`; `dtype` may be a name.

        Returns:
            The object loaded. A model is in evaluation mode, on the CPU, and needs no gradient.

        Raises:
            ScoreError: If loading fails, or the weights lack some that the class needs.
        """
        made, where = getattr(transformers(), kind), self.folder
        source = {"revision": self.revision or "main", "local_files_only": where is not None}
        if not _is_model(made):
            with self._told(f"cannot load {self.model} as a {kind}"):
                return made.from_pretrained(str(where or self.model), **source, **options)
        return self._model(kind, str(where or self.model), **source, **options)

    def assemble(self, kind: str, config: Any, state: Mapping[str, Any], **options: Any) -> Any:
        """Build a model from a state dict whose keys are those of the model's class.

        Loading the state dict into a new model instead would tie weights that the configuration says are untied, and
        would first fill a large model with random numbers.

        Args:
            kind: The name of the class; see `load`.
            config: The configuration of the model.
            state: Tensors by name.
            **options: Options for `from_pretrained`; see `load`.

        Raises:
            ScoreError: If weights are missing or have other shapes.
        """
        return self._model(kind, None, config=config, state_dict=dict(state), **options)

    def _model(self, kind: str, source: str | None, **options: Any) -> Any:
        """Load a model, and refuse missing weights: they would be random, and so would be every score."""
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
        """Suppress notices inside the `with` block, and turn every error into one sentence."""
        logging = transformers().logging
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            yield
        except Exception as error:  # errors of the hub, of files and of shapes have many classes
            told = None if self.folder else hub_meaning(self.model, self.revision, error)
            raise ScoreError(f"{what}: {told or first_line(error)}") from error
        finally:
            logging.set_verbosity(verbosity)

    def file(self, name: str) -> Path:
        """Return the path of a file of the checkpoint, and download the file first if necessary.

        Raises:
            ScoreError: If the checkpoint has no such file, or the download fails.
        """
        where = self.folder
        if where is not None:
            if not (where / name).is_file():
                raise ScoreError(f"{self.model} has no file {name}; give the folder that holds it")
            return where / name
        return hub_file(self.model, name, self.revision, error=ScoreError)

    def tensors(self, name: str) -> dict[str, Any]:
        """Read the state dict in a file of the checkpoint, without running any code that the file may hold.

        PyTorch's own format is a pickle. Such a file is read with `weights_only=True`, which makes only tensors,
        numbers and containers, and calls nothing else that the file names.

        Args:
            name: A file in safetensors or in PyTorch's own format. In the latter, a dict under `state_dict` is
                unwrapped.

        Raises:
            ScoreError: If there is no such file, or it holds anything but tensors.
        """
        path = self.file(name)
        try:
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                return load_file(path)
            import torch

            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling raises many classes of error
            why = _DAMAGED if type(error).__name__ == "UnpicklingError" else first_line(error)
            raise ScoreError(f"{name} of {self.model} is no file of plain tensors: {why}") from error
        state = state.get("state_dict", state) if isinstance(state, Mapping) else None
        if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ScoreError(f"{name} of {self.model} is no state dict; give a file of named tensors")
        return dict(state)

    def describe(self) -> dict[str, Any]:
        """Identify the weights by `id`, with `revision`, the hub's commit, or with `weights`, the files' digest.

        A branch or tag is resolved to its commit with the hub's cache, which knows the commit after loading.
        """
        where = self.folder
        if where is not None:
            return {"id": where.resolve().name, "weights": weights_digest(where)}
        return {"id": self.model, "revision": cached_commit(self.model, self.revision)}


def transformers() -> Any:
    """Import the library transformers without notices and progress bars, and return it."""
    with quiet_import():
        import transformers as library
    library.logging.disable_progress_bar()
    return library


def _is_model(made: Any) -> bool:
    return hasattr(made, "_model_mapping") or issubclass(made, transformers().PreTrainedModel)


def part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries of a state dict whose names begin with a prefix, and remove the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def renamed(state: Mapping[str, Any], table: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Rename the entries of a state dict: apply every (pattern, replacement) of the table to each name, in order."""
    out = {}
    for name, tensor in state.items():
        new = name
        for pattern, replacement in table:
            new = re.sub(pattern, replacement, new)
        out[new] = tensor
    return out


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of packages that a score depends on, by name."""
    return {package: metadata.version(package) for package in packages}
