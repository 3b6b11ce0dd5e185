"""The edit that is asked for: a subject, the prompt around it, and what the fact should become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rome_diagnosis.errors import UserError

SLOT = "{}"
TRAILING_SPACE = (
    "white space at the end of a prompt is left out: the target follows after one space"
)


@dataclass(frozen=True)
class Request:
    """One edit: a fact about a subject, and what it should become.

    Attributes:
        subject: The subject, e.g. ``"Apple"``.
        before: The prompt's text before the subject, often empty.
        after: The prompt's text after it, e.g. ``" was founded by"``.
        target_new: What the edit should make the model say; ``None`` where only keys matter.
        target_true: What it says now, as far as known.
        notes: What was supplied or changed in reading the request, for people to read.
    """

    subject: str
    before: str
    after: str
    target_new: str | None = None
    target_true: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def prompt(self) -> str:
        """The prompt with ``{}`` for the subject."""
        return f"{self.before}{SLOT}{self.after}"

    @property
    def text(self) -> str:
        """The prompt with the subject in place."""
        return f"{self.before}{self.subject}{self.after}"

    def describe(self) -> dict[str, Any]:
        """What a document says of it (the contract's ``request`` object)."""
        return {
            "subject": self.subject,
            "prompt": self.prompt,
            "target_new": self.target_new,
            "target_true": self.target_true,
            "notes": list(self.notes),
        }


def request(
    subject: str,
    prompt: str,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
) -> Request:
    """Reads an edit as users and data sets write it.

    Args:
        subject: The subject.
        prompt: With ``{}`` for the subject, or with the subject's single occurrence as the slot
            (as in EasyEdit's files). White space at its end is left out, with a note.
        target_new: The new object.
        target_true: The present object.

    Returns:
        The request.

    Raises:
        UserError: If a part is no text, is empty or not valid Unicode, if the subject ends in white
            space or holds a slot, or if the prompt has no slot or several.
    """
    check_text("subject", subject)
    check_text("prompt", prompt)
    if target_new is not None:
        check_text("new object (target_new)", target_new)
    if target_true is not None:
        check_text("true object (target_true)", target_true)
    if subject[-1].isspace():
        raise UserError(
            f"the subject {subject!r} ends in white space, which most tokenizers join to the "
            "next word: write it without"
        )
    if SLOT in subject:
        raise UserError(f"the subject {subject!r} holds {SLOT}, which marks its place in a prompt")
    notes = (TRAILING_SPACE,) if prompt[-1].isspace() else ()
    before, after = _split(subject, prompt.rstrip())
    return Request(subject, before, after, target_new, target_true, notes)


def kind(value: object) -> str:
    """What a value of a file is, in the words of its format."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true or false"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Mapping):
        return "an object"
    return "a number" if isinstance(value, int | float) else "a list"


def check_text(name: str, text: Any) -> None:
    """Refuses what cannot be tokenised.

    Args:
        name: What messages call it.
        text: What should be a text.

    Raises:
        UserError: If it is none, is empty, or is not valid Unicode.
    """
    if not isinstance(text, str):
        given = "missing" if text is None else kind(text)
        raise UserError(f"the {name} is {given}: one text is expected")
    if not text.strip():
        raise UserError(f"the {name} is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"the {name} is not valid Unicode") from error


def _split(subject: str, prompt: str) -> tuple[str, str]:
    """The prompt's text before and after the subject."""
    slots = prompt.count(SLOT)
    if slots == 1:
        before, after = prompt.split(SLOT)
        return before, after
    if slots > 1:
        raise UserError(f"the prompt {short(prompt)} has {slots} slots {{}}: one is needed")
    places = _occurrences(prompt, subject)
    if len(places) != 1:
        count = "is not in" if not places else f"is {len(places)} times in"
        raise UserError(
            f"the subject {short(subject)} {count} the prompt {short(prompt)}: "
            "mark its place with {}"
        )
    return prompt[: places[0]], prompt[places[0] + len(subject) :]


def _occurrences(text: str, part: str) -> list[int]:
    """Where ``part`` begins in ``text``, overlapping occurrences included."""
    return [i for i in range(len(text) - len(part) + 1) if text.startswith(part, i)]


def short(text: str, limit: int = 60) -> str:
    """A text as messages quote it, cut after ``limit`` characters."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
