"""What prompts were encoded to: held in main memory, or kept in a file that is mapped into it.

A calibration meets the same prompts again and again, and so do its resumes and its other workers. Each prompt is
encoded when it is first met, and once for all of them. Without a folder all stays in main memory; with one, only what
was used last does.
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

RECENT = 256 << 20  # bytes that are held in main memory beside a file
PROBE = "a cat"  # short: no tokenizer has to cut it off, which it would say
PACKAGES = ("trimpot", "torch", "diffusers", "transformers", "tokenizers", "sentencepiece", "ftfy", "beautifulsoup4")
QUANTIZING = ("bitsandbytes", "torchao")
UNASKED = ("transformer", "transformer_2", "vae", "scheduler")  # components that encode no prompt


class Encodings:
    """What prompts were encoded to, by a key that says which prompt and how.

    It is a tensor, or None, or a mapping, tuple or list of such; its tensors are contiguous and in main memory. Nobody
    may change them.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._file: EncodedFile | None = None
        self._name: str | None = None
        self._writes = False

    def keep_in(self, folder: Path, identity: Callable[[], Mapping[str, Any]]) -> None:
        """Keep in a file of this folder what is encoded from now on, and find there what was encoded before.

        Args:
            folder: Made if absent.
            identity: Says everything that can change an encoding, JSON-like; see `identity_of`. It names the file, so
                that another backbone never finds it. Asked once.
        """
        if self._name is None:
            self._name = digest(identity())
        if self._file is None or self._file.folder != folder:
            self._file, self._writes = EncodedFile(folder, self._name), True
            self._file.join()
            self._let_go()

    def has(self, key: str) -> bool:
        """Whether it was encoded; in a file it may turn out to be damaged."""
        return key in self._held or (self._file is not None and self._file.has(key))

    def get(self, key: str, encode: Callable[[], Any]) -> Any:
        """What `encode` makes, or has made before under this key."""
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
        """Join what was kept one by one into the one file."""
        if self._file:
            self._file.join()

    def checksum(self) -> str:
        """A digest of every bit that is held."""
        return digest(sorted(checksum(key, *pack(made)) for key, (made, _) in self._held.items()))

    def _let_go(self) -> None:
        """Let go of what was used longest ago, where a file has it."""
        size = sum(size for _, size in self._held.values()) if self._writes else 0
        while size > RECENT:
            size -= self._held.popitem(last=False)[1][1]


def identity_of(pipe: Any, source: Mapping[str, Any], arguments: Mapping[str, Any], probe: str) -> dict[str, Any]:
    """Everything that can change what a pipeline encodes a prompt to, JSON-like.

    Args:
        pipe: The pipeline.
        source: What it was loaded from; see `load_pipeline`.
        arguments: What the encoding is asked with.
        probe: A digest of what a prompt is encoded to here and now, which tells what nothing else does.
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
    """A text encoder by its parameters' names, shapes and dtypes, a tokenizer by its vocabulary."""
    kind = type(part).__name__
    if isinstance(part, nn.Module):
        found = part.named_parameters(remove_duplicate=False)  # what is offloaded shares none
        return [kind, digest([[name, list(value.shape), str(value.dtype)] for name, value in found])]
    tokenizer = getattr(part, "tokenizer", part)  # of a processor
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
    except (AttributeError, AssertionError, RuntimeError):  # of a backend that names none
        return device.type


def _versions() -> Iterator[tuple[str, str]]:
    for package in (*PACKAGES, *QUANTIZING):
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # an optional one
            continue


def each(made: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A result of encoding with every tensor changed."""
    if isinstance(made, Tensor):
        return change(made)
    if isinstance(made, Mapping):
        return {name: each(part, change) for name, part in made.items()}
    return type(made)(each(part, change) for part in made) if isinstance(made, tuple | list) else made


def _tensors(made: Any) -> list[Tensor]:
    found: list[Tensor] = []
    each(made, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found
