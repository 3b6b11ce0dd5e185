"""The edit that is asked for, and the token at which the model looks the fact up.

ROME reads its key at the subject's last token. The published code locates it by adding up the
lengths of pieces that are tokenised separately, which fails where a token straddles two pieces.
Here the text is tokenised once, and the tokenizer's own character offsets say which token holds
the subject's last byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from probes.model.loaded import LoadedModel, Tokens
from probes.request.request import Request, short
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class Lookup:
    """Where a fact is looked up in one context.

    Attributes:
        prefix: The text before the prompt, ending in white space; empty for the bare prompt.
        ids: Token ids up to and including the lookup token: later ones cannot change its key.
        index: The lookup token's index in ``ids`` (the last); 0 is the first token of the text.
        token: Its text, a leading space shown as ``␣``.
    """

    prefix: str
    ids: list[int]
    index: int
    token: str

    @property
    def is_first_token(self) -> bool:
        """Whether no token precedes it, not even a begin-of-sequence token."""
        return self.index == 0


def lookup(model: LoadedModel, edit: Request, prefix: str = "") -> Lookup:
    """Finds the token that holds the subject's last byte in ``prefix + prompt``.

    Args:
        model: Gives the tokenizer and the begin-of-sequence convention.
        edit: The request.
        prefix: Text before the prompt.

    Returns:
        The lookup, its ids cut after the token.

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
        prefix: Text before the prompt.
        tokens: ``prefix + prompt``, tokenised in one piece.

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
            f"the tokenizer of {model.name} drops the subject {short(edit.subject)}: there is no "
            "token to look it up at"
        )
    token = model.token_text(tokens.ids[index])
    if tokens.offsets[index][1] > end or not _normalises_apart(model, text, end):
        raise UserError(
            f"the subject {short(edit.subject)} does not end where a token ends: {token!r} also "
            "holds the text after it; reword the prompt"
        )
    if index >= model.n_ctx:
        raise UserError(
            f"the subject's last token is at index {index}, but {model.name} reads only "
            f"{model.n_ctx} tokens"
        )
    return Lookup(prefix, tokens.ids[: index + 1], index, token)


def _normalises_apart(model: LoadedModel, text: str, end: int) -> bool:
    """Whether the tokenizer normalises the text before ``end`` independently of what follows.

    It does not where a combining mark after the subject merges with the subject's last letter;
    character offsets do not show that.
    """
    normalizer = model.tokenizer.backend_tokenizer.normalizer
    if normalizer is None:
        return True
    normalised: str = normalizer.normalize_str(text)
    return normalised.startswith(normalizer.normalize_str(text[:end]))
