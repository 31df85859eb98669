"""Parse and write GenEval's prompts, and generate the benchmark's own prompts.

    "a photo of" + a bench                              single_object
                 | a bench and a clock                  two_object
                 | three clocks                         counting
                 | a red clock                          colors
                 | a bench left of a clock              position
                 | a red bench and a blue clock         color_attr

Source: Ghosh et al., "GenEval", arXiv 2310.11513, section 3; https://github.com/djghosh13/geneval, its create_prompts.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ...ground.errors import ConfigError, ScoreError, near_misses
from ...ground.listings import read_listing

Tag = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]

# COCO's eighty classes in the detector's order, with the names that the prompts use.
_COCO = """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
    skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple,
    sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining
    table, toilet, tv, laptop, computer mouse, tv remote, computer keyboard, cell phone, microwave, oven,
    toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush
"""
NAMES: tuple[str, ...] = tuple(" ".join(name.split()) for name in _COCO.split(","))
COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_IRREGULAR = {"people": "person", "knives": "knife", "computer mice": "computer mouse"}


@dataclass(frozen=True)
class Wanted:
    """A demand for one or several objects of a class.

    Attributes:
        name: One of `NAMES`.
        count: The number of objects.
        colour: One of `COLOURS`, or None if any colour will do.
        relation: One of `RELATIONS`: the position of these objects relative to the target; None if any will do.
        target: The index in the scene of the demand that `relation` refers to.
    """

    name: str
    count: int = 1
    colour: str | None = None
    relation: str | None = None
    target: int = 0


@dataclass(frozen=True)
class Scene:
    """The demands of a prompt.

    Attributes:
        tag: The benchmark's category.
        wanted: The objects that a picture must show.
        excluded: Names, each with the smallest number of objects that is too many.
    """

    tag: str
    wanted: tuple[Wanted, ...]
    excluded: tuple[tuple[str, int], ...] = ()


def parse(prompt: str) -> Scene:
    """Return the scene that a prompt asks for.

    Raises:
        ScoreError: If the prompt is not of the grammar above.
    """
    text = " ".join(prompt.lower().removesuffix(".").split()).removeprefix("a photo of ")
    number = re.match(rf"({'|'.join(_NUMBERS)}) (.+)", text)
    if number is not None:
        name, count = _singular(number[2], prompt), _NUMBERS.index(number[1]) + 1
        return Scene("counting", (Wanted(name, count),), ((name, count + 1),))
    for relation in RELATIONS:
        if f" {relation} " in text:
            first, second = (_single(part, prompt) for part in text.split(f" {relation} ", 1))
            return Scene("position", (second, Wanted(first.name, 1, first.colour, relation)))
    wanted = tuple(_single(part, prompt) for part in text.split(" and "))
    coloured = any(item.colour for item in wanted)
    if len(wanted) > 2:
        raise _unclear(prompt, "it names more than two kinds of object")
    if len(wanted) == 2:
        return Scene("color_attr" if coloured else "two_object", wanted)
    return Scene("colors" if coloured else "single_object", wanted)


def phrase(scene: Scene) -> str:
    """Return the prompt of a scene; the inverse of `parse`."""
    items = scene.wanted
    if items[0].count > 1:
        name = items[0].name
        return f"a photo of {_NUMBERS[items[0].count - 1]} {name}{'es' if name.endswith('s') else 's'}"
    parts = [f"{item.colour} {item.name}" if item.colour else item.name for item in items]
    parts = [f"{'an' if part[0] in 'aeiou' else 'a'} {part}" for part in parts]
    if items[-1].relation:
        return f"a photo of {parts[1]} {items[-1].relation} {parts[0]}"
    return f"a photo of {' and '.join(parts)}"


def draw(tag: Tag, rng: np.random.Generator) -> Scene:
    """Draw a random scene of a category in the way of the benchmark's authors; a person never gets a colour."""
    if tag in ("single_object", "counting"):
        name = NAMES[rng.choice(80)]
        if tag == "single_object":
            return Scene(tag, (Wanted(name),))
        count = int(rng.integers(2, 4, endpoint=True))
        return Scene(tag, (Wanted(name, count),), ((name, count + 1),))
    if tag == "colors":
        name = NAMES[rng.choice(79) + 1]
        return Scene(tag, (Wanted(name, colour=COLOURS[rng.choice(10)]),))
    if tag == "color_attr":
        names, colours = rng.choice(79, 2, replace=False) + 1, rng.choice(10, 2, replace=False)
        pairs = zip(names, colours, strict=True)
        return Scene(tag, tuple(Wanted(NAMES[name], colour=COLOURS[colour]) for name, colour in pairs))
    first, second = (NAMES[index] for index in rng.choice(80, 2, replace=False))
    if tag == "two_object":
        return Scene(tag, (Wanted(first), Wanted(second)))
    return Scene(tag, (Wanted(second), Wanted(first, relation=RELATIONS[rng.choice(4)])))


def benchmark() -> list[str]:
    """Generate the benchmark's 553 prompts in its order, with its authors' seed."""
    rng = np.random.default_rng(43)
    drawn = [Scene("single_object", (Wanted(NAMES[index]),)) for index in rng.choice(80, 80, replace=False)]
    drawn += [draw(tag, rng) for tag in get_args(Tag)[1:] for _ in range(100)]
    return [phrase(scene) for scene in dict.fromkeys(drawn)]


def read_metadata(path: Path) -> dict[str, Scene]:
    """Read scenes by prompt from a file in the benchmark's own form, one JSON object per line.

    Raises:
        ConfigError: If the file is not of this form, or a line contradicts its prompt or another line.
    """
    scenes: dict[str, Scene] = {}
    for row in read_listing(path, "prompt").rows:
        try:
            scene = scene_of(row.prompt, row.metadata)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        if scene is None:
            raise ConfigError(f"{path} is not GenEval metadata: it does not say what {row.prompt[:80]!r} includes")
        if scenes.setdefault(row.prompt, scene) != scene:
            raise ConfigError(f"{path} holds two different entries for the prompt {row.prompt[:80]!r}; remove one")
    return scenes


def scene_of(prompt: str, metadata: Mapping[str, Any]) -> Scene | None:
    """Return the scene that a prompt's metadata describes, or None if the metadata is not of the benchmark's form.

    Raises:
        ConfigError: If the metadata is malformed, or contradicts the prompt.
    """
    if "include" not in metadata and "exclude" not in metadata:
        return None
    try:
        scene = _scene(metadata)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        reason = f"it lacks the key {error}" if isinstance(error, KeyError) else error
        raise ConfigError(f"the metadata of the prompt {prompt[:80]!r} are not GenEval's: {reason}") from None
    try:
        read = parse(prompt)
    except ScoreError:
        return scene
    if _asked(read) != _asked(scene) or (scene.excluded and set(read.excluded) != set(scene.excluded)):
        raise ConfigError(
            f"the metadata of the prompt {prompt[:80]!r} ask for something else than its words; "
            f"correct them, or leave `include` and `exclude` out of the prompts' `metadata`"
        )
    return scene


def _asked(scene: Scene) -> list[tuple[str, ...]]:
    """Return the demands of a scene in a canonical order, for comparison."""
    return sorted(
        (
            each.name,
            str(each.count),
            str(each.colour),
            str(each.relation and (each.relation, scene.wanted[each.target].name)),
        )
        for each in scene.wanted
    )


def _scene(entry: Mapping[str, Any]) -> Scene:
    wanted: list[Wanted] = []
    for item in entry.get("include", ()):
        relation, target = item.get("position") or (None, 0)
        if relation is not None and (relation not in RELATIONS or not 0 <= target < len(wanted)):
            raise ValueError(f"'position' must be one of {', '.join(RELATIONS)} and the number of an earlier object")
        colour = item.get("color")
        if colour is not None and colour not in COLOURS:
            raise ValueError(f"knows no colour {colour!r}; {near_misses(str(colour), COLOURS)}")
        wanted.append(Wanted(item["class"], _count(item), colour, relation, target))
    excluded = tuple((item["class"], _count(item)) for item in entry.get("exclude") or ())
    for name in itertools.chain((item.name for item in wanted), (name for name, _ in excluded)):
        if name not in NAMES:
            raise ValueError(f"knows no object {name!r}; {near_misses(str(name), NAMES)}")
    if not wanted:
        raise ValueError("'include' names nothing")
    tag = entry["tag"]
    if not isinstance(tag, str):
        raise ValueError(f"'tag' must be a string, not {tag!r}")
    return Scene(tag, tuple(wanted), excluded)


def _count(item: Mapping[str, Any]) -> int:
    count = item["count"]
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 1000:
        raise ValueError(f"'count' must be a number from 1 to 1000, not {count!r}")
    return count


def _single(text: str, prompt: str) -> Wanted:
    words = re.sub(r"^(a|an|the) ", "", text)
    if words in NAMES:
        return Wanted(words)
    colour, _, name = words.partition(" ")
    if colour in COLOURS and name in NAMES:
        return Wanted(name, colour=colour)
    raise _unclear(
        prompt, f"{words!r} is none of its objects; {near_misses(name if colour in COLOURS else words, NAMES)}"
    )


def _singular(text: str, prompt: str) -> str:
    for name in (_IRREGULAR.get(text, text), text.removesuffix("s"), text.removesuffix("es")):
        if name in NAMES:
            return name
    raise _unclear(prompt, f"{text!r} are none of its objects; {near_misses(text.removesuffix('s'), NAMES)}")


def _unclear(prompt: str, reason: str) -> ScoreError:
    return ScoreError(f"geneval cannot tell what {prompt[:80]!r} asks for: {reason} (or give `metadata`)")
