"""Generated texts: the model's own `generate`, with the tokens of each row chosen by the row's own numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...engine.answer import Answer
from .formats import Asked
from .items import Wording
from .options import LanguageOptions


@dataclass
class Choice:
    """Chooses each row's next token, as a logits processor: all but one token become impossible.

    A token is drawn by adding Gumbel noise to the log-probabilities and taking the largest sum (Maddison et al., "A*
    sampling", 2014), so that a row's numbers come from its own generator, whatever else is in the batch.

    Attributes:
        options: The adapter's options.
        generators: A generator for each row.
        logprobs: The log-probability of each row's chosen token before any option changed it, a tensor a step.
    """

    options: LanguageOptions
    generators: Sequence[torch.Generator]
    logprobs: list[Tensor]

    def __call__(self, _ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores of which only the chosen token's is finite."""
        scores = scores.float()
        plain = scores.log_softmax(-1)
        wanted = self._drawn(scores) if self.options.temperature else scores
        chosen = wanted.argmax(-1, keepdim=True)
        self.logprobs.append(plain.gather(-1, chosen)[:, 0].cpu())
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)

    def _drawn(self, scores: Tensor) -> Tensor:
        """Return scores of which the largest is drawn."""
        scores = scores / self.options.temperature
        ranked, order = scores.sort(dim=-1, descending=True, stable=True)
        if self.options.top_k is not None:
            ranked[:, self.options.top_k :] = -torch.inf
        if self.options.top_p is not None:
            likely = ranked.softmax(-1)
            ranked[likely.cumsum(-1) - likely >= self.options.top_p] = -torch.inf  # the most likely one stays
        noise = torch.stack([torch.rand(scores.shape[-1], generator=each).clamp_min(1e-38) for each in self.generators])
        noise = -(-noise.to(scores.device).log()).clamp_min(1e-38).log()
        back = torch.full_like(scores, -torch.inf).scatter(-1, order, ranked)
        return back + noise


@torch.no_grad()
def generated(
    model: Any, wording: Wording, prompts: Sequence[Asked], seeds: Sequence[int], pad: int, options: LanguageOptions
) -> list[Answer]:
    """Generate one text a prompt, in one batch."""
    contexts = [wording.context(prompt) for prompt in prompts]
    stops = [(*options.stop, *prompt.ends) for prompt in prompts]
    longest = max(map(len, contexts))
    ids = torch.full((len(contexts), longest), pad)
    mask = torch.zeros(len(contexts), longest, dtype=torch.long)
    for row, context in enumerate(contexts):  # filled up in front, as `generate` wants it
        ids[row, longest - len(context) :] = torch.tensor(context)
        mask[row, longest - len(context) :] = 1
    choice = Choice(options, [torch.Generator().manual_seed(seed) for seed in seeds], [])
    ends = _ends(model)
    stopped = _Stopped(wording, longest, stops)
    found = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=options.max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=sorted(ends) or None,
        logits_processor=[choice],
        stopping_criteria=[stopped] if any(stops) else None,
    )
    logprobs = torch.stack(choice.logprobs, -1).double()
    return [
        _answer(wording, row[longest:].tolist(), numbers.tolist(), ends, stop)
        for row, numbers, stop in zip(found.cpu(), logprobs, stops, strict=True)
    ]


def _ends(model: Any) -> set[int]:
    """Return the tokens that end a text."""
    given = model.generation_config.eos_token_id
    return set() if given is None else set(given if isinstance(given, (list, tuple)) else [given])


def _answer(
    wording: Wording, tokens: Sequence[int], logprobs: Sequence[float], ends: set[int], stop: Sequence[str]
) -> Answer:
    """Return what a row says, up to its end."""
    size = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
    text, ended = wording.text(tokens[:size]), size < len(tokens)
    cut = min((at for each in stop if (at := text.find(each)) >= 0), default=None)
    if cut is not None:
        ended = True
        size = next(at for at in range(1, size + 1) if any(each in wording.text(tokens[:at]) for each in stop))
        text = text[:cut]
    return Answer(text, tuple(tokens[:size]), tuple(logprobs[:size]), ended)


class _Stopped:
    """Tells `generate` which rows have written one of the texts that end them."""

    def __init__(self, wording: Wording, begin: int, stops: Sequence[Sequence[str]]) -> None:
        self._wording, self._begin, self._stops = wording, begin, stops

    def __call__(self, ids: Tensor, _scores: Any, **_more: Any) -> Tensor:
        texts = [self._wording.text(row) for row in ids[:, self._begin :].tolist()]
        found = [any(each in text for each in stop) for text, stop in zip(texts, self._stops, strict=True)]
        return torch.tensor(found, device=ids.device)
