"""Numbers that define a measurement and that several modules share.

They are definitions here; what follows from them is judged in :mod:`diag.judgement.limits`, which
takes these values and gives the reasons.
"""

from __future__ import annotations

# A subject whose |ρ| is below this belongs to the collapse cases.
SMALL_RATIO = 0.1
# A head whose later queries pay the first token more than this is a sink head (Gu et al. 2025).
SINK_SHARE = 0.3
# A residual stream this many times as long as the median later one is a sink's.
SINK_LENGTH = 3.0
# An average over fewer queries is no habit.
SINK_QUERIES = 3
# With fewer tokens for each dimension a second moment is mostly sampling noise.
TOKENS_PER_DIMENSION = 4.0
# Two ways of computing the same key give ρ within this; what is further apart was not performed as
# described.
SAME_RHO = 1e-4
# A key has not moved if it moves by less than this share of its length, nor ρ by less than this: a
# run into which its own activations are written stays within it.
NO_EFFECT = 1e-5
