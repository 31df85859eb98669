"""What a loaded model does with its inputs, found by passes of a few tokens: what libraries promise differs by class.

A likelihood is one of what follows only if no place sees the tokens after it; classes such as BERT's do, unless their
configuration says `is_decoder`. Rows of different lengths can share a pass only if filling them up changes none; some
classes count the places that a mask leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ...ground.devices import shortage
from ...ground.errors import ModelError, first_line
from .likelihood import caches

Made = TypeVar("Made")
Sharing = Literal["any", "length", "none"]
IDS, OTHER = (1, 2, 3, 1), (1, 2, 3, 2)
FILL = 3  # places
WRITTEN = 3  # tokens: some classes count places anew with each of them


def check_causal(model: Any) -> None:
    """Refuse a model that sees the tokens after a place, whose likelihoods would be of texts that it has been shown.

    Raises:
        ModelError: If it does, or the model cannot be run on tokens alone.
    """
    kind = type(model).__name__
    before, after = (_logits(model, [ids], [[1] * len(ids)])[0][:-1] for ids in (IDS, OTHER))
    if _differ(before, after, model):
        raise ModelError(
            f"this {kind} sees the tokens after each place, so that it predicts nothing; give a causal language model "
            "(for BERT and its kin, one whose config.json says is_decoder: true)"
        )


def sharing(model: Any, pad: int, where: Literal["front", "end"]) -> Sharing:
    """Return which rows can share a pass without a change of any.

    Args:
        model: The model.
        pad: The token to fill rows up with.
        where: Where they are filled up: at the `front`, as for generating, or the `end`, as for likelihoods.

    Returns:
        `any` rows, rows of one `length`, or `none`.

    Raises:
        ModelError: If the model cannot be run on tokens alone, or cannot generate.
    """
    padding, hidden, shown = [pad] * FILL, [0] * FILL, [1] * len(IDS)
    run = _logits if where == "end" else partial(_first, pad=pad)
    row, filled, mask = list(IDS), [*IDS, *padding], [*shown, *hidden]
    if where == "front":
        filled, mask = [*padding, *IDS], [*hidden, *shown]
    plain = run(model, [row], [shown])[0]
    if _differ(plain, run(model, [row, row], [shown, shown])[1], model):
        return "none"
    return "length" if _differ(plain, run(model, [filled], [mask])[0][: len(plain)], model) else "any"


def _logits(model: Any, ids: Any, mask: Any) -> Tensor:
    """Return the logits of every row, shape (num_rows, num_places, vocabulary)."""
    more = {"use_cache": False} if caches(model) else {}
    made: Tensor = run_on_tokens(model, lambda: model(**_inputs(model, ids, mask), **more).logits.float())
    if made.shape[1] != len(ids[0]):
        raise ModelError(f"a {type(model).__name__} does not predict one token at each place, as a language model does")
    return made


def _first(model: Any, ids: Any, mask: Any, pad: int) -> Tensor:
    """Return the logits from which `generate` chooses the first tokens of every row, (num_rows, WRITTEN, size)."""
    if not model.can_generate():
        raise ModelError(f"a {type(model).__name__} of transformers cannot generate; set mode: likelihood")
    given = {"max_new_tokens": WRITTEN, "min_new_tokens": WRITTEN, "do_sample": False, "pad_token_id": pad}
    given |= {"return_dict_in_generate": True, "output_logits": True}
    return run_on_tokens(
        model, lambda: torch.stack(model.generate(**_inputs(model, ids, mask), **given).logits, 1).float()
    )


def _inputs(model: Any, ids: Any, mask: Any) -> dict[str, Tensor]:
    device = model.device
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}


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
    """Return whether logits differ in more than half of their digits; NaN and infinity are told of elsewhere."""
    allowed = math.sqrt(torch.finfo(model.dtype).eps) * max(1.0, float(one.abs().max()))
    return float((one - other).abs().max()) > allowed
