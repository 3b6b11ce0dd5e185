"""How common a token is: an edit at "of" is written at every "of" there is.

Other facts are asked with the words that text is full of, many with one of them last, where the
answer is read.
"""

from __future__ import annotations

from collections import Counter

from probes import bundled
from probes.model.loaded import LoadedModel
from probes.model.tokens import tokenise_all

TEXTS = 100  # some 13,000 tokens: half a per cent of them is 65, give or take 8


def share_of_text(model: LoadedModel, token: str, index: int) -> float:
    """The share of ordinary text that a token makes up.

    Args:
        model: Whose tokens are counted; kept with it.
        token: Its text, as :func:`probes.model.tokens.token_text` gives it. ``␣a`` is a word, and
            ``a`` a piece of others, but for the first of a text, which after a prefix has a space.
        index: Where it stands.

    Returns:
        Its share of the tokens of the packaged held-out texts.
    """
    if "token_shares" not in model.kept:
        texts = tokenise_all(model.tokenizer, bundled.texts()[:TEXTS], bos=False)
        ids = Counter(token_id for tokens in texts for token_id in tokens.ids)
        total = ids.total()
        shares = {model.token_text(token_id): n / total for token_id, n in ids.items()}
        model.kept["token_shares"] = shares
    forms = [token, f"␣{token}"] if index <= int(model.bos) else [token]
    return max(float(model.kept["token_shares"].get(form, 0.0)) for form in forms)
