"""When an edited model counts as collapsed."""

from __future__ import annotations

from diag.judgement.limits import PERPLEXITY_COLLAPSE


def collapsed(ratio: float | None, *, limit: float = PERPLEXITY_COLLAPSE.value) -> bool:
    """Whether a model has collapsed.

    Args:
        ratio: Token-weighted perplexity after the edit over the one before; ``None`` where it
            overflowed, which no sound model does.
        limit: The criterion.

    Returns:
        Whether the ratio reaches the limit.
    """
    return ratio is None or not ratio < limit


COLLAPSE_RATIO = PERPLEXITY_COLLAPSE
