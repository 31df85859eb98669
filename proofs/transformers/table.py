"""The table of all transformer classes: knobs, and results of all checks on a tiny instance of each class."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.table import Table
from torch import nn

from ...adapters.site_table import NOT_COVERED
from ...adapters.sites import SiteLine, find_blocks, find_sites, tie
from ...testing import transformer as contract
from . import EXAMPLES
from .example import transformer_classes

CHECKS = ("neutral", "zero", "rows", "every site", "removal", "gradient")
HOLDS, SKIPPED = "yes", "-"
#: What a library calls the classes of the table.
CLASSES: Mapping[str, str] = {"diffusers": "transformer classes", "transformers": "causal language models"}


@dataclass(frozen=True)
class Row:
    """The results for one transformer class.

    Attributes:
        kind: The class's name.
        knobs: Number of knobs of the default configuration at block, layer and gate granularity; None if the class has
            no default configuration that can be built.
        mechanisms: The kinds of the class's sites; see `mechanism`.
        verdicts: Check name to `yes`, to `-` if the check does not apply, or to the failure.
        unread: Sites of the tiny instance that cannot reach the output.
        reason: The reason why no check was run, or empty.
    """

    kind: str
    knobs: tuple[int, int, int] | None = None
    mechanisms: tuple[str, ...] = ()
    verdicts: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether every check that applies was run and passed."""
        return not self.reason and all(verdict in (HOLDS, SKIPPED) for verdict in self.verdicts.values())


def rows(kinds: Iterable[str] = ()) -> Iterator[Row]:
    """Check the named transformer classes of the installed diffusers one after another, or all if none are named."""
    for kind in kinds or sorted(transformer_classes()):
        with quiet():
            yield row(kind)


def row(kind: str) -> Row:
    """Check one transformer class."""
    example = EXAMPLES.get(kind)
    if example is None:
        return Row(kind, reason=NOT_COVERED.get(kind, "it has no site line yet"))
    try:
        model = example.build()
    except Exception as error:  # with another version of diffusers, a class may fail in any way
        return Row(kind, _knobs(kind), reason=f"not run: {first_line(error)}")
    verdicts, unread = verdicts_of(example, model)
    lines = [line for block in find_blocks(model) for line in block.lines]
    return Row(kind, _knobs(kind), tuple(sorted({mechanism(line) for line in lines})), verdicts, tuple(unread))


def mechanism(line: SiteLine) -> str:
    """Return a site's kind: a norm's `gate`, an `item` of a joint attention, a `post-norm`, or a branch's `output`."""
    is_norm = "norm" in line.module.rpartition(".")[2]
    if line.item is not None:
        return "gate" if is_norm else "item"
    return "post-norm" if is_norm else "output"


def verdicts_of(example: Any, model: nn.Module) -> tuple[dict[str, str], list[str]]:
    """Run every check on a tiny instance.

    Args:
        example: An `Example`, or another object with its methods and attributes.
        model: The instance that it builds.

    Returns:
        Check name to `yes`, to `-` if the check does not apply, or to the failure; and the sites that nothing reads.
    """
    call = example.arguments()
    num_rows = min(2, example.max_rows)
    unread: list[str] = []

    def gradient() -> None:
        dtype = getattr(torch, example.precision)
        contract.check_gradient(example.build(dtype), example.arguments(dtype=dtype))

    checks: dict[str, Callable[[], object] | None] = {
        "neutral": lambda: contract.check_neutral(model, call),
        "zero": lambda: contract.check_zero(model, call, beside=example.beside, streams=example.streams),
        "rows": (lambda: contract.check_rows(model, call, num_rows, exactly=example.exact_rows))
        if num_rows > 1
        else None,
        "every site": lambda: unread.extend(contract.check_every_site(model, call)),
        "removal": lambda: contract.check_removal(model, call),
        "gradient": gradient if example.differentiable else None,
    }
    verdicts = {}
    for name, check in checks.items():
        try:
            if check is not None:
                check()
            verdicts[name] = SKIPPED if check is None else HOLDS
        except Exception as error:
            verdicts[name] = first_line(error)
    return verdicts, unread


def _knobs(kind: str) -> tuple[int, int, int] | None:
    """Count the knobs of a class's default configuration, without weights."""
    try:
        with torch.device("meta"):
            sites = find_sites(transformer_classes()[kind]())
    except Exception:  # some classes have no default configuration that can be built
        return None
    return len(tie(sites, "block")), len(tie(sites, "layer")), len(tie(sites, "gate"))


def first_line(error: Exception) -> str:
    """Return an error's class and the first line of its message; only the message if a check failed."""
    lines = str(error).splitlines() or [""]
    return lines[0] if isinstance(error, AssertionError) else f"{type(error).__name__}: {lines[0]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings about tiny configurations."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def as_table(found: Iterable[Row]) -> Table:
    """Return the rows as a table for the terminal."""
    table = Table(title="Transformer classes", caption="- does not apply   unread: sites that nothing reads any more")
    table.add_column("class", no_wrap=True)
    table.add_column("block / layer / gate", justify="right")
    table.add_column("scales")
    for check in CHECKS:
        table.add_column(check)
    table.add_column("unread")
    for one in found:
        knobs = " / ".join(map(str, one.knobs)) if one.knobs else SKIPPED
        if one.reason:
            table.add_row(one.kind, knobs, SKIPPED, *[SKIPPED] * len(CHECKS), SKIPPED, style="dim")
        else:
            verdicts = [one.verdicts[check] for check in CHECKS]
            table.add_row(one.kind, knobs, ", ".join(one.mechanisms), *verdicts, ", ".join(one.unread))
    return table


def summary(found: Iterable[Row], library: str = "diffusers") -> str:
    """Say how many classes pass every check, and why other classes were not run."""
    from importlib.metadata import version

    found = list(found)
    good = sum(one.holds for one in found)
    lines = [f"{good} of {len(found)} {CLASSES[library]} of {library} {version(library)}: every check holds."]
    lines += [f"{one.kind}: {one.reason}" for one in found if one.reason]
    return "\n".join(lines)
