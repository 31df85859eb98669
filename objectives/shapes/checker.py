"""The reward of the shapes world: whether a picture shows the objects of its caption, and shows them clearly.

The checker uses classical vision, without learning or gradients. It finds objects by their colour: backgrounds are
nearly grey, so distance in the plane of opponent colours separates objects from them. It compares each connected
component with the objects of the caption, and computes

    score = faithful * (FLOOR + (1 - FLOOR) * vivid * crisp * clean)

    faithful   (mean over the wanted objects of colour * shape * size) ** 1.5, times factors for count and relation
    vivid      the chroma of the objects, relative to the palette
    crisp      the steepness of the objects' edges
    clean      the evenness and greyness of the background

Every factor lies in [0, 1] and is graded, so a small improvement of a picture improves its score a little. `strict` is
the yes-or-no version of `faithful`, and ignores quality.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage

from . import drawing
from .scenes import COLOURS, SHAPES, Item, Scene, parse

Array = NDArray[np.float64]

#: The score of a faithful picture that is not vivid, crisp or clean at all.
FLOOR = 0.1
#: RGB -> the plane of opponent colours: every grey is the origin, the angle is hue and the length is chroma.
_OPPONENT = np.array([[1.0, 0.0], [-0.5, 3**0.5 / 2], [-0.5, -(3**0.5) / 2]])
_HUES = {name: float(np.degrees(np.arctan2(*(np.array(rgb) @ _OPPONENT)[::-1]))) for name, rgb in COLOURS.items()}
_CHROMAS = {name: float(np.hypot(*(np.array(rgb) @ _OPPONENT))) for name, rgb in COLOURS.items()}
_SMALLEST_AREA = 6
_GRID = 15
_RING = np.ones((drawing.SIZE, drawing.SIZE), dtype=bool)
_RING[1:-1, 1:-1] = False


@dataclass(frozen=True)
class Thing:
    """A coloured component: lengths are in pixels, `hue` in degrees; `distances` are to the shapes' templates."""

    x: float
    y: float
    radius: float
    area: float
    hue: float
    chroma: float
    edge: float
    distances: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """The checker's result for one picture; all numbers lie in [0, 1], and higher is better."""

    score: float
    strict: bool
    faithful: float
    objects: float
    count: float
    relation: float
    vivid: float
    crisp: float
    clean: float


def check(image: Image.Image | ArrayLike, prompt: str) -> Verdict:
    """Score a picture against its caption.

    Args:
        image: A PIL image, or an (H, W, 3) uint8 array; a picture of another size is resized to 32 x 32.
        prompt: A scene caption, such as "a red circle left of a blue square".

    Raises:
        ValueError: If the prompt is no scene caption, or the array is not (H, W, 3) uint8.
    """
    scene = parse(prompt)
    things, clean = find_things(picture_of(image))
    return judge(things, clean, scene)


def picture_of(image: Image.Image | ArrayLike) -> Array:
    """Return a picture as the checker sees it, of shape (32, 32, 3) in [0, 1].

    Raises:
        ValueError: If an array is not (H, W, 3) uint8.
    """
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(f"the checker takes (H, W, 3) uint8 pictures, not {array.shape} {array.dtype}")
    if array.shape[:2] != (drawing.SIZE, drawing.SIZE):
        small = Image.fromarray(array).resize((drawing.SIZE, drawing.SIZE), Image.Resampling.BOX)
        array = np.asarray(small)
    return array / 255.0


def find_things(pixels: Array) -> tuple[list[Thing], float]:
    """Find the coloured objects of a picture of shape (32, 32, 3) in [0, 1].

    Returns:
        The objects, and the cleanness of the background around them, in [0, 1].
    """
    colour = pixels @ _OPPONENT
    tint = np.median(colour[_RING], axis=0)
    offset = colour - tint
    strength = np.sqrt(offset[..., 0] ** 2 + offset[..., 1] ** 2)
    # The strongest 2 % of pixels set the scale: the smallest object covers 3 %, and in a dull picture all objects
    # are equally weak.
    strongest = float(np.partition(strength, -20, axis=None)[-20])
    mask = strength > max(0.5 * strongest, 0.05)
    labels, _ = ndimage.label(mask)
    things = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        if np.count_nonzero(labels[rows, columns] == index) >= _SMALLEST_AREA:
            things.append(_measure(colour, strength, labels == index, labels == 0, rows, columns))
    near = ndimage.maximum_filter(mask, size=5)
    return things, _cleanness(pixels, near, tint)


def _measure(
    colour: Array,
    strength: Array,
    mine: NDArray[np.bool_],
    nobodys: NDArray[np.bool_],
    rows: slice,
    columns: slice,
) -> Thing:
    """Measure a component, given its pixels, the pixels of no component, and its bounding box."""
    top, left = max(rows.start - 2, 0), max(columns.start - 2, 0)
    around = (slice(top, rows.stop + 2), slice(left, columns.stop + 2))
    near, inside = strength[around], mine[around]
    values = np.sort(near[inside])
    peak = float(values[len(values) // 2 :].mean())
    cover = np.minimum(near / peak, 1.0) * (inside | nobodys[around])
    cover[cover < 0.15] = 0.0
    area = float(cover.sum())
    by_row, by_column = cover.sum(axis=1), cover.sum(axis=0)
    y = float(by_row @ np.arange(len(by_row))) / area
    x = float(by_column @ np.arange(len(by_column))) / area
    # The ratio of squared slopes to slopes is 1 for a step from one pixel to the next, 1/w for a ramp of w pixels.
    down, right = np.abs(np.diff(cover, axis=0)), np.abs(np.diff(cover, axis=1))
    slope = float(down.sum() + right.sum())
    edge = float((down**2).sum() + (right**2).sum()) / max(slope, 1e-9)
    a, b = colour[around][inside].mean(axis=0)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    sample = _normalised(cover, y, x, area)
    templates, masses = _templates()[_size_class(area)]
    distances = np.abs(templates - sample).sum(axis=1) / masses
    return Thing(
        x=x + left,
        y=y + top,
        radius=float(np.sqrt(height * width)) / 2,
        area=area,
        hue=float(np.degrees(np.arctan2(b, a))),
        chroma=peak,
        edge=edge,
        distances=tuple(distances.tolist()),
    )


_AXIS = np.linspace(-0.95, 0.95, _GRID)
_GRID_Y, _GRID_X = (axis.ravel() for axis in np.meshgrid(_AXIS, _AXIS, indexing="ij"))


def _normalised(cover: Array, y: float, x: float, area: float) -> Array:
    """Sample a cover around its centroid in units of sqrt(area), shape (225,), independent of position and size."""
    root = area**0.5
    return np.asarray(
        ndimage.map_coordinates(cover, (_GRID_Y * root + y, _GRID_X * root + x), order=1, mode="constant"),
        dtype=np.float64,
    )


def _size_class(area: float) -> int:
    return 0 if area < 60 else 1 if area < 160 else 2


@lru_cache(maxsize=1)
def _templates() -> tuple[tuple[Array, Array], ...]:
    """Return for each of three size classes the mean normalised cover of every shape, (6, 225), and its mass, (6,).

    The size classes are needed because small objects look rounder than large ones: their corners are as small as a
    pixel.
    """
    rng = np.random.default_rng(0)
    classes = []
    for low, high in ((4.2, 5.4), (5.0, 8.6), (8.0, 13.0)):
        looks = []
        for shape in SHAPES:
            samples = []
            for radius in np.linspace(low, high, 24):
                x, y = 16 + rng.uniform(-0.5, 0.5, size=2)
                thing = drawing.Placed(shape, float(x), float(y), float(radius), (1.0, 1.0, 1.0))
                cover = drawing.render([thing], (0.0, 0.0, 0.0))[..., 0].astype(np.float64)
                cover[cover < 0.15] = 0.0
                rows, columns = cover.sum(axis=1), cover.sum(axis=0)
                area, steps = float(cover.sum()), np.arange(drawing.SIZE)
                samples.append(_normalised(cover, float(rows @ steps) / area, float(columns @ steps) / area, area))
            looks.append(np.mean(samples, axis=0))
        classes.append((np.stack(looks), np.stack(looks).sum(axis=1)))
    return tuple(classes)


def _cleanness(pixels: Array, near: NDArray[np.bool_], tint: Array) -> float:
    free = pixels[~near]
    if len(free) < 20:
        free = pixels[_RING]
    spread = float(free.mean(axis=1).std())
    level = float(free.mean())
    # A clean background is nearly white or black. A middle grey costs up to 45 %, unevenness and tint up to all.
    middling = min(level, 1.0 - level)
    even = np.exp(-((max(spread - 0.012, 0.0) / 0.07) ** 1.0))
    colourless = np.exp(-max(float(np.hypot(*tint)) - 0.015, 0.0) / 0.12)
    return float(even * colourless * (1.0 - 0.45 * _ramp(middling, 0.12, 0.45)))


def _ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high` on, and a linear ramp in between (also for low > high)."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def hue_match(thing: Thing, colour: str) -> float:
    """Return how well an object's hue is that of a colour's name, from 0 to 1."""
    away = abs((thing.hue - _HUES[colour] + 180.0) % 360.0 - 180.0)
    return _ramp(away, 27.0, 9.0)


def _shape_match(thing: Thing, shape: str) -> float:
    wanted = SHAPES.index(shape)
    mine = thing.distances[wanted]
    rival = min(distance for index, distance in enumerate(thing.distances) if index != wanted)
    lead = (rival - mine) / (rival + mine)
    return _ramp(lead, -0.3, 0.15) * _ramp(mine, 0.7, 0.3)


def _size_match(thing: Thing, size: str | None, other: Thing | None) -> float:
    if size is None:
        return _ramp(thing.radius, 2.0, 3.6)
    if other is not None:
        ratio = thing.radius / other.radius
        return _ramp(ratio if size == "big" else 1 / ratio, 0.95, 1.3)
    return _ramp(thing.radius, 7.2, 5.8) if size == "small" else _ramp(thing.radius, 8.6, 10.3)


def _match(thing: Thing, item: Item, other: Thing | None) -> float:
    return hue_match(thing, item.colour) * _shape_match(thing, item.shape) * _size_match(thing, item.size, other)


def _holds(relation: str, first: Thing, second: Thing) -> float:
    """Return how clearly a relation holds: the offset along its axis must be positive and exceed the other offset."""
    dx, dy = second.x - first.x, second.y - first.y
    along, across = {"left of": (dx, dy), "right of": (-dx, dy), "above": (dy, dx), "below": (-dy, dx)}[relation]
    return _ramp(along, 0.0, 6.0) * _ramp(along - abs(across), -3.0, 2.0)


def judge(things: list[Thing], clean: float, scene: Scene) -> Verdict:
    """Compare the components found with a scene, using the best assignment of components to wanted objects."""
    wanted = [item for item in scene.items for _ in range(item.count)]
    relation, chosen, matches = 1.0, list[Thing](), list[float]()
    if len(scene.items) == 1:
        item = scene.items[0]
        ranked = sorted(((_match(thing, item, None), thing) for thing in things), key=lambda pair: -pair[0])
        matches = [match for match, _ in ranked[: item.count]]
        chosen = [thing for _, thing in ranked[: item.count]]
    else:
        best = -1.0
        largest = sorted(things, key=lambda thing: -thing.area)[:5]
        for first, second in permutations(largest, 2):
            pair = [_match(first, scene.items[0], second), _match(second, scene.items[1], first)]
            if sum(pair) > best:
                best, matches, chosen = sum(pair), pair, [first, second]
        if best < 0:
            matches, chosen = [_match(thing, scene.items[0], None) for thing in things], things
            relation = 0.0 if scene.relation else 1.0
        elif scene.relation:
            relation = _holds(scene.relation, chosen[0], chosen[1])
    objects = sum(matches) / len(wanted)
    typical = float(np.median([thing.area for thing in chosen])) if chosen else 1.0
    extra = sum(min(thing.area / (0.5 * typical), 1.0) for thing in things if thing not in chosen)
    count = 0.6**extra
    faithful = objects**1.5 * count * (0.25 + 0.75 * relation)
    vivid = crisp = 0.0
    if chosen:
        names = [item.colour for item in wanted]
        vivid = float(np.mean([_vividness(t, name) for t, name in zip(chosen, names, strict=False)]))
        crisp = float(np.mean([_crispness(t) for t in chosen]))
    score = faithful * (FLOOR + (1 - FLOOR) * vivid * crisp * clean)
    strict = (
        len(chosen) == len(wanted)
        and extra < 0.5
        and (scene.relation is None or _strictly(scene.relation, chosen))
        and all(_exact(t, item, chosen) for t, item in zip(chosen, wanted, strict=True))
    )
    return Verdict(score, strict, faithful, objects, count, relation, vivid, crisp, clean)


def _vividness(thing: Thing, colour: str) -> float:
    return _ramp(thing.chroma / _CHROMAS[colour], 0.12, 0.92)


def _crispness(thing: Thing) -> float:
    return _ramp(thing.edge, 0.15, 0.46)


def _strictly(relation: str, chosen: list[Thing]) -> bool:
    return _holds(relation, chosen[0], chosen[1]) > 0.5


def _exact(thing: Thing, item: Item, chosen: list[Thing]) -> bool:
    nearest = min(_HUES, key=lambda name: abs((thing.hue - _HUES[name] + 180.0) % 360.0 - 180.0))
    other = next((t for t in chosen if t is not thing), None) if item.size and len(chosen) == 2 else None
    return (
        nearest == item.colour
        and int(np.argmin(thing.distances)) == SHAPES.index(item.shape)
        and _size_match(thing, item.size, other) > 0.45
    )
