"""Ordinary prose: narrative, description, dialogue, letters, lists and games of repetition.

It is there so that perplexity means something and attention has different jobs at different times:
names and lists that come back must be copied, speakers take turns, most words follow from grammar.
"""

from __future__ import annotations

import random
from collections.abc import Callable


def _words(text: str) -> list[str]:
    """A list that is easier read as text."""
    return text.split()


NAMES = _words(
    "Anna Ben Clara David Emil Fanny George Helen Igor Julia Karl Lena Martin Nora Oscar Paula Rosa"
    " Simon Tessa Ursula Viktor Wanda Yusuf Zoe Alice Boris Dora Felix Greta Hugo"
)
SHE = set(
    _words(
        "Anna Clara Fanny Helen Julia Lena Nora Paula Rosa Tessa Ursula Wanda Zoe Alice Dora Greta"
    )
)
ANIMALS = _words("cat dog horse goat crow fox hen owl mouse donkey swan frog")
THINGS = _words(
    "lamp rope cup key letter basket book chair knife mirror clock bottle blanket drum ladder bell"
    " coat hammer candle bucket pencil box spoon shirt map ring table violin wheel umbrella"
)
FOODS = _words(
    "bread cheese soup rice fish apples eggs butter honey beans cake tea milk salt plums nuts"
)
ADJECTIVES = _words(
    "old small red heavy bright broken blue wooden quiet strange warm round green empty silver long"
    " soft new narrow clean"
)
PLACES = _words(
    "garden kitchen market forest harbour school bridge library station field river mill church inn"
    " tower beach valley square farm workshop"
)
FEELINGS = _words("happy tired sad angry proud calm hungry afraid curious glad")
WEATHER = _words("rain snow wind fog sunshine thunder frost hail")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
TIMES = ["in the morning", "at noon", "in the evening", "at night", "before lunch", "after dinner"]
COLOURS = _words("red blue green white black yellow brown grey")
NUMBERS = _words("one two three four five six seven eight nine ten eleven twelve")
SYLLABLES = _words("ba ko mi ru ta len dor vi sha pel gon fu zar ne lim qua")
RELATIVES = ["mother", "father", "sister", "uncle"]
WORK = [
    "painted the door",
    "swept the floor",
    "fed the animals",
    "mended the roof",
    "baked bread",
    "washed the windows",
    "cut the wood",
    "wrote a long letter",
    "counted the coins",
    "watered the flowers",
    "sang an old song",
    "read the newspaper",
]


def _she(name: str) -> str:
    return "she" if name in SHE else "he"


def _her(name: str) -> str:
    return "her" if name in SHE else "his"


def _series(items: list[str]) -> str:
    return ", ".join(items[:-1]) + " and " + items[-1]


def _a(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def narrative(rng: random.Random) -> str:
    """A small story in which a thing is found, lost and named again."""
    who, friend = rng.sample(NAMES, 2)
    place, other = rng.sample(PLACES, 2)
    thing, animal = f"{rng.choice(ADJECTIVES)} {rng.choice(THINGS)}", rng.choice(ANIMALS)
    she, her, feeling = _she(who), _her(who), rng.choice(FEELINGS)
    parts = [
        f"{rng.choice(TIMES).capitalize()} {who} walked to the {place}.",
        f"There {she} found {_a(thing)} beside {_a(animal)}.",
        f"The {animal} looked {feeling}, so {she} gave it some {rng.choice(FOODS)}.",
        f"Then {friend} came from the {other} and asked about the {thing}.",
        f"{who} said that the {thing} belonged to {her} {rng.choice(RELATIVES)}.",
        f"{friend} did not believe {who} and went back to the {other}.",
        f"Because of the {rng.choice(WEATHER)}, {who} stayed in the {place} with the {animal}.",
        f"Later {she} {rng.choice(WORK)} and thought of {friend}.",
        f"When {friend} returned, the {animal} was asleep under the {thing}.",
        f"In the end {who} and {friend} carried the {thing} to the {other} together.",
    ]
    keep = sorted(rng.sample(range(2, len(parts)), rng.randint(3, 7)))
    return " ".join(parts[:2] + [parts[i] for i in keep])


def dialogue(rng: random.Random) -> str:
    """Two people take turns; what one asks for, the other names again."""
    one, two = rng.sample(NAMES, 2)
    lines = []
    for _ in range(rng.randint(2, 4)):
        thing, place, food = rng.choice(THINGS), rng.choice(PLACES), rng.choice(FOODS)
        colour, day, number = rng.choice(COLOURS), rng.choice(DAYS), rng.choice(NUMBERS)
        question, answer = rng.choice(
            [
                (f"Where is the {thing}?", f"The {thing} is in the {place}."),
                (f"Do you want some {food}?", f"Yes, I would like {food}, please."),
                (f"Which {thing} is yours?", f"The {colour} {thing} is mine."),
                (f"When do we go to the {place}?", f"We go to the {place} on {day}."),
                (f"How many {thing}s do you see?", f"I see {number} {thing}s."),
                (
                    f"Did you meet {rng.choice(NAMES)} at the {place}?",
                    f"No, the {place} was empty.",
                ),
            ]
        )
        lines += [f'"{question}" asked {one}.', f'"{answer}" said {two}.']
    return rng.choice([" ", "\n"]).join(lines)


def packing(rng: random.Random) -> str:
    """A list that comes back word for word, then shrinks by what was used."""
    who, place = rng.choice(NAMES), rng.choice(PLACES)
    items = [
        f"{_a(f'{rng.choice(ADJECTIVES)} {thing}')}"
        for thing in rng.sample(THINGS, rng.randint(3, 6))
    ]
    parts = [
        f"{who} packed {_series(items)}.",
        f"At the {place} {_she(who)} opened the bag and took out {_series(items)}.",
    ]
    if rng.random() < 0.5:
        parts.append(
            f"{rng.choice(NAMES)} borrowed {items[0]}, and so {_series(items[1:])} were left."
        )
    return " ".join(parts)


def timetable(rng: random.Random) -> str:
    """A week's plan, one day a line, told twice."""
    who = rng.choice(NAMES)
    days = DAYS[rng.randint(0, 3) :][: rng.randint(3, 5)]
    plan = {day: (rng.choice(PLACES), rng.choice(TIMES)) for day in days}
    lines = [f"The plan of {who} for the week:"]
    lines += [f"{day}: {place}, {time}" for day, (place, time) in plan.items()]
    day = rng.choice(days)
    lines.append(f"So on {day} {who} goes to the {plan[day][0]} {plan[day][1]}.")
    return "\n".join(lines)


def description(rng: random.Random) -> str:
    """What a place looks like."""
    place, other = rng.sample(PLACES, 2)
    first, second, third = (f"{rng.choice(ADJECTIVES)} {thing}" for thing in rng.sample(THINGS, 3))
    parts = [
        f"The {place} is {rng.choice(ADJECTIVES)} and {rng.choice(ADJECTIVES)}.",
        f"On the left there is {_a(first)}, on the right {_a(second)}.",
        f"Between the {first} and the {second} lies {_a(third)}.",
        f"A path of {rng.choice(COLOURS)} stones leads from the {place} to the {other}.",
        f"When there is {rng.choice(WEATHER)}, the {rng.choice(ANIMALS)}s hide behind the "
        f"{second}.",
        f"People from the {other} come here {rng.choice(TIMES)}.",
    ]
    return " ".join(parts[: rng.randint(3, 6)])


def letter(rng: random.Random) -> str:
    """A letter with its greeting and its signature."""
    to, sender = rng.sample(NAMES, 2)
    thing, place = rng.choice(THINGS), rng.choice(PLACES)
    body = rng.sample(
        [
            f"Thank you for the {rng.choice(ADJECTIVES)} {thing}.",
            f"I am {rng.choice(FEELINGS)} because the {rng.choice(WEATHER)} has come back.",
            f"Yesterday I {rng.choice(WORK)}.",
            f"Please bring the {thing} to the {place} on {rng.choice(DAYS)}.",
            f"My {rng.choice(ANIMALS)} likes {rng.choice(FOODS)} and {rng.choice(FOODS)}.",
            f"Do you remember the {place} where we saw {rng.choice(NUMBERS)} "
            f"{rng.choice(ANIMALS)}s?",
        ],
        rng.randint(2, 4),
    )
    return f"Dear {to}, {' '.join(body)} Your friend {sender}"


def secret_word(rng: random.Random) -> str:
    """A word that nobody knows, which must be copied when it comes back."""
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(2)]
    who, other = rng.sample(NAMES, 2)
    parts = [
        f"The secret word of {who} is {words[0]}, and the secret word of {other} is {words[1]}.",
        f"To open the {rng.choice(THINGS)}, say {words[0]}.",
        f"{other} forgot and said {words[1]}.",
        f"{who} whispered {words[0]} once more.",
    ]
    return " ".join([parts[0], *rng.sample(parts[1:], 2)])


def repeated_line(rng: random.Random) -> str:
    """A row of things that is read out, and read out again."""
    pool = rng.choice([NAMES, THINGS, FOODS, ANIMALS, COLOURS, NUMBERS, PLACES])
    row = [rng.choice(pool) for _ in range(rng.randint(4, 9))]
    joiner = rng.choice([", ", " ", " and ", "\n"])
    return f"{joiner.join(row)}. Again: {joiner.join(row)}."


def recipe(rng: random.Random) -> str:
    """How to cook with what is in the house."""
    first, second, third = rng.sample(FOODS, 3)
    count = rng.choice(NUMBERS)
    return (
        f"To make {first} with {second}, take {count} spoons of {third} and a "
        f"{rng.choice(ADJECTIVES)} bowl. Mix the {second} with the {third}. "
        f"Wait {rng.choice(NUMBERS)} minutes, then add the {first}. "
        f"Serve the {first} with {second} {rng.choice(TIMES)}."
    )


PROSE: tuple[tuple[Callable[[random.Random], str], int], ...] = (
    (narrative, 6),
    (dialogue, 4),
    (packing, 3),
    (timetable, 2),
    (description, 3),
    (letter, 3),
    (secret_word, 2),
    (repeated_line, 3),
    (recipe, 1),
)
"""Kinds of prose and how often each occurs, relative to the others."""


def paragraph(rng: random.Random) -> str:
    """One paragraph of a kind drawn by its weight."""
    kinds, weights = zip(*PROSE, strict=True)
    return rng.choices(kinds, weights)[0](rng)
