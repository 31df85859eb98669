"""What trackers have of a run, read back with their own readers; and trackers that fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trimpot.engine.hooks import hookimpl
from trimpot.engine.tracker import TrackedRun, Tracker

Curves = dict[str, list[tuple[int, float]]]


def of_tensorboard(folder: Path) -> Curves:
    """The curves in the event files of a folder, with every point that is there, and pictures as points of 0."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "histograms", "images"), 0))
    events.Reload()
    tags = events.Tags()
    curves = {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in tags["scalars"]}
    curves |= {tag: [(each.step, 0.0) for each in events.Histograms(tag)] for tag in tags["histograms"]}
    return curves | {tag: [(each.step, 0.0) for each in events.Images(tag)] for tag in tags["images"]}


def of_trackio(project: str) -> Curves:
    """The curves of the only run of a project."""
    from trackio.sqlite_storage import SQLiteStorage

    [run] = SQLiteStorage.get_run_records(project)
    curves: Curves = {}
    for row in SQLiteStorage.get_logs(project, run["name"]):
        for name in set(row) - {"step", "timestamp"}:
            value = row[name] if isinstance(row[name], float) else 0.0
            curves.setdefault(name, []).append((row["step"], value))
    return curves


class Noted(Tracker):
    """Notes what it is given, for all runs together."""

    def __init__(self) -> None:
        self.runs: list[TrackedRun] = []
        self.curves: Curves = {}
        self.ends: list[bool] = []

    def begin(self, run: TrackedRun) -> Mapping[str, int]:
        self.runs.append(run)
        return {name: points[-1][0] for name, points in self.curves.items()}

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.curves.setdefault(name, []).append((step, value))

    def log_spread(self, name: str, values: Any, step: int) -> None:
        self.log({name: 0.0}, step)

    def log_picture(self, name: str, picture: Any, caption: str, step: int) -> None:
        self.log({name: 0.0}, step)

    def end(self, finished: bool) -> None:
        self.ends.append(finished)


METHODS = ("begin", "log", "log_spread", "log_picture", "summarize", "end")


def _no_disk() -> None:
    raise OSError(28, "No space left on device")


def _exits() -> None:
    raise SystemExit(3)


def _hangs() -> None:
    time.sleep(3)


FAULTS: dict[str, tuple[Callable[[], None], str]] = {
    "raises": (_no_disk, "No space left on device"),
    "exits": (_exits, "SystemExit: 3"),
    "hangs": (_hangs, "did not answer for"),
}


def failing(method: str, fault: Callable[[], None]) -> Noted:
    """A tracker that fails whenever one of its methods is called."""
    tracker = Noted()

    def fail(*_: Any, **__: Any) -> Any:
        fault()
        return {}

    setattr(tracker, method, fail)
    return tracker


def tracker_plugin(**trackers: Tracker) -> object:
    """A plugin that names trackers."""

    class Plugin:
        @hookimpl
        def register_trackers(self, register: Any) -> None:
            for name, tracker in trackers.items():
                register(name, lambda tracker=tracker: tracker)

    return Plugin()
