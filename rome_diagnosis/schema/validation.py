"""Whether a document is what its schema says; if not, one line that says where and why.

First each field by itself, then what parts of the document say of one another: names that must
recur, indices that must exist.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from rome_diagnosis.errors import UserError
from rome_diagnosis.schema import words
from rome_diagnosis.schema.apply import ApplyDocument
from rome_diagnosis.schema.batch import BatchDocument
from rome_diagnosis.schema.blocks import (
    CompareDocument,
    CovarianceDocument,
    ScreenLayersDocument,
    SweepDocument,
)
from rome_diagnosis.schema.first_token import FirstTokenDocument
from rome_diagnosis.schema.hardcases import HardCasesDocument
from rome_diagnosis.schema.keys import KeysDocument
from rome_diagnosis.schema.screen import AnyScreenDocument
from rome_diagnosis.schema.sequence import SequenceDocument
from rome_diagnosis.schema.tasks import SurrogateDocument, TasksDocument
from rome_diagnosis.schema.verify_list import VerifyDocument

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

D = TypeVar("D", bound=Mapping[str, Any])
Document = Mapping[str, Any]
Complaint = tuple[str, str]  # which field, what is wrong with it

# The documents there are; a new kind is added here.
KINDS: Mapping[str, Any] = {
    "diag.keys/1": KeysDocument,
    "diag.verify/1": VerifyDocument,
    "diag.screen/1": AnyScreenDocument,
    "diag.screen_layers/1": ScreenLayersDocument,
    "diag.sequence/1": SequenceDocument,
    "diag.batch/1": BatchDocument,
    "diag.apply/1": ApplyDocument,
    "diag.covariance/1": CovarianceDocument,
    "diag.sweep/1": SweepDocument,
    "diag.compare/1": CompareDocument,
    "diag.hardcases/1": HardCasesDocument,
    "diag.tasks/1": TasksDocument,
    "diag.surrogate/1": SurrogateDocument,
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


def complaints(document: Document) -> Iterator[Complaint]:
    """Where a document, each of whose fields is what it must be, contradicts itself.

    Args:
        document: A document of a known kind.

    Yields:
        The field and what is wrong, e.g. ``("collapsed", "must name the arms …")``.
    """
    yield from CHECKS.get(document["schema"], _nothing)(document)


def _keys(document: Document) -> Iterator[Complaint]:
    for editor, bound in document["damage"].items():
        if isinstance(bound, Mapping) and editor not in document["denominators"]:
            yield "denominators", f"has no {editor}, which is in damage"


def _verify(document: Document) -> Iterator[Complaint]:
    if "edits" not in document:
        yield from _arms(document, "")
        return
    held = document["summary"].get("surrogate")
    if held is not None:
        yield from ((f"summary.surrogate.{place}", what) for place, what in _surrogate(held))
    performed = set()
    for i, edit in enumerate(document["edits"]):
        if edit.get("error") is None:
            performed.add(str(i))
            yield from _arms(edit, f"edits[{i}].")
    for what in ("keys", "directions"):
        for i, point in enumerate((document.get("projections") or {what: _EMPTY})[what]["points"]):
            if point["subject"] not in performed:
                place = f"projections.{what}.points[{i}].subject"
                yield place, "must be the index of an edit that was performed, as text"


def _arms(edit: Document, place: str) -> Iterator[Complaint]:
    for name in ("collapsed", "outcome"):
        if name in edit and set(edit[name]) != set(edit["arms"]):
            yield f"{place}{name}", f"must name the same arms as {place}arms"


def _screen(document: Document) -> Iterator[Complaint]:
    if document.get("summary") is not None:
        verdicts, by_position = document["summary"]["verdicts"], document["summary"]["by_position"]
        for where in ("first", "later"):
            if set(by_position[where]) != set(verdicts):
                yield f"summary.by_position.{where}", "must name the verdicts of summary.verdicts"


def _first_token(document: Document) -> Iterator[Complaint]:
    attribution = document["attribution"]
    for name in ("alone", "last"):
        if set(attribution[name]) != set(attribution["shapley"]):
            yield f"attribution.{name}", "must name the same factors as attribution.shapley"
    ways: dict[tuple[int, str], set[str]] = {}
    for patch in document["patching"]["patches"]:
        ways.setdefault((patch["block"], patch["site"]), set()).add(patch["direction"])
    for (block, site), directions in ways.items():
        if len(directions) < 2:
            yield "patching.patches", f"has {site} of block {block} in one direction only"


def _batch(document: Document) -> Iterator[Complaint]:
    n, picture = len(document["edits"]), document["picture"]
    width = len(picture["edits"])
    for name in ("cosines", "cross_response"):
        matrix = picture[name]
        if matrix is not None and [len(row) for row in matrix] != [width] * width:
            yield f"picture.{name}", "must be square, with a row for each of picture.edits"
    if any(i >= n for i in picture["edits"]):
        yield "picture.edits", "must be indices of edits"
    for i, pair in enumerate(document["pairs"]):
        if max(pair["first"], pair["second"]) >= n:
            yield f"pairs[{i}]", "must be indices of edits"
    for i, edit in enumerate(document["edits"]):
        for name in ("nearest", "disturbed_by"):
            if edit[name] is not None and edit[name]["index"] >= n:
                yield f"edits[{i}].{name}.index", "must be the index of an edit"
    for i, edit in enumerate((document.get("performed") or {"edits": ()})["edits"]):
        if edit["index"] >= n:
            yield f"performed.edits[{i}].index", "must be the index of an edit"


def _surrogate(document: Document) -> Iterator[Complaint]:
    tasks, n = set(document["tasks"]), len(document["points"])
    for i, point in enumerate(document["points"]):
        if set(point["tasks"]) != tasks:
            yield f"points[{i}].tasks", "must name the tasks of tasks"
    for name, relation in document["relations"].items():
        if isinstance(relation, Mapping) and not tasks <= set(relation.get("tasks", ())):
            yield f"relations.{name}.tasks", "must name the tasks of tasks"
    if any(i >= n for i in document["silent"]):
        yield "silent", "must be indices of points"


def _nothing(document: Document) -> Iterator[Complaint]:
    yield from ()


_EMPTY: Mapping[str, Any] = {"points": ()}
CHECKS: Mapping[str, Callable[[Document], Iterator[Complaint]]] = {
    "diag.keys/1": _keys,
    "diag.verify/1": _verify,
    "diag.screen/1": _screen,
    "diag.batch/1": _batch,
    "diag.surrogate/1": _surrogate,
    "probes.first_token/1": _first_token,
}
