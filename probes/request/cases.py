"""Edits with the prompts that test them, as the published data sets write them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from probes import bundled
from probes.request.request import Request, request
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class Neighbour:
    """A prompt about another subject, whose answer an edit must leave alone.

    Attributes:
        prompt: The finished prompt.
        answer: What the model should go on saying, where known.
    """

    prompt: str
    answer: str | None = None


@dataclass(frozen=True)
class EditCase:
    """One edit and what tests it.

    Attributes:
        request: The edit.
        paraphrases: Other prompts about the same fact, subject in place.
        neighbourhood: Prompts about other subjects.
        case_id: The data set's name for it.
        group: The group the data set puts it in, e.g. ``collapse``.
    """

    request: Request
    paraphrases: tuple[str, ...] = ()
    neighbourhood: tuple[Neighbour, ...] = ()
    case_id: str | None = None
    group: str | None = None

    @property
    def digest(self) -> str:
        """Identifies the case by everything in it."""
        edit = self.request
        parts: list[Any] = [
            edit.subject, edit.before, edit.after, edit.target_new, edit.target_true,
            list(self.paraphrases), [[n.prompt, n.answer] for n in self.neighbourhood],
            self.case_id, self.group,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Refused:
    """A record that no edit can be made of.

    Attributes:
        index: Its place in the file, from 0.
        reason: Why not.
    """

    index: int
    reason: str


@dataclass(frozen=True)
class Cases:
    """What a file of edits holds.

    Attributes:
        found: The edits, in order.
        refused: The records that are none.
    """

    found: tuple[EditCase, ...]
    refused: tuple[Refused, ...] = ()


def from_record(record: Any, *, source: str = "the record") -> EditCase:
    """Reads one record of ROME's, EasyEdit's or the bundled world's format.

    Args:
        record: The JSON object.
        source: What to call it in an error.

    Returns:
        The case.

    Raises:
        UserError: If fields are missing or of the wrong type, or the prompt has no single place
            for the subject.
    """
    if not isinstance(record, Mapping):
        raise UserError(f"{source} is a {type(record).__name__}: expected an object")
    rewrite = record.get("requested_rewrite", record)
    if isinstance(rewrite, Sequence) and not isinstance(rewrite, str) and len(rewrite) == 1:
        rewrite = rewrite[0]
    if not isinstance(rewrite, Mapping):
        raise UserError(f"{source}: requested_rewrite is no object")
    subject = _text(rewrite, "subject", source)
    true = rewrite.get("target_true", rewrite.get("ground_truth"))
    try:
        edit = request(
            subject,
            _text(rewrite, "prompt", source),
            target_new=_target(rewrite.get("target_new"), "target_new", source),
            target_true=None if true is None else _target(true, "target_true", source),
        )
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    paraphrases = _texts(record, ("paraphrases", "paraphrase_prompts", "rephrase_prompt"), source)
    case_id = record.get("case_id")
    group = record.get("group")
    return EditCase(
        request=edit,
        paraphrases=tuple(text.replace("{}", subject) for text in paraphrases),
        neighbourhood=_neighbourhood(record, edit.target_true, source),
        case_id=None if case_id is None else str(case_id),
        group=None if group is None else str(group),
    )


def of_request(edit: Request) -> EditCase:
    """An edit with the tests that come along for it.

    Args:
        edit: The edit.

    Returns:
        The case; with paraphrases and neighbours where the bundled world has the fact.
    """
    for fact in bundled.facts():
        if fact["subject"] == edit.subject and fact["prompt"] == edit.prompt:
            return replace(from_record(fact), request=edit)
    return EditCase(edit)


def read(path: str | os.PathLike[str]) -> Cases:
    """Reads a list of edits: a JSON array, or one JSON object a line.

    Args:
        path: The file.

    Returns:
        The cases in order, and the records that no edit can be made of, with the reason.

    Raises:
        UserError: If it cannot be read, is empty, or none of its records is an edit.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the edits {path}: {error}") from error
    try:
        if text.lstrip()[:1] == "[":
            records = json.loads(text)
        else:
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is neither a JSON array nor JSON Lines: {error}") from error
    if not records:
        raise UserError(f"{path} holds no edits")
    found, refused = [], []
    for i, record in enumerate(records):
        try:
            found.append(from_record(record, source=f"record {i}"))
        except UserError as error:
            refused.append(Refused(i, str(error)))
    if not found:
        raise UserError(f"{path} holds no edits: {refused[0].reason}")
    return Cases(tuple(found), tuple(refused))


def _neighbourhood(
    record: Mapping[str, Any], target_true: str | None, source: str
) -> tuple[Neighbour, ...]:
    if "neighbourhood" in record:  # the bundled world: each prompt has its own answer
        prompts = _texts(record, ("neighbourhood",), source)
        answers = _texts(record, ("neighbourhood_targets",), source)
        if answers and len(answers) != len(prompts):
            raise UserError(f"{source}: {len(prompts)} prompts but {len(answers)} answers")
        return tuple(
            Neighbour(prompt, answers[i] if answers else None) for i, prompt in enumerate(prompts)
        )
    if "neighborhood_prompts" in record:  # ROME: all share the edited fact's true object
        prompts = _texts(record, ("neighborhood_prompts",), source)
        return tuple(Neighbour(prompt, target_true) for prompt in prompts)
    if "locality_prompt" in record:  # EasyEdit
        prompts = _texts(record, ("locality_prompt",), source)
        answers = _texts(record, ("locality_ground_truth",), source)
        return tuple(
            Neighbour(prompt, answers[i] if i < len(answers) else None)
            for i, prompt in enumerate(prompts)
        )
    return ()


def _text(record: Mapping[str, Any], field: str, source: str) -> str:
    value = record.get(field)
    if not isinstance(value, str):
        found = "is missing" if value is None else f"is a {type(value).__name__}"
        raise UserError(f"{source}: {field} {found}; expected a text")
    return value


def _texts(record: Mapping[str, Any], fields: Sequence[str], source: str) -> list[str]:
    for field in fields:
        value = record.get(field)
        if value is None:
            continue
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
            raise UserError(f"{source}: {field} is no list of texts")
        return [text for text in values if text.strip()]
    return []


def _target(value: Any, field: str, source: str) -> str:
    if isinstance(value, Mapping):
        value = value.get("str")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{source}: {field} is missing or empty")
    return value
