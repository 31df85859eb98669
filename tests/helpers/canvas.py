"""A backbone that paints, with an honest reward and a planted hack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from closed_form import SMALL, hill_plugin
from numpy.typing import NDArray
from PIL import Image
from trimpot.engine.bucket import Bucket
from trimpot.engine.hooks import hookimpl
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.run import Run
from trimpot.engine.seams import Adapter, Objective
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins

HACK = {"darkness": {}, "likeness": {"weight": 0}}


def disc(prompt: str, aside: float = 0.0) -> NDArray[np.float64]:
    """The picture that a prompt asks for, levels from 0 to 1: a disc of its own size on grey, in the middle."""
    rows, columns = np.mgrid[:16, :16] - 7.5
    columns = columns - aside
    return 0.35 + 0.4 * (np.hypot(rows, columns) < 3 + int(prompt.split()[1]) % 5)


class Canvas(Adapter):
    """Discs: one knob puts them in the middle, another makes less light."""

    makes = "image"
    space = KnobSpace([Knob("aim"), Knob("light")])

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[Image.Image]]:
        for aim, light in population:
            pictures = []
            for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True):
                noise = np.random.default_rng(seed).normal(scale=0.03, size=(16, 16))
                level = np.clip((disc(prompt, 5 * (aim - 1.4)) + noise) * light, 0, 1)
                pictures.append(Image.fromarray(np.rint(255 * level).astype(np.uint8)))
            yield pictures

    def describe(self) -> dict[str, Any]:
        return {"id": "canvas"}


class Darkness(Objective):
    """The planted hack: pays for black pictures."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([1 - np.asarray(picture).mean() / 255 for picture in outputs])


class Likeness(Objective):
    """An honest reward: how near a picture is to what was asked for."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        pairs = zip(outputs, prompts, strict=True)
        return np.array([-np.abs(np.asarray(picture) / 255 - disc(prompt)).mean() for picture, prompt in pairs])


class Rewards:
    """Names both."""

    @hookimpl
    def register_objectives(self, register: Any) -> None:
        for name, made in {"darkness": Darkness, "likeness": Likeness}.items():
            register(name, lambda made=made: made())


def canvas_plugins(adapter: Adapter | None = None) -> Plugins:
    """Everything that is built in, the canvas as `hill`, and both rewards."""
    known = Plugins()
    known.add(hill_plugin(adapter or Canvas()), name="hill-plugin", origin="tests")
    known.add(Rewards(), name="rewards", origin="tests")
    return known


def canvas_config(objectives: Any, seed: int = 0, **config: Any) -> dict[str, Any]:
    """Enough of a search to get somewhere."""
    validation = {"num_prompts": 20, "every": 4}
    return {**SMALL, "objectives": objectives, "generations": 20, "seed": seed, "validation": validation, **config}


def canvas_run(objectives: Any, seed: int = 0, **config: Mapping[str, Any]) -> Run:
    """An assembled run."""
    asked = load_config(canvas_config(objectives, seed, **config))
    return replace(assemble("", asked, canvas_plugins()), id="hill-1")
