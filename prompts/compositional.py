"""Prompts of our own grammar, in the manner of T2I-CompBench: attributes, numbers, relations, actions and scenes.

    color        a red bench and a yellow car
    shape        a round mirror and a triangular sandwich
    texture      a leather suitcase and a wooden chair
    numeracy     three apples | two dogs and five balloons
    spatial      a bird above a fence
    3d_spatial   a cat hidden by a basket
    non_spatial  a farmer is feeding a goat on a farm
    complex      a fluffy white cat on top of a round wooden table, with a red lamp nearby, in a library

Every word comes from a table, and nouns have only attributes that suit them. A pair of nouns belongs to one split, by
the digest of their names; so does a noun with its number. So no test prompt shares a pair of objects with a training
prompt, whatever their attributes. The draws are digests too: the same on every machine and in every version of Python.

Source of the categories: Huang et al., "T2I-CompBench++", arXiv 2307.06350, section 3.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar, get_args

from ..engine.bucket import PromptSet
from ..ground.errors import ConfigError, near_misses
from .vocabulary import (
    ACTIONS,
    FIRST,
    INDOORS,
    NAMED_BY_GENEVAL,
    NOUNS,
    NUMBERS,
    OUTDOORS,
    PEOPLE,
    WEATHER,
    Noun,
)

VERSION = 1  # of the words and the grammar; part of every draw
Category = Literal["color", "shape", "texture", "numeracy", "spatial", "3d_spatial", "non_spatial", "complex"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
DEFAULT = {"train": 640, "validation": 64, "test": 128}  # prompts of each category
MOST = 5_000  # prompts of a category in a split
_UNTIL = {"train": 0.6, "validation": 0.75, "test": 1.0}  # the splits' places among the digests of pairs
_PATIENCE = 5_000  # draws without a new prompt

Item = TypeVar("Item")


@dataclass(frozen=True)
class Scene:
    """A prompt and its description.

    Attributes:
        text: The prompt.
        objects: For each object its `name`, and its `count`, `color`, `shape` and `texture` if the prompt says them.
        relation: The relation of the first object to the second, or the action.
        tag: The kind of demand for GenEval, if GenEval can check this kind.
    """

    text: str
    objects: tuple[Mapping[str, Any], ...]
    relation: str | None = None
    tag: str | None = None

    def metadata(self, category: str) -> dict[str, Any]:
        """Return the prompt's metadata, with GenEval's `tag`, `include` and `exclude` if its reward can check it."""
        found: dict[str, Any] = {"category": category, "objects": [dict(each) for each in self.objects]}
        if self.relation is not None:
            found["relation"] = self.relation
        if self.tag is not None and all(each["name"] in NAMED_BY_GENEVAL for each in self.objects):
            found |= _for_geneval(self)
        return found


class Draws:
    """An endless sequence of draws that depends on a key alone.

    Args:
        key: The parts of the key.
    """

    def __init__(self, *key: object) -> None:
        self._key = "/".join(map(str, ("compositional", VERSION, *key)))
        self._numbers = self._made()

    def _made(self) -> Iterator[int]:
        block = 0
        while True:
            digest = hashlib.sha256(f"{self._key}/{block}".encode()).digest()
            yield from (int.from_bytes(digest[at : at + 4], "big") for at in range(0, 32, 4))
            block += 1

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[next(self._numbers) * len(items) >> 32]


def compositional_prompts(categories: Sequence[str] | None, numbers: Mapping[str, int | None]) -> PromptSet:
    """Generate training, validation and test prompts; the categories alternate in every pool.

    Args:
        categories: The categories to use; None uses all.
        numbers: Split to the number of prompts, or None for `DEFAULT` of each category.

    Raises:
        ConfigError: If a category is unknown, or is asked for more prompts than there are.
    """
    for name in () if categories is None else categories:
        if name not in CATEGORIES:
            raise ConfigError(f"prompts 'compositional' have no category {name!r}; {near_misses(name, CATEGORIES)}")
    chosen = tuple(each for each in CATEGORIES if categories is None or each in categories)
    if not chosen:
        raise ConfigError(f"prompts 'compositional': categories is empty; give some of {', '.join(CATEGORIES)}")
    pools: dict[str, list[str]] = {}
    metadata: dict[str, dict[str, Any]] = {}
    for split, default in DEFAULT.items():
        asked = numbers.get(split)
        total = default * len(chosen) if asked is None else asked
        pools[split] = []
        shares = [len(range(index, total, len(chosen))) for index in range(len(chosen))]
        drawn = [_first(category, split, share) for category, share in zip(chosen, shares, strict=True)]
        for index in range(total):
            category = chosen[index % len(chosen)]
            scene = drawn[index % len(chosen)][index // len(chosen)]
            pools[split].append(scene.text)
            metadata[scene.text] = scene.metadata(category)
    train, validation, test = (tuple(pools[split]) for split in ("train", "validation", "test"))
    return PromptSet(train, validation, test, source="prompts 'compositional'", metadata=metadata)


def _first(category: Category, split: str, count: int) -> Sequence[Scene]:
    """Return the first scenes of a category and split."""
    if count > MOST:
        raise ConfigError(
            f"prompts 'compositional' make at most {MOST} {split} prompts of a category; set num_{split} to at most "
            f"{MOST} for each category"
        )
    found = _stream(category, split).first(count)
    if len(found) < count:
        raise ConfigError(
            f"prompts 'compositional' have {len(found)} {split} prompts of {category}, not {count}; set num_{split} to "
            f"at most {len(found)} for each category"
        )
    return found


class _Stream:
    """The distinct scenes of a category and split in their order, drawn as far as they were asked for.

    Args:
        category: The category.
        split: The split.
    """

    def __init__(self, category: Category, split: str) -> None:
        self._scenes: dict[str, Scene] = {}
        self._drawn = self._new(category, split)

    def _new(self, category: Category, split: str) -> Iterator[Scene]:
        misses = 0
        for index in itertools.count():
            scene = _GRAMMAR[category](Draws(category, split, index), split)
            if scene is not None and scene.text not in self._scenes:
                yield scene
                misses = 0
            elif (misses := misses + 1) == _PATIENCE:
                return

    def first(self, count: int) -> list[Scene]:
        """Return the first scenes, or all if no new ones come."""
        while len(self._scenes) < count and (scene := next(self._drawn, None)):
            self._scenes[scene.text] = scene
        return list(itertools.islice(self._scenes.values(), count))


_stream = cache(_Stream)


# ---------------------------------------------------------------------------------------------------------------
# Splits.


@cache
def split_of(*names: str) -> str:
    """Return the split that a pair of nouns, or a noun with its number, belongs to, by the digest of the names."""
    key = "+".join(("compositional", str(VERSION), *sorted(names)))
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
    return next(split for split, until in _UNTIL.items() if place < until)


@cache
def _partners(first: str, among: tuple[str, ...], split: str) -> tuple[str, ...]:
    """Return the nouns whose pair with the first noun belongs to a split."""
    return tuple(name for name in among if name != first and split_of(first, name) == split)


def _pair(
    draws: Draws, split: str, firsts: tuple[str, ...], fits: Callable[[Noun], tuple[str, ...]]
) -> tuple[Noun, Noun] | None:
    """Draw a pair of nouns of a split: the first, and one of those that fit it."""
    first = _noun(draws.pick(firsts))
    partners = _partners(first.name, fits(first), split)
    return (first, _noun(draws.pick(partners))) if partners else None


def _noun(name: str) -> Noun:
    return NOUNS[name] if name in NOUNS else PEOPLE[name]


# ---------------------------------------------------------------------------------------------------------------
# The grammar.


@dataclass(frozen=True)
class _Thing:
    """A noun with the attributes that the prompt gives it."""

    noun: Noun
    given: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        texture = self.given.get("texture")
        early, late = (texture, None) if texture in FIRST else (None, texture)
        words = (early, self.given.get("shape"), self.given.get("color"), late, self.noun.name)
        return _with_article(" ".join(word for word in words if word))

    @property
    def about(self) -> dict[str, Any]:
        return {"name": self.noun.name, **self.given}


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _choices(noun: Noun, attribute: str) -> tuple[str, ...]:
    return {"color": noun.colours, "shape": noun.shapes, "texture": noun.textures}[attribute]


@cache
def _having(attribute: str) -> tuple[str, ...]:
    return tuple(name for name, noun in NOUNS.items() if len(_choices(noun, attribute)) > (attribute == "color"))


def _attribute(attribute: str) -> Callable[[Draws, str], Scene | None]:
    """Return the rule of two objects that have each an attribute of a kind, never the same."""

    def rule(draws: Draws, split: str) -> Scene | None:
        pair = _pair(draws, split, _having(attribute), lambda _: _having(attribute))
        if pair is None:
            return None
        first = draws.pick(_choices(pair[0], attribute))
        others = tuple(each for each in _choices(pair[1], attribute) if each != first)
        if not others:
            return None
        things = (_Thing(pair[0], {attribute: first}), _Thing(pair[1], {attribute: draws.pick(others)}))
        tag = "color_attr" if attribute == "color" else None
        return Scene(f"{things[0]} and {things[1]}", tuple(each.about for each in things), tag=tag)

    return rule


_COUNTABLE = tuple(NOUNS)
_INANIMATE = tuple(name for name, noun in NOUNS.items() if "animal" not in noun.roles)


def _numeracy(draws: Draws, split: str) -> Scene | None:
    """Draw one kind of object in a number from two to eight, or two kinds from one to six."""
    if draws.pick((True, False, False)):
        noun, count = _noun(draws.pick(_COUNTABLE)), draws.pick(tuple(NUMBERS))
        if split_of(noun.name, NUMBERS[count]) != split:
            return None
        about = {"name": noun.name, "count": count}
        return Scene(f"{NUMBERS[count]} {noun.plural}", (about,), tag="counting")
    pair = _pair(draws, split, _COUNTABLE, lambda _: _COUNTABLE)
    if pair is None:
        return None
    counts = (draws.pick((2, 3, 4, 5, 6)), draws.pick((1, 2, 3, 4, 5, 6)))
    said = [
        f"{NUMBERS[count]} {noun.plural}" if count > 1 else f"one {noun.name}"
        for noun, count in zip(pair, counts, strict=True)
    ]
    objects = tuple({"name": noun.name, "count": count} for noun, count in zip(pair, counts, strict=True))
    return Scene(" and ".join(said), objects, tag="counting")


@cache
def _near_in_size(noun: Noun) -> tuple[str, ...]:
    return tuple(name for name, other in NOUNS.items() if abs(other.size - noun.size) <= 1)


@cache
def _smaller(noun: Noun) -> tuple[str, ...]:
    """Return the things that can stand on a thing."""
    return tuple(
        name
        for name, other in NOUNS.items()
        if other.size < noun.size and other.size < 3 and not other.roles & {"surface", "outdoors"}
    )


@cache
def _hiding(noun: Noun) -> tuple[str, ...]:
    return tuple(name for name, other in NOUNS.items() if noun.size <= other.size <= noun.size + 1)


@cache
def _above(ground: Noun) -> tuple[str, ...]:
    """Return the things that fly over a thing, or hang over it in a room."""
    outdoors = "outdoors" in ground.roles
    hanging = not outdoors and ground.size > 1
    return tuple(
        name
        for name, noun in NOUNS.items()
        if ("hangs" in noun.roles and hanging) or ("flies" in noun.roles and outdoors >= ("outdoors" in noun.roles))
    )


_EVERY = tuple(NOUNS)
_ON_THE_GROUND = tuple(name for name, noun in NOUNS.items() if not noun.roles & {"flies", "hangs"})
_SURFACES = tuple(name for name, noun in NOUNS.items() if "surface" in noun.roles)


@dataclass(frozen=True)
class _Relation:
    """A relation: the words between two nouns, and which nouns have it.

    Attributes:
        words: The words, such as `to the left of`.
        grounds: The nouns that the relation refers to; they come second in the prompt unless `reversed`.
        figures: The nouns that can have the relation to one.
        tag: GenEval's word for it, if it has one.
        reversed: Whether the ground comes first in the prompt, as in `a bench below a kite`.
    """

    words: str
    grounds: tuple[str, ...]
    figures: Callable[[Noun], tuple[str, ...]]
    tag: str | None = None
    reversed: bool = False


_FLAT = (
    _Relation("to the left of", _EVERY, _near_in_size, "left of"),
    _Relation("to the right of", _EVERY, _near_in_size, "right of"),
    _Relation("next to", _EVERY, _near_in_size),
    _Relation("above", _ON_THE_GROUND, _above, "above"),
    _Relation("below", _ON_THE_GROUND, _above, "below", reversed=True),
    _Relation("on top of", _SURFACES, _smaller),
)
_DEEP = (
    _Relation("in front of", _EVERY, _near_in_size),
    _Relation("behind", _EVERY, _near_in_size),
    _Relation("hidden by", _EVERY, _hiding, reversed=True),
)


def _related(relations: tuple[_Relation, ...]) -> Callable[[Draws, str], Scene | None]:
    """Return the rule of two objects in a relation."""

    def rule(draws: Draws, split: str) -> Scene | None:
        relation = draws.pick(relations)
        pair = _pair(draws, split, relation.grounds, relation.figures)
        if pair is None:
            return None
        first, second = (_Thing(noun) for noun in (pair if relation.reversed else pair[::-1]))
        objects = (first.about, second.about)
        return Scene(
            f"{first} {relation.words} {second}", objects, relation.words, "position" if relation.tag else None
        )

    return rule


def _action(draws: Draws, split: str) -> Scene | None:
    """Draw somebody who does something with an object, mostly somewhere."""
    action = draws.pick(ACTIONS)
    pair = _pair(draws, split, action.subjects or tuple(PEOPLE), lambda _: action.objects)
    if pair is None:
        return None
    place = f" {draws.pick(action.places)}" if draws.pick((True, True, True, False)) else ""
    subject, thing = (_Thing(noun) for noun in pair)
    return Scene(f"{subject} is {action.verb} {thing}{place}", (subject.about, thing.about), action.verb)


def _described(draws: Draws, noun: Noun) -> _Thing:
    """Give a noun one or two attributes that suit it."""
    kinds = [kind for kind in ("color", "shape", "texture") if _choices(noun, kind)]
    if len(kinds) > 1:
        left_out = draws.pick(kinds)
        kinds = [kind for kind in kinds if kind != left_out] if len(kinds) == 3 or draws.pick((True, False)) else kinds
    return _Thing(noun, {kind: draws.pick(_choices(noun, kind)) for kind in kinds})


def _complex(draws: Draws, split: str) -> Scene | None:
    """Draw two or three described objects in a relation, in a place that suits them."""
    relation = draws.pick((_FLAT[2], _FLAT[5], _DEEP[0], _DEEP[1], _FLAT[3]))
    pair = _pair(draws, split, relation.grounds, relation.figures)
    if pair is None:
        return None
    nouns = [pair[1], pair[0]]
    among = _near_in_size(pair[0])
    third = tuple(
        name for name in _partners(pair[0].name, among, split) if name in _partners(pair[1].name, among, split)
    )
    if bool(third) and draws.pick((True, False)):
        nouns.append(_noun(draws.pick(third)))
    things = [_described(draws, noun) for noun in nouns]
    outdoors = any("outdoors" in noun.roles for noun in nouns)
    place = draws.pick((*OUTDOORS, *WEATHER) if outdoors else INDOORS)
    beside = f", with {things[2]} nearby," if len(things) == 3 else ""
    text = f"{things[0]} {relation.words} {things[1]}{beside} {place}"
    return Scene(text, tuple(each.about for each in things), relation.words)


_GRAMMAR: Mapping[Category, Callable[[Draws, str], Scene | None]] = {
    "color": _attribute("color"),
    "shape": _attribute("shape"),
    "texture": _attribute("texture"),
    "numeracy": _numeracy,
    "spatial": _related(_FLAT),
    "3d_spatial": _related(_DEEP),
    "non_spatial": _action,
    "complex": _complex,
}
_OF_GENEVAL = {each.words: each.tag for each in _FLAT if each.tag}


def _for_geneval(scene: Scene) -> dict[str, Any]:
    """Return GenEval's metadata of a scene; see Ghosh et al., "GenEval", arXiv 2310.11513."""
    include: list[dict[str, Any]] = [
        {"class": NAMED_BY_GENEVAL[each["name"]], "count": each.get("count", 1)}
        | ({"color": each["color"]} if "color" in each else {})
        for each in scene.objects
    ]
    if scene.tag == "position":  # the object that a position refers to comes first
        position = [_OF_GENEVAL[str(scene.relation)], 0]
        include = [include[1], {**include[0], "position": position}]
    found: dict[str, Any] = {"tag": scene.tag, "include": include}
    if scene.tag == "counting":
        found["exclude"] = [{"class": each["class"], "count": each["count"] + 1} for each in include]
    return found
