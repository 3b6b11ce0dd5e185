"""Texts, and prompts with their answers, however deeply a format nests them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from probes.request.request import check_text
from rome_diagnosis.errors import UserError

Question = tuple[str, list[str]]  # a prompt and its accepted answers

ANSWERS = ("ground_truth", "target", "answer")
NO_ANSWER = "<|endoftext|>"  # what EasyEdit writes where it was given no true object
DEEPEST = 8


def texts(value: Any, name: str, depth: int = 0) -> list[str]:
    """All texts in a text, a number, ROME's ``{"str": …}`` or nested lists of these.

    Args:
        value: What a record holds.
        name: What messages call it.
        depth: How deeply ``value`` is nested.

    Returns:
        The texts that are not blank.

    Raises:
        UserError: If it is anything else, or a text is not valid Unicode.
    """
    if isinstance(value, Mapping) and "str" in value:
        value = value["str"]
    if value is None or value != value:  # tables write a missing number as NaN
        return []
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        if not value.strip() or value == NO_ANSWER:
            return []
        check_text(name, value)
        return [value]
    if not isinstance(value, list) or depth > DEEPEST:
        raise UserError(f"{name} is of type {type(value).__name__}: expected texts")
    return [text for item in value for text in texts(item, name, depth + 1)]


def questions(value: Any, name: str, depth: int = 0) -> Iterator[Question]:
    """The prompts in nested groups, with the answers that stand beside each.

    Args:
        value: A text, or groups of texts or of ``{"prompt": …, "ground_truth": …}``.
        name: What messages call it.
        depth: How deeply ``value`` is nested.

    Yields:
        Prompts and answers.

    Raises:
        UserError: If it is anything else.
    """
    if depth > DEEPEST:
        raise UserError(f"{name} is nested too deeply")
    if isinstance(value, Mapping):
        if "prompt" in value:
            answers = next((value[key] for key in ANSWERS if value.get(key) is not None), None)
            yield from paired(value["prompt"], answers, name)
        elif "New Question" in value:  # EasyEdit's zsRE
            yield from paired(value["New Question"], value.get("New Answer"), name)
        else:
            for group in value.values():
                yield from questions(group, name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from questions(item, name, depth + 1)
    else:
        yield from ((text, []) for text in texts(value, name))


def paired(prompt: Any, answers: Any, name: str) -> Iterator[Question]:
    """Prompts with the answers that stand in another field.

    Args:
        prompt: A text, or a list of texts.
        answers: For a text its answers, for a list one entry for each prompt.
        name: What messages call the prompts.

    Yields:
        Prompts and answers.

    Raises:
        UserError: If there are not as many answers as prompts.
    """
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, list):
        yield from ((text, texts(answers, name)) for text in texts(prompt, name))
        return
    if answers is None or answers == []:
        answers = [None] * len(prompt)
    if not isinstance(answers, list) or len(answers) != len(prompt):
        given = len(answers) if isinstance(answers, list) else 1
        raise UserError(f"{name} has {len(prompt)} prompts but {given} answers")
    for each, answer in zip(prompt, answers, strict=True):
        yield from ((text, texts(answer, name)) for text in texts(each, name))
