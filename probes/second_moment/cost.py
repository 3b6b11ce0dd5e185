"""How long passes over a corpus will take, how much memory they need, and how large results are."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from probes.memory import give_back
from probes.second_moment.corpus_pass import PIECE_TOKENS, Pass
from probes.second_moment.sums import Accumulator, feed, token_shapes

# Documents whose tokens are counted to estimate the number of all.
DOCUMENTS = 200
# Matrices of a layer's size that exist beside the sums: products, C, its factor, copies of them.
BESIDE = 6
# Share of the memory that matrices may take; the model and its activations need some too.
SHARE = 0.5
FALLBACK_MEMORY = 8 * 2**30


@dataclass(frozen=True)
class Cost:
    """What is to come, approximately.

    Attributes:
        n_tokens: Number of tokens, once for each pass.
        passes: Number of passes over the text.
        seconds: Time in one process.
        bytes: Size of all second moments' files.
        memory: Bytes that matrices take at a time.
    """

    n_tokens: int
    passes: int
    seconds: float
    bytes: int
    memory: int

    def sentence(self) -> str:
        """One sentence for people."""
        minutes = self.seconds / 60
        span = f"{self.seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
        passes = "" if self.passes == 1 else f" in {self.passes} passes"
        return (
            f"about {self.n_tokens:,} tokens{passes}, about {span} in one process; "
            f"{_size(self.bytes)} of files, {_size(self.memory)} of memory for matrices"
        )


def cost_of(jobs: Sequence[Pass]) -> Cost:
    """Counts the tokens of some documents and times one batch.

    Args:
        jobs: The passes over one text, of different layers.

    Returns:
        The forecast.
    """
    job = jobs[0]
    characters = tokens = all_characters = 0
    for i, text in enumerate(job.text.documents):
        all_characters += len(text)
        if i < DOCUMENTS:
            characters += len(text)
            tokens += len(job.model.tokens(text).ids)
    n_tokens = round(all_characters * tokens / max(1, characters))
    if job.max_tokens is not None:
        n_tokens = min(n_tokens, job.max_tokens + job.row_length)
    seconds = sum(_seconds_per_token(job) for job in jobs) * n_tokens
    give_back()
    d_mlp = int(job.model.config.d_mlp)
    n_layers = [len(job.layers) for job in jobs]
    return Cost(
        n_tokens=n_tokens * len(jobs),
        passes=len(jobs),
        seconds=seconds,
        bytes=sum(n_layers) * 8 * d_mlp**2,
        memory=needed(d_mlp, max(n_layers), halves=job.halves),
    )


def groups(layers: Sequence[int], d_mlp: int, *, halves: bool) -> list[list[int]]:
    """Layers that are summed in one pass, so that their matrices fit into memory together.

    Args:
        layers: All layers.
        d_mlp: Size of a key.
        halves: Whether sums over every other chunk are kept too.

    Returns:
        Groups of about equal size, in order; the same on every run on the same machine.
    """
    most, room = 1, SHARE * memory()
    while most < len(layers) and needed(d_mlp, most + 1, halves=halves) <= room:
        most += 1
    passes = -(-len(layers) // most)
    size = -(-len(layers) // passes)
    return [list(layers[start : start + size]) for start in range(0, len(layers), size)]


def needed(d_mlp: int, n_layers: int, *, halves: bool) -> int:
    """Bytes that matrices take while layers are summed in one pass."""
    return ((1 + halves) * n_layers + BESIDE) * 8 * d_mlp**2


def memory() -> int:
    """Bytes of memory for this process: its share of the machine's or of its container's."""
    sizes = []
    with contextlib.suppress(AttributeError, ValueError, OSError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(ValueError, OSError):
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(sizes, default=FALLBACK_MEMORY) // processes


def _seconds_per_token(job: Pass) -> float:
    # A part of a piece tells as much as all of it, and the first run of anything is slow.
    some = replace(job, max_tokens=PIECE_TOKENS // 4)
    rows = [row for _, chunk in itertools.islice(some.chunks(), 1) for row in chunk]
    seconds = 0.0
    sums = {layer: Accumulator.empty(token_shapes(job.model), 0) for layer in job.layers}
    for _ in range(2):
        began = time.perf_counter()
        feed(job.model, sums, rows, batch_tokens=PIECE_TOKENS)
        seconds = time.perf_counter() - began
    return seconds / max(1, sum(len(row) for row in rows))


def _size(n: int) -> str:
    return f"{n / 2**20:,.0f} MiB" if n < 10 * 2**30 else f"{n / 2**30:,.0f} GiB"
