"""What the bundled world knows about a subject, for requests that leave things out."""

from __future__ import annotations

from dataclasses import replace

from probes import bundled
from probes.request.cases import EditCase, from_record
from probes.request.request import Request, check_text, request

DEFAULT_PROMPT = "{} is"


def complete(
    subject: str,
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
) -> Request:
    """The request as asked for; without a prompt, the bundled world's fact about the subject.

    Args:
        subject: The subject.
        prompt: The prompt; if ``None``, that of the first fact about the subject, whose objects
            then stand in for those that are ``None`` too, else ``"{} is"``.
        target_new: The new object.
        target_true: The present object.

    Returns:
        The request; its notes say what was supplied.

    Raises:
        UserError: As :func:`probes.request.request.request`.
    """
    check_text("subject", subject)
    if prompt is not None:
        return request(subject, prompt, target_new=target_new, target_true=target_true)
    fact = next((fact for fact in bundled.facts() if fact["subject"] == subject), None)
    if fact is None:
        edit = request(subject, DEFAULT_PROMPT, target_new=target_new, target_true=target_true)
        return replace(edit, notes=(f"no prompt was given: {DEFAULT_PROMPT!r} is used",))
    supplied = ["prompt"]
    if target_new is None:
        target_new = fact["target_new"]
        supplied.append("new object")
    if target_true is None:
        target_true = fact["target_true"]
        supplied.append("true object")
    edit = request(subject, fact["prompt"], target_new=target_new, target_true=target_true)
    parts = " and ".join([*([", ".join(supplied[:-1])] if supplied[:-1] else []), supplied[-1]])
    return replace(edit, notes=(f"{parts} not given: taken from the bundled world's facts",))


def with_tests(edit: Request) -> EditCase:
    """An edit with the prompts that test it, where the bundled world has the fact.

    Args:
        edit: The edit.

    Returns:
        The case.
    """
    for fact in bundled.facts():
        if fact["subject"] == edit.subject and fact["prompt"] == edit.prompt:
            return replace(from_record(fact), request=edit)
    return EditCase(edit)
