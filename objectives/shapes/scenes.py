"""The prompts of the shapes world: the vocabulary, the scenes, writing and parsing captions, and the splits.

The grammar::

    scene   = count | pair
    count   = ("a" [size] colour shape) | (number colour shapes)
    pair    = single link single          link = "and" | "left of" | "right of" | "above" | "below"
    single  = "a" [size] colour shape     in a pair: two different sizes, or none; sizes only with a relation

The two objects of a pair always differ in colour, so that colour tells them apart.

The split of a caption is decided by its *combination*: a hash of the objects shown, without their arrangement. All
captions about a red circle and a blue square ("left of", "above", either order, any sizes) are in the same split, so a
test caption is never a rephrased training caption.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Split = Literal["train", "validation", "test"]
Domain = Literal["scenes", "words"]

#: Colour name -> RGB in [0, 1]. Neighbouring hues are at least 45 degrees apart in the opponent plane (see `checker`).
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.12),
    "yellow": (0.98, 0.84, 0.08),
    "green": (0.08, 0.74, 0.16),
    "cyan": (0.06, 0.80, 0.88),
    "blue": (0.10, 0.24, 0.92),
    "pink": (0.95, 0.22, 0.76),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "diamond")
SIZES: tuple[str, ...] = ("small", "big")
NUMBERS: dict[int, str] = {1: "a", 2: "two", 3: "three", 4: "four"}
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
KINDS: tuple[str, ...] = ("one", "sized", "count", "pair", "relation", "sized relation")

PLURALS: dict[str, str] = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
#: Every word that a scene caption may hold.
SCENE_WORDS: tuple[str, ...] = (
    *("a", "two", "three", "four", "and", "left", "right", "of", "above", "below"),
    *SIZES,
    *COLOURS,
    *SHAPES,
    *PLURALS.values(),
)

#: English words of two to four letters for the second domain, whose captions read "the word CAT".
_WORD_LIST = """
    ACE AGE AIR ANT APE ARM ART ASH AXE BAG BAT BAY BED BEE BOX BOY BUS CAB CAN CAP CAR CAT COW CUP DAY
    DEN DOG DOT EAR EGG ELF ELK ELM EYE FAN FIG FIN FIR FLY FOG FOX FUN GEM GUM HAT HAY HEN HOP HUT ICE
    INK IVY JAM JAR JAY JET JOY KEY KID KIT LAB LEG LID LIP LOG MAP MAT MIX MUD MUG NET NUT OAK OAR OIL
    OWL PAN PAW PEA PEN PET PIE PIG PIN POT RAM RAT RAY RIB RUG RUN SEA SKY SUN TAR TEA TIE TIN TOE TOY
    TUB VAN WAX WEB WIG YAK ZIP ZOO BEAR BELL BIRD BOAT BONE BOOK BOWL CAKE CAVE CITY COAT COIN CORN
    CROW DEER DESK DOOR DRUM DUCK FARM FIRE FISH FLAG FOOD FROG GAME GIFT GOLD HAND HILL HOME IRON JUMP
    KING KITE LAKE LAMP LEAF LION LOVE MILK MOON NEST PARK POND QUIZ RAIN RING ROAD ROCK ROSE SALT SAND
    SHIP SHOE SNOW SONG STEM TENT TREE WAVE WIND WOLF WOOD YARN GO HI NO OK ON UP WE
"""
WORDS: tuple[str, ...] = tuple(_WORD_LIST.split())


@dataclass(frozen=True)
class Item:
    """One or several equal objects: their count, size (None if the caption names none), colour and shape."""

    count: int
    size: str | None
    colour: str
    shape: str


@dataclass(frozen=True)
class Scene:
    """One item, or two single objects with the relation of the first to the second (None for "and")."""

    items: tuple[Item, ...]
    relation: str | None = None

    @property
    def kind(self) -> str:
        """The kind of the scene, one of `KINDS`; the kinds are roughly in order of difficulty."""
        first = self.items[0]
        if len(self.items) == 1:
            return "count" if first.count > 1 else "sized" if first.size else "one"
        return "pair" if self.relation is None else "sized relation" if first.size else "relation"

    @property
    def combination(self) -> str:
        """The objects shown, without their arrangement: the key that decides the split."""
        if len(self.items) == 1:
            item = self.items[0]
            return f"{item.count} {item.size} {item.colour} {item.shape}"
        return " + ".join(sorted(f"{item.colour} {item.shape}" for item in self.items))


def caption(scene: Scene) -> str:
    """Return the caption of a scene, such as "two red circles" or "a red circle left of a blue square"."""

    def phrase(item: Item) -> str:
        noun = item.shape if item.count == 1 else PLURALS[item.shape]
        return " ".join(word for word in (NUMBERS[item.count], item.size, item.colour, noun) if word)

    return f" {scene.relation or 'and'} ".join(phrase(item) for item in scene.items)


def parse(text: str) -> Scene:
    """Return the scene of a caption; the inverse of `caption`, except that case and spacing are ignored.

    Raises:
        ValueError: If the text is no scene caption; the message names the wrong word or form.
    """
    return _parse(" ".join(text.lower().split()))


@lru_cache(maxsize=65536)
def _parse(text: str) -> Scene:
    for word in text.split():
        if word not in SCENE_WORDS:
            near = difflib.get_close_matches(word, SCENE_WORDS, 1)
            raise ValueError(
                f"{text!r} is no scene caption: unknown word {word!r}"
                + (f", did you mean {near[0]!r}?" if near else "")
            )
    for link in ("and", *RELATIONS):
        left, found, right = f" {text} ".partition(f" {link} ")
        if found:
            items = (_parse_item(left, text), _parse_item(right, text))
            sizes = [item.size for item in items]
            if any(item.count > 1 for item in items) or items[0].colour == items[1].colour:
                raise ValueError(f"{text!r} is no scene caption: a pair is two single objects of different colours")
            if sizes not in ([None, None], ["small", "big"], ["big", "small"]) or (sizes[0] and link == "and"):
                raise ValueError(
                    f"{text!r} is no scene caption: sizes in a pair need a relation, one small and one big"
                )
            return Scene(items, None if link == "and" else link)
    item = _parse_item(text, text)
    if item.count > 1 and item.size:
        raise ValueError(f"{text!r} is no scene caption: several objects carry no size")
    return Scene((item,))


def _parse_item(phrase: str, text: str) -> Item:
    words = phrase.split()
    size = words.pop(1) if len(words) == 4 and words[1] in SIZES else None
    counts = {word: count for count, word in NUMBERS.items()}
    if len(words) == 3 and words[0] in counts and words[1] in COLOURS:
        count = counts[words[0]]
        for shape in SHAPES:
            if words[2] == (shape if count == 1 else PLURALS[shape]):
                return Item(count, size, words[1], shape)
    raise ValueError(f"{text!r} is no scene caption: write for example 'a small red circle' or 'two blue stars'")


def split_of(combination: str) -> Split:
    """Return the split of a combination (or a word) by its hash: 70 % train, 15 % validation, 15 % test."""
    bucket = int.from_bytes(hashlib.sha256(combination.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 70 else "validation" if bucket < 85 else "test"


@lru_cache(maxsize=1)
def all_scenes() -> tuple[Scene, ...]:
    """Return every scene of the grammar, in a fixed order."""
    objects = list(itertools.product(COLOURS, SHAPES))
    scenes = [Scene((Item(1, size, *thing),)) for size in (None, *SIZES) for thing in objects]
    scenes += [Scene((Item(count, None, *thing),)) for count in (2, 3, 4) for thing in objects]
    for one, other in itertools.permutations(objects, 2):
        if one[0] != other[0]:
            pair = (Item(1, None, *one), Item(1, None, *other))
            scenes += [Scene(pair, relation) for relation in (None, *RELATIONS)]
            for sizes in (SIZES, SIZES[::-1]):
                sized = (Item(1, sizes[0], *one), Item(1, sizes[1], *other))
                scenes += [Scene(sized, relation) for relation in RELATIONS]
    return tuple(scenes)


@lru_cache(maxsize=8)
def scenes_of(split: Split) -> dict[str, tuple[Scene, ...]]:
    """Return all scenes of a split by kind, ordered by a hash of their captions."""
    by_kind: dict[str, list[Scene]] = {kind: [] for kind in KINDS}
    for scene in all_scenes():
        if split_of(scene.combination) == split:
            by_kind[scene.kind].append(scene)
    return {
        kind: tuple(sorted(scenes, key=lambda scene: hashlib.sha256(caption(scene).encode()).digest()))
        for kind, scenes in by_kind.items()
    }


def prompts(split: Split, domain: Domain = "scenes") -> list[str]:
    """Return the prompts of a split, always the same list; no other split has any of their combinations.

    There are thousands of scenes with relations, but only a few dozen with counts. So the list holds at most 160
    ("train") or 40 (otherwise) scenes of a kind and spreads the kinds evenly: any part of the list is a fair mixture.

    Args:
        split: "train", "validation" or "test".
        domain: "scenes", or "words" for prompts such as "the word CAT".

    Raises:
        ValueError: If the split or the domain is unknown.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"unknown split {split!r}: choose train, validation or test")
    if domain == "words":
        return [f"the word {word}" for word in WORDS if split_of(word) == split]
    if domain != "scenes":
        raise ValueError(f"unknown domain {domain!r}: choose scenes or words")
    most = 160 if split == "train" else 40
    spread: list[tuple[float, str]] = []
    for scenes in scenes_of(split).values():
        taken = scenes[:most]
        spread += [((index + 0.5) / len(taken), caption(scene)) for index, scene in enumerate(taken)]
    return [text for _, text in sorted(spread)]
