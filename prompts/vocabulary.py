"""The words of the compositional prompts: nouns with the attributes that suit them, actions and places.

Each word may change only together with `draws.VERSION`, because the prompts are drawn from these tables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
NUMBERS: Mapping[int, str] = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}

# name | size from 1 (fits a hand) to 4 (larger than a room's furniture) | colours | shapes | textures | roles
# roles: flies, hangs (on a wall or from a ceiling), surface (things stand on it), outdoors, animal
_NOUNS = """
cup          | 1 | any | | glass ceramic metal plastic wooden |
mug          | 1 | any | cylindrical square | ceramic metal glass |
bowl         | 1 | any | round oval square hexagonal | glass ceramic metal plastic wooden |
plate        | 1 | any | round oval square hexagonal triangular | glass ceramic metal plastic wooden |
tray         | 1 | any | round oval square rectangular | metal plastic wooden |
vase         | 1 | any | cylindrical spherical square | glass ceramic metal marble |
jar          | 1 | any | cylindrical square hexagonal | glass ceramic plastic |
bottle       | 1 | any | cylindrical square | glass plastic metal |
teapot       | 1 | any | round hexagonal | glass ceramic metal |
spoon        | 1 | | | metal wooden plastic |
fork         | 1 | | | metal wooden plastic |
apple        | 1 | red green yellow | | |
pear         | 1 | green yellow brown | | |
banana       | 1 | yellow green | | |
lemon        | 1 | yellow green | | |
tomato       | 1 | red green yellow | | |
carrot       | 1 | orange purple | | |
strawberry   | 1 | red | | |
mushroom     | 1 | white brown red | | |
egg          | 1 | white brown blue | oval | |
pumpkin      | 2 | orange white green | round | |
cake         | 1 | white pink brown yellow blue green | round square rectangular heart-shaped star-shaped | |
cupcake      | 1 | pink white brown yellow blue purple | | |
cookie       | 1 | | round square heart-shaped star-shaped triangular | |
donut        | 1 | pink brown white blue yellow | | |
pizza        | 1 | | round square rectangular heart-shaped | |
sandwich     | 1 | | triangular square rectangular | |
loaf of bread | 1 | | round oval rectangular | |
book         | 1 | any | square rectangular | leather |
candle       | 1 | any | cylindrical spherical cube-shaped star-shaped heart-shaped | |
clock        | 1 | any | round square oval octagonal hexagonal | wooden metal plastic | hangs
mirror       | 2 | | round oval square rectangular heart-shaped | | hangs
picture frame | 1 | any | round oval square rectangular | wooden metal plastic | hangs
lamp         | 2 | any | spherical cylindrical cone-shaped | glass metal paper wooden | hangs
pillow       | 1 | any | round square rectangular heart-shaped star-shaped | velvet silk linen leather knitted fluffy |
blanket      | 2 | any | square rectangular | woolen knitted fluffy cotton |
rug          | 3 | any | round oval square rectangular hexagonal | woolen woven fluffy leather | surface
box          | 2 | any | cube-shaped rectangular round hexagonal heart-shaped | wooden metal plastic cardboard | surface
basket       | 2 | any | round oval square rectangular | woven metal plastic |
bucket       | 2 | any | cylindrical oval | metal plastic wooden |
suitcase     | 2 | any | rectangular square | leather metal plastic | surface
hat          | 1 | any | | straw woolen leather felt |
scarf        | 1 | any | | woolen silk knitted cotton |
glove        | 1 | any | | leather woolen knitted rubber |
boot         | 1 | any | | leather rubber suede |
shoe         | 1 | any | | leather suede canvas |
sock         | 1 | any | | woolen cotton knitted |
tie          | 1 | any | | silk woolen knitted |
jacket       | 2 | any | | leather denim woolen velvet |
sweater      | 2 | any | | woolen knitted fluffy cotton |
dress        | 2 | any | | silk velvet cotton lace |
backpack     | 2 | any | rectangular round | leather canvas nylon |
handbag      | 1 | any | square rectangular round | leather canvas woven velvet |
umbrella     | 2 | any | | |
teddy bear   | 1 | brown white black pink yellow | | fluffy knitted felt |
doll         | 1 | | | wooden porcelain plastic knitted |
ball         | 1 | any | | rubber leather plastic |
balloon      | 1 | any | round oval heart-shaped star-shaped | rubber | flies
kite         | 2 | any | diamond-shaped triangular rectangular hexagonal | paper nylon silk | flies
drum         | 2 | any | cylindrical round | wooden metal plastic |
guitar       | 2 | any | | wooden |
violin       | 1 | brown black white red | | wooden |
piano        | 3 | black white brown red | | wooden |
laptop       | 1 | any | | metal plastic |
cell phone   | 1 | any | rectangular | metal plastic |
camera       | 1 | any | | metal plastic |
radio        | 1 | any | rectangular round cube-shaped | wooden metal plastic |
television   | 2 | black white | rectangular square | |
skateboard   | 2 | any | | wooden plastic |
surfboard    | 3 | any | | wooden plastic |
chair        | 3 | any | | wooden metal plastic leather | surface
stool        | 2 | any | round square hexagonal triangular | wooden metal plastic | surface
armchair     | 3 | any | | leather velvet woven |
couch        | 3 | any | rectangular | leather velvet linen | surface
bench        | 3 | any | | wooden metal stone marble plastic | surface
table        | 3 | any | round oval square rectangular hexagonal | wooden metal glass marble plastic | surface
desk         | 3 | any | rectangular | wooden metal glass | surface
bed          | 3 | any | round rectangular | wooden metal | surface
dresser      | 3 | any | rectangular | wooden metal | surface
bookshelf    | 3 | any | rectangular square triangular | wooden metal | surface
cabinet      | 3 | any | rectangular square | wooden metal plastic | surface
flower pot   | 1 | any | round square hexagonal cylindrical | clay ceramic plastic metal |
rose         | 1 | red white pink yellow orange | | |
tulip        | 1 | red white pink yellow orange purple | | |
cactus       | 2 | green | round | |
bush         | 3 | green | round square | | outdoors
tree         | 4 | green red yellow orange | | | outdoors
car          | 4 | any | | metallic | outdoors
bus          | 4 | any | | metallic | outdoors
truck        | 4 | any | | metallic | outdoors
van          | 4 | any | | metallic | outdoors
train        | 4 | any | | metallic | outdoors
tractor      | 4 | red green blue yellow orange | | | outdoors
bicycle      | 3 | any | | metal wooden |
motorcycle   | 3 | any | | metallic | outdoors
scooter      | 3 | any | | metal plastic |
cart         | 3 | any | | wooden metal | outdoors
sled         | 3 | any | | wooden plastic metal | outdoors
boat         | 4 | any | | wooden metal plastic | outdoors
canoe        | 3 | any | | wooden plastic | outdoors
airplane     | 4 | white red blue yellow green black | | metallic | flies outdoors
helicopter   | 4 | any | | metallic | flies outdoors
house        | 4 | any | | brick wooden stone glass | outdoors
barn         | 4 | red white brown green blue | | wooden stone brick | outdoors
tower        | 4 | red white brown black | round square octagonal hexagonal | brick stone glass metal wooden | outdoors
windmill     | 4 | red white brown blue green | | wooden stone brick | outdoors
lighthouse   | 4 | red white black yellow | round octagonal square | brick stone | outdoors
bridge       | 4 | red white brown black green blue | | wooden stone metal brick | outdoors
fence        | 3 | any | | wooden metal stone bamboo | outdoors
gate         | 3 | any | | wooden metal bamboo | outdoors
door         | 3 | any | rectangular round | wooden metal glass |
tent         | 3 | any | dome-shaped triangular cone-shaped | canvas nylon | outdoors
mailbox      | 2 | any | rectangular cylindrical square | metal wooden plastic | outdoors
fountain     | 3 | | round octagonal square | stone marble metal | outdoors
statue       | 3 | white black | | stone marble bronze wooden |
dog          | 2 | black white brown | | fluffy | animal
cat          | 2 | black white orange | | fluffy | animal
rabbit       | 2 | white brown black | | fluffy | animal
hamster      | 1 | white brown orange | | fluffy | animal
mouse        | 1 | white brown black | | | animal
squirrel     | 1 | red brown black | | fluffy | animal
owl          | 1 | white brown | | fluffy | animal
frog         | 1 | green brown | | | animal
turtle       | 1 | green brown | | | animal
duck         | 1 | white yellow brown | | | animal
chicken      | 1 | white brown black | | fluffy | animal
parrot       | 1 | red green blue yellow | | | animal flies
bird         | 1 | red blue yellow green white black brown | | | animal flies
butterfly    | 1 | blue yellow orange white purple | | | animal flies
penguin      | 2 | | | | animal
fox          | 2 | red white | | fluffy | animal
goat         | 3 | white brown black | | | animal
sheep        | 3 | white black | | fluffy | animal
pig          | 3 | pink black | | | animal
deer         | 3 | brown white | | | animal outdoors
cow          | 3 | brown black white | | | animal outdoors
horse        | 3 | brown black white | | | animal outdoors
bear         | 3 | brown black white | | fluffy | animal outdoors
lion         | 3 | | | | animal outdoors
tiger        | 3 | white orange | | | animal outdoors
zebra        | 3 | | | | animal outdoors
giraffe      | 4 | | | | animal outdoors
elephant     | 4 | | | | animal outdoors
"""
_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "mouse": "mice", "sheep": "sheep", "deer": "deer",
    "cactus": "cacti", "tomato": "tomatoes", "scarf": "scarves", "bookshelf": "bookshelves",
    "loaf of bread": "loaves of bread",
}  # fmt: skip
FIRST = ("fluffy",)  # textures that stand before the colour: a fluffy white rug, but a white wooden chair


@dataclass(frozen=True)
class Noun:
    """A thing, an animal or a person, with the attributes that suit it.

    Attributes:
        name: The singular, without an article.
        size: From 1, which fits a hand, to 4, larger than furniture.
        colours: The colours that it may have.
        shapes: The shapes that it may have.
        textures: The materials and surfaces that it may have.
        roles: What it can do in a picture; see the table.
    """

    name: str
    size: int
    colours: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    textures: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()

    @property
    def plural(self) -> str:
        """The plural of the name."""
        if self.name in _PLURALS:
            return _PLURALS[self.name]
        if self.name.endswith(("s", "x", "ch", "sh")):
            return f"{self.name}es"
        if self.name.endswith("y") and self.name[-2] not in "aeiou":
            return f"{self.name[:-1]}ies"
        return f"{self.name}s"


def _read(table: str) -> dict[str, Noun]:
    nouns: dict[str, Noun] = {}
    for line in table.strip().splitlines():
        name, size, colours, shapes, textures, roles = (cell.strip() for cell in line.split("|"))
        known = COLOURS if colours == "any" else tuple(colours.split())
        attributes = (known, tuple(shapes.split()), tuple(textures.split()))
        nouns[name] = Noun(name, int(size), *attributes, frozenset(roles.split()))
    return nouns


NOUNS = _read(_NOUNS)
PEOPLE: Mapping[str, Noun] = {
    name: Noun(name, 3, roles=frozenset({"person"}))
    for name in (
        "man", "woman", "boy", "girl", "child", "farmer", "chef", "painter", "nurse", "gardener", "teacher", "baker",
        "carpenter", "dancer", "student", "sailor", "firefighter", "doctor", "mechanic", "scientist", "tourist",
        "grandmother", "grandfather", "clown",
    )
}  # fmt: skip
NAMED_BY_GENEVAL: Mapping[str, str] = {
    **{
        name: name
        for name in (
            "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "bench", "bird", "cat", "dog",
            "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie",
            "suitcase", "kite", "skateboard", "surfboard", "bottle", "cup", "fork", "spoon", "bowl", "banana", "apple",
            "sandwich", "carrot", "pizza", "donut", "cake", "chair", "couch", "bed", "laptop", "cell phone", "book",
            "clock", "vase", "teddy bear",
        )
    },
    "television": "tv",
}  # fmt: skip


@dataclass(frozen=True)
class Action:
    """A verb with its objects, and the places that suit it.

    Attributes:
        verb: The verb phrase in the present continuous, without `is`.
        objects: Names of nouns.
        places: Phrases such as `in a park`.
        subjects: Names of nouns or people; all people if empty.
    """

    verb: str
    objects: tuple[str, ...]
    places: tuple[str, ...]
    subjects: tuple[str, ...] = ()


def _names(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


INDOORS = _names("in a kitchen, in a living room, in a library, in a classroom, in a museum, in a workshop, in a cafe")
OUTDOORS = _names(
    "in a park, in a garden, on a beach, on a city street, in a meadow, by a lake, in a market square, in the snow"
)
WEATHER = _names("at sunset, at night, on a sunny day, on a rainy day, on a foggy morning, under a cloudy sky")
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "INDOORS": INDOORS,
    "OUTDOORS": OUTDOORS,
    "ANIMALS": tuple(name for name, noun in NOUNS.items() if "animal" in noun.roles),
    "SMALL": tuple(name for name, noun in NOUNS.items() if noun.size == 1 and not noun.roles),
}

# verb: objects | places | subjects, all people if there are none; capitals stand for a group
_ACTIONS = """
holding: SMALL, umbrella, hamster, rabbit, cat, balloon, kite, clock | INDOORS, OUTDOORS |
carrying: box, basket, bucket, suitcase, backpack, drum, guitar, skateboard, surfboard, pumpkin, lamp, stool, blanket
    | OUTDOORS, across a bridge, up the stairs |
painting: fence, chair, table, door, bench, boat, mailbox, box, vase, picture frame, stool, cabinet, gate, flower pot
    | in a workshop, in a garden, in a yard, by a lake |
repairing: bicycle, motorcycle, car, tractor, clock, radio, chair, boat, lamp, scooter, fence, drum, truck, guitar
    | in a workshop, in a garage, in a yard |
washing: car, dog, plate, bowl, bus, cup, van, horse, truck, bucket, bottle, motorcycle, carrot
    | in a yard, in the rain, on a sunny day |
photographing: ANIMALS, lighthouse, statue, windmill, tower, bridge, fountain, train, boat, barn, tree, airplane
    | at sunset, in the snow, on a sunny day, on a foggy morning |
drawing: cat, dog, horse, house, tree, rose, tulip, vase, pear, apple, owl, lighthouse, boat, butterfly, fox, windmill
    | in a park, in a classroom, in a garden, on a beach |
feeding: duck, goat, sheep, horse, rabbit, chicken, pig, cow, deer, elephant, giraffe, cat, dog, parrot, squirrel,
    penguin | in a park, on a farm, in a zoo, in a yard |
riding: bicycle, horse, motorcycle, scooter, skateboard, elephant, tractor, sled
    | on a country road, along a beach, through a park, in the snow |
playing: guitar, violin, piano, drum | INDOORS, on a stage, in a park |
eating: apple, banana, pear, sandwich, donut, pizza, cookie, cupcake, strawberry, carrot, tomato
    | in a cafe, in a park, on a bench, on a beach, in a kitchen |
baking: cake, pizza, loaf of bread, cookie, cupcake | in a kitchen, in a bakery |
slicing: carrot, tomato, apple, lemon, pear, cake, loaf of bread, mushroom, pumpkin, banana, pizza
    | in a kitchen, at a market, on a cutting board |
sitting on: bench, chair, stool, couch, bed, rug, suitcase, box, desk, fence | INDOORS, OUTDOORS |
leaning against: car, tree, fence, bookshelf, bus, door, piano, statue, motorcycle, truck, cabinet
    | in the rain, at night, at sunset, on a sunny day |
wearing: hat, scarf, jacket, sweater, tie, backpack | INDOORS, OUTDOORS |
opening: box, suitcase, umbrella, door, jar, book, gate, laptop, cabinet, mailbox
    | at night, in the rain, on a sunny day |
pushing: cart, bicycle, car, sled, scooter, piano, couch, boat, bed
    | up a hill, across a yard, through the snow, down a street |
watering: rose, tulip, cactus, tree, bush, flower pot | in a garden, on a balcony, in a greenhouse |
sleeping on: couch, rug, bed, pillow, blanket, bench, box, chair, bookshelf, sweater
    | INDOORS, in the sun | cat, dog, rabbit, hamster, owl, fox, squirrel
jumping over: fence, bench, bucket, box, pumpkin, bush, suitcase, stool
    | OUTDOORS, on a farm | dog, cat, horse, rabbit, frog, goat, deer, fox, sheep, boy, girl
chasing: ball, butterfly, mouse, squirrel, duck, chicken, balloon, rabbit, bird, kite, bicycle
    | OUTDOORS, on a farm | dog, cat, fox, boy, girl, goat, pig
sitting on: fence, mailbox, bench, statue, barn, car, boat, fountain, gate
    | in a park, in the snow, at sunset, at night, on a rainy day, on a foggy morning
    | bird, owl, parrot, cat, squirrel, butterfly, chicken
pulling: cart, sled, boat, tree, canoe
    | through the snow, along a country road, across a field | horse, cow, elephant, dog, goat, tractor, truck
looking into: mirror, box, basket, bucket, suitcase, tent, fountain
    | at night, in the rain, on a sunny day | cat, dog, fox, bear, owl, child, rabbit, goat, squirrel, penguin, duck
eating: carrot, apple, pumpkin, strawberry, pear, banana, mushroom, tomato
    | in a garden, in a meadow, in the snow, on a farm
    | rabbit, hamster, squirrel, horse, goat, pig, deer, mouse, elephant, cow, sheep, turtle
"""


def _actions(table: str) -> tuple[Action, ...]:
    found = []
    for entry in re.split(r"\n(?=\S)", table.strip()):
        verb, _, rest = entry.partition(":")
        lists = [
            tuple(name for each in _names(cell) for name in _GROUPS.get(each, (each,))) if cell.strip() else ()
            for cell in rest.split("|")
        ]
        objects, places, subjects = (*lists, ())[:3]
        found.append(Action(verb, objects, places, subjects))
    return tuple(found)


ACTIONS = _actions(_ACTIONS)
