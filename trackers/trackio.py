"""Trackio: a database on this machine, or a Space of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..engine.knobs import Vector
from ..engine.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    from PIL.Image import Image


class Trackio(Tracker):
    """Logs to trackio.

    Args:
        project: The project.
        space: The Space to log to, as `owner/name`; None logs on this machine.
    """

    def __init__(self, project: str, space: str | None = None) -> None:
        self._project, self._space = project, space
        self._run: Any = None

    def begin(self, run: TrackedRun) -> Mapping[str, int] | int:
        """See `Tracker.begin`."""
        import trackio

        self._run = trackio.init(
            project=self._project,
            name=run.id,  # by which trackio finds the run again
            space_id=self._space,
            config={"run": run.name, **run.config},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        if self._space is not None:
            return int(getattr(self._run, "_next_step", 0)) - 1
        from trackio.sqlite_storage import SQLiteStorage

        last: dict[str, int] = {}
        for row in SQLiteStorage.get_logs(self._project, run.id):
            for name in row:
                last[name] = max(last.get(name, -1), row["step"])
        return last

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`."""
        self._run.log(dict(values), step=step)

    def log_spread(self, name: str, values: Vector, step: int) -> None:
        """See `Tracker.log_spread`."""
        import trackio

        self._run.log({name: trackio.Histogram(values)}, step=step)

    def log_picture(self, name: str, picture: Image, caption: str, step: int) -> None:
        """See `Tracker.log_picture`."""
        import trackio

        self._run.log({name: trackio.Image(picture, caption=caption)}, step=step)

    def end(self, finished: bool) -> None:
        """See `Tracker.end`."""
        if self._run is not None:
            self._run.finish()
