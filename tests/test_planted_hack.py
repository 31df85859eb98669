"""A planted hack on the model that ships: a reward that pays for dark pixels is heard while the search runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from closed_form import Notes
from trimpot.engine.alarm import Alarm
from trimpot.engine.run import Run
from trimpot.runs.session import start
from trimpot.setup.config import load_config

SMALL = [
    "objectives={dark-share: {}, shapes: {weight: 0}}",
    "adapter.guidance_grid=[3]",
    "adapter.granularity=block",
    "optimizer.sigma0=0.3",
    "optimizer.population_size=16",
    "optimizer.mirrored=false",
    "group_size=null",
    "generations=4",
    "bucket_size=8",
    "validation.num_prompts=48",
    "validation.every=2",
    "test.num_prompts=2",
    "by_steps.steps=[]",
    "workers=1",
]


class Ear(Notes):
    """Stops the run at the first alarm."""

    alarm: Alarm | None = None

    def alarm_raised(self, run: Run, alarm: Alarm) -> None:
        self.alarm = alarm
        raise KeyboardInterrupt


@pytest.mark.slow
def test_paying_for_darkness_sets_the_alarm_off_on_the_shipped_model(tmp_path: Path) -> None:
    """The pictures get darker and no longer show what was asked for."""
    ear = Ear()
    with pytest.raises(KeyboardInterrupt):
        start(load_config("shapes", SMALL), tmp_path, (ear,))
    assert ear.alarm is not None and ear.alarm.objective == "shapes"
    assert ear.alarm.change < -1 and ear.alarm.gain > 0
