"""What a loaded model does with its inputs, found by passes of a few tokens: what libraries promise differs by class.

A likelihood is one of what follows only if no place sees the tokens after it; classes such as BERT's do unless their
configuration says `is_decoder`. Rows of different lengths can share a batch only if filling them up changes none; some
classes count the places that a mask leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ...ground.devices import shortage
from ...ground.errors import ModelError, first_line
from .likelihood import caches

Made = TypeVar("Made")
SHARE = 0.5  # of the digits of a dtype that rounding may change
IDS, OTHER = (1, 2, 3, 1), (1, 2, 3, 2)
FILL = 3  # places
WRITTEN = 3  # tokens: some classes count places anew with each of them


def check_causal(model: Any) -> None:
    """Refuse a model that sees the tokens after a place, whose likelihoods would be of texts that it has been shown.

    Raises:
        ModelError: If it does, or the model cannot be run on tokens alone.
    """
    kind = type(model).__name__
    before, after = (_logits(model, ids, [1] * len(ids))[:-1] for ids in (IDS, OTHER))
    if _differ(before, after, model):
        raise ModelError(
            f"this {kind} sees the tokens after each place, so that it predicts nothing; give a causal language model "
            "(for BERT and its kin, one whose config.json says is_decoder: true)"
        )


def fills(model: Any, pad: int, where: Literal["front", "end"]) -> bool:
    """Return whether a row can be filled up with masked tokens, at its front or end, without a change.

    Args:
        model: The model.
        pad: The token to fill with.
        where: `front`, as for generating, or `end`, as for likelihoods.

    Raises:
        ModelError: If the model cannot be run on tokens alone, or cannot generate.
    """
    padding, hidden, shown = [pad] * FILL, [0] * FILL, [1] * len(IDS)
    if where == "end":
        plain = _logits(model, IDS, shown)
        filled = _logits(model, [*IDS, *padding], [*shown, *hidden])[: len(IDS)]
    else:
        plain = _next(model, IDS, shown, pad)
        filled = _next(model, [*padding, *IDS], [*hidden, *shown], pad)
    return not _differ(plain, filled, model)


def _logits(model: Any, ids: Any, mask: Any) -> Tensor:
    """Return the logits of one row, shape (num_places, vocabulary)."""
    more = {"use_cache": False} if caches(model) else {}
    made = run_on_tokens(model, lambda: model(**_inputs(model, ids, mask), **more).logits[0].float())
    if len(made) != len(ids):
        raise ModelError(f"a {type(model).__name__} predicts {len(made)} tokens from {len(ids)}, not one at each place")
    return made


def _next(model: Any, ids: Any, mask: Any, pad: int) -> Tensor:
    """Return the logits from which `generate` chooses the first tokens of one row, shape (WRITTEN, vocabulary)."""
    if not model.can_generate():
        raise ModelError(f"a {type(model).__name__} of transformers cannot generate; set mode: likelihood")
    given = {"max_new_tokens": WRITTEN, "min_new_tokens": WRITTEN, "do_sample": False, "pad_token_id": pad}
    given |= {"return_dict_in_generate": True, "output_logits": True}
    return run_on_tokens(model, lambda: torch.cat(model.generate(**_inputs(model, ids, mask), **given).logits).float())


def _inputs(model: Any, ids: Any, mask: Any) -> dict[str, Tensor]:
    device = model.device
    return {"input_ids": torch.tensor([ids], device=device), "attention_mask": torch.tensor([mask], device=device)}


def run_on_tokens(model: Any, work: Callable[[], Made]) -> Made:
    """Run a model.

    Raises:
        ModelError: If it cannot be run so.
    """
    try:
        with torch.no_grad():
            made = work()
    except Exception as error:  # a class may need other inputs, and fail in any way without
        if shortage(error) is not None:
            raise
        raise ModelError(f"a {type(model).__name__} cannot be run on tokens alone: {first_line(error)}") from error
    return made


def _differ(one: Tensor, other: Tensor, model: Any) -> bool:
    """Return whether logits differ by more than rounding; numbers that are not finite are told of elsewhere."""
    allowed = torch.finfo(model.dtype).eps ** SHARE * max(1.0, float(one.abs().max()))
    return float((one - other).abs().max()) > allowed
