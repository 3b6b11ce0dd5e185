"""Writes ``docs/schema.md`` from the schemas: ``python docs/schema.py``."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin

from typing_extensions import NoExtraItems, is_typeddict

from rome_diagnosis.schema import KINDS
from rome_diagnosis.schema.words import bare, fields, phrase

TARGET = Path(__file__).parent / "schema.md"
OPENING = """\
# Documents

Every command saves its result as one JSON document (`--json FILE`) that names its schema, and
`python -m reports` renders it. This page lists what each document holds. It is written by
`python docs/schema.py` from `rome_diagnosis/schema`, against which every document is checked before
it is shown; `rome_diagnosis.schema.validate` is the same check as a function.

Names stay: fields are added, never renamed. A field marked *optional* may be missing from documents
of earlier versions or where it was not asked for. A number is finite, and null only where this page
says so. Further fields may be there. Where editors or arms are listed by name, any further name
stands for the same kind of object.
"""


def main() -> None:
    """Writes the page."""
    TARGET.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page as Markdown."""
    blocks, done = [OPENING], set[Any]()
    for schema, kind in KINDS.items():
        blocks.append(f"## {schema}\n")
        for document in parts(kind):
            blocks += described(document, done)
    return "\n".join(blocks)


def described(kind: Any, done: set[Any]) -> Iterator[str]:
    """A kind of object, then the kinds it is made of that were not described before."""
    if kind in done:
        return
    done.add(kind)
    paragraphs, meanings = docstring(kind)
    yield f"### {kind.__name__}\n"
    yield paragraphs + "\n"
    yield "| Field | Value | Meaning |\n| --- | --- | --- |"
    for name, of in fields(kind).items():
        optional = "*optional* " if get_origin(of) is NotRequired else ""
        yield f"| `{name}` | {optional}{value(of)} | {escaped(meanings[name])} |"
    extra = getattr(kind, "__extra_items__", NoExtraItems)
    if extra is not NoExtraItems and not getattr(kind, "__closed__", False):
        yield f"| *any other name* | {value(extra)} | The same under that name. |"
    yield ""
    for of in [*fields(kind).values(), extra]:
        for part in parts(of):
            yield from described(part, done)


def docstring(kind: Any) -> tuple[str, dict[str, str]]:
    """What a kind of object is, and what each of its fields means, those it inherits included."""
    meanings: dict[str, str] = {}
    for base in reversed([kind, *_bases(kind)]):
        text, _, attributes = inspect.cleandoc(base.__doc__).partition("\n\nAttributes:\n")
        for name, meaning in re.findall(r"^    (\S+): ((?:.|\n        )+)", attributes, re.M):
            meanings[name] = " ".join(meaning.split())
    return escaped(" ".join(text.split())), meanings


def parts(of: Any) -> list[Any]:
    """The kinds of objects in a type."""
    if is_typeddict(of):
        return [of]
    return [part for argument in get_args(of) for part in parts(argument)]


def value(of: Any) -> str:
    """A type in words, with links to the kinds of objects it is made of."""
    of = bare(of)
    if is_typeddict(of):
        return f"[{of.__name__}](#{of.__name__.lower()})"
    if get_origin(of) is list:
        return f"list of {value(get_args(of)[0])}"
    if get_origin(of) is dict:
        return f"by name: {value(get_args(of)[1])}"
    if get_origin(of) in (Union, types.UnionType):
        null = " or null" if type(None) in get_args(of) else ""
        return " or ".join(value(m) for m in get_args(of) if m is not type(None)) + null
    if get_origin(of) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(of))
    if get_origin(of) is Annotated and parts(of):
        return value(get_args(of)[0])
    return escaped(phrase(of).removeprefix("a "))


def escaped(text: str) -> str:
    """Text of a docstring as Markdown in a table."""
    return text.replace("``", "`").replace("|", "\\|").replace("*", "\\*")


def _bases(kind: Any) -> list[Any]:
    """The schemas a TypedDict inherits from, nearest first."""
    inherited = []
    for base in getattr(kind, "__orig_bases__", ()):
        if is_typeddict(base):
            inherited += [base, *_bases(base)]
    return inherited


if __name__ == "__main__":
    main()
