"""Numbers that define a measurement or refuse a second moment, each with its reason.

What follows from measurements is judged in :mod:`diag.judgement.limits`, which takes some of these
values.
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

# What cannot be true of a second moment (probes.second_moment.plausible).

# Standard errors that a sample is allowed: no sample of a right file in a billion is as far off.
SIGMAS = 6.0
# Share of the longest sampled keys that are left out where a mean could be too large. What is left
# has a mean below the expectation, for any distribution, but for the sample's error.
TRIMMED = 0.01
# E[kᵀC⁻¹k] is d_mlp exactly, so that the trimmed mean lies below it (0.54 of it on the bundled
# model, 0.87 to 0.96 on five blocks of SmolLM2). At twice, lengths in the metric are wrong by √2.
LARGEST_FIT = 2.0
# The whole mean misses what rare tokens add (0.82 on the bundled model, some of whose units fire
# on one token in ten thousand, 0.95 to 0.98 on SmolLM2). It takes most directions to be rare
# tokens' alone to bring it down to a quarter.
SMALLEST_FIT = 0.25
# Tokens that a sampled key is compared with the sum of, if fewer were counted.
LEAST_COUNTED = 1000
# Tokens in a row where that is not known; more makes a limit wider.
LARGEST_ROW = 2**20
# How much more is allowed where C is of another corpus than the keys: units that are rare in one
# are common in the other.
FOREIGN = 5.0
# Texts, and tokens of each at most, that a C of another text is held against.
OTHER_TEXTS, OTHER_LENGTH = 20, 128
# Between texts the median norm of the stream differs by a few per cent; twice is another model's.
NORM_FACTOR = 2.0
