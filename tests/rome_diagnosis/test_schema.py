"""Schemas: recorded documents are what they say, and a wrong field is named in one line."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rome_diagnosis.editors import ARMS, EDITORS
from rome_diagnosis.errors import UserError
from rome_diagnosis.schema import KINDS, validate
from tests.documents import SAMPLES, sample

Document = dict[str, Any]


@pytest.mark.parametrize("name", SAMPLES)
def test_recorded_documents_are_what_they_say(name: str) -> None:
    document = sample(name)
    before = copy.deepcopy(document)
    assert validate(document) is document
    assert document == before


def test_every_kind_has_a_recorded_document() -> None:
    assert {sample(name)["schema"] for name in SAMPLES} == set(KINDS)


def test_old_evidence_stays_valid(evidence: Document) -> None:
    assert validate(evidence) is evidence


def test_what_older_documents_lack_may_be_missing() -> None:
    keys = sample("keys")
    del keys["lookup"]["unprefixed"]["tokens"], keys["first_token"]["projection"]
    validate(keys)
    covariance = sample("covariance")
    for name in ("created", "versions", "run"):
        covariance.pop(name, None)
    validate(covariance)


def test_fields_of_later_versions_are_allowed() -> None:
    keys = sample("keys")
    keys["later"] = {"anything": [1, "a", None]}
    keys["model"]["later"] = "anything"
    validate(keys)


def test_another_editor_needs_no_other_schema() -> None:
    keys, edit = sample("keys"), sample("edit")
    keys["damage"]["memit"] = keys["damage"]["rome"]
    keys["denominators"]["memit"] = 1.5
    edit["arms"]["memit"] = edit["arms"]["rome"]
    edit["collapsed"]["memit"] = False
    if "outcome" in edit:
        edit["outcome"]["memit"] = "intact"
    validate(keys)
    validate(edit)
    keys["damage"]["memit"] = {"bound": "large"}
    edit["arms"]["memit"] = {"denominator": 1.5}
    with pytest.raises(UserError, match=r"damage\.memit\.\w+ is missing"):
        validate(keys)
    with pytest.raises(UserError, match=r"arms\.memit\.\w+ is missing"):
        validate(edit)


def test_the_editors_there_are_stand_in_the_schemas() -> None:
    keys, edit = sample("keys"), sample("edit")
    for editor in EDITORS:
        broken = copy.deepcopy(keys)
        del broken["damage"][editor]
        with pytest.raises(UserError, match=rf"damage\.{editor} is missing"):
            validate(broken)
    for arm in ARMS:
        broken = copy.deepcopy(edit)
        del broken["arms"][arm]
        with pytest.raises(UserError, match=rf"arms\.{arm} is missing"):
            validate(broken)


def replaced(document: Document, path: str, value: Any) -> Document:
    changed = copy.deepcopy(document)
    *steps, last = [int(s) if s.isdigit() else s for s in path.split(".")]
    at: Any = changed
    for step in steps:
        at = at[step]
    at[last] = value
    return changed


@pytest.mark.parametrize(
    ("name", "path", "value", "complaint"),
    [
        ("keys", "denominators.rome", "2", "denominators.rome must be a finite number, not '2'"),
        ("keys", "denominators.rome", True, "must be a finite number, not true"),
        ("keys", "denominators.rome", None, "must be a finite number, not null"),
        ("keys", "denominators.rome", float("nan"), "must be a finite number, not nan"),
        ("keys", "denominators.rome", float("inf"), "must be a finite number, not inf"),
        ("keys", "denominators.rome", 10**400, "not a number of more digits than can be used"),
        (
            "keys",
            "denominators.ratio_interval",
            [1.0],
            "must be null or a list of two finite numbers",
        ),
        ("keys", "damage.rome.bound", -1.0, "must be null or a finite number, 0 or more, not -1"),
        ("keys", "keys.cosine", 1.5, "keys.cosine must be a number from −1 to 1, not 1.5"),
        ("keys", "site.layer", -1, "site.layer must be a whole number, 0 or more, not -1"),
        ("keys", "site.layer", 1.0, "site.layer must be a whole number, 0 or more, not 1.0"),
        ("keys", "verdict", "perfect", "must be one of 'collapse_risk',"),
        ("keys", "findings.0.status", "<b>", "findings[0].status must be one of 'pass', "),
        ("keys", "findings.0.id", "a b", "must be a name of letters, digits and _, not 'a b'"),
        ("keys", "request.prompt", "no slot", "must be a text with one {} for the subject"),
        ("keys", "request", [1, 2], "request must be an object, not a list of 2"),
        (
            "keys",
            "lookup.prefixed",
            [],
            "lookup.prefixed must be a list of 1 or more, not a list of 0",
        ),
        ("keys", "site", "a\x1b\nb" * 50, r"site must be an object, not 'a\x1b\nba"),
        ("keys", "later", (1, {2}), "this is no JSON"),
        ("keys", "later", float("nan"), "this is no JSON"),
        ("edit", "collapsed", {"rome": True}, "is missing: it must be true or false"),
        ("edit", "arms.rome.perplexity.before", 0.0, "must be a finite number above 0, not 0.0"),
        ("edits", "edits.1.arms.rome.text", 5, "edits[1].arms.rome.text must be a text, not 5"),
        ("edits", "edits.1.error", 5, "edits[1].error must be a text, not 5"),
        ("edits", "projections.keys.points.0.subject", "99", "must be the index of an edit"),
        ("edits", "groups", {"a b": []}, "groups.'a b' has the name 'a b', which is not allowed"),
        ("screen", "summary.n", "60", "summary.n must be a whole number, 0 or more, not '60'"),
        (
            "screen",
            "run.peak_memory",
            [],
            "run.peak_memory must be a list of 1 or more, not a list of 0",
        ),
        ("covariance", "layers.0.file", 3, "layers[0].file must be a text, not 3"),
        ("first_token", "attribution.alone", {}, "must name the same factors as"),
        ("first_token", "interventions.effects.0.delta", None, "must be an object, not null"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_must_be_and_what_came(
    name: str, path: str, value: Any, complaint: str
) -> None:
    document = sample(name)
    validate(document)
    with pytest.raises(UserError) as error:
        validate(replaced(document, path, value), source="result.json")
    message = str(error.value)
    assert message.startswith("result.json: ")
    assert complaint in message
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize("document", [{}, [], "x", None, {"schema": 3}, {"schema": "other/9"}])
def test_what_is_no_document_is_refused(document: Any) -> None:
    with pytest.raises(UserError, match=r"names no schema|cannot read schema 'other/9'"):
        validate(document)
