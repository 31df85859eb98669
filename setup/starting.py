"""The setting that a run begins from: read from a calibration file, for the adapter that the run is of."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.calibration import Calibration
from ..engine.knobs import KnobSpace, Setting
from ..engine.seams import Adapter
from ..ground.errors import ConfigError, ModelError, Notice
from ..ground.plain import number, short

CLOSE = 1e-6  # of scales and weights


def start_of(source: str, adapter: Adapter, *, exactly: bool = False) -> Setting:
    """Read the setting of a calibration file, or of the calibration in a run's folder.

    A calibration of a coarser granularity of the same backbone is converted.

    Args:
        source: The path of the file or folder.
        adapter: The backbone.
        exactly: Whether the adapter must apply what the file says is to be applied, as it must for a measurement.

    Raises:
        ConfigError: If the calibration has other knobs, or the adapter would apply something else.
    """
    path = calibration_file(source)
    calibration = Calibration.load(path)
    setting = _in_knobs_of(adapter, path, calibration)
    inside(f"start: {source}", setting, adapter.space)
    if differs := _departure(calibration.apply, adapter.export(setting, setting), exactly=exactly):
        done = "measured as it would be applied" if exactly else "searched on from"
        raise ConfigError(f"start: {path} cannot be {done}: {differs}")
    if exactly:
        _tell_of_other_weights(path, calibration, adapter)
    return setting


def _in_knobs_of(adapter: Adapter, path: Path, calibration: Calibration) -> Setting:
    space, setting = adapter.space, dict(calibration.setting)
    if set(setting) == set(space.names):
        return setting
    for granularity in ("block", "layer"):
        lifted = _lifted(setting, granularity, adapter)
        if lifted is not None:
            return lifted
    differ = sorted(set(setting) ^ set(space.names))
    raise ConfigError(
        f"start: {path} is a calibration of {calibration.backbone.get('id', 'another backbone')} with other knobs "
        f"(such as {differ[0]!r}); start from a calibration of this adapter's knobs, or of a coarser granularity"
    )


def calibration_file(source: str) -> Path:
    """Return the path of a calibration file, given this path or the path of a run's folder."""
    path = Path(source)
    return path / "calibration.json" if path.is_dir() else path


def inside(name: str, setting: Setting, space: KnobSpace) -> Setting:
    """Check that a search may begin from a setting, and return the setting.

    Optimizers treat a setting outside the bounds differently: some move it to the bounds, some evaluate it unchanged.

    Raises:
        ConfigError: If the value of a knob is not a finite number or lies outside the knob's bounds.
    """
    for knob in space:
        value = setting.get(knob.name, knob.default)
        number(value, f"{name}: the value of knob {knob.name!r}", low=knob.low, high=knob.high)
    return setting


def _lifted(setting: Setting, granularity: str, adapter: Adapter) -> dict[str, Any] | None:
    try:
        tied = adapter.tied(granularity)
    except ModelError:
        return None
    if set(tied) != set(setting):
        return None
    return {knob: setting[name] for name, members in tied.items() for knob in members}


def _tell_of_other_weights(path: Path, calibration: Calibration, adapter: Adapter) -> None:
    """Warn if a calibration is measured on other weights than those that were calibrated."""
    there, here = calibration.backbone.get("source", calibration.backbone), adapter.describe().get("source")
    if not isinstance(there, Mapping) or not isinstance(here, Mapping):
        return
    for key in ("weights", "revision"):
        if there.get(key) and here.get(key) and there[key] != here[key]:
            warnings.warn(
                f"{path} is measured on another model than was calibrated: its {key} is {here[key]}, not {there[key]}",
                Notice,
                stacklevel=3,
            )
            return


def _asked_otherwise(said: object, done: object) -> str:
    """Return how an adapter of a language model asks otherwise than a file says; empty if it does not."""
    there, here = (each if isinstance(each, Mapping) else {} for each in (said, done))
    for key in sorted({*there, *here} - {"neutral_bias"}):
        one, two = there.get(key) or None, here.get(key) or None
        if key == "format":
            one, two = one or "{prompt}", two or "{prompt}"
        if one == two or (key == "bias" and math.isclose(one or 0.0, two or 0.0, abs_tol=CLOSE)):
            continue
        if key == "examples":
            return (
                f"{len(one or ())} training records are shown before its prompts, and the adapter shows "
                f"{'others' if one and two and len(one) == len(two) else len(two or ())}; give the training prompts "
                "that it was calibrated with"
            )
        return f"its prompts are asked with {key} {short(one)}, and the adapter's with {short(two)}"
    return ""


def _departure(said: Mapping[str, Any], done: Mapping[str, Any], *, exactly: bool) -> str:
    """Return how what an adapter applies departs from what a file says is to be applied; empty if it does not.

    A search may begin from scales that were found with members that see something else; a measurement may not.
    """
    if not said or not (done or exactly):  # of a backbone whose setting is enough
        return ""
    words = {"transformer": "transformer", **({"empty": "prompt for no prompt"} if exactly else {})}
    for key, word in words.items():
        if said.get(key) != done.get(key):
            own, other = ("the pipeline's own" if of.get(key) is None else repr(of[key]) for of in (said, done))
            hint = f"; give 'adapter.empty={json.dumps(said[key])}'" if key == "empty" and key in said else ""
            return f"its {word} is {own}, and the adapter's is {other}{hint}"
    members, others = said.get("members"), done.get("members")
    if not isinstance(members, list) or not isinstance(others, list) or len(members) != len(others):
        return "it has other members than the adapter"
    if exactly and (differs := _asked_otherwise(said.get("asking"), done.get("asking"))):
        return differs
    for index, (one, two) in enumerate(zip(members, others, strict=True), start=1):
        if not isinstance(one, Mapping) or (exactly and one.get("sees") != two["sees"]):
            return f"its member {index} does not see what the adapter's member sees"
        pairs = {"weight": (one.get("weight"), two["weight"])}
        scales = one.get("scales")
        scales = scales if isinstance(scales, Mapping) else {}
        pairs |= {f"scale of {site}": (scales.get(site, 1.0), value) for site, value in two["scales"].items()}
        pairs |= {f"scale of {site}": (value, 1.0) for site, value in scales.items() if site not in two["scales"]}
        for name, (there, here) in pairs.items():
            if not isinstance(there, (int, float)) or not math.isclose(there, here, rel_tol=CLOSE, abs_tol=CLOSE):
                return f"its member {index} has the {name} {there}, and its setting makes it {here}"
    return ""
