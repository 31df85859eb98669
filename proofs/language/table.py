"""The table of all causal language models: knobs, and results of all checks on a tiny instance of each class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ...adapters.sites import find_blocks, find_sites, tie
from ..transformers.table import Row, first_line, mechanism, quiet, verdicts_of
from .classes import NOT_RUN
from .example import causal_classes, examples
from .reading import reading_example


def rows(kinds: Iterable[str] = ()) -> Iterator[Row]:
    """Check the named classes of the installed transformers, or all causal language models if none are named."""
    for kind in kinds or causal_classes():
        with quiet():
            yield row(kind)


def row(kind: str) -> Row:
    """Check one class."""
    if kind in NOT_RUN:
        return Row(kind, reason=NOT_RUN[kind])
    example = examples().get(kind) or reading_example(kind)
    try:
        model = example.build()
        sites = find_sites(model)
    except Exception as error:  # with another version of transformers, a class may fail in any way
        return Row(kind, reason=f"not run: {first_line(error)}")
    experts = any("expert" in path for path, _ in model.named_modules())
    example = replace(example, exact_rows=not experts, precision="float32" if experts else example.precision)
    knobs = len(tie(sites, "block")), len(tie(sites, "layer")), len(tie(sites, "gate"))
    verdicts, unread = verdicts_of(example, model)
    lines = [line for block in find_blocks(model) for line in block.lines]
    return Row(kind, knobs, tuple(sorted({mechanism(line) for line in lines})), verdicts, tuple(unread))
