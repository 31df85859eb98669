"""Compare the objects found in a picture with the objects that its prompt asks for.

There are three scores. `official` is the benchmark's: 1 if every object is found at least as often as asked, in its
colour and position, and (for counting) not more often. `strict` and `soft` are Flow-GRPO's. `strict` is 1 if, in
addition, every count is exact. `soft` is the mean of these terms; it is negative if far too many objects are found:

    1 - |asked - found| / asked     for each count
    1 - |asked - coloured| / asked  for each colour, 0 if the count is wrong
    1 or 0                          for each relation, 0 if the count is wrong; a broken relation adds both a 1 and a 0

Relations: for boxes with centres c, c' and sizes s, s', let d = c - c', shortened in each direction by 0.1 (s + s'). A
relation holds if d / |c - c'| exceeds 0.5 in the relation's direction.

Source: https://github.com/djghosh13/geneval, its evaluate_images; https://github.com/yifan123/reward-server, gen_eval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .geneval_scenes import Scene, Wanted

Convention = Literal["official", "strict", "soft"]
_SLACK = 0.1


@dataclass(frozen=True)
class Found:
    """An object in a picture.

    Attributes:
        box: Left, top, right and bottom in pixels.
        mask: The pixels of the object, shape (height, width).
    """

    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_]


Colours = Callable[[str, Sequence[Found]], list[str]]


def verdict(scene: Scene, found: Mapping[str, Sequence[Found]], colours: Colours, convention: Convention) -> float:
    """Score a picture by the objects found in it.

    Args:
        scene: The demands of the prompt.
        found: Objects by name, in order of falling confidence.
        colours: Names the colour of each object of a class; called only if the prompt asks for a colour.
        convention: The score to compute.
    """
    official = convention == "official"
    terms: list[float] = []
    matched: list[Sequence[Found] | None] = []
    for item in scene.wanted:
        seen = found.get(item.name, ())
        seen = seen[: item.count] if official else seen
        terms.append(1 - abs(item.count - len(seen)) / item.count)
        right = len(seen) == item.count
        if not right and (item.colour or item.relation):
            terms.append(0.0)
        if right and item.colour:
            coloured = colours(item.name, seen).count(item.colour)
            terms.append(1 - abs(item.count - coloured) / item.count)
            right = coloured == item.count
        if right and item.relation:
            target = matched[item.target]
            right = target is not None and _placed(item, seen, target)
            terms += [1.0] if right else [0.0] if target is None else [0.0, 1.0]
        matched.append(seen if right else None)
    if convention == "soft":
        return float(np.mean(terms))
    excess = official and any(len(found.get(name, ())) >= count for name, count in scene.excluded)
    return float(None not in matched and not excess)


def relations(one: Found, other: Found) -> set[str]:
    """Return the relations of one object to the other that hold, such as {"left of"}."""
    boxes = np.array([one.box, other.box], dtype=np.float64).reshape(2, 2, 2)
    centres, sizes = boxes.mean(axis=1), np.abs(boxes[:, 1] - boxes[:, 0])
    offset = centres[0] - centres[1]
    shortened = np.maximum(np.abs(offset) - _SLACK * sizes.sum(axis=0), 0) * np.sign(offset)
    if np.all(np.abs(shortened) < 1e-3):
        return set()
    right, down = shortened / np.linalg.norm(offset)
    holds = {"left of": right < -0.5, "right of": right > 0.5, "above": down < -0.5, "below": down > 0.5}
    return {name for name, so in holds.items() if so}


def _placed(item: Wanted, seen: Sequence[Found], target: Sequence[Found]) -> bool:
    return all(item.relation in relations(one, other) for one in seen for other in target)
