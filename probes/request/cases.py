"""One record of any published format, read as an edit and the prompts that test it.

The formats name the same things differently and nest them differently; :data:`NAMES` has the names.
Prompts that test an edit are texts, lists of texts, or nested groups of a prompt and its answers;
:mod:`probes.request.questions` takes all of these apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from probes.request.questions import Question, paired, questions, texts
from probes.request.request import SLOT, TRAILING_SPACE, Request, check_text, kind, request
from rome_diagnosis.errors import UserError

# What a record calls each thing; of several names the first counts, and the others are unused.
NAMES: Mapping[str, tuple[str, ...]] = {
    "subject": ("subject", "concept"),  # KnowEdit's WikiBio: concept, text, labels
    "prompt": ("prompt", "prompts", "src", "text"),  # zsRE: src, alt, answers
    "target_new": ("target_new", "alt", "labels"),
    "target_true": ("target_true", "ground_truth", "answers"),
    "case_id": ("case_id", "id"),
    "group": ("group",),
}
# All of these are taken.
PARAPHRASES = (
    "paraphrases", "paraphrase_prompts", "rephrase_prompt", "rephrase_prompts", "rephrase",
)  # fmt: skip
NEIGHBOURHOOD = {  # prompts, and where their answers stand beside them
    "neighbourhood": "neighbourhood_targets",
    "neighborhood_prompts": None,
    "locality_prompt": "locality_ground_truth",
    "loc": "loc_ans",
    "locality": None,
    "locality_inputs": None,
}
PORTABILITY = {
    "portability_prompt": "portability_ground_truth",
    "portability": None,
    "portability_inputs": None,
}
SCREENED = "screen"  # what diag.screen --riskiest writes beside a record


@dataclass(frozen=True)
class Neighbour:
    """A prompt that tests an edit and has an answer of its own.

    Attributes:
        prompt: The finished prompt.
        answer: What the model should say, where known.
    """

    prompt: str
    answer: str | None = None


@dataclass(frozen=True)
class EditCase:
    """One edit and what tests it.

    Attributes:
        request: The edit.
        paraphrases: Other prompts about the same fact, subject in place.
        neighbourhood: Prompts whose answers the edit must leave alone.
        case_id: The data set's name for it.
        group: The group the data set puts it in, e.g. ``collapse``.
        portability: Prompts whose answers follow from the new fact and differ from its object.
    """

    request: Request
    paraphrases: tuple[str, ...] = ()
    neighbourhood: tuple[Neighbour, ...] = ()
    case_id: str | None = None
    group: str | None = None
    portability: tuple[Neighbour, ...] = ()

    @property
    def digest(self) -> str:
        """Identifies the case by everything in it."""
        edit = self.request
        parts: list[Any] = [
            edit.subject, edit.before, edit.after, edit.target_new, edit.target_true,
            list(self.paraphrases), [[n.prompt, n.answer] for n in self.neighbourhood],
            self.case_id, self.group, [[n.prompt, n.answer] for n in self.portability],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def from_record(record: Any) -> EditCase:
    """Reads one record with everything that tests the edit.

    Args:
        record: The JSON object, in ROME's, EasyEdit's, zsRE's, KnowEdit's or the bundled world's
            format.

    Returns:
        The case.

    Raises:
        UserError: If fields are missing or of the wrong type, or the prompt has no single place
            for the subject.
    """
    fields = _fields(record)
    subject, prompt = _first(fields, "subject"), _first(fields, "prompt")
    check_text("subject", subject)
    check_text("prompt", prompt)
    new = texts(_first(fields, "target_new"), "target_new")
    if len(new) != 1:
        raise UserError(f"target_new {f'has {len(new)} texts' if new else 'is missing or empty'}")
    true = texts(_first(fields, "target_true"), "target_true")
    edit = request(subject, prompt, target_new=new[0], target_true=next(iter(true), None))
    paraphrases = [text for name in PARAPHRASES for text in texts(fields.get(name), name)]
    neighbourhood = _tests(fields, NEIGHBOURHOOD, edit.target_true)
    portability = []
    for prompt, answers in _tests(fields, PORTABILITY):
        # The same fact, asked by another name of the subject, is portability in KnowEdit's terms.
        if new[0].strip().casefold() in (text.strip().casefold() for text in answers):
            paraphrases.append(prompt)
        else:
            portability.append((prompt, answers))
    prompts = [*paraphrases, *(prompt for prompt, _ in (*neighbourhood, *portability))]
    if any(prompt[-1].isspace() for prompt in prompts):
        edit = replace(edit, notes=(TRAILING_SPACE,))
    return EditCase(
        request=edit,
        # A record that serves two formats has the same prompts under the names of both.
        paraphrases=tuple(
            dict.fromkeys(text.replace(SLOT, edit.subject).rstrip() for text in paraphrases)
        ),
        neighbourhood=tuple(dict.fromkeys(_neighbours(neighbourhood))),
        case_id=case_id(record),
        group=_name(fields, "group"),
        portability=_neighbours(portability),
    )


def edit(record: Any) -> Request:
    """The edit a record asks for, without its objects; what tests it is not looked at.

    Args:
        record: As in :func:`from_record`.

    Returns:
        The request.

    Raises:
        UserError: If there is no subject or prompt, or no single place for the subject.
    """
    fields = _fields(record)
    return request(_first(fields, "subject"), _first(fields, "prompt"))


def fact(record: Any) -> EditCase:
    """The fact a record states, whether or not it asks for an edit: its true object.

    Args:
        record: As in :func:`from_record`; ``target_new`` may be missing.

    Returns:
        The case, with its paraphrases.

    Raises:
        UserError: If there is no true object, or as :func:`edit`.
    """
    fields = _fields(record)
    true = texts(_first(fields, "target_true"), "target_true")
    if not true:
        raise UserError("it states no fact: target_true is missing or empty")
    paraphrases = [text for name in PARAPHRASES for text in texts(fields.get(name), name)]
    stated = replace(edit(record), target_true=true[0])
    return EditCase(
        stated, paraphrases=tuple(text.replace(SLOT, stated.subject) for text in paraphrases)
    )


def case_id(record: Any) -> str | None:
    """The data set's own name for a record, where it has one."""
    try:
        fields = _fields(record)
    except UserError:
        fields = record if isinstance(record, Mapping) else {}
    return _name(fields, "case_id")


def relation(record: Any) -> str | None:
    """The name of the relation a record is about, where it says so."""
    fields = _fields(record)
    names = (fields.get("relation"), fields.get("relation_id"))
    return next((name for name in names if isinstance(name, str) and name.strip()), None)


def unused(record: Any) -> set[str]:
    """The names of a record's fields that :func:`from_record` does not look at."""
    try:
        fields = _fields(record)
    except UserError:
        return set()
    present = [name for name, value in fields.items() if value is not None]
    used = {SCREENED, *PARAPHRASES, *NEIGHBOURHOOD, *PORTABILITY}
    used |= {
        beside for pairs in (NEIGHBOURHOOD, PORTABILITY) for beside in pairs.values() if beside
    }
    for names in NAMES.values():
        used |= set([name for name in names if name in present][:1])
    return {str(name) for name in present} - used


def _fields(record: Any) -> Mapping[str, Any]:
    """The fields of a record, those of its ``requested_rewrite`` among them."""
    if not isinstance(record, Mapping):
        raise UserError(f"an object is expected, not {kind(record)}")
    if "requested_rewrite" not in record:
        return record
    rewrite = record["requested_rewrite"]
    if isinstance(rewrite, list) and len(rewrite) > 1:
        raise UserError(f"it asks for {len(rewrite)} edits: write a record for each")
    if isinstance(rewrite, list) and rewrite:
        rewrite = rewrite[0]
    if not isinstance(rewrite, Mapping):
        raise UserError("its requested_rewrite is no object")
    outer = {name: value for name, value in record.items() if name != "requested_rewrite"}
    return outer | dict(rewrite)


def _first(fields: Mapping[str, Any], what: str) -> Any:
    return next((fields[name] for name in NAMES[what] if fields.get(name) is not None), None)


def _name(fields: Mapping[str, Any], what: str) -> str | None:
    name = _first(fields, what)
    # JSON can escape half a character, which no table can hold.
    return None if name is None else str(name).encode("utf-8", "replace").decode("utf-8")


def _tests(
    fields: Mapping[str, Any], places: Mapping[str, str | None], default: str | None = None
) -> list[Question]:
    """The prompts under all names at which a format keeps them.

    Args:
        fields: The record's fields.
        places: Names of fields with prompts, and of those with their answers.
        default: The answer of ROME's neighbourhood prompts, which share one.
    """
    tests: list[Question] = []
    for name, beside in places.items():
        value = fields.get(name)
        if value is None:
            continue
        if beside is None:
            answered = questions(value, name)
        else:
            answered = paired(value, fields.get(beside), name)
        if name == "neighborhood_prompts" and default is not None:
            answered = ((prompt, answers or [default]) for prompt, answers in answered)
        tests += answered
    return tests


def _neighbours(tests: Sequence[Question]) -> tuple[Neighbour, ...]:
    return tuple(Neighbour(prompt.rstrip(), next(iter(answers), None)) for prompt, answers in tests)
