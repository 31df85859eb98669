"""A training state as one safetensors file: tensors by name, numbers in the header. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Groups = Mapping[str, Mapping[str, Tensor]]


def save_state(
    target: Path, groups: Groups, optimizers: Sequence[torch.optim.Optimizer], numbers: Mapping[str, float]
) -> None:
    """Writes a state and swaps it in whole.

    Args:
        target: The file.
        groups: Named sets of tensors, such as `model` and `average`.
        optimizers: Their moments are kept; learning rates are the schedule's business.
        numbers: Step, seconds spent and the like.
    """
    tensors = {f"{group}/{name}": tensor for group, held in groups.items() for name, tensor in held.items()}
    for number, optimizer in enumerate(optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer{number}/{index}/{name}": tensor for name, tensor in moments.items()}
    partial = target.with_suffix(".part")
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(whole, partial, metadata={"numbers": json.dumps(dict(numbers))})
    partial.rename(target)


def load_state(
    source: Path, optimizers: Sequence[torch.optim.Optimizer] = ()
) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    """Reads a state back: the named sets of tensors and the numbers; optimizers are filled in place."""
    groups: dict[str, dict[str, Tensor]] = {}
    with safe_open(source, framework="pt") as file:
        numbers = json.loads(file.metadata()["numbers"])
        for key in file.keys():  # noqa: SIM118  # it is no mapping
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = file.get_tensor(key)
    for number, optimizer in enumerate(optimizers):
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in groups.pop(f"optimizer{number}", {}).items():
            index, _, kind = name.partition("/")
            moments.setdefault(int(index), {})[kind] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return groups, numbers
