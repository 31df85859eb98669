"""Draw pictures of scenes with a small anti-aliased renderer, and add the faults that pictures of the web have.

A picture is 32 x 32 RGB. Coordinates and radii are in pixels of the picture; y grows downwards. Every random choice is
drawn from the given `numpy.random.Generator`, so a seed determines the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .scenes import COLOURS, Scene

SIZE = 32
_OVERSAMPLING = 6
Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Placed:
    """An object on the canvas: centre and radius (half the extent) in pixels, colour as RGB in [0, 1]."""

    shape: str
    x: float
    y: float
    radius: float
    colour: tuple[float, float, float]
    stretch: float = 1.0
    turn: float = 0.0
    bite: float | None = None


@lru_cache(maxsize=16)
def outline(shape: str) -> NDArray[np.float64]:
    """Return the outline of a shape of radius 1, (num_points, 2); shapes of equal radius have similar extents."""
    if shape == "circle":
        angles = np.arange(32) * (2 * np.pi / 32)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if shape == "square":
        return np.array([(-0.92, -0.92), (0.92, -0.92), (0.92, 0.92), (-0.92, 0.92)])
    if shape == "triangle":
        return np.array([(0.0, -1.0), (1.1, 0.95), (-1.1, 0.95)])
    if shape == "diamond":
        return np.array([(0.0, -1.15), (1.0, 0.0), (0.0, 1.15), (-1.0, 0.0)])
    if shape == "star":
        angles = -np.pi / 2 + np.arange(10) * (np.pi / 5)
        radii = np.where(np.arange(10) % 2 == 0, 1.15, 0.46)
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    if shape == "cross":
        w, r = 0.34, 1.0
        corners = [
            (-w, -r),
            (w, -r),
            (w, -w),
            (r, -w),
            (r, w),
            (w, w),
            (w, r),
            (-w, r),
            (-w, w),
            (-r, w),
            (-r, -w),
            (-w, -w),
        ]
        return np.array(corners)
    raise ValueError(f"unknown shape {shape!r}")


def radii_of(scene: Scene, rng: np.random.Generator) -> list[float]:
    """Draw a radius in pixels for every object of a scene, depending on "small", "big" and the number of objects."""
    if len(scene.items) == 2:
        ranges = {None: (5.0, 6.4), "small": (4.3, 4.8), "big": (6.8, 7.8)}
        return [rng.uniform(*ranges[item.size]) for item in scene.items]
    item = scene.items[0]
    if item.count > 1:
        radius = rng.uniform(*{2: (5.0, 6.6), 3: (4.7, 5.8), 4: (4.5, 5.5)}[item.count])
        return [radius * rng.uniform(0.95, 1.05) for _ in range(item.count)]
    return [rng.uniform(*{None: (6.8, 9.4), "small": (4.3, 5.3), "big": (11.0, 13.4)}[item.size])]


def layout(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Place the objects of a scene so that none touch and the relation holds clearly."""
    wanted = [item for item in scene.items for _ in range(item.count)]
    for _ in range(40):
        radii = radii_of(scene, rng)
        if scene.relation is not None:
            centres = _related(scene.relation, radii, rng)
        else:
            centres = [_anywhere(radius, rng) for radius in radii]
        if _fits(centres, radii):
            break
    else:
        if scene.relation is not None:
            raise AssertionError(f"no room for {scene}")
        # The radii of several objects always fit into a quarter of the canvas each.
        quarters = rng.permutation([(8.0, 8.0), (24.0, 8.0), (8.0, 24.0), (24.0, 24.0)])
        centres = [quarters[index] + rng.uniform(-1.2, 1.2, size=2) for index in range(len(radii))]
    return [
        Placed(item.shape, float(x), float(y), radius, _tinged(COLOURS[item.colour], rng))
        for item, (x, y), radius in zip(wanted, centres, radii, strict=True)
    ]


def _anywhere(radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    reach = min(radius * 1.15 + 1.0, SIZE / 2)
    return rng.uniform(reach, SIZE - reach, size=2)


def _related(relation: str, radii: list[float], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    reach = (radii[0] + radii[1]) * 1.1
    gap = reach + rng.uniform(1.7, 3.6)
    # The larger object takes more room, so the pair is centred by its extent, not by its two centres.
    share = (gap + radii[0] - radii[1]) / 2
    slack = max(SIZE - gap - reach - 1.6, 0.0) / 2
    start, end = np.array([-gap + share, 0.0]), np.array([share, 0.0])
    middle = SIZE / 2 + np.array([rng.uniform(-slack, slack), rng.uniform(-4.0, 4.0)])
    lean = np.array([0.0, rng.uniform(-2.5, 2.5)])
    centres = [middle + start - lean, middle + end + lean]
    if relation in ("right of", "below"):
        centres = [SIZE - centre for centre in centres]
    return [centre[::-1] for centre in centres] if relation in ("above", "below") else centres


def _fits(centres: list[NDArray[np.float64]], radii: list[float]) -> bool:
    for index, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        if np.any(centre < radius * 1.12 + 0.8) or np.any(centre > SIZE - radius * 1.12 - 0.8):
            return False
        for other, other_radius in zip(centres[:index], radii[:index], strict=True):
            if np.max(np.abs(centre - other)) < (radius + other_radius) * 1.08 + 1.6:
                return False
    return True


def _tinged(colour: tuple[float, float, float], rng: np.random.Generator) -> tuple[float, float, float]:
    r, g, b = np.clip(np.asarray(colour) + rng.uniform(-0.03, 0.03, size=3), 0.0, 1.0)
    return float(r), float(g), float(b)


def render(placed: list[Placed], background: Picture | tuple[float, float, float]) -> Picture:
    """Draw objects on a background, (32, 32, 3) float32 in [0, 1]."""
    canvas = np.empty((SIZE, SIZE, 3), dtype=np.float32)
    canvas[:] = background
    for thing in placed:
        cover = _cover(thing)[..., None]
        canvas = canvas * (1 - cover) + cover * np.asarray(thing.colour, dtype=np.float32)
    return canvas


def _cover(thing: Placed) -> NDArray[np.float32]:
    """Compute the share of each pixel that an object covers, (32, 32) in [0, 1]."""
    points = outline(thing.shape) * thing.radius * np.array([thing.stretch, 1 / thing.stretch])
    if thing.turn:
        cos, sin = np.cos(thing.turn), np.sin(thing.turn)
        points = points @ np.array([[cos, sin], [-sin, cos]])
    big = Image.new("L", (SIZE * _OVERSAMPLING,) * 2)
    pen = ImageDraw.Draw(big)
    pen.polygon(
        [((x + thing.x) * _OVERSAMPLING - 0.5, (y + thing.y) * _OVERSAMPLING - 0.5) for x, y in points],
        fill=255,
    )
    if thing.bite is not None:
        x = (thing.x + np.cos(thing.bite) * thing.radius) * _OVERSAMPLING
        y = (thing.y + np.sin(thing.bite) * thing.radius) * _OVERSAMPLING
        r = 0.62 * thing.radius * _OVERSAMPLING
        pen.ellipse((x - r, y - r, x + r, y + r), fill=0)
    cover: NDArray[np.float32] = np.asarray(big.reduce(_OVERSAMPLING), dtype=np.float32) / np.float32(255)
    return cover


def plain_background(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the colour of a clean background: nearly white or nearly black."""
    level = float(rng.uniform(0.93, 1.0) if rng.random() < 0.6 else rng.uniform(0.0, 0.10))
    return level, level, level


def draw(scene: Scene, rng: np.random.Generator) -> Picture:
    """Draw a clean picture of a scene: vivid, crisp and complete, on a plain background. (32, 32, 3) in [0, 1]."""
    return render(layout(scene, rng), plain_background(rng))


def dull(picture: Picture, keep: float) -> Picture:
    """Reduce the colour of a picture to the share `keep`, and its contrast less strongly."""
    grey = picture.mean(axis=2, keepdims=True)
    faded: Picture = (0.5 + (0.35 + 0.65 * keep) * (grey - 0.5) + keep * (picture - grey)).astype(np.float32)
    return faded


def blur(picture: Picture, sigma: float) -> Picture:
    """Apply a Gaussian blur, sigma in pixels."""
    blurred: Picture = ndimage.gaussian_filter(picture, (sigma, sigma, 0), mode="nearest")
    return blurred


def noisy(picture: Picture, amount: float, rng: np.random.Generator) -> Picture:
    """Add grey noise with a grain of about 1.5 pixels and the standard deviation `amount`."""
    grain = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), 0.6, mode="wrap")
    return np.asarray(picture + amount / grain.std() * grain[..., None], dtype=np.float32)


def cluttered_background(rng: np.random.Generator) -> Picture:
    """Draw a background of grey patches or bands that compete with the objects, (32, 32, 3)."""
    level = rng.uniform(0.2, 0.8)
    canvas = Image.new("F", (SIZE, SIZE), float(level))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(3, 7)):
        x, y = rng.uniform(-6, SIZE, size=2)
        w, h = rng.uniform(5, 20, size=2)
        pen.rectangle((x, y, x + w, y + h), fill=float(np.clip(level + rng.uniform(-0.28, 0.28), 0, 1)))
    grey = np.asarray(canvas, dtype=np.float32)[..., None]
    return np.repeat(grey, 3, axis=2)


def tinted_background(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the colour of a tinted background of medium brightness."""
    r, g, b = np.clip(rng.uniform(0.35, 0.8) + rng.uniform(-0.13, 0.13, size=3), 0, 1)
    return float(r), float(g), float(b)


def weblike(scene: Scene, rng: np.random.Generator, faulty: float = 0.6) -> Picture:
    """Draw a picture of a scene like those on the web: with probability `faulty` it has one to three faults.

    The caption does not mention the faults. So a model trained on such pictures learns both good and faulty ones, and
    nothing in its training says which people prefer.

    Returns:
        (32, 32, 3) float32 in [0, 1].
    """
    placed, background = layout(scene, rng), plain_background(rng)
    if rng.random() >= faulty:
        return render(placed, background)
    faults = set(
        rng.choice(
            ["dull", "blur", "clutter", "tint", "noise", "deformed", "incomplete"],
            size=rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]),
            replace=False,
            p=[0.28, 0.22, 0.14, 0.12, 0.08, 0.10, 0.06],
        )
    )
    if "deformed" in faults:
        placed = [
            replace(thing, stretch=float(np.exp(rng.uniform(-0.28, 0.28))), turn=float(rng.uniform(-0.35, 0.35)))
            for thing in placed
        ]
    if "incomplete" in faults:
        victim = int(rng.integers(len(placed)))
        if len(placed) > 1 and rng.random() < 0.5:
            del placed[victim]
        else:
            placed[victim] = replace(placed[victim], bite=float(rng.uniform(0, 2 * np.pi)))
    backdrop: Picture | tuple[float, float, float] = background
    if "clutter" in faults:
        backdrop = cluttered_background(rng)
    elif "tint" in faults:
        backdrop = tinted_background(rng)
    picture = render(placed, backdrop)
    if "dull" in faults:
        picture = dull(picture, rng.uniform(0.25, 0.7))
    if "blur" in faults:
        picture = blur(picture, rng.uniform(0.7, 1.6))
    if "noise" in faults:
        picture = noisy(picture, rng.uniform(0.02, 0.06), rng)
    return np.clip(picture, 0.0, 1.0).astype(np.float32)


def draw_word(word: str, rng: np.random.Generator) -> Picture:
    """Draw a word in bold capitals across the picture, dark on light or light on dark. (32, 32, 3) in [0, 1]."""
    ink = np.asarray(list(COLOURS.values())[rng.integers(len(COLOURS))]) * rng.uniform(0.2, 0.7)
    paper = np.full(3, rng.uniform(0.9, 1.0))
    if rng.random() < 0.3:
        ink, paper = paper, ink * 0.5
    scale, cell = 4, SIZE // len(word)
    big = Image.new("L", (SIZE * scale, SIZE * scale))
    shift = float(rng.uniform(-1.0, 1.0)) * scale
    for index, letter in enumerate(word):
        glyph = _glyph(letter).resize((int(cell * scale * 0.84), 20 * scale), Image.Resampling.BILINEAR)
        big.paste(glyph, (int((index + 0.08) * cell * scale), int(6 * scale + shift)))
    cover = (np.asarray(big.reduce(scale), dtype=np.float32) / 255)[..., None]
    return np.asarray(paper * (1 - cover) + ink * cover, dtype=np.float32)


@lru_cache(maxsize=64)
def _glyph(letter: str) -> Image.Image:
    font = ImageFont.load_default(size=64)
    left, top, right, bottom = font.getbbox(letter, stroke_width=4)
    glyph = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(glyph).text((-left, -top), letter, fill=255, font=font, stroke_width=4)
    return glyph


def to_bytes(picture: Picture) -> NDArray[np.uint8]:
    """Convert a picture in [0, 1] to uint8."""
    return np.asarray(np.clip(picture * 255 + 0.5, 0, 255), dtype=np.uint8)
