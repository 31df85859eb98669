"""TensorBoard: event files in a folder, written by PyTorch's writer and read by TensorBoard's own reader."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.knobs import Vector
from ..engine.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    from PIL.Image import Image

_KINDS = ("scalars", "histograms", "images")


class TensorBoard(Tracker):
    """Writes event files.

    Args:
        folder: The folder in which each run gets a folder of its own; None writes into the run's folder in the store.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._asked = folder
        self._writer: Any = None
        self._config: dict[str, Any] = {}

    def begin(self, run: TrackedRun) -> Mapping[str, int]:
        """See `Tracker.begin`."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self._asked / run.id if self._asked else run.folder / "tensorboard"
        known = _last_steps(folder) if folder.exists() else {}
        self._config = dict(_leaves(run.config))
        _wait_for_another_second(folder)
        self._writer = SummaryWriter(str(folder))
        if not known:
            lines = [f"    {name}: {value}" for name, value in self._config.items()]
            self._writer.add_text("configuration", "\n".join(lines))  # indented, so that it is shown as it is
            self._writer.flush()
        return known

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_spread(self, name: str, values: Vector, step: int) -> None:
        """See `Tracker.log_spread`."""
        self._writer.add_histogram(name, values, step)

    def log_picture(self, name: str, picture: Image, caption: str, step: int) -> None:
        """See `Tracker.log_picture`. TensorBoard shows no captions, so the caption is a text of the same name."""
        self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self._writer.add_text(name, caption, step)

    def summarize(self, values: Mapping[str, float], step: int) -> None:
        """Show the results beside the configuration, under HPARAMS. See `Tracker.summarize`."""
        _wait_for_another_second(Path(self._writer.log_dir))  # this makes a file
        self._writer.add_hparams(self._config, dict(values), run_name=".", global_step=step)

    def end(self, finished: bool) -> None:
        """See `Tracker.end`."""
        if self._writer is not None:
            self._writer.close()


def _last_steps(folder: Path) -> dict[str, int]:
    """Return the last step of every curve, histogram and picture in the event files of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sizes = {**dict.fromkeys(_KINDS, 1), "tensors": 1, "compressedHistograms": 1}  # the reader always keeps the last
    events = EventAccumulator(str(folder), size_guidance=sizes)
    events.Reload()
    tags = events.Tags()
    readers = dict(zip(_KINDS, (events.Scalars, events.Histograms, events.Images), strict=True))
    return {tag: read(tag)[-1].step for kind, read in readers.items() for tag in tags[kind]}


def _wait_for_another_second(folder: Path) -> None:
    """Wait until a new event file sorts after those of a folder: names begin with the second, and are read in order."""
    seconds = [each.name.split(".")[3] for each in folder.glob("events.out.tfevents.*")]
    latest = max((int(each) for each in seconds if each.isdecimal()), default=0)
    if time.time() < latest + 1:
        time.sleep(min(latest + 1 - time.time(), 1.0))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value for everything in a configuration, as TensorBoard takes it."""
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _leaves(each, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, (bool, int, float, str)) else str(value)
