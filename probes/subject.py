"""The edit that is asked for, and the token at which the model looks the fact up.

ROME reads its key at the subject's last token. The published code finds it by adding up the
lengths of pieces tokenised apart, which goes wrong where tokens straddle the pieces. Here the
whole text is tokenised once and the tokenizer's own character offsets say which token holds the
subject's last byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from probes.errors import UserError
from probes.model import LoadedModel, Tokens

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


@dataclass(frozen=True)
class Lookup:
    """Where a fact is looked up in one context.

    Attributes:
        prefix: The text in front of the prompt, ending in white space; empty for the bare prompt.
        ids: Token ids up to and including the lookup token: later ones cannot change its key.
        index: The lookup token's index in ``ids`` (its last one); 0 is the first token of all.
        token: Its text, a leading space shown as ``␣``.
    """

    prefix: str
    ids: list[int]
    index: int
    token: str

    @property
    def is_first_token(self) -> bool:
        """Whether nothing stands in front, not even a begin-of-sequence token."""
        return self.index == 0


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
        raise UserError(f"the prompt {_short(prompt)} has {slots} slots {{}}: one is needed")
    else:
        found = _occurrences(prompt, subject)
        if len(found) != 1:
            count = "is not in" if not found else f"is {len(found)} times in"
            raise UserError(
                f"the subject {_short(subject)} {count} the prompt {_short(prompt)}: "
                "mark its place with {}"
            )
        before, after = prompt[: found[0]], prompt[found[0] + len(subject) :]
    return Request(subject, before, after, target_new, target_true)


def lookup(model: LoadedModel, edit: Request, prefix: str = "") -> Lookup:
    """Finds the token that holds the subject's last byte in ``prefix + prompt``.

    Args:
        model: Gives the tokenizer and the begin-of-sequence convention.
        edit: The request.
        prefix: Text in front of the prompt.

    Returns:
        The lookup, its ids cut behind the token.

    Raises:
        UserError: If that token also holds later text, if no token covers the subject's last
            character, or if the text is longer than the model can read.
    """
    return find(model, edit, prefix, model.tokens(prefix + edit.text))


def find(model: LoadedModel, edit: Request, prefix: str, tokens: Tokens) -> Lookup:
    """As :func:`lookup`, in a text that is already tokenised.

    Args:
        model: The model.
        edit: The request.
        prefix: Text in front of the prompt.
        tokens: ``prefix + prompt``, tokenised as a whole.

    Returns:
        The lookup.

    Raises:
        UserError: As :func:`lookup`.
    """
    text = prefix + edit.text
    end = len(prefix) + len(edit.before) + len(edit.subject)
    # A character of several bytes can be split over tokens: all claim it, and the last one holds
    # its last byte. A character that normalisation merged into the one before it (a combining
    # accent) is claimed by none.
    index = None
    for last in range(end, end - len(edit.subject), -1):
        covering = [i for i, (start, stop) in enumerate(tokens.offsets) if start < last <= stop]
        if covering:
            index = covering[-1]
            break
    if index is None:
        raise UserError(
            f"the tokenizer of {model.name} drops the subject {_short(edit.subject)}: there is no "
            "token to look it up at"
        )
    token = model.token_text(tokens.ids[index])
    if tokens.offsets[index][1] > end or not _normalises_apart(model, text, end):
        raise UserError(
            f"the subject {_short(edit.subject)} does not end where a token ends: {token!r} also "
            "holds the text behind it; reword the prompt"
        )
    if index >= model.n_ctx:
        raise UserError(
            f"the subject's last token is at index {index}, but {model.name} reads only "
            f"{model.n_ctx} tokens"
        )
    return Lookup(prefix, tokens.ids[: index + 1], index, token)


def _normalises_apart(model: LoadedModel, text: str, end: int) -> bool:
    """Whether the tokenizer's normalisation keeps the text in front of ``end`` to itself.

    It does not where a combining mark behind the subject merges with the subject's last letter;
    the character offsets do not show that.
    """
    normalizer = model.tokenizer.backend_tokenizer.normalizer
    if normalizer is None:
        return True
    whole: str = normalizer.normalize_str(text)
    return whole.startswith(normalizer.normalize_str(text[:end]))


def _occurrences(text: str, part: str) -> list[int]:
    """Where ``part`` begins in ``text``, overlapping occurrences included."""
    return [i for i in range(len(text) - len(part) + 1) if text.startswith(part, i)]


def _short(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
