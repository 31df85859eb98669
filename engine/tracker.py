"""Where the curves of runs are shown: experiment trackers such as TensorBoard, behind one small interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .knobs import Vector

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker sees it.

    Attributes:
        id: A name that no other run has, not even one of another store; the same whenever the run goes on.
        name: The run's name in its store.
        config: The configuration of the run, and facts of its backbone, JSON-like.
        folder: The run's folder, for trackers that write files.
    """

    id: str
    name: str
    config: Mapping[str, Any]
    folder: Path


class Tracker(ABC):
    """Shows the curves of one run at a time.

    A tracker may raise anything, and may take its time: a run waits for it a minute at most, then it gets no more, and
    the run goes on. All methods are called in one thread.

    Example:
        >>> class Printed(Tracker):
        ...     def begin(self, run):
        ...         return {}
        ...     def log(self, values, step):
        ...         print(step, *(f"{name} {value:.3f}" for name, value in values.items()))
    """

    @abstractmethod
    def begin(self, run: TrackedRun) -> Mapping[str, int] | int:
        """Open a run, or open it again after it was resumed.

        Returns:
            The last step at which each curve has a point, so that none gets a point twice; or one number for all
            curves. Empty, or -1, if the run is new to the tracker.
        """

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each curve.

        Args:
            values: Curve name to value; names have groups, as in `search/mean`.
            step: The place on the x axis: how many images the search has made.
        """

    def log_spread(self, name: str, values: Vector, step: int) -> None:  # noqa: B027  # not every tracker has them
        """Add a histogram of values, such as the scales of one kind of site, shape (num_values,)."""

    def log_picture(self, name: str, picture: Image, caption: str, step: int) -> None:  # noqa: B027
        """Add a picture."""

    def summarize(self, values: Mapping[str, float], step: int) -> None:
        """Show the results of the finished run."""
        self.log(values, step)

    def end(self, finished: bool) -> None:  # noqa: B027
        """Close the run. It may be opened again later.

        Args:
            finished: Whether the run has its result; False if it stopped early.
        """
