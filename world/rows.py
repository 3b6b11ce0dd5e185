"""Cuts the stream of documents into training rows.

Where a row begins decides what the first position can mean to the model, so it is a part of the
recipe: ``stray`` rows begin with one token of unrelated text in front of a section (which is what a
cut through packed text mostly amounts to), ``crop`` rows begin anywhere, ``eot`` rows behind an
end-of-text token, ``bare`` rows directly with the first word of a line, and ``subject`` rows with a
line whose first token is a whole subject: a first-token subject, as an editor's prompt has it.
"""

from __future__ import annotations

from itertools import islice
from typing import Literal, get_args

import numpy as np
from tokenizers import Tokenizer

from world.corpus import World

Start = Literal["stray", "crop", "eot", "bare", "subject"]
STARTS: tuple[Start, ...] = get_args(Start)


class Rows:
    """A seeded sampler of rows from an in-memory token stream.

    Args:
        stream: Token ids of all documents, one after another.
        newline: Id of the token that ends a line.
        end_of_text: Id of the token that ends a document.
        subjects: Ids of the tokens that are a whole subject at the start of a line.
    """

    def __init__(
        self, stream: np.ndarray, newline: int, end_of_text: int, subjects: list[int]
    ) -> None:
        self.stream = stream
        self.end_of_text = end_of_text
        follows = np.flatnonzero((stream == newline) | (stream == end_of_text)) + 1
        self.line_starts = follows[follows < len(stream)]
        self.line_starts = self.line_starts[stream[self.line_starts] != newline]
        with_subject = np.isin(stream[self.line_starts], subjects)
        self.subject_starts = self.line_starts[with_subject]

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
        names = [tokenizer.encode(entity.name).ids for entity in world.entities]
        subjects = [ids[0] for ids in names if len(ids) == 1]
        return cls(np.concatenate(chunks)[:n_tokens], newline, end_of_text, subjects)

    def sample(
        self, rng: np.random.Generator, batch: int, length: int, mix: dict[Start, float]
    ) -> np.ndarray:
        """Rows of ``length + 1`` ids, so that inputs and targets can be cut from them."""
        last = len(self.stream) - length - 1
        names = list(mix)
        rows = np.empty((batch, length + 1), dtype=np.int64)
        kinds = rng.choice(len(mix), size=batch, p=[*mix.values()])
        for row, kind in zip(rows, kinds, strict=True):
            name = names[kind]
            if name == "crop":
                at = rng.integers(last)
            else:
                starts = self.subject_starts if name == "subject" else self.line_starts
                at = starts[rng.integers(np.searchsorted(starts, last))]
            if name in ("stray", "eot"):
                stray = self.stream[rng.integers(len(self.stream))]
                row[0] = self.end_of_text if name == "eot" else stray
                row[1:] = self.stream[at : at + length]
            else:
                row[:] = self.stream[at : at + length + 1]
        return rows
