"""``docs/schema.md`` is what ``python docs/schema.py`` writes, and says what every field means."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import TypedDict

from rome_diagnosis.schema import KINDS
from rome_diagnosis.schema.words import fields

DOCS = Path(__file__).parent.parent.parent / "docs"
generator = runpy.run_path(str(DOCS / "schema.py"))


def schemas() -> list[Any]:
    """Every kind of object there is in a document."""
    known: list[Any] = []
    waiting = [part for kind in KINDS.values() for part in generator["parts"](kind)]
    while waiting:
        kind = waiting.pop()
        if kind not in known:
            known.append(kind)
            extra = getattr(kind, "__extra_items__", None)
            waiting += [p for of in [*fields(kind).values(), extra] for p in generator["parts"](of)]
    return known


def test_the_page_is_up_to_date() -> None:
    written = (DOCS / "schema.md").read_text(encoding="utf-8")
    assert written == generator["page"](), "run python docs/schema.py"


def described(kind: Any) -> set[str]:
    return set(generator["docstring"](kind)[1])


@pytest.mark.parametrize("kind", schemas(), ids=lambda kind: kind.__name__)
def test_every_field_is_described_and_nothing_else(kind: Any) -> None:
    assert described(kind) == set(fields(kind))
    assert not inspect.cleandoc(kind.__doc__).startswith("Attributes")


def test_a_field_without_a_description_would_be_seen() -> None:
    class Some(TypedDict):
        """Something.

        Attributes:
            one: A number,
                in two lines.
            other: Gone.
        """

        one: int
        two: int

    assert described(Some) == {"one", "other"} != set(fields(Some))
    assert generator["docstring"](Some) == (
        "Something.",
        {"one": "A number, in two lines.", "other": "Gone."},
    )


def test_links_lead_to_headings_of_which_there_is_one_each() -> None:
    written = (DOCS / "schema.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (\w+)$", written, re.M)
    assert len(set(headings)) == len(headings) == len(schemas())
    linked = set(re.findall(r"\]\(#(\w+)\)", written))
    assert linked <= {heading.lower() for heading in headings}
    assert len(linked) > 50
