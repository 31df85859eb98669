"""The grammar of the compositional prompts: a rule for each category, which draws a scene or none.

Every rule draws a pair of nouns of the split first, then attributes that suit them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

from .draws import Draws, split_of
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

Category = Literal["color", "shape", "texture", "numeracy", "spatial", "3d_spatial", "non_spatial", "complex"]
CATEGORIES: tuple[Category, ...] = get_args(Category)


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


GRAMMAR: Mapping[Category, Callable[[Draws, str], Scene | None]] = {
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
