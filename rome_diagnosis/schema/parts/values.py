"""The values documents are made of: finite numbers, counts, shares, names, prompts.

Every alias says in words what it allows; these words stand in error messages and in
``docs/schema.md``.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

from annotated_types import Ge, Gt, Le, Len, Predicate

from rome_diagnosis.envelope import LARGEST

if TYPE_CHECKING:
    from collections.abc import Hashable

# Whole numbers fit into 64 bits.
LARGEST_INTEGER = 2**63 - 1
# How far a share or a cosine computed in float32 or less may lie beyond its end.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Says:
    """What a value may be, in words.

    Attributes:
        text: A noun phrase, e.g. ``a number from 0 to 1``.
    """

    text: str


@dataclass(frozen=True)
class Either:
    """Chooses the second of two kinds of object where a field is present and not null.

    Attributes:
        field: The field's name.
    """

    field: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """How pydantic validates it."""
        from pydantic_core import core_schema

        without, with_field = (handler.generate_schema(kind) for kind in get_args(source))
        return core_schema.tagged_union_schema({0: without, 1: with_field}, self.choose)

    def choose(self, value: Any) -> "Hashable":
        """0 or 1: which of the two kinds a value must be."""
        return int(isinstance(value, dict) and value.get(self.field) is not None)


def has_one_slot(prompt: str) -> bool:
    """Whether a prompt has exactly one ``{}``, where the subject goes."""
    return prompt.count("{}") == 1


Number = Annotated[float, Ge(-LARGEST), Le(LARGEST), Says("a finite number")]
Positive = Annotated[float, Gt(0), Le(LARGEST), Says("a finite number above 0")]
Size = Annotated[float, Ge(0), Le(LARGEST), Says("a finite number, 0 or more")]
Share = Annotated[float, Ge(-ROUNDING), Le(1 + ROUNDING), Says("a number from 0 to 1")]
Cosine = Annotated[float, Ge(-1 - ROUNDING), Le(1 + ROUNDING), Says("a number from −1 to 1")]
Integer = Annotated[
    int, Ge(-LARGEST_INTEGER), Le(LARGEST_INTEGER), Says("a whole number of 64 bits")
]
Count = Annotated[int, Ge(0), Le(LARGEST_INTEGER), Says("a whole number, 0 or more")]
Name = Annotated[str, Predicate(str.isidentifier), Says("a name of letters, digits and _")]
Prompt = Annotated[str, Predicate(has_one_slot), Says("a text with one {} for the subject")]
Pair = Annotated[list[Number], Len(2, 2), Says("a list of two finite numbers")]
