"""Read the vectors that the published code of Calibri writes (`cmaes_step_*.json`), every coordinate by its name.

The file holds `solution`, a flat vector, and `shapes`, the counts from which model and granularity are told. The order
is by kind of site, then by member, then by block; the members' output weights come last. The published code holds every
number in bfloat16 when it applies them, so they are rounded here too.
"""

from __future__ import annotations

import datetime
import inspect
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..adapters.factories import NAMED
from ..adapters.layout import GRANULARITIES, WEIGHT_BOUND
from ..adapters.transformer import TransformerAdapter
from ..engine.calibration import Calibration, Provenance
from ..ground.errors import CalibrationError, near_misses
from ..ground.plain import LARGEST

GUIDANCE = 7.0  # the published code starts from the weights (7, -6)
LARGEST_FILE = 1 << 24


@dataclass(frozen=True)
class Part:
    """A run of coordinates: for each member, for each block with these sites, one coordinate a site.

    Attributes:
        label: The blocks' label in knob names.
        sites: What follows the block's number in a knob's name, such as `.attn.image`; empty for a whole block.
        counted: The key of `shapes` that counts these blocks.
    """

    label: str
    sites: tuple[str, ...]
    counted: str


@dataclass(frozen=True)
class Format:
    """The order of coordinates for one model and granularity.

    Attributes:
        adapter: The adapter.
        granularity: Its granularity.
        keys: The keys of `shapes` that tell the format from others.
        parts: The runs of coordinates, in order, without the weights.
        guided: Whether two members are the conditional and the unconditional prediction.
        unused: Endings of knob names whose values the published code never applies.
        empty: The prompt that the published unconditional member sees, if it is another than trimpot's.
    """

    adapter: str
    granularity: str
    keys: frozenset[str]
    parts: tuple[Part, ...]
    guided: bool = False
    unused: tuple[str, ...] = ()
    empty: str | None = None


_COUNTS = {"total", "n_models"}
_FLUX = frozenset({*_COUNTS, "doubles_main", "singles", "n_double", "n_single"})
_SINGLES = Part("single", ("",), "n_single")
FORMATS = (
    Format(
        "flux",
        "gate",
        _FLUX | {"doubles_ctx"},
        (
            Part("double", (".attn.image", ".mlp.image"), "n_double"),
            Part("double", (".attn.text", ".mlp.text"), "n_double"),
            _SINGLES,
        ),
    ),
    Format("flux", "layer", _FLUX, (Part("double", (".attn", ".mlp"), "n_double"), _SINGLES)),
    Format("flux", "block", _FLUX, (Part("double", ("",), "n_double"), _SINGLES)),
    Format(
        "sd3",
        "gate",
        frozenset({*_COUNTS, "main", "context", "attn2", "n_blocks", "n_context", "n_attn2"}),
        (
            Part("joint", (".attn.image", ".mlp.image"), "n_blocks"),
            Part("joint", (".attn.text", ".mlp.text"), "n_context"),
            Part("joint", (".attn2.image",), "n_attn2"),
        ),
        guided=True,
    ),
    Format(
        "qwen-image",
        "gate",
        frozenset({*_COUNTS, "n_blocks"}),
        (Part("block", (".attn.image", ".attn.text", ".mlp.image", ".mlp.text"), "n_blocks"),),
        guided=True,
        unused=(".mlp.image", ".mlp.text"),  # its hook returns unless a network returns a tuple, which it does not
        empty="",
    ),
)


@dataclass(frozen=True)
class Imported:
    """A calibration that was read, and what is to be said of it."""

    calibration: Calibration
    told: tuple[str, ...]


def read_vector(
    path: Path,
    *,
    adapter: str | None = None,
    granularity: str | None = None,
    as_meant: bool = False,
    guidance: float = GUIDANCE,
    **options: Any,
) -> Imported:
    """Read a published vector as a calibration without a gain.

    Args:
        path: The file, `cmaes_step_*.json`.
        adapter: The adapter that the file must be for; None takes what the counts tell.
        granularity: The granularity that it must have; None takes what the counts tell.
        as_meant: Whether values that the published code forgets to apply are applied.
        guidance: The guidance of the neutral setting, for an ensemble with an unconditional member.
        **options: Further options of the adapter, such as `model`.

    Raises:
        CalibrationError: If the file is no such vector, or belongs to another adapter, granularity or model.
        ModelError: If the adapter's configuration cannot be read.
    """
    solution, shapes = _contents(path)
    found = _format(path, solution, shapes, adapter, granularity)
    members = _members(found, shapes["n_models"])
    single = {"output_weight": True} if len(members) == 1 else {}
    empty = {"empty": found.empty} if found.empty is not None and "unconditional" in members else {}
    named = {"granularity": found.granularity, "members": members, **single, **empty, **options}
    guided = {"guidance_scale": guidance} if found.guided and len(members) > 1 else {}
    factory = NAMED[found.adapter][0]
    for name in options:
        if name not in (known := inspect.signature(factory).parameters):
            raise CalibrationError(f"the adapter {found.adapter} takes no {name}; {near_misses(name, known)}")
    made = factory(**{"outline": True, "dead": "freeze", **named, **guided})
    assert isinstance(made, TransformerAdapter)
    names = list(_names(found, shapes, made))
    if len(names) != len(solution):
        raise CalibrationError(
            f"{path} has {len(solution)} coordinates, and {made.describe()['id']} has {len(names)}; give the model "
            "that it was made on with -o model=..."
        )
    values = dict(zip(names, torch.tensor(solution).to(torch.bfloat16).tolist(), strict=True))
    setting, told = _setting(made, values, found, len(members), as_meant=as_meant)
    neutral = next(iter(made.neutrals().values()))
    recipe = made.export(setting, neutral)
    recipe.pop("weights", None)  # of an outline, which has none
    backbone = {**made.describe(), "pipeline": NAMED[found.adapter][1], **_sizes(made)}
    provenance = Provenance(
        run=path.stem,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        config={"adapter": {"name": found.adapter, **named}},
    )
    calibration = Calibration(
        backbone=backbone, num_steps=made.num_steps, setting=setting, apply=recipe, provenance=provenance
    )
    return Imported(calibration, tuple(told))


def _contents(path: Path) -> tuple[list[float], dict[str, int]]:
    """Return a file's vector and counts."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        values = json.loads(content.decode("utf-8-sig")) if len(content) <= LARGEST_FILE else None
    except OSError as error:
        raise CalibrationError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CalibrationError(f"{path} is not JSON; give a file cmaes_step_*.json of the published code") from None
    values = values if isinstance(values, dict) else {}
    solution, shapes = values.get("solution"), values.get("shapes")
    if not isinstance(solution, list) or not isinstance(shapes, dict):
        raise CalibrationError(f"{path} holds no solution with its shapes, as the published code writes them")
    for position, value in enumerate(solution):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
            raise CalibrationError(f"{path}: coordinate {position} of the solution is {value!r}, not a finite number")
    counts = {key: value for key, value in shapes.items() if isinstance(value, int) and not isinstance(value, bool)}
    if counts.get("total") != len(solution) or not counts.get("n_models"):
        raise CalibrationError(
            f"{path}: the solution has {len(solution)} coordinates, and its shapes say {counts.get('total')}"
        )
    if set(counts) != set(shapes) or not all(0 <= count <= len(solution) for count in counts.values()):
        raise CalibrationError(f"{path}: its shapes must be counts")
    return [float(value) for value in solution], counts


def _format(
    path: Path, solution: Sequence[float], shapes: Mapping[str, int], adapter: str | None, granularity: str | None
) -> Format:
    """Return the format that the counts tell, and refuse it if another was asked for."""
    if adapter is not None and adapter not in {each.adapter for each in FORMATS}:
        raise CalibrationError(
            f"the published code has no vectors for {adapter!r}; {near_misses(adapter, [e.adapter for e in FORMATS])}"
        )
    if granularity is not None and granularity not in GRANULARITIES:
        raise CalibrationError(f"no granularity {granularity!r}; {near_misses(granularity, GRANULARITIES)}")
    for each in FORMATS:
        if set(shapes) == each.keys and _total(each, shapes) == len(solution):
            if adapter not in (None, each.adapter) or granularity not in (None, each.granularity):
                raise CalibrationError(f"{path} is a vector of {each.adapter} with one knob a {each.granularity}")
            return each
    raise CalibrationError(f"{path}: its shapes {', '.join(shapes)} are those of no model of the published code")


def _total(each: Format, shapes: Mapping[str, int]) -> int:
    sites = sum(shapes[part.counted] * len(part.sites) for part in each.parts)
    return shapes["n_models"] * (sites + 1)


def _members(found: Format, number: int) -> list[str]:
    """Return what each member sees: two members of a guided model are conditional and unconditional."""
    return ["conditional", "unconditional"] if found.guided and number == 2 else ["conditional"] * number


def _names(found: Format, shapes: Mapping[str, int], made: TransformerAdapter) -> Iterator[str]:
    """Yield the name of each coordinate, with the prefix `memberN.` that knobs of several members have."""
    every = made.layout.names
    several = shapes["n_models"] > 1
    for part in found.parts:
        last = part.sites[-1]
        blocks = [name.removesuffix(last) for name in every if name.endswith(last) and name.startswith(part.label)]
        blocks = [block for block in blocks if block.count(".") == 1]
        if len(blocks) != shapes[part.counted]:
            raise CalibrationError(
                f"the vector is of {shapes[part.counted]} blocks {part.label!r}{last and ' with ' + last[1:]}, and "
                f"{made.describe()['id']} has {len(blocks)}; give the model that it was made on with -o model=..."
            )
        for member in range(shapes["n_models"]):
            scope = f"member{member + 1}." if several else ""
            for block in blocks:
                for site in part.sites:
                    yield f"{scope}{block}{site}"
    for member in range(shapes["n_models"]):
        yield f"member{member + 1}.weight"


def _setting(
    made: TransformerAdapter, values: Mapping[str, float], found: Format, num_members: int, *, as_meant: bool
) -> tuple[dict[str, float], list[str]]:
    """Return the setting of the adapter's knobs, and sentences about values that are not used."""
    for member in range(num_members):
        weight = values[f"member{member + 1}.weight"]
        if weight == 0:
            raise CalibrationError(
                f"the output weight of member {member + 1} is exactly 0, where the published code adds an unscaled "
                "prediction by mistake; change it to a small number to leave the member out"
            )
        if abs(weight) > WEIGHT_BOUND:
            raise CalibrationError(f"the output weight {weight:g} lies beyond {WEIGHT_BOUND:g}")
    told = []
    forgotten = [name for name in values if not as_meant and name.endswith(found.unused or ("\0",))]
    moved = [name for name in forgotten if not math.isclose(values[name], 1.0)]
    if moved:
        told.append(
            f"{len(forgotten)} scales of {', '.join(end[1:] for end in found.unused)} are set to 1, since the "
            "published code never applies them; --as-meant applies them"
        )
    dead = [name for name in made.frozen if name in values and name not in forgotten]
    if dead:
        told.append(f"{len(dead)} scales that cannot reach the output are left out, such as {dead[0]}")
    setting = {knob.name: values[knob.name] for knob in made.space}
    return {**setting, **{name: 1.0 for name in forgotten if name in setting}}, told


def _sizes(made: TransformerAdapter) -> dict[str, Any]:
    options = made.options
    names = ("height", "width", "max_sequence_length", "guidance_scale")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}
