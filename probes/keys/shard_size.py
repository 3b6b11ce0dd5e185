"""How many edits' keys are held in memory at once."""

from __future__ import annotations

# What the keys of a shard may take: contexts × requests × d_mlp numbers are held at once.
SHARD_BYTES = 1 << 28
LARGEST_SHARD = 1024
JUDGED_AT_ONCE = 64  # whose keys are float64 at the same time: few stay in the caches


def shard_size(n_prefixes: int, d_mlp: int) -> int:
    """How many requests are measured at once.

    Args:
        n_prefixes: Contexts beside the bare prompt.
        d_mlp: Length of a key.

    Returns:
        Requests; it follows from sizes alone, so that a resumed run has the same shards.
    """
    fitting = SHARD_BYTES // ((n_prefixes + 1) * d_mlp * 4)
    return max(16, min(LARGEST_SHARD, fitting))
