"""The table of machine sizes and models: what is chosen for each, from configurations alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..adapters.published import CHECKPOINTS
from ..ground.errors import ModelError
from .fit import Placement
from .proposal import propose

SIZES = ("8GB", "12GB", "24GB", "48GB", "80GB")


def rows(models: Sequence[str] = (), sizes: Sequence[str] = SIZES) -> Iterator[list[str]]:
    """Yield a row for each model: its name, and what is chosen for each size of memory.

    Args:
        models: Hub ids or folders; default: every published checkpoint that is known.
        sizes: Sizes of memory, such as `24GB`.
    """
    for model in models or CHECKPOINTS:
        yield [model.rpartition("/")[2], *(_cell(model, each) for each in sizes)]


def markdown(models: Sequence[str] = (), sizes: Sequence[str] = SIZES) -> str:
    """Return the table as Markdown."""
    head = ["model", *sizes]
    lines = [head, ["---"] * len(head), *rows(models, sizes)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(model: str, memory: str) -> str:
    try:
        proposal = propose(model, memory=memory)
    except ModelError:
        return "does not fit"
    chosen, reward = proposal.fit, next(iter(proposal.values["objectives"]))
    return f"{_words(chosen.placement)}; {chosen.batch_size}; {reward}"


def _words(placement: Placement) -> str:
    """Return a placement in few words."""
    if placement.quantization:
        return placement.quantization
    if placement.offload != "none":
        return f"offload: {placement.offload}"
    return "rewards wait" if placement.rewards_wait else "all on the GPU"
