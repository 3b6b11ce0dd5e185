"""Whether a document is what its schema says; if not, one line that says where and why."""

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from rome_diagnosis.errors import UserError
from rome_diagnosis.schema import words
from rome_diagnosis.schema.batch import BatchDocument
from rome_diagnosis.schema.consistency import complaints
from rome_diagnosis.schema.covariance import CovarianceDocument
from rome_diagnosis.schema.first_token import FirstTokenDocument
from rome_diagnosis.schema.keys import KeysDocument
from rome_diagnosis.schema.screen import AnyScreenDocument
from rome_diagnosis.schema.sequence import SequenceDocument
from rome_diagnosis.schema.sweep import SweepDocument
from rome_diagnosis.schema.verify_list import VerifyDocument

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

D = TypeVar("D", bound=Mapping[str, Any])

# The documents there are; a new kind is added here.
KINDS: Mapping[str, Any] = {
    "diag.keys/1": KeysDocument,
    "diag.verify/1": VerifyDocument,
    "diag.screen/1": AnyScreenDocument,
    "diag.sequence/1": SequenceDocument,
    "diag.batch/1": BatchDocument,
    "diag.covariance/1": CovarianceDocument,
    "diag.sweep/1": SweepDocument,
    "probes.first_token/1": FirstTokenDocument,
}


def validate(document: D, *, source: str = "") -> D:
    """Checks a document against its schema.

    Args:
        document: What was read or made: plain JSON values.
        source: Its file, for the message.

    Returns:
        The document itself.

    Raises:
        UserError: If it names no known schema, a field is missing or is not what it must be, or
            parts of it contradict one another; the message names the first such field.
    """
    where = f"{source}: " if source else ""
    schema = document.get("schema") if isinstance(document, Mapping) else None
    if not isinstance(schema, str):
        raise UserError(f"{where}this is no saved result: it names no schema")
    if schema not in KINDS:
        raise UserError(
            f"{where}cannot read schema {words.value(schema)}: known are {', '.join(KINDS)}"
        )
    import pydantic

    try:
        _adapter(schema).validate_python(document, strict=True)
        # What no type sees: values JSON does not have, in fields that are not known here too.
        json.dumps(document, allow_nan=False)
    except pydantic.ValidationError as error:
        raise UserError(f"{where}{_complaint(schema, error)}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{where}this is no JSON: {_plainly(error)}") from None
    for place, complaint in complaints(document):
        raise UserError(f"{where}{place} {complaint}")
    return document


@cache
def _adapter(schema: str) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(KINDS[schema])


def _complaint(schema: str, error: "ValidationError") -> str:
    """The first error in a line: which field, what it must be, what came."""
    first, *others = error.errors(include_url=False, include_context=False)
    kind, place = words.at(KINDS[schema], first["loc"])
    name = words.path(place)
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "missing":
        return f"{name} is missing: it must be {words.phrase(kind)}{more}"
    if first["type"] == "extra_forbidden":
        return f"{name} is not a field that can stand there{more}"
    if first["loc"][-1] == "[key]":
        return f"{name} has the name {words.value(first['input'])}, which is not allowed{more}"
    return f"{name} must be {words.phrase(kind)}, not {words.value(first['input'])}{more}"


def _plainly(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "a value in it is no finite number, text, list or object"
