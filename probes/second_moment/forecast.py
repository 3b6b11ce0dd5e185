"""How long a pass over a corpus will take, and how large its results will be."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace

from probes.second_moment.corpus_pass import BATCH_TOKENS, Pass
from probes.second_moment.sums import Accumulator, feed, token_shapes

# Documents whose tokens are counted to guess the whole.
DOCUMENTS = 200


@dataclass(frozen=True)
class Forecast:
    """What is coming.

    Attributes:
        n_tokens: Tokens, about.
        seconds: Of one process, about.
        bytes: Of all second moments' files.
        memory: Bytes that the sums take while they are made.
    """

    n_tokens: int
    seconds: float
    bytes: int
    memory: int

    def sentence(self) -> str:
        """For people."""
        minutes = self.seconds / 60
        span = f"{self.seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
        return (
            f"about {self.n_tokens:,} tokens, about {span} in one process; "
            f"{self.bytes / 2**20:,.0f} MiB of files, {self.memory / 2**20:,.0f} MiB of sums"
        )


def forecast(job: Pass) -> Forecast:
    """Counts the tokens of some documents and times one batch.

    Args:
        job: What is to be done.

    Returns:
        The forecast.
    """
    characters = tokens = whole = 0
    for i, text in enumerate(job.text.documents):
        whole += len(text)
        if i < DOCUMENTS:
            characters += len(text)
            tokens += len(job.model.tokens(text).ids)
    n_tokens = round(whole * tokens / max(1, characters))
    if job.max_tokens is not None:
        n_tokens = min(n_tokens, job.max_tokens + job.row_length)
    d_mlp = int(job.model.config.d_mlp)
    # The first run of anything is slow, and a part of a batch tells as much as all of it.
    some = replace(job, max_tokens=BATCH_TOKENS // 4)
    seconds = 0.0
    for _ in range(2):
        sums = {layer: Accumulator.empty(token_shapes(job.model), 0) for layer in job.layers}
        rows = [row for _, chunk in itertools.islice(some.chunks(), 1) for row in chunk]
        began = time.perf_counter()
        feed(job.model, sums, rows, batch_tokens=BATCH_TOKENS)
        seconds = time.perf_counter() - began
    timed = max(1, sum(len(row) for row in rows))
    size = d_mlp * d_mlp * 8 * len(job.layers)
    return Forecast(n_tokens, seconds * n_tokens / timed, size, 3 * size)
