"""The diversity of pictures of the shapes world: how far apart pictures of one caption are in what it leaves open.

A caption says which objects there are, and perhaps their sizes and relation. It leaves open where exactly they lie, how
large and how strongly coloured they are, and how light the background is. These four are measured by the checker and
compared picture by picture, in units of their range; an object is compared with the other picture's object of the same
colour that lies best for all of them together. What only one picture shows is not compared: an object that is missing
is a mistake and no diversity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment

from ...engine.seams import Objective, Output
from ...ground.errors import ScoreError
from ..images import PICTURES
from . import drawing
from .checker import Thing, find_things, hue_match, picture_of
from .scenes import Scene, parse

Array = NDArray[np.float64]
CONVENTION = 1  # increased whenever a change of the measure changes a score


class Look(NamedTuple):
    """What of a picture is compared.

    Attributes:
        objects: For each item of the caption, the objects of its colour: x, y and radius as shares of the picture's
            side, and chroma; shape (num_objects, 4).
        ground: The mean lightness of the background.
    """

    objects: tuple[Array, ...]
    ground: float


class ShapesDiversity(Objective):
    """The mean distance of a picture to the other pictures of its caption, from 0 to 1 (see this module)."""

    reads = PICTURES
    scores_sets = True

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score each picture against the other pictures of its prompt. See `Objective.score`.

        Raises:
            ScoreError: If a prompt has only one picture.
        """
        scores = np.empty(len(outputs))
        for prompt in dict.fromkeys(prompts):
            places = [place for place, other in enumerate(prompts) if other == prompt]
            if len(places) < 2:
                raise ScoreError(
                    f"{prompt!r} has only one picture, but diversity compares pictures: give it two seeds or more"
                )
            scene = parse(prompt)
            looks = [look_of(outputs[place], scene) for place in places]
            for place, mine in zip(places, looks, strict=True):
                scores[place] = sum(distance(mine, other) for other in looks if other is not mine) / (len(looks) - 1)
        return scores

    def describe(self) -> dict[str, object]:
        """Describe the version of the measure and the range. See `Objective.describe`."""
        return {"convention": CONVENTION, "range": [0, 1]}


def look_of(image: Image.Image, scene: Scene) -> Look:
    """Measure what of a picture is compared with the other pictures of its scene."""
    pixels = picture_of(image)
    things, _ = find_things(pixels)
    wanted = [(item.colour, item.count) for item in scene.items]
    ring = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return Look(tuple(_objects(things, colour, count) for colour, count in wanted), float(np.median(ring.mean(axis=1))))


def _objects(things: Sequence[Thing], colour: str, count: int) -> Array:
    """Return the largest objects of a colour, as many as are wanted at most, shape (num_objects, 4)."""
    mine = sorted((thing for thing in things if hue_match(thing, colour) > 0), key=lambda thing: -thing.area)[:count]
    side = drawing.SIZE
    return np.array([(thing.x / side, thing.y / side, thing.radius / side, thing.chroma) for thing in mine]).reshape(
        -1, 4
    )


def distance(one: Look, two: Look) -> float:
    """Return the distance of two pictures of a scene: the mean of four differences, each from 0 to 1.

    They are those of place, of size, of colour strength and of the background's lightness.
    """
    places, sizes, strengths = list[float](), list[float](), list[float]()
    for mine, others in zip(one.objects, two.objects, strict=True):
        apart = np.linalg.norm(mine[:, None, :2] - others[None, :, :2], axis=2) / np.sqrt(2)
        rows, columns = linear_sum_assignment(apart)
        places += apart[rows, columns].tolist()
        difference = np.abs(mine[rows, 2:] - others[columns, 2:])
        sizes += (2 * difference[:, 0]).tolist()  # a radius is at most half of the side
        strengths += difference[:, 1].tolist()
    parts = [float(np.mean(each)) if each else 0.0 for each in (places, sizes, strengths)]
    return float(np.clip([*parts, abs(one.ground - two.ground)], 0, 1).mean())
