"""Cuts the stream of documents into training rows.

Where a row begins decides what the first position can mean to the model, so it is a part of the
recipe: ``stray`` rows begin with one token of unrelated text in front of a section (which is what a
cut through packed text mostly amounts to), ``crop`` rows begin anywhere, ``eot`` rows behind an
end-of-text token, and ``bare`` rows directly with the first word of a line.
"""

from __future__ import annotations

from itertools import islice
from typing import Literal, get_args

import numpy as np
from tokenizers import Tokenizer

from world.corpus import World

Start = Literal["stray", "crop", "eot", "bare"]
STARTS: tuple[Start, ...] = get_args(Start)


class Rows:
    """A seeded sampler of rows from an in-memory token stream.

    Args:
        stream: Token ids of all documents, one after another.
        newline: Id of the token that ends a line.
        end_of_text: Id of the token that ends a document.
    """

    def __init__(self, stream: np.ndarray, newline: int, end_of_text: int) -> None:
        self.stream = stream
        self.end_of_text = end_of_text
        follows = np.flatnonzero((stream == newline) | (stream == end_of_text)) + 1
        self.line_starts = follows[follows < len(stream)]
        self.line_starts = self.line_starts[stream[self.line_starts] != newline]

    @classmethod
    def generate(cls, world: World, tokenizer: Tokenizer, seed: int, n_tokens: int) -> Rows:
        """Writes documents until there are ``n_tokens`` tokens."""
        end_of_text = tokenizer.token_to_id("<|endoftext|>")
        chunks: list[np.ndarray] = []
        total = 0
        documents = world.documents(seed)
        while total < n_tokens:
            for encoding in tokenizer.encode_batch(list(islice(documents, 1000))):
                chunks.append(np.array([*encoding.ids, end_of_text], dtype=np.uint16))
                total += len(chunks[-1])
        newline = tokenizer.encode("\n").ids[0]
        return cls(np.concatenate(chunks)[:n_tokens], newline, end_of_text)

    def sample(
        self, rng: np.random.Generator, batch: int, length: int, mix: dict[Start, float]
    ) -> np.ndarray:
        """Rows of ``length + 1`` ids, so that inputs and targets can be cut from them."""
        kinds = rng.choice(len(mix), size=batch, p=np.array(list(mix.values())))
        names = list(mix)
        rows = np.empty((batch, length + 1), dtype=np.int64)
        starts = self.line_starts[
            : np.searchsorted(self.line_starts, len(self.stream) - length - 2)
        ]
        for i, kind in enumerate(kinds):
            name = names[kind]
            if name == "crop":
                at = rng.integers(len(self.stream) - length - 1)
                rows[i] = self.stream[at : at + length + 1]
                continue
            at = starts[rng.integers(len(starts))]
            if name == "bare":
                rows[i] = self.stream[at : at + length + 1]
                continue
            rows[i, 1:] = self.stream[at : at + length]
            stray = self.stream[rng.integers(len(self.stream))]
            rows[i, 0] = self.end_of_text if name == "eot" else stray
        return rows
