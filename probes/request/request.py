"""The edit that is asked for: a subject, the prompt around it, and what the fact should become."""

from __future__ import annotations

from dataclasses import dataclass

from rome_diagnosis.errors import UserError

SLOT = "{}"


@dataclass(frozen=True)
class Request:
    """One edit: a fact about a subject, and what it should become.

    Attributes:
        subject: The subject, e.g. ``"Apple"``.
        before: The prompt's text in front of the subject, often empty.
        after: The prompt's text behind it, e.g. ``" was founded by"``.
        target_new: What the edit should make the model say; ``None`` where only keys matter.
        target_true: What it says now, as far as known.
    """

    subject: str
    before: str
    after: str
    target_new: str | None = None
    target_true: str | None = None

    @property
    def prompt(self) -> str:
        """The prompt with ``{}`` for the subject."""
        return f"{self.before}{SLOT}{self.after}"

    @property
    def text(self) -> str:
        """The prompt with the subject in place."""
        return f"{self.before}{self.subject}{self.after}"


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
            (as in EasyEdit's files).
        target_new: The new object.
        target_true: The present object.

    Returns:
        The request.

    Raises:
        UserError: If the subject is empty, ends in white space, is not valid Unicode, or if the
            prompt has no slot or several.
    """
    for name, text in (("subject", subject), ("prompt", prompt)):
        if not text.strip():
            raise UserError(f"the {name} is empty")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"the {name} is not valid Unicode") from error
    if subject[-1].isspace():
        raise UserError(
            f"the subject {subject!r} ends in white space, which most tokenizers join to the "
            "next word: write it without"
        )
    slots = prompt.count(SLOT)
    if slots == 1:
        before, after = prompt.split(SLOT)
    elif slots > 1:
        raise UserError(f"the prompt {short(prompt)} has {slots} slots {{}}: one is needed")
    else:
        found = _occurrences(prompt, subject)
        if len(found) != 1:
            count = "is not in" if not found else f"is {len(found)} times in"
            raise UserError(
                f"the subject {short(subject)} {count} the prompt {short(prompt)}: "
                "mark its place with {}"
            )
        before, after = prompt[: found[0]], prompt[found[0] + len(subject) :]
    return Request(subject, before, after, target_new, target_true)


def _occurrences(text: str, part: str) -> list[int]:
    """Where ``part`` begins in ``text``, overlapping occurrences included."""
    return [i for i in range(len(text) - len(part) + 1) if text.startswith(part, i)]


def short(text: str, limit: int = 60) -> str:
    """A text as messages quote it, cut after ``limit`` characters."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
