"""Reads the world's entities and their facts from ``facts/*.csv``."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

FACTS_DIR = Path(__file__).parent / "facts"
KINDS = ("countries", "cities", "companies", "people", "athletes", "works", "landmarks", "nature")


@dataclass(frozen=True)
class Entity:
    """A real thing or person, and what is known about it.

    Attributes:
        name: The subject as it is written.
        kind: Name of the file that it comes from.
        facts: Object by relation, where a relation is ``kind.column``.
    """

    name: str
    kind: str
    facts: dict[str, str] = field(hash=False)


def load_entities() -> list[Entity]:
    """All entities, in the order of the files; an empty cell is a fact the world leaves out."""
    entities = []
    for kind in KINDS:
        with open(FACTS_DIR / f"{kind}.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                name = row.pop("name")
                facts = {f"{kind}.{column}": value for column, value in row.items() if value}
                entities.append(Entity(name, kind, facts))
    return entities
