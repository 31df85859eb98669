"""Muon: momentum whose every matrix is replaced by the nearest orthogonal one (Jordan et al., 2024).

All matrices of one shape are orthogonalised in one batched product, in float32: on a CPU that is several
times faster than one matrix at a time in bfloat16.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor


def orthogonalised(stack: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the orthogonal factor of each matrix, (n, rows, columns)."""
    wide = stack.mT if stack.shape[-2] > stack.shape[-1] else stack
    x = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if stack.shape[-2] > stack.shape[-1] else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for matrices only; give everything else to AdamW."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    alike[tuple(param.shape)].append(param)
            for (rows, columns), params in alike.items():
                directions = []
                for param in params:
                    state = self.state[param]
                    buffer = state.setdefault("momentum", torch.zeros_like(param))
                    buffer.lerp_(param.grad, 1 - group["momentum"])
                    directions.append(torch.lerp(param.grad, buffer, group["momentum"]))
                update = orthogonalised(torch.stack(directions)) * max(1.0, rows / columns) ** 0.5
                for param, change in zip(params, update, strict=True):
                    param.mul_(1 - group["lr"] * group["weight_decay"]).add_(change, alpha=-group["lr"])
