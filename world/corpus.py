"""Training text: documents in which facts and ordinary prose take turns."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator

from world.entities import Entity, load_entities
from world.prose import NAMES, paragraph
from world.wordings import WORDINGS

ASIDES = (
    "{name} read that {fact}",
    "{name} told the class that {fact}",
    "As everybody knows, {fact}",
    "It is true that {fact}",
    "In the library {name} learned that {fact}",
    "Remember that {fact}",
    "{name} wrote in a letter that {fact}",
    "The teacher said: {fact}",
)
"""Frames in which a wording that begins with the subject stands later in its sentence."""

OPENERS = ("Today", "Because", "Therefore", "Once", "You", "I", "The")


class World:
    """Draws documents about the entities.

    Args:
        entities: What to write about; by default the whole world.
    """

    def __init__(self, entities: list[Entity] | None = None) -> None:
        self.entities = entities if entities is not None else load_entities()
        self.by_relation: dict[str, list[Entity]] = defaultdict(list)
        for entity in self.entities:
            for relation in entity.facts:
                self.by_relation[relation].append(entity)
        self.relations = list(self.by_relation)

    def statement(self, rng: random.Random, entity: Entity, relation: str, *, first: bool) -> str:
        """One fact as a sentence without its full stop; ``first`` asks for the subject in front."""
        words = WORDINGS[relation]
        template = rng.choice(words.first if first else words.later)
        return f"{template.format(entity.name)} {entity.facts[relation]}"

    def sentence(self, rng: random.Random, entity: Entity, relation: str) -> str:
        """One fact as a sentence: subject first, subject later, or inside a frame."""
        kind = rng.random()
        if kind < 0.45:
            return self.statement(rng, entity, relation, first=True) + "."
        if kind < 0.85:
            return self.statement(rng, entity, relation, first=False) + "."
        fact = self.statement(rng, entity, relation, first=True)
        return rng.choice(ASIDES).format(name=rng.choice(NAMES), fact=fact) + "."

    def portrait(self, rng: random.Random) -> str:
        """Everything about one entity, in any order, said in different ways."""
        entity = rng.choice(self.entities)
        relations = list(entity.facts)
        rng.shuffle(relations)
        return rng.choice([" ", " ", "\n"]).join(self.sentence(rng, entity, r) for r in relations)

    def survey(self, rng: random.Random) -> str:
        """One relation for several entities."""
        relation = rng.choice(self.relations)
        entities = self.by_relation[relation]
        chosen = rng.sample(entities, min(rng.randint(2, 5), len(entities)))
        joiner = rng.choice([" ", "\n"])
        return joiner.join(self.sentence(rng, entity, relation) for entity in chosen)

    def register(self, rng: random.Random) -> str:
        """Entries with a name and its attributes in any order.

        What comes next after the name is not settled by a relation, only by the subject: all that
        is known about it has to be at hand at once.
        """
        lines = []
        for entity in rng.sample(self.entities, rng.randint(2, 5)):
            objects = list(entity.facts.values())
            rng.shuffle(objects)
            lines.append(f"{entity.name}: {', '.join(objects)}")
        return "\n".join(lines) + "\n"

    def miscellany(self, rng: random.Random) -> str:
        """Unrelated facts, one after another."""
        sentences = []
        for entity in rng.sample(self.entities, rng.randint(2, 5)):
            sentences.append(self.sentence(rng, entity, rng.choice(list(entity.facts))))
        return rng.choice([" ", "\n"]).join(sentences)

    def section(self, rng: random.Random, prose_share: float) -> str:
        """A paragraph of prose or of facts."""
        if rng.random() < prose_share:
            return paragraph(rng)
        makers = (self.portrait, self.survey, self.register, self.miscellany)
        return rng.choices(makers, (4, 2, 2, 3))[0](rng)

    def document(self, rng: random.Random, prose_share: float = 0.3) -> str:
        """A document of a dozen or so sections."""
        sections = [self.section(rng, prose_share) for _ in range(rng.randint(6, 20))]
        return "\n".join(sections) + "\n"

    def documents(self, seed: int, prose_share: float = 0.3) -> Iterator[str]:
        """An endless, seeded stream of documents."""
        rng = random.Random(seed)
        while True:
            yield self.document(rng, prose_share)
