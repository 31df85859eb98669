"""Sites: the places where a residual branch of a transformer enters its stream.

One line per block class declares the sites of the block (`site_table.py` and `language/site_table.py` hold all lines):

    joint: attn.image=norm1[1] attn2.image=norm1[6]?use_dual_attention attn.text=norm1_context[1]?!context_pre_only
    │      │    │     │     │                       └ only where this attribute of the block is true (`?!`: false)
    │      │    │     │     └ item of a tuple output; without it, the output, or the first item of a tuple
    │      │    │     └ submodule of the block whose output is scaled
    │      │    └ stream: image, text, joint, video, audio
    │      └ branch: attn, attn2, attn3, mlp, mlp2, single
    └ name of the block class in knob names

`@1` after a module gives the batch dimension if it is not 0. A site scales the gate that a norm returns if there is
such a gate, and otherwise the branch's own output; both scale the branch's contribution equally.

Blocks are named by their line's label and numbered in the order of the model's modules. If blocks of one class are in
several lists (the refiners of Lumina 2 use the same class as its body), the name of the list replaces the label:
`noise_refiner.00`, `layers.00`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ..ground.errors import ConfigError, ModelError, near_misses
from .language.site_table import LANGUAGE_BLOCKS
from .site_table import BLOCKS, NOT_COVERED

if TYPE_CHECKING:
    from torch import nn

SECOND = "transformer_2"  # diffusers' name for the second transformer of a pipeline
Granularity = Literal["block", "layer", "gate"]


@dataclass(frozen=True)
class SiteLine:
    """One site of a block class, as declared.

    Attributes:
        branch: `attn`, `attn2`, `attn3`, `mlp`, `mlp2`, `single`; in language models also `linear`, `mamba`, `conv`.
        stream: `image`, `text`, `joint`, `video` or `audio`.
        module: Path of the submodule within the block.
        item: Item of a tuple output, or None for the whole output, or the first item of a tuple.
        batch_dim: Dimension of the output along which rows are stacked.
        flag: Attribute of the block that must be true, or false if it starts with `!`; or None.
    """

    branch: str
    stream: str
    module: str
    item: int | None
    batch_dim: int
    flag: str | None

    def applies_to(self, block: object) -> bool:
        """Return whether a block has this site."""
        if self.flag is None:
            return True
        return bool(getattr(block, self.flag.lstrip("!"), None)) != self.flag.startswith("!")


_SITE = re.compile(
    r"(?P<branch>\w+)\.(?P<stream>\w+)=(?P<module>[\w.]+)(\[(?P<item>\d+)\])?(@(?P<dim>\d))?(\?(?P<flag>!?\w+))?"
)


def parse_line(text: str) -> tuple[str, list[SiteLine]]:
    """Parse the line of a block class.

    Returns:
        The label of the block class, and its sites in order.

    Raises:
        ConfigError: If the line does not have the form above.
    """
    label, colon, body = text.partition(":")
    if not colon or not label.isidentifier() or not body.split():
        raise ConfigError(f"site line {text!r} must read 'label: branch.stream=module[item] ...'")
    sites = []
    for word in body.split():
        match = _SITE.fullmatch(word)
        if match is None:
            raise ConfigError(f"site {word!r} must read 'branch.stream=module', with optional [item], @dim and ?flag")
        item = match["item"]
        sites.append(
            SiteLine(
                match["branch"],
                match["stream"],
                match["module"],
                None if item is None else int(item),
                int(match["dim"] or 0),
                match["flag"],
            )
        )
    return label, sites


@dataclass(frozen=True)
class Site:
    """One site of a model.

    Attributes:
        block: The block's name, such as `double.07`.
        branch: See `SiteLine`.
        stream: See `SiteLine`.
        path: Module path from the model's root.
        item: Item of the module's tuple output, or None.
        batch_dim: Dimension of the output along which rows are stacked.
    """

    block: str
    branch: str
    stream: str
    path: str
    item: int | None = None
    batch_dim: int = 0

    @property
    def name(self) -> str:
        """The name from outside in, such as `double.07.attn.image`; a block's only site has the block's name."""
        return self.block if self.branch == "single" else f"{self.block}.{self.branch}.{self.stream}"

    @property
    def address(self) -> str:
        """Module path with item and batch dimension: `transformer_blocks.7.norm1[1]`."""
        item = "" if self.item is None else f"[{self.item}]"
        return f"{self.path}{item}" + (f"@{self.batch_dim}" if self.batch_dim else "")

    def within(self, prefix: str) -> Site:
        """Return the same site with a model's prefix on its name and path, as sites of several models need."""
        return replace(self, block=prefix + self.block, path=prefix + self.path)

    def knob(self, granularity: Granularity) -> str:
        """Return the name of the knob that scales this site.

        *gate* has one knob per site, *layer* ties the streams of a branch (and attn2 and attn3 with attn), *block*
        ties a whole block (Calibri, section 3.3).
        """
        if granularity == "gate":
            return self.name
        if granularity == "block" or self.branch == "single":
            return self.block
        return f"{self.block}.{self.branch.rstrip('0123456789')}"


@dataclass(frozen=True)
class Block:
    """One covered block of a model.

    Attributes:
        name: The block's name, such as `double.07`.
        path: Module path from the model's root.
        kind: Name of the block's class.
        lines: The declared sites that this block has.
    """

    name: str
    path: str
    kind: str
    lines: tuple[SiteLine, ...]


def find_blocks(model: nn.Module, blocks: Mapping[str, str] | None = None) -> list[Block]:
    """Find every covered block of a model, in the order of its modules.

    Args:
        model: A transformer.
        blocks: Site lines by block class, added to the built-in table and taking precedence over it.

    Raises:
        ConfigError: If a line cannot be read.
        ModelError: If a line of `blocks` is for a class that the model does not have.
    """
    lines = {name: parse_line(text) for name, text in {**BLOCKS, **LANGUAGE_BLOCKS, **(blocks or {})}.items()}
    modules = [(path, module) for path, module in model.named_modules() if type(module).__name__ in lines]
    lists: dict[str, set[str]] = {}
    for path, module in modules:
        lists.setdefault(type(module).__name__, set()).add(_list_name(path))
    if missing := sorted(set(blocks or {}) - set(lists)):
        seen = {type(module).__name__ for module in model.modules()}
        raise ModelError(
            f"{type(model).__name__} has no block of class {missing[0]!r}, although a site line is given for it; "
            f"{near_misses(missing[0], _blocklike(seen))}"
        )
    found: list[Block] = []
    counts: dict[str, int] = {}
    for path, module in modules:
        kind = type(module).__name__
        label, site_lines = lines[kind]
        if len(lists[kind]) > 1:
            label = _list_name(path)
        number = counts[label] = counts.get(label, -1) + 1
        present = tuple(line for line in site_lines if line.applies_to(module))
        found.append(Block(f"{label}.{number:02d}", path, kind, present))
    return found


def find_sites(model: nn.Module, blocks: Mapping[str, str] | None = None) -> list[Site]:
    """Find every site of a model, in the order of its modules.

    Args:
        model: A transformer.
        blocks: Site lines by block class, added to the built-in table and taking precedence over it.

    Raises:
        ConfigError: If a line cannot be read.
        ModelError: If no block class is covered, a line is for a class that the model does not have, or a line names
            a submodule that a block does not have, or one branch of one stream twice.
    """
    sites: list[Site] = []
    names: set[str] = set()
    for block in find_blocks(model, blocks):
        module = model.get_submodule(block.path)
        for line in block.lines:
            if not _has(module, line.module):
                raise ModelError(
                    f"the site line of {block.kind} names {line.module!r}, which block {block.path} does not have; "
                    "correct the line"
                )
            path = f"{block.path}.{line.module}" if block.path else line.module
            site = Site(block.name, line.branch, line.stream, path, line.item, line.batch_dim)
            if site.name in names:
                raise ModelError(
                    f"the site line of {block.kind} names {line.branch}.{line.stream} twice; number one of them, as in "
                    f"{line.branch}2.{line.stream}"
                )
            names.add(site.name)
            sites.append(site)
    if not sites:
        kind = type(model).__name__
        if kind in NOT_COVERED:
            raise ModelError(f"{kind} cannot be calibrated: {NOT_COVERED[kind]}; give a site line for its block class")
        seen = ", ".join(sorted(_blocklike({type(module).__name__ for module in model.modules()})))
        raise ModelError(
            f"{kind} has no block that trimpot knows sites of ({seen or 'no block classes at all'}); "
            "add a site line for its block class"
        )
    return sites


def _list_name(path: str) -> str:
    """Return the name of a block's list: `layers` for `layers.7` and for `layers.7.block`."""
    names = re.findall(r"([^.]+)\.\d+(?:\.|$)", path)
    return names[-1] if names else ""


def _blocklike(kinds: set[str]) -> set[str]:
    return {kind for kind in kinds if kind.endswith(("Block", "Layer"))}


def _has(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def site_at(model: nn.Module, address: str) -> Site:
    """Return the site at an address such as `transformer_blocks.7.norm1[1]`.

    Raises:
        ModelError: If the model has no such module.
    """
    match = re.fullmatch(r"(?P<path>[\w.]+?)(\[(?P<item>\d+)\])?(@(?P<dim>\d))?", address)
    if match is None:
        raise ModelError(f"{address!r} is not a module address such as transformer_blocks.7.norm1[1]")
    if not _has(model, match["path"]):
        paths = [path for path, _ in model.named_modules()]
        raise ModelError(f"{type(model).__name__} has no module {match['path']!r}; {near_misses(match['path'], paths)}")
    item = match["item"]
    return Site("", "", "", match["path"], None if item is None else int(item), int(match["dim"] or 0))


def tie(sites: Sequence[Site], granularity: Granularity) -> dict[str, list[int]]:
    """Tie sites into knobs.

    Returns:
        Knob name to the indices of its sites, in the order of first occurrence.
    """
    knobs: dict[str, list[int]] = {}
    for index, site in enumerate(sites):
        knobs.setdefault(site.knob(granularity), []).append(index)
    return knobs
