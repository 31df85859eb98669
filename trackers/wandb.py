"""Weights & Biases, online or offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.knobs import Vector
from ..engine.tracker import TrackedRun, Tracker
from ..ground.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

SECONDS_TO_BEGIN = 45.0  # shorter than the time that a run waits


class WeightsAndBiases(Tracker):
    """Logs to Weights & Biases. Its step is the number of images.

    Args:
        project: The project.
        entity: The user or team; None takes the user's own.
        mode: `online`, or `offline` to write files for `wandb sync`.
        folder: The folder of its files; None writes into the run's folder in the store.
    """

    def __init__(self, project: str, entity: str | None, mode: str, folder: Path | None) -> None:
        self._project, self._entity, self._mode, self._folder = project, entity, mode, folder
        self._run: Any = None

    def begin(self, run: TrackedRun) -> int:
        """See `Tracker.begin`. A run that is resumed offline is written again as a whole, since nothing can be asked.

        Raises:
            ConfigError: If nobody is logged in; wandb itself would ask on the terminal, and the run would wait.
        """
        import wandb

        if self._mode == "online" and not wandb.login(prompt=False, verify=False):
            raise ConfigError("nobody is logged in; run `wandb login`, or set trackers.wandb.mode=offline")
        folder = self._folder or run.folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(console="off", init_timeout=SECONDS_TO_BEGIN)
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            id=run.id,
            name=run.name,
            dir=str(folder),
            config=dict(run.config),
            mode=self._mode,
            resume="allow" if self._mode == "online" else None,
            settings=settings,
        )
        return int(self._run.step) - 1 if self._run.resumed else -1

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`."""
        self._run.log(dict(values), step=step)

    def log_spread(self, name: str, values: Vector, step: int) -> None:
        """See `Tracker.log_spread`."""
        import wandb

        self._run.log({name: wandb.Histogram(values.tolist())}, step=step)

    def log_picture(self, name: str, picture: Image, caption: str, step: int) -> None:
        """See `Tracker.log_picture`."""
        import wandb

        self._run.log({name: wandb.Image(picture, caption=caption)}, step=step)

    def summarize(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.summarize`. The results are the run's summary too."""
        self.log(values, step)
        self._run.summary.update(dict(values))

    def end(self, finished: bool) -> None:
        """See `Tracker.end`."""
        if self._run is not None:
            self._run.finish(exit_code=0 if finished else 1)
