"""Encoded prompts: held in main memory, or kept in a memory-mapped file.

A calibration uses the same prompts again and again, as do its resumed runs and its other workers. Each prompt is
encoded at its first use, once for all of them. Without a folder, all encoded prompts stay in main memory; with a
folder, only the most recently used ones do.
"""

from __future__ import annotations

import importlib.metadata
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.knobs import digest
from .encoded_file import EncodedFile, checksum, pack

RECENT = 256 << 20  # bytes that are held in main memory in addition to a file
PROBE = "a cat"  # short, so that no tokenizer truncates it and warns
PACKAGES = ("trimpot", "torch", "diffusers", "transformers", "tokenizers", "sentencepiece", "ftfy", "beautifulsoup4")
QUANTIZING = ("bitsandbytes", "torchao")
UNASKED = ("transformer", "transformer_2", "vae", "scheduler")  # components that encode no prompt


class Encodings:
    """Encoded prompts, each under a key that identifies the prompt and how it was encoded.

    An encoded prompt is a tensor, None, or a mapping, tuple or list of encoded parts. Its tensors are contiguous, lie
    in main memory, and must not be changed.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._file: EncodedFile | None = None
        self._name: str | None = None
        self._writes = False

    def keep_in(self, folder: Path, identity: Callable[[], Mapping[str, Any]]) -> None:
        """Keep newly encoded prompts in a file in this folder, and read earlier ones from it.

        Args:
            folder: The folder; created if absent.
            identity: Returns everything that can change an encoding, JSON-like; see `identity_of`. Its digest names
                the file, so that no other backbone reads it. Called once.
        """
        if self._name is None:
            self._name = digest(identity())
        if self._file is None or self._file.folder != folder:
            self._file, self._writes = EncodedFile(folder, self._name), True
            self._file.join()
            self._let_go()

    def has(self, key: str) -> bool:
        """Return whether an encoded prompt is held or in the file; in the file it may turn out to be damaged."""
        return key in self._held or (self._file is not None and self._file.has(key))

    def get(self, key: str, encode: Callable[[], Any]) -> Any:
        """Return the encoded prompt of a key; call `encode` only if there is none yet."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        made = self._file.get(key) if self._file else None
        if made is None:
            made = each(encode(), lambda tensor: tensor.detach().to("cpu", copy=True).contiguous())
            if self._file and self._writes and made is not None:
                self._writes = self._file.put(key, made)
        self._held[key] = made, sum(tensor.nbytes for tensor in _tensors(made))
        self._let_go()
        return made

    def join(self) -> None:
        """Join the separately written prompts to the one file."""
        if self._file:
            self._file.join()

    def checksum(self) -> str:
        """Return a digest of every bit that is held in main memory."""
        return digest(sorted(checksum(key, *pack(made)) for key, (made, _) in self._held.items()))

    def _let_go(self) -> None:
        """Drop the least recently used encoded prompts from main memory if a file holds them."""
        size = sum(size for _, size in self._held.values()) if self._writes else 0
        while size > RECENT:
            size -= self._held.popitem(last=False)[1][1]


def identity_of(pipe: Any, source: Mapping[str, Any], arguments: Mapping[str, Any], probe: str) -> dict[str, Any]:
    """Return everything that can change how a pipeline encodes a prompt, JSON-like.

    Args:
        pipe: The pipeline.
        source: The pipeline's source; see `load_pipeline`.
        arguments: The arguments of the encoding beside the prompt.
        probe: A digest of one prompt encoded now, which covers differences that nothing else records.
    """
    components = {name: _outline(part) for name, part in pipe.components.items() if name not in UNASKED}
    return {
        "pipeline": type(pipe).__name__,
        "source": {name: source.get(name) for name in ("revision", "weights", "variant")},
        "components": components,
        "arguments": dict(arguments),
        "device": _device_name(pipe._execution_device),
        "versions": dict(_versions()),
        "probe": probe,
    }


def _outline(part: Any) -> Any:
    """Summarize a text encoder by its parameters' names, shapes and dtypes, and a tokenizer by its vocabulary."""
    kind = type(part).__name__
    if isinstance(part, nn.Module):
        found = part.named_parameters(remove_duplicate=False)  # offloading separates shared parameters
        return [kind, digest([[name, list(value.shape), str(value.dtype)] for name, value in found])]
    tokenizer = getattr(part, "tokenizer", part)  # a processor holds its tokenizer
    if hasattr(tokenizer, "get_vocab"):
        sides = [repr(getattr(tokenizer, name, None)) for name in ("model_max_length", "padding_side", "chat_template")]
        return [kind, digest(repr(sorted(tokenizer.get_vocab().items()))), *sides]
    return kind


def _device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    module: Any = getattr(torch, device.type, None)
    try:
        return str(module.get_device_name(device))
    except (AttributeError, AssertionError, RuntimeError):  # the backend does not name its devices
        return device.type


def _versions() -> Iterator[tuple[str, str]]:
    for package in (*PACKAGES, *QUANTIZING):
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # an optional package
            continue


def each(made: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return an encoded prompt with `change` applied to every tensor."""
    if isinstance(made, Tensor):
        return change(made)
    if isinstance(made, Mapping):
        return {name: each(part, change) for name, part in made.items()}
    return type(made)(each(part, change) for part in made) if isinstance(made, tuple | list) else made


def _tensors(made: Any) -> list[Tensor]:
    found: list[Tensor] = []
    each(made, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found
