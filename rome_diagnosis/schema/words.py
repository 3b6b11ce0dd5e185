"""Types in words: what a field must be, and what stands in its place."""

import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin

from annotated_types import Len
from typing_extensions import get_type_hints, is_typeddict

from rome_diagnosis.schema.parts.values import Either, Says

SIMPLE = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}
LONGEST = 60  # characters of a value that a message shows


def phrase(kind: Any) -> str:
    """What a value of a type is, as a noun phrase.

    Args:
        kind: A type of a document's field.

    Returns:
        E.g. ``null or a finite number``.
    """
    kind = bare(kind)
    if get_origin(kind) is Annotated:
        return _annotated(kind)
    if _is_union(kind):
        members = [part for part in get_args(kind) if part is not type(None)]
        null = ["null"] if len(members) < len(get_args(kind)) else []
        return " or ".join(dict.fromkeys([*null, *map(phrase, members)]))
    if get_origin(kind) is Literal:
        values = [repr(value) for value in get_args(kind)]
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    if get_origin(kind) is list:
        return "a list"
    return SIMPLE.get(kind, "an object")


def value(given: Any) -> str:
    """A value as a message shows it: short, on one line, nothing in it executed."""
    if isinstance(given, dict):
        return "an object"
    if isinstance(given, list | tuple):
        return f"a list of {len(given)}"
    if given is None or isinstance(given, bool):
        return {None: "null", True: "true", False: "false"}[given]
    if isinstance(given, int) and abs(given) >= 10**LONGEST:
        return "a number of more digits than can be used"
    text = ascii(given) if isinstance(given, str) else str(given)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def path(place: Sequence[str | int]) -> str:
    """A place in a document as one writes it: ``edits[3].arms.rome.denominator``."""
    written = ""
    for step in place:
        if isinstance(step, int):
            written += f"[{step}]"
        else:
            name = step if step.isascii() and step.isidentifier() else value(step)
            written += f".{name}" if written else name
    return written or "the document"


def at(kind: Any, place: Sequence[str | int]) -> tuple[Any, list[str | int]]:
    """Follows a place, as pydantic writes it, through a type.

    Args:
        kind: Type of the document.
        place: Names and indices, with the number of the member chosen by an
            :class:`~rome_diagnosis.schema.parts.values.Either`.

    Returns:
        The type there, and the place without these numbers.
    """
    real: list[str | int] = []
    for step in place:
        kind, chosen = _choose(kind, step)
        if chosen:
            continue
        if step == "[key]":  # a name is wrong, not what stands under it
            return kind, real
        real.append(step)
        kind = _part(kind, step)
    return kind, real


def bare(kind: Any) -> Any:
    """A field's type without ``NotRequired``."""
    return get_args(kind)[0] if get_origin(kind) is NotRequired else kind


def fields(kind: Any) -> dict[str, Any]:
    """The fields of a TypedDict with their types."""
    return get_type_hints(kind, include_extras=True)


def _choose(kind: Any, step: str | int) -> tuple[Any, bool]:
    """Resolves unions: by a step that is a member's number, or to the member that is not null."""
    kind = bare(kind)
    if get_origin(kind) is Annotated and any(isinstance(m, Either) for m in kind.__metadata__):
        return get_args(get_args(kind)[0])[int(step)], True
    if get_origin(kind) is Annotated:
        return _choose(get_args(kind)[0], step)
    if _is_union(kind):
        (member,) = (part for part in get_args(kind) if part is not type(None))
        return _choose(member, step)
    return kind, False


def _part(kind: Any, step: str | int) -> Any:
    """The type of a field or an element."""
    if is_typeddict(kind):
        return fields(kind).get(str(step), kind.__extra_items__)
    return get_args(kind)[-1]


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _annotated(kind: Any) -> str:
    """In the words of its annotation, else of its length, else of what is annotated."""
    metadata = {type(meta): meta for meta in kind.__metadata__}
    if Says in metadata:
        return str(metadata[Says].text)
    if Len in metadata:
        return f"a list of {metadata[Len].min_length} or more"
    return phrase(get_args(kind)[0])
