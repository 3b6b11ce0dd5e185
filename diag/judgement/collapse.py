"""When an edited model counts as collapsed."""

from __future__ import annotations

from diag.judgement.limits import Limit

COLLAPSE_RATIO = Limit(
    10.0,
    "a token-weighted perplexity ten times the unedited model's: 2.3 nats a token are lost, most "
    "of what a language model knows beyond word frequencies; ordinary edits stay within a few "
    "per cent",
)


def collapsed(ratio: float | None, *, limit: float = COLLAPSE_RATIO.value) -> bool:
    """Whether a model has collapsed.

    Args:
        ratio: Token-weighted perplexity after the edit over the one before; ``None`` where it
            overflowed, which no sound model does.
        limit: The criterion.

    Returns:
        Whether the ratio reaches the limit.
    """
    return ratio is None or not ratio < limit
