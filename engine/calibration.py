"""The artifact: a calibration as a human-readable JSON file."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import CalibrationError
from .loop import Outcome
from .run import Run
from .statistics import Gain

SCHEMA_VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GainRecord(_Model):
    """A paired difference on test prompts with its 95 % interval.

    Files made before prompts were the unit of the interval say nothing of `num_prompts`.
    """

    mean: float
    low: float
    high: float
    num_prompts: int | None = None
    num_images: int

    @classmethod
    def of(cls, gain: Gain) -> GainRecord:
        """Copy a measured gain."""
        return cls(**asdict(gain))


class StepsRecord(_Model):
    """Neutral against calibrated at one number of steps."""

    num_steps: int | None
    neutral_label: str
    neutral: float
    calibrated: float
    gain: GainRecord
    gain_at_calibrated_steps: GainRecord


class Provenance(_Model):
    """Where a calibration comes from."""

    run: str
    created: str
    digest: str
    stop_reason: str
    num_evaluations: int
    num_images: int
    versions: dict[str, str]
    config: dict[str, Any]


class Calibration(_Model):
    """A calibrated setting with everything needed to apply it and to believe it.

    Attributes:
        schema_version: Of this file format.
        backbone: What it belongs to: id, revision or weights digest, class, dtype.
        num_steps: Denoising steps it was calibrated for, and should be used with.
        setting: Knob name to value.
        apply: What to scale, as the adapter exported it: members with their weights, scales and module paths.
        objectives: The rewards as they describe themselves.
        neutral_label: The neutral setting it was measured against.
        gain: The paired difference on test prompts and fresh seeds.
        by_steps: The same at every number of steps that was compared.
        provenance: Run, versions and configuration.
    """

    schema_version: Literal[1] = 1
    backbone: dict[str, Any]
    num_steps: int | None
    setting: dict[str, float]
    apply: dict[str, Any] = Field(default_factory=dict)
    objectives: dict[str, dict[str, Any]]
    neutral_label: str
    gain: GainRecord
    by_steps: tuple[StepsRecord, ...]
    provenance: Provenance

    def save(self, path: Path) -> None:
        """Write atomically: the file is whole or absent.

        Raises:
            CalibrationError: If it cannot be written.
        """
        write_text(path, json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a calibration file.

        Raises:
            CalibrationError: If it cannot be read, is no calibration, or is of a newer schema.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise CalibrationError(f"cannot read the calibration {path}: {error.strerror}") from None
        except ValueError:
            raise CalibrationError(f"{path} is not a calibration: it is not JSON") from None
        version = values.get("schema_version") if isinstance(values, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise CalibrationError(
                f"{path} has schema version {version}, this trimpot reads up to {SCHEMA_VERSION}; upgrade trimpot"
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the file"
            raise CalibrationError(f"{path} is not a calibration: {key}: {first['msg']}") from None


def calibration_of(run: Run, outcome: Outcome, totals: dict[str, Any]) -> Calibration:
    """Make the artifact of a finished run.

    Args:
        run: The run.
        outcome: What it found.
        totals: The store's `digest`, `num_evaluations` and `num_images`.
    """
    first = outcome.comparisons[0]
    return Calibration(
        backbone=run.description["adapter"],
        num_steps=run.adapter.num_steps,
        setting=dict(outcome.calibrated),
        apply=dict(run.adapter.export(outcome.calibrated, outcome.baseline.setting)),
        objectives=run.description["objectives"],
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
        provenance=Provenance(
            run=run.id,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
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
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # where the folder is none, there is nothing to take away
            partial.unlink()
        raise CalibrationError(f"cannot write {path}: {error.strerror}") from None
