"""How common the words are that an edit is written at: one at "of" is written at every "of".

Other facts are asked with the words that text is full of, many with one of them last, where the
answer is read; and with the words of their relation: an edit of "capital" is an edit of every
prompt that begins with "The capital".
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from probes import bundled
from probes.model.loaded import LoadedModel
from probes.model.tokens import tokenise_all
from probes.request.lookup import Lookup
from probes.request.request import Request

TEXTS = 100  # some 13,000 tokens: half a per cent of them is 65, give or take 8
# Words that make up half a per cent of ordinary English or more, and how much (Francis and Kučera
# 1982, of the Brown corpus): the packaged texts, which are of few words, have not seen them all.
ENGLISH = {
    "the": 0.069, "of": 0.036, "and": 0.028, "to": 0.026, "a": 0.023, "in": 0.021, "that": 0.0104,
    "is": 0.0099, "was": 0.0097, "he": 0.0094, "for": 0.0093, "it": 0.0086, "with": 0.0072,
    "as": 0.0071, "his": 0.0069, "on": 0.0066, "be": 0.0063, "at": 0.0053, "by": 0.0052,
    "I": 0.0051,
}  # fmt: skip
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Commonness:
    """How common the words are that an edit is written at.

    Attributes:
        token: The subject's last token, as :attr:`probes.request.lookup.Lookup.token`.
        token_share: Its share of ordinary text.
        word: The subject's last word; the subject where it has none.
        asked_with: How many packaged facts about other subjects are asked with that word.
        is_a_word: Whether the subject has a letter in it: numbers and signs stand everywhere.
    """

    token: str
    token_share: float
    word: str
    asked_with: int
    is_a_word: bool


def commonness(model: LoadedModel, edit: Request, at: Lookup) -> Commonness:
    """How common the words of an edit are.

    Args:
        model: Whose tokens are counted.
        edit: The edit.
        at: Where it is looked up in its bare prompt.

    Returns:
        What is known of it.
    """
    words = _WORD.findall(edit.subject)
    word = words[-1] if words else edit.subject
    return Commonness(
        token=at.token,
        token_share=share_of_text(model, at.token, at.index),
        word=word,
        asked_with=_asked_with()[word],
        is_a_word=any(character.isalpha() for character in edit.subject),
    )


def share_of_text(model: LoadedModel, token: str, index: int) -> float:
    """The share of ordinary text that a token makes up.

    Args:
        model: Whose tokens are counted; kept with it.
        token: Its text, as :func:`probes.model.tokens.token_text` gives it. ``␣a`` is a word, and
            ``a`` a piece of others, but for the first of a text, which after a prefix has a space.
        index: Where it stands.

    Returns:
        Its share of the tokens of the packaged held-out texts, or of the words of English, if that
        is larger.
    """
    if "token_shares" not in model.kept:
        texts = tokenise_all(model.tokenizer, bundled.texts()[:TEXTS], bos=False)
        ids = Counter(token_id for tokens in texts for token_id in tokens.ids)
        total = ids.total()
        shares = {model.token_text(token_id): n / total for token_id, n in ids.items()}
        for word, share in ENGLISH.items():
            shares[f"␣{word}"] = max(share, shares.get(f"␣{word}", 0.0))
        model.kept["token_shares"] = shares
    forms = [token, f"␣{token}"] if index <= int(model.bos) else [token]
    return max(float(model.kept["token_shares"].get(form, 0.0)) for form in forms)


@lru_cache(maxsize=1)
def _asked_with() -> Counter[str]:
    """How many of the packaged facts are asked with each word, their subjects left out."""
    facts = [*bundled.facts(), *bundled.common_facts()]
    return Counter(
        word for fact in facts for word in set(_WORD.findall(fact["prompt"].replace("{}", " ")))
    )
