"""The artifact: a calibration as a human-readable JSON file."""

from __future__ import annotations

import datetime
import json
import math
import os
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..ground import folders
from ..ground.errors import CalibrationError
from ..ground.mistakes import first_mistake
from ..ground.plain import LARGEST, plain, short
from .alarm import own_name
from .knobs import digest
from .loop import Outcome
from .run import Run
from .schema import MOST_STEPS
from .seams import Medium
from .statistics import Gain

SCHEMA_VERSION = 1
CHECKSUM = "checksum"
_USUAL = {"makes": "image", "uses_seed": True}  # what is true of a file that does not say it
LARGEST_FILE = 64 << 20  # bytes: hundreds of members of the largest models

Finite = Annotated[float, Field(strict=True, ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, le=10**15)]
Steps = Annotated[int, Field(strict=True, ge=1, le=MOST_STEPS)]


class _Model(BaseModel):
    """Values of the file. Unknown keys, of later versions, are kept and written again."""

    model_config = ConfigDict(extra="allow", frozen=True)


class GainRecord(_Model):
    """A paired difference on test prompts with its 95 % interval.

    Both ends of the interval are None if there is a single prompt, since it says nothing about other prompts.
    `num_prompts` is None in files that were made before the prompt became the unit of the interval.
    """

    mean: Finite
    low: Finite | None
    high: Finite | None
    num_prompts: Count | None = None
    num_images: Count

    @classmethod
    def of(cls, gain: Gain) -> GainRecord:
        """Copy a measured gain."""
        return cls(**{name: value if math.isfinite(value) else None for name, value in asdict(gain).items()})

    @property
    def told(self) -> str:
        """The gain as text, such as `+0.101 [+0.078, +0.125]`."""
        ends = "" if self.low is None or self.high is None else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.mean:+.3f}{ends}"

    def holds(self) -> bool:
        """Return whether the mean lies in the interval, with some slack, which a bootstrap interval needs."""
        low, high = (-math.inf if self.low is None else self.low, math.inf if self.high is None else self.high)
        slack = 0.1 * (high - low) + 1e-9 * abs(self.mean)
        return low <= high and low - slack <= self.mean <= high + slack


class StepsRecord(_Model):
    """Neutral against calibrated at one number of steps."""

    num_steps: Steps | None
    neutral_label: str
    neutral: Finite
    calibrated: Finite
    gain: GainRecord
    gain_at_calibrated_steps: GainRecord


class WatchedRecord(_Model):
    """Neutral against calibrated by one objective on watched prompts, at the calibrated number of steps."""

    prompts: str
    objective: str
    neutral: Finite
    calibrated: Finite
    gain: GainRecord


class Parent(_Model):
    """A calibration that another one was made from.

    Attributes:
        run: The parent's run.
        digest: The digest of that run; of the calibration's values if no run found it.
        how: What was done, such as `weight 0.5`.
    """

    run: str
    digest: str = ""
    how: str = ""


class Provenance(_Model):
    """The origin of a calibration.

    Attributes:
        run: The run that found it, or a name for what was not found by a run.
        created: The time, in ISO 8601.
        makes: What the backbone makes, as `Adapter.makes` says it; `image` if a file does not say.
        uses_seed: Whether its outputs depend on seeds.
        digest: The digest of the run's evaluations.
        stop_reason: Why the search ended.
        num_evaluations: The evaluations of the run.
        num_images: The outputs of the run.
        versions: The packages that can change a number.
        config: The configuration of the run.
        parents: The calibrations that it was made from.
    """

    run: str
    created: str
    makes: Medium | None = "image"
    uses_seed: bool = True
    digest: str = ""
    stop_reason: str = ""
    num_evaluations: Count = 0
    num_images: Count = 0
    versions: dict[str, str] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)
    parents: tuple[Parent, ...] = ()


class Calibration(_Model):
    """A calibrated setting with the data to apply it and the evidence for its gain.

    Attributes:
        schema_version: The version of this file format.
        backbone: The backbone that was calibrated: id, revision or weights digest, class, dtype.
        num_steps: Denoising steps that the setting was calibrated for, and should be used with.
        setting: Knob name to value.
        apply: The adapter's export: members with their weights, scales and module paths.
        objectives: Every reward's description of itself.
        neutral_label: The neutral setting that the gain is measured against.
        gain: The paired difference on test prompts and fresh seeds; None if nobody has measured it.
        by_steps: Scores and gains at every compared number of steps.
        watched: What calibrating changed on watched prompts, by set and objective; a loss is a negative gain.
        provenance: Run, versions and configuration.
    """

    schema_version: Literal[1] = 1
    backbone: dict[str, Any]
    num_steps: Steps | None = None
    setting: dict[str, Finite]
    apply: dict[str, Any] = Field(default_factory=dict)
    objectives: dict[str, dict[str, Any]] = Field(default_factory=dict)
    neutral_label: str = ""
    gain: GainRecord | None = None
    by_steps: tuple[StepsRecord, ...] = ()
    watched: tuple[WatchedRecord, ...] = ()
    provenance: Provenance

    @property
    def told_gain(self) -> str:
        """The gain with its interval as text, such as `+0.101 [+0.078, +0.125]`, or `not measured`."""
        return "not measured" if self.gain is None else self.gain.told

    @property
    def identity(self) -> str:
        """The digest of the run that found it; of its values if no run did."""
        return self.provenance.digest or _checksum(self._values())

    def _values(self) -> dict[str, Any]:
        """Return the values of the file; `watched` only if anything was, and what is made only if not usual."""
        values: dict[str, Any] = plain(self.model_dump(), "the calibration", CalibrationError)
        for key, usual in _USUAL.items():
            if values["provenance"].get(key) == usual:
                del values["provenance"][key]
        return {key: value for key, value in values.items() if key != "watched" or value}

    def save(self, path: Path) -> None:
        """Write the file atomically, whole or not at all, with a checksum of its values.

        Raises:
            CalibrationError: If it cannot be written.
        """
        values = self._values()
        first = {"schema_version": values["schema_version"], CHECKSUM: _checksum(values)}
        values = {**first, **values}  # near the top, on its own line, so that a user can delete it
        write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a calibration file. A file without a checksum is accepted as it is.

        Raises:
            CalibrationError: If the file cannot be read, is no calibration, has a newer schema, or does not match its
                checksum.
        """
        values = _values_of(path)
        version = values.get("schema_version") if isinstance(values, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise CalibrationError(
                f"{path} has schema version {version}, this trimpot reads up to {SCHEMA_VERSION}; upgrade trimpot"
            )
        sealed = isinstance(values, dict) and CHECKSUM in values
        stated = values.pop(CHECKSUM) if sealed else None
        try:
            calibration = cls.model_validate(values)
        except ValidationError as error:
            raise CalibrationError(f"{path} is not a calibration: {first_mistake(error, 'the file')}") from None
        gains = {"gain": calibration.gain} if calibration.gain else {}
        for index, each in enumerate(calibration.by_steps):
            gains[f"by_steps.{index}.gain"] = each.gain
            gains[f"by_steps.{index}.gain_at_calibrated_steps"] = each.gain_at_calibrated_steps
        gains |= {f"watched.{index}.gain": each.gain for index, each in enumerate(calibration.watched)}
        for key, gain in gains.items():
            if not gain.holds():
                raise CalibrationError(
                    f"{path} is not a calibration: {key}: the mean {gain.mean} lies outside of its interval from "
                    f"{gain.low} to {gain.high}"
                )
        if sealed and stated != _checksum(values):
            raise CalibrationError(
                f"{path} is not as it was written, by damage or by hand: its {CHECKSUM} does not match; copy the "
                f"file of its run again, or delete the line {CHECKSUM!r} to use the file as it is"
            )
        return calibration


def _checksum(values: dict[str, Any]) -> str:
    """Hash a file's values, independent of indentation, of the order of keys, and of writing 1 or 1.0."""
    return digest(_canonical(values))


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_canonical(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _values_of(path: str | Path) -> Any:
    """Read the values of a JSON file that gives no key twice and has only finite numbers.

    Raises:
        CalibrationError: If the file cannot be read, or is no such JSON.
    """
    text = ""
    try:
        text = _bytes_of(path).decode("utf-8-sig")
        values = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_number, parse_float=_finite)
        plain(values, "it", _NotACalibrationError)
        json.dumps(values, ensure_ascii=False).encode()  # half of a surrogate pair cannot be shown to anybody
    except _NotACalibrationError as error:
        raise CalibrationError(f"{path} is not a calibration: {error}") from None
    except UnicodeError:
        raise CalibrationError(f"{path} is not a calibration: it is not JSON, which is text in UTF-8") from None
    except RecursionError:
        raise CalibrationError(f"{path} is not a calibration: it is nested too deep") from None
    except ValueError:
        why = "it is not JSON" if text.strip() else "it is not JSON, it is empty"
        raise CalibrationError(f"{path} is not a calibration: {why}") from None
    return values


def _bytes_of(path: str | Path) -> bytes:
    """Read the bytes of a regular file; a device, which may never end, is refused.

    Raises:
        CalibrationError: If the file cannot be read, is not regular, or is too large.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise CalibrationError(f"cannot read a calibration of {short(path)}; give the path of its file")
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise CalibrationError(f"cannot read the calibration {path}: it is a folder; name the file in it")
        if not stat.S_ISREG(mode):
            raise CalibrationError(f"cannot read the calibration {path}: it is a device or a pipe; copy it into a file")
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise CalibrationError(f"cannot read the calibration {path}: {error.strerror}") from None
    except ValueError:  # a zero byte, or half of a surrogate pair
        raise CalibrationError(f"cannot read the calibration {short(str(path))}: no file has such a name") from None
    if len(content) > LARGEST_FILE:
        raise CalibrationError(f"{path} is not a calibration: it has more than {LARGEST_FILE >> 20} MiB")
    return content


class _NotACalibrationError(CalibrationError):
    """A fault in a file, raised before the file's name is known."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NotACalibrationError(f"the key {twice[:60]!r} is given twice")
    return values


def _refuse_number(text: str) -> NoReturn:
    raise _NotACalibrationError(f"it holds {text[:60]}, where numbers must be finite")


def _finite(text: str) -> float:
    value = float(text)
    if abs(value) > LARGEST:
        _refuse_number(text)
    return value


def calibration_of(run: Run, outcome: Outcome, totals: dict[str, Any]) -> Calibration:
    """Make the artifact of a finished run.

    Args:
        run: The run.
        outcome: The run's result.
        totals: The store's `digest`, `num_evaluations` and `num_images`.
    """
    first = outcome.comparisons[0]
    return Calibration(
        backbone=run.description["adapter"],
        num_steps=run.adapter.num_steps,
        setting=dict(outcome.calibrated),
        apply=dict(run.adapter.export(outcome.calibrated, outcome.baseline.setting)),
        objectives={**run.description["objectives"], **run.watching},
        neutral_label=first.baseline.label,
        gain=GainRecord.of(first.gain),
        by_steps=tuple(
            StepsRecord(
                num_steps=each.num_steps,
                neutral_label=each.baseline.label,
                neutral=each.neutral,
                calibrated=each.calibrated,
                gain=GainRecord.of(each.gain),
                gain_at_calibrated_steps=GainRecord.of(each.gain_at_calibrated_steps),
            )
            for each in outcome.comparisons
        ),
        watched=tuple(
            WatchedRecord(
                prompts=each.prompts,
                objective=own_name(each.objective, each.prompts),
                neutral=each.neutral,
                calibrated=each.calibrated,
                gain=GainRecord.of(each.gain),
            )
            for each in outcome.watched
        ),
        provenance=Provenance(
            run=run.id,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            makes=run.adapter.makes,
            uses_seed=run.adapter.uses_seed,
            digest=totals["digest"],
            stop_reason=outcome.stop_reason,
            num_evaluations=totals["num_evaluations"],
            num_images=totals["num_images"],
            versions=dict(run.versions),
            config=run.config.model_dump(mode="json"),
        ),
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        CalibrationError: If it cannot be written; nothing half-written is left.
    """
    folders.write_text(path, text, error=CalibrationError)
