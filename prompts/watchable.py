"""Prompts for language models that are made to be watched: whether something else gets worse.

`capitals` are questions with four options; `prose` are texts whose likelihood is computed. Most of each set are test
prompts, since nothing is searched on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ..engine.bucket import PromptSet
from .draws import Draws

NUM_OPTIONS = 4
CAPITALS = {
    "Afghanistan": "Kabul", "Albania": "Tirana", "Algeria": "Algiers", "Angola": "Luanda", "Argentina": "Buenos Aires",
    "Armenia": "Yerevan", "Australia": "Canberra", "Austria": "Vienna", "Azerbaijan": "Baku", "Bangladesh": "Dhaka",
    "Belarus": "Minsk", "Belgium": "Brussels", "Botswana": "Gaborone", "Brazil": "Brasilia", "Bulgaria": "Sofia",
    "Cambodia": "Phnom Penh", "Canada": "Ottawa", "Chad": "N'Djamena", "Chile": "Santiago", "China": "Beijing",
    "Colombia": "Bogota", "Croatia": "Zagreb", "Cuba": "Havana", "Cyprus": "Nicosia", "Denmark": "Copenhagen",
    "Ecuador": "Quito", "Egypt": "Cairo", "Eritrea": "Asmara", "Estonia": "Tallinn", "Ethiopia": "Addis Ababa",
    "Finland": "Helsinki", "France": "Paris", "Georgia": "Tbilisi", "Germany": "Berlin", "Ghana": "Accra",
    "Greece": "Athens", "Haiti": "Port-au-Prince", "Honduras": "Tegucigalpa", "Hungary": "Budapest",
    "Iceland": "Reykjavik", "India": "New Delhi", "Indonesia": "Jakarta", "Iran": "Tehran", "Iraq": "Baghdad",
    "Ireland": "Dublin", "Italy": "Rome", "Jamaica": "Kingston", "Japan": "Tokyo", "Jordan": "Amman",
    "Kenya": "Nairobi", "Kuwait": "Kuwait City", "Laos": "Vientiane", "Latvia": "Riga", "Lebanon": "Beirut",
    "Libya": "Tripoli", "Lithuania": "Vilnius", "Malaysia": "Kuala Lumpur", "Mali": "Bamako", "Malta": "Valletta",
    "Mexico": "Mexico City", "Mongolia": "Ulaanbaatar", "Morocco": "Rabat", "Mozambique": "Maputo",
    "Namibia": "Windhoek", "Nepal": "Kathmandu", "New Zealand": "Wellington", "Nicaragua": "Managua",
    "Nigeria": "Abuja", "North Korea": "Pyongyang", "Norway": "Oslo", "Oman": "Muscat", "Pakistan": "Islamabad",
    "Paraguay": "Asuncion", "Peru": "Lima", "Poland": "Warsaw", "Portugal": "Lisbon", "Qatar": "Doha",
    "Romania": "Bucharest", "Russia": "Moscow", "Rwanda": "Kigali", "Saudi Arabia": "Riyadh", "Senegal": "Dakar",
    "Serbia": "Belgrade", "Slovakia": "Bratislava", "Slovenia": "Ljubljana", "Somalia": "Mogadishu",
    "South Korea": "Seoul", "Spain": "Madrid", "Sudan": "Khartoum", "Sweden": "Stockholm", "Syria": "Damascus",
    "Thailand": "Bangkok", "Tunisia": "Tunis", "Turkey": "Ankara", "Uganda": "Kampala", "Ukraine": "Kyiv",
    "Uruguay": "Montevideo", "Venezuela": "Caracas", "Vietnam": "Hanoi", "Zambia": "Lusaka", "Zimbabwe": "Harare",
}  # fmt: skip
#: Written for this purpose: everyday English of several kinds, one text a line.
PROSE = (
    "The train was late again, so we sat on the bench and watched the rain run down the windows of the station.",
    "Bread needs only flour, water, salt and time; most of the work is done by the yeast while nobody is looking.",
    "When the sun goes down behind the hills, the valley cools and a thin mist gathers near the river.",
    "To change a tyre, loosen the nuts a little before you lift the car, "
    "since the wheel will turn once it is in the air.",
    "My grandmother kept every letter that she ever received in a wooden box under the stairs.",
    "Water boils at a lower temperature on a high mountain, since the pressure of the air is lower there.",
    "The committee agreed to meet again in March, after the members had read the report and spoken with their offices.",
    "He opened the door slowly, as if he were afraid of waking someone, and found the room empty.",
    "Sound travels faster through water than through air, and faster still through steel.",
    "The market opens at six in the morning, and by nine the best vegetables are already gone.",
    "A good map leaves out almost everything, so that the few things that matter can be seen at a glance.",
    "She learned to play the violin as a child, stopped for twenty years, and began again after she retired.",
    "Bees tell each other where the flowers are by dancing; the angle of the dance points away from the sun.",
    "Please remember to turn off the lights and close the windows before you leave the building.",
    "The old bridge was built for carts and horses, and now it carries four thousand cars a day.",
    "If the soup is too salty, add a potato and let it cook for a while; or simply add more water.",
    "The children built a castle of sand, and the tide took it away before they had finished the walls.",
    "Most of the price of a bottle of water is the bottle, the lorry that carries it, and the shop that sells it.",
    "In winter the lake freezes from the top down, which is why the fish below can live until spring.",
    "The doctor asked how long the pain had lasted, wrote something on a card, and told him to rest for a week.",
    "A loan of ten thousand at five per cent costs five hundred in its first year, whether or not the money is spent.",
    "We walked along the coast for three days, slept in small hotels, and saw hardly anyone on the path.",
    "Paper was once made of old clothes, and a shortage of rags could stop the printing of books.",
    "The cat sat in the doorway, neither in nor out, and looked at the snow with great suspicion.",
    "A glass of cold milk, a slice of cake and a quiet afternoon were all that she wanted for her birthday.",
    "The first engines pumped water out of mines; only later did somebody put one on wheels.",
    "Your order has been sent and should arrive within five working days; you can follow it with the number below.",
    "From the top of the tower you can see the whole city, the harbour, and on clear days the islands beyond.",
    "He had never learned to swim, which he mentioned only after the boat had left the shore.",
    "The moon pulls the sea towards it, and because the earth turns below, most coasts have two tides a day.",
    "The new law was meant to make houses cheaper, but for the first few years it did the opposite.",
    "Plants in a dark corner grow long and pale, because they spend all that they have on reaching for the light.",
    "The teacher wrote a question on the board, sat down, and waited until somebody dared to answer.",
    "Keep the receipt in a safe place; without it we can repair the machine, but we cannot give you a new one.",
    "Long before clocks, people measured the night by the stars and the day by the length of a shadow.",
    "The team lost the first two games of the season, won the next nine, and never explained what had changed.",
    "Iron rusts when it is wet and meets air, so a dry desert preserves old ships better than a harbour does.",
    "There was a small shop at the corner where you could buy newspapers, string, and very hard sweets.",
    "They sold the farm in the autumn, moved to the town, and kept one field for the horses.",
    "The meeting lasted three hours, and everything that mattered was said in the last ten minutes.",
    "A violin maker chooses wood by tapping it and listening, as others choose melons.",
    "Snow had fallen during the night, and the only tracks in the garden were those of a fox.",
    "Before you send a message in anger, save it, make a cup of tea, and read it once more.",
    "The river has changed its course twice since the village was founded, and both times it took the church with it.",
    "Coffee was carried from port to port by sailors who were told never to sell a plant that could still grow.",
    "When two colours of equal brightness lie side by side, the eye finds it hard to keep the border still.",
    "The library lends tools as well as books now, and the ladder is never on its shelf.",
    "It is easier to keep a machine clean than to find out afterwards which of its parts the dust has stopped.",
)


def capital_prompts() -> PromptSet:
    """Return the questions: the capital of a country, and the country of a capital, each with four options."""
    metadata: dict[str, dict[str, Any]] = {}
    pools: list[tuple[str, ...]] = []
    for countries in _split(sorted(CAPITALS)):
        asked = {f"The capital of {country} is": f" {CAPITALS[country]}" for country in countries}
        back = {f"The city of {CAPITALS[country]} is the capital of": f" {country}" for country in countries}
        for questions in (asked, back):
            for prompt, answer in questions.items():
                metadata[prompt] = {"answer": answer, "options": _options(prompt, answer, list(questions.values()))}
        pools.append((*asked, *back))
    train, validation, test = pools
    return PromptSet(train, validation, test, source="prompts 'capitals'", metadata=metadata)


def prose_prompts() -> PromptSet:
    """Return the texts."""
    train, validation, test = _split(PROSE)
    return PromptSet(train, validation, test, source="prompts 'prose'")


def _options(prompt: str, answer: str, others: Sequence[str]) -> list[str]:
    """Return the answer among others, in an order that does not tell which it is."""
    draws, found = Draws("capitals", prompt), {answer}
    while len(found) < NUM_OPTIONS:
        found.add(draws.pick(others))
    return sorted(found)


def _split(items: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Divide items into a few for training, a sixth for validation, and the rest for the test, by their digests."""
    ordered = sorted(items, key=lambda each: hashlib.sha256(each.encode()).digest())
    first, second = len(items) // 12, len(items) // 4
    return tuple(ordered[:first]), tuple(ordered[first:second]), tuple(ordered[second:])
