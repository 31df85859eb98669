"""What differs between two calibrations: which knobs, by how much, and where in the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ..applying.recipe import recipe_of
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError
from ..reports.figures import depth_figure
from ..reports.skeleton import chart, table, whole_page, write_page
from .kinship import differences

NUM_SHOWN = 30  # knobs in the table of the page


class Pair(NamedTuple):
    """One knob of both calibrations."""

    name: str
    first: float
    second: float

    @property
    def change(self) -> float:
        """The second value less the first."""
        return self.second - self.first


@dataclass(frozen=True)
class Contrast:
    """Two calibrations side by side.

    Attributes:
        first: The name of the first.
        second: The name of the second.
        by: `knob`, or `module` if the two have other knobs but scale the same modules.
        made_on: How they differ in what they were made on, a clause for each difference.
        pairs: The value of every knob or module in both, in the order of the first.
        neutral: The value of each that changes nothing; empty if it is not known.
    """

    first: str
    second: str
    by: str
    made_on: tuple[str, ...]
    pairs: tuple[Pair, ...]
    neutral: Mapping[str, float]

    @property
    def largest_first(self) -> list[Pair]:
        """The pairs, those that differ most first."""
        return sorted(self.pairs, key=lambda pair: -abs(pair.change))

    @property
    def distance(self) -> float:
        """The root mean square of the differences."""
        return math.sqrt(math.fsum(pair.change**2 for pair in self.pairs) / len(self.pairs))

    def to_json(self) -> dict[str, Any]:
        """Return what is known as JSON-like values, the knobs that differ most first."""
        values = asdict(self)
        del values["pairs"], values["neutral"]
        knobs = [{**pair._asdict(), "difference": pair.change} for pair in self.largest_first]
        return {**values, "made_on": list(self.made_on), "distance": self.distance, "knobs": knobs}


def contrast(first: Calibration, second: Calibration) -> Contrast:
    """Compare two calibrations, knob by knob or, if they have other knobs, module by module.

    Raises:
        CalibrationError: If they have neither knobs nor modules in common.
    """
    names = (first.provenance.run, second.provenance.run)
    applied = bool(first.apply) and bool(second.apply)
    made_on = tuple(differences(first, second)) if applied else ()
    if not first.setting or not second.setting:
        raise CalibrationError(
            f"{names[0] if not first.setting else names[1]} has no knobs, so there is nothing to compare"
        )
    if set(first.setting) == set(second.setting):
        pairs = tuple(Pair(name, value, second.setting[name]) for name, value in first.setting.items())
        neutral = _neutral_knobs(first) if first.apply else {}
        return Contrast(*names, "knob", made_on, pairs, neutral)
    if not applied:
        raise CalibrationError(f"{names[0]} and {names[1]} have other knobs, so they cannot be compared")
    one, two = _by_module(first), _by_module(second)
    if not set(one) & set(two):
        raise CalibrationError(f"{names[0]} and {names[1]} scale no module in common, so they cannot be compared")
    known = {**_neutral(second), **_neutral(first)}
    neutral = {name: known.get(name, 1.0) for name in {**one, **two}}
    pairs = tuple(Pair(name, one.get(name, level), two.get(name, level)) for name, level in neutral.items())
    return Contrast(*names, "module", made_on, pairs, neutral)


def write_contrast(path: Path, found: Contrast) -> None:
    """Write a page with pictures of both by depth, and a table of what differs most.

    Raises:
        CalibrationError: If the file cannot be written.
    """
    sides = {
        "difference": ({pair.name: pair.change for pair in found.pairs}, dict.fromkeys(found.neutral, 0.0)),
        "first": ({pair.name: pair.first for pair in found.pairs}, found.neutral),
        "second": ({pair.name: pair.second for pair in found.pairs}, found.neutral),
    }
    titles = {"difference": f"{found.second} less {found.first}", "first": found.first, "second": found.second}
    sections = []
    for key, (values, level) in sides.items():
        figure = depth_figure(values, level or None, "difference" if key == "difference" else "value")
        if figure is not None:
            sections.append(f"<section><h2>{escape(titles[key])}</h2>{chart(key, figure.to_json())}</section>")
    rows = [
        [pair.name, f"{pair.first:.4g}", f"{pair.second:.4g}", f"{pair.change:+.4g}"]
        for pair in found.largest_first[:NUM_SHOWN]
    ]
    of = "" if len(found.pairs) <= NUM_SHOWN else f" The first {NUM_SHOWN} of {len(found.pairs)}."
    listed = table([found.by, found.first, found.second, "difference"], rows, main=3)
    sections.append(f"<section><h2>What differs most</h2><p class='note'>Largest first.{of}</p>{listed}</section>")
    charts = len(sections) > 1
    title = f"{found.first} and {found.second}"
    words = f"<p>{escape(sentence(found))}</p>"
    if found.made_on:
        words += f'<p class="verdict">{escape(caution(found))}</p>'
    write_page(
        path,
        whole_page(title, f"<header><h1>{escape(title)}</h1>{words}</header>" + "".join(sections), interactive=charts),
    )


def sentence(found: Contrast) -> str:
    """Return the comparison in a sentence."""
    most = found.largest_first[0]
    return (
        f"{len(found.pairs)} {found.by}s differ by {found.distance:.3g} (root mean square), most at {most.name}: "
        f"{most.first:.4g} and {most.second:.4g}."
    )


def caution(found: Contrast) -> str:
    """Return the warning that two calibrations were made on different things, else an empty string."""
    return f"They were made on different things: {', '.join(found.made_on)}." if found.made_on else ""


def _by_module(calibration: Calibration) -> dict[str, float]:
    values: dict[str, float] = {}
    members = recipe_of(calibration).members
    for number, member in enumerate(members, start=1):
        scope = f"member{number}." if len(members) > 1 else ""
        values |= {scope + address: scale for address, scale in member.scales.items()}
    if recipe_of(calibration).weighs:
        values |= {f"member{number}.weight": member.weight for number, member in enumerate(members, start=1)}
    return values


def _neutral_knobs(calibration: Calibration) -> dict[str, float]:
    """Return the neutral value of every knob; a choice has none but its own."""
    recipe = recipe_of(calibration)
    setting = calibration.setting.items()
    return {knob: value if recipe.chooses(knob) else recipe.neutral_of(knob) for knob, value in setting}


def _neutral(calibration: Calibration) -> dict[str, float]:
    """Return the neutral output weights; the neutral scale is 1."""
    members = recipe_of(calibration).members
    return {f"member{number}.weight": member.neutral_weight for number, member in enumerate(members, start=1)}
