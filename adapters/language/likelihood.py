"""How likely texts are: one pass for a batch of texts, each under the scales of its row."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOP = 256  # of the neutral model's most likely tokens at each place, which the divergence tells apart


@dataclass(frozen=True)
class Passage:
    """Tokens to predict, after tokens that are given.

    Attributes:
        given: Tokens before the text, at least one.
        text: The text's tokens, at least one.
    """

    given: tuple[int, ...]
    text: tuple[int, ...]

    @property
    def length(self) -> int:
        """The number of tokens that the model is given: all but the last."""
        return len(self.given) + len(self.text) - 1


@dataclass(frozen=True)
class Predicted:
    """What the model predicts at the places of a passage's text.

    Attributes:
        logprobs: The log-probability of each token of the text, shape (num_tokens,), float64 on the CPU.
        best: The most likely token at each place.
        table: The log-probabilities of all tokens, shape (num_tokens, vocabulary), float32 on the model's device; None
            unless asked for.
    """

    logprobs: Tensor
    best: tuple[int, ...]
    table: Tensor | None = None


@torch.no_grad()
def predicted(model: Any, passages: Sequence[Passage], pad: int, tables: Sequence[bool]) -> list[Predicted]:
    """Predict every passage's text in one pass.

    Rows are filled up at their ends, where a causal model does not look; so no position changes.

    Args:
        model: The model.
        passages: The passages, one a row.
        pad: A token to fill rows with.
        tables: For each passage, whether to return all log-probabilities.
    """
    device = model.device
    longest = max(passage.length for passage in passages)
    ids = torch.full((len(passages), longest), pad)
    mask = torch.zeros(len(passages), longest, dtype=torch.long)
    for row, passage in enumerate(passages):
        ids[row, : passage.length] = torch.tensor([*passage.given, *passage.text][:-1])
        mask[row, : passage.length] = 1
    first = min(len(passage.given) for passage in passages) - 1  # no text begins before this place
    keep = {"logits_to_keep": longest - first} if takes(model, "logits_to_keep") else {}
    logits = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        **({"use_cache": False} if caches(model) else {}),
        **keep,
    ).logits
    logits = logits[:, first - longest :]
    made = []
    for row, (passage, table) in enumerate(zip(passages, tables, strict=True)):
        begin = len(passage.given) - 1 - first
        scores = logits[row, begin : begin + len(passage.text)].float()
        targets = torch.tensor(passage.text, device=device)
        chosen = scores.gather(-1, targets[:, None])[:, 0]
        logprobs = chosen - scores.logsumexp(-1)
        made.append(
            Predicted(
                logprobs.cpu().double(),
                tuple(scores.argmax(-1).tolist()),
                scores.log_softmax(-1) if table else None,
            )
        )
    return made


def takes(model: Any, name: str) -> bool:
    """Return whether a model's forward call takes an argument."""
    return name in inspect.signature(type(model).forward).parameters


def caches(model: Any) -> bool:
    """Return whether a model's forward call can be told to keep no cache."""
    return takes(model, "use_cache") or takes(model, "kwargs")


@dataclass(frozen=True)
class Coarse:
    """A model's predictions at some places: its most likely tokens, and all others as one class.

    Attributes:
        tokens: Shape (num_places, num_tokens).
        logprobs: Their log-probabilities, of the same shape.
        rest: The log-probability of all other tokens together, shape (num_places,).
    """

    tokens: Tensor
    logprobs: Tensor
    rest: Tensor

    @classmethod
    def of(cls, table: Tensor) -> Coarse:
        """Make one of all log-probabilities, shape (num_places, vocabulary)."""
        tokens = table.topk(min(TOP, table.shape[-1]), -1).indices
        return cls(tokens.cpu(), *_coarse(table, tokens))

    def divergence(self, table: Tensor) -> float:
        """Return the mean over the places of the divergence of other predictions from these, in nats.

        Args:
            table: The other model's log-probabilities, shape (num_places, vocabulary).
        """
        logprobs, rest = _coarse(table, self.tokens.to(table.device))
        each = (self.logprobs.exp() * (self.logprobs - logprobs)).sum(-1)
        each = each + torch.where(self.rest > REST, self.rest.exp() * (self.rest - rest.clamp_min(REST)), 0.0)
        return float(each.mean())


REST = -16.0  # less than what rounding leaves of a probability of 1 in float32


def _coarse(table: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    logprobs = table.gather(-1, tokens).cpu().double()  # not on the device: some have no float64
    left = 1 - logprobs.exp().sum(-1)
    return logprobs, left.clamp_min(0).log()
