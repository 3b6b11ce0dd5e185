"""What parts of a document say of one another: names that must recur, indices that must exist."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]
Complaint = tuple[str, str]  # which field, what is wrong with it


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


def _nothing(document: Document) -> Iterator[Complaint]:
    yield from ()


_EMPTY: Mapping[str, Any] = {"points": ()}
CHECKS: Mapping[str, Callable[[Document], Iterator[Complaint]]] = {
    "diag.keys/1": _keys,
    "diag.verify/1": _verify,
    "diag.screen/1": _screen,
    "diag.batch/1": _batch,
    "probes.first_token/1": _first_token,
}
